"""The errors with which the pipeline refuses to continue."""


class GateRefused(Exception):
    """A gate stops the run; the message is one sentence for the person who started it."""


class BaselineMissing(BaseException):
    """The baseline is missing; the message says why and what to do.

    It is not an Exception, because TFX catches the exceptions of a resolver strategy and continues
    without a result, so that the Evaluator would compare the new model with nothing.
    """
