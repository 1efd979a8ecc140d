"""The error of a push."""


class PushError(Exception):
    """The model is not pushed; the message is for the person who started the run."""
