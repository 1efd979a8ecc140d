"""What a pushed version was made of, and what a dataset went into."""
