"""The error of everything that concerns ML Metadata's store."""


class MetadataError(Exception):
    """ML Metadata cannot be used: the message is for the person who started the run."""
