"""The errors of a training that cannot start or cannot go on."""


class TrainingError(Exception):
    """Training is not complete; the message is for the person who started it."""


class Diverged(TrainingError):
    """The loss is no longer finite."""


def out_of_memory(what: str, phase: str) -> str:
    """The message for a training that ran out of memory: when, and which settings to lower.

    Args:
        what: What happened, as the beginning of a sentence.
        phase: What the training was doing, as `loop.train` reports it; empty before the first step.
    """
    when = f' while it was {phase}' if phase else ''
    first = 'EVAL_BATCH_SIZE or BATCH_SIZE'
    if phase.startswith('training'):
        first = 'BATCH_SIZE (or BATCH_SIZE_PER_REPLICA)'
    elif phase.startswith('evaluating'):
        first = 'EVAL_BATCH_SIZE below that, which does not restart the training'
    return (
        f'{what}{when}. Lower {first}, or what makes the network large: IMAGE_HEIGHT and '
        'IMAGE_WIDTH, CONV1_FILTERS, PRIMARY_CHANNELS. With unchanged settings the same command '
        'resumes from the last checkpoint.'
    )
