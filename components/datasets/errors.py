"""The errors of datasets."""


class DatasetError(Exception):
    """The dataset cannot be fetched or used; the message is for the person who started the run."""


class NotPrepared(DatasetError):
    """The dataset must be prepared, for the first time or again."""


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its type if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
