"""The training: its loop, its process, its checkpoints and its devices."""
