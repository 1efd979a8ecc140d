"""The errors by which the pipeline refuses to go on."""


class GateRefused(Exception):
    """A gate said no: the message is one sentence for the person who started the run."""


class BaselineMissing(BaseException):
    """The model to compare with cannot be had: the message says why and what to do.

    This is no Exception: TFX catches those of a resolver strategy and goes on without a result, so
    that the Evaluator would compare the new model with nothing.
    """
