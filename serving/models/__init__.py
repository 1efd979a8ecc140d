"""Models: versions on disk, loading, running and unloading them."""
