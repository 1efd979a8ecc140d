"""A model that cannot be put where servers find it."""


class PushError(Exception):
    """The model is not pushed: the message is for the person who started the run."""
