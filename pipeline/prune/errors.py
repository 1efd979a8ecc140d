"""What is raised by `make prune`."""


class PruneError(Exception):
    """Nothing can be removed, or not all: the message is for the person who asked."""
