"""The error of a check that cannot be made."""


class CannotJudge(Exception):
    """There is too little to compare: the message is for the person who asked."""
