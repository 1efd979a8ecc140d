"""The error of everything that concerns the dataset on disk."""


class DatasetError(Exception):
    """The dataset cannot be had or used: the message is for the person who started the run."""


class NotPrepared(DatasetError):
    """The dataset must be prepared, for the first time or again."""


def first_line(error: Exception) -> str:
    """What an error says first, or its type where it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
