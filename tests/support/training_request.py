"""A small training for the process that trains: genuine digits, a small network."""

import dataclasses

import transformed_examples
from small_training import NETWORK, TRAINING

from capsmodel.training.request import TrainingRequest
from capsmodel.training.settings import TrainingConfig

digits = transformed_examples.digits

_TRAINING = dataclasses.replace(TRAINING, epochs=3, batch_size=10, learning_rate_decay=0.9)


def write(folder, **changes):
    """Writes examples into `folder` and says how to train on them, 20 steps an epoch.

    Args:
        folder: Where examples, logs and checkpoints lie.
        **changes: Fields of TrainingConfig, or of TrainingRequest, that are to be different.
    """
    for name, labeled in zip(('train', 'eval'), digits(), strict=True):
        transformed_examples.write(folder / f'{name}.gz', labeled)
    fields = {field.name for field in dataclasses.fields(TrainingConfig)}
    training = dataclasses.replace(_TRAINING, **{k: changes.pop(k) for k in fields & set(changes)})
    request = TrainingRequest(
        network=NETWORK,
        training=training,
        train_files=[str(folder / 'train.gz')],
        eval_files=[str(folder / 'eval.gz')],
        log_dir=str(folder / 'log'),
        class_names=[],
        checkpoint_root=str(folder / 'checkpoints'),
        checkpoint_steps=5,
        eval_batch_size=0,
        deterministic=False,
        profile_steps=(),
        weights_from=[],
        code_version='test',
    )
    return dataclasses.replace(request, **changes)
