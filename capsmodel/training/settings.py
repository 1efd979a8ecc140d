"""The settings of the training."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from capsmodel.data import augmentation_parts
from capsmodel.settings import STRICT, Numbers, Settings, setting

LEARNING_RATE_SCHEDULES = ('exponential', 'flat_linear', 'cosine')
LEARNING_RATE_SCALINGS = ('none', 'linear', 'sqrt')
# Text; spelled in one way, since caches and checkpoints are found by it.
Augmentation = Annotated[str, AfterValidator(augmentation_parts.normalized)]
CLASS_WEIGHTS = ('none', 'balanced')
PICKS = ('best', 'last')
STRATEGIES = ('auto', 'default', 'mirrored', 'multi_worker')


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainingSettings(Settings):
    """How to train: what the weights in the end depend on."""

    epochs: int = setting(
        1,
        'passes over the training images; 0, for IMAGES only: enough for 2,000 steps, and '
        'LEARNING_RATE_DECAY is then the factor over all of them',
        at_least=0,
    )
    batch_size: int = setting(128, 'images a step, all replicas together', at_least=1)
    batch_size_per_replica: int = setting(
        0,
        'images a step for each replica, instead of BATCH_SIZE; 0: the replicas share BATCH_SIZE',
        at_least=0,
    )
    learning_rate: float = setting(
        1e-3, "Adam's step size at the start, with BATCH_SIZE images a step", at_least=0
    )
    learning_rate_scaling: str = setting(
        'none',
        'how the learning rate grows with the images a step beyond BATCH_SIZE: linear as in Goyal '
        'et al. 2017, sqrt as in Malladi et al. 2022 for Adam',
        choices=LEARNING_RATE_SCALINGS,
    )
    learning_rate_schedule: str = setting(
        'exponential',
        'how the learning rate falls: by LEARNING_RATE_DECAY each epoch, flat for 70% of the steps '
        'and then linearly, or along a cosine',
        choices=LEARNING_RATE_SCHEDULES,
    )
    learning_rate_decay: float = setting(
        0.9,
        'factor on the learning rate per epoch, applied smoothly, of the exponential schedule',
        at_least=0,
        at_most=1,
    )
    learning_rate_warmup: int = setting(
        0, 'steps during which the learning rate rises from 0 to that of the schedule', at_least=0
    )
    learning_rate_floor: float = setting(
        0.0,
        'the lowest that the learning rate falls to, as a fraction of LEARNING_RATE; 0: no floor',
        at_least=0,
        at_most=1,
    )
    reconstruction_weight: float = setting(
        0.0005,
        'weight of the squared reconstruction error beside the loss of the classes',
        at_least=0,
    )
    class_weights: str = setting(
        'none',
        'weights of the images in the loss; balanced: images of rare classes have a larger weight, '
        'so that all classes have the same part in the loss',
        choices=CLASS_WEIGHTS,
    )
    ema_decay: float = setting(
        0.0,
        'decay of the exponential moving average of the weights, which is evaluated and exported '
        'in their place: it averages over about 1 / (1 - EMA_DECAY) steps, which must be many '
        'fewer than the training has; 0: no average',
        at_least=0,
        at_most=0.99999,
    )
    pick: str = setting(
        'best',
        'which epoch is exported: the one with the highest accuracy on the images of EVAL_SPLIT, '
        'or the last; only with last may TRAIN_SPLIT and EVAL_SPLIT share images',
        choices=PICKS,
    )
    augmentation: Augmentation = setting(
        'shift:2',
        'random changes of training images, none or parts with their largest amounts: '
        'shift:2,rotate:15,scale:0.1,stroke:1,contrast:0.2,flip; docs/training.md has the units',
    )
    seed: int = setting(
        42,
        'number from which initial weights, order and augmentation follow',
        at_least=0,
        at_most=2**32 - 1,
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainingConfig(TrainingSettings):
    """One training."""

    def __post_init__(self) -> None:
        if not self.epochs:
            raise ValueError('EPOCHS is 0: it must be at least 1')

    def scaled_to(self, replicas: int) -> TrainingConfig:
        """The same training with `batch_size` and `learning_rate` as they are on some replicas.

        With k times the images a step the learning rate is k times as high by the linear rule
        (Goyal et al. 2017, arXiv:1706.02677, section 2.1), the root of k times by that for Adam
        (Malladi et al. 2022, arXiv:2205.10287, section 4).
        """
        batch_size = self.batch_size_per_replica * replicas or self.batch_size
        growth = batch_size / self.batch_size
        factor = {'none': 1.0, 'linear': growth, 'sqrt': math.sqrt(growth)}
        return dataclasses.replace(
            self,
            batch_size=batch_size,
            learning_rate=self.learning_rate * factor[self.learning_rate_scaling],
            batch_size_per_replica=0,
            learning_rate_scaling='none',
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProcessSettings(Settings):
    """How the process works that trains."""

    checkpoint_steps: int = setting(
        200,
        'steps between two checkpoints: a kill loses at most these; 0: one checkpoint an epoch',
        at_least=0,
    )
    eval_batch_size: int = setting(
        0,
        'images a step of the evaluation after each epoch, all replicas together; results do not '
        'depend on it; 0: as many as fit into memory, at most 500 a replica',
        at_least=0,
    )
    deterministic: bool = setting(
        False, 'use deterministic operations only: the same weights to the last bit, but slower'
    )
    profile_steps: Numbers = setting(
        (), "first and last step that TensorFlow's profiler looks at, such as 10,15"
    )

    def __post_init__(self) -> None:
        steps = self.profile_steps
        if steps and not (len(steps) == 2 and steps[0] <= steps[1]):
            raise ValueError(
                f'PROFILE_STEPS is {",".join(map(str, steps))}: it must be the first and the last '
                'step, such as 10,15'
            )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainerSettings(ProcessSettings):
    """What the Trainer does besides: where it trains, and from where it starts."""

    strategy: str = setting(
        'auto',
        'where to train: one device, all GPUs of the machine, or the workers that TF_CONFIG names; '
        'auto takes what the machine has',
        choices=STRATEGIES,
    )
    warm_start: bool = setting(
        False,
        "start from the last blessed model's weights instead of random ones; each push makes a "
        'new one, so that the same command trains further',
    )
    guard_false_alarms: float = setting(
        0.05,
        'fraction of the images of its classes that the model refuses by mistake; the Trainer '
        'chooses the thresholds of `known` so, by the images of EVAL_SPLIT',
        at_least=0,
        at_most=1,
    )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TunerSettings(Settings):
    """The search for settings before the training."""

    tuner: bool = setting(
        False,
        'search for LEARNING_RATE and, where they have a part, LEARNING_RATE_DECAY, '
        'RECONSTRUCTION_WEIGHT and ROUTING_ITERATIONS before training, and train with the best',
    )
    tuner_trials: int = setting(10, 'settings that the search tries', at_least=1)
    tuner_epochs: int = setting(1, 'passes over the training images of each trial', at_least=1)
