"""Trains a network to name both digits of a pair, and measures how often it does."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import keras
import numpy as np
import tensorflow as tf

from benchmarks import epochs
from capsmodel.data.dataset import LabeledImages
from capsmodel.networks import losses, memory, table
from capsmodel.networks.network import Network
from capsmodel.networks.settings import NetworkConfig
from capsmodel.networks.step import Step
from capsmodel.summaries.console import progress_bar
from capsmodel.training import capacity
from capsmodel.training.checkpoints import Checkpoints
from capsmodel.training.errors import check_finite
from capsmodel.training.optimizer import FusedAdam
from capsmodel.training.schedules import Schedule
from capsmodel.training.settings import TrainingConfig
from capsmodel.training.state import TrainingState
from pipeline import configs
from study.measure import Measure
from study.overlap.pairs import PADDING, Pairs, TrainingPairs

# Those whose losses can be asked for two classes at once.
NETWORKS = ('capsnet', 'cnn', 'cnn_large_kernels')

_STEPS_BETWEEN_LOSSES = 50


def trained(
    network: str,
    shift: int,
    steps: int,
    seed: int,
    images: LabeledImages,
    settings: Mapping[str, str],
    checkpoints: Checkpoints | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Network:
    """Trains a network on pairs of digits.

    Args:
        network: One of NETWORKS.
        shift: Each digit is moved by up to this many pixels each way.
        steps: Steps of the training. The learning rate falls as in EPOCHS epochs of equal length
            that have these steps together.
        seed: Decides the first weights and the pairs.
        images: The single digits to learn from, uint8 [n, 28, 28], with labels.
        settings: Other settings of the network and the training than their defaults: names in
            capitals to values. The pairs are not augmented further.
        checkpoints: Checkpoints to resume from and to write; None: none.
        should_stop: Asked before each step.

    Raises:
        SettingError: A setting cannot be used.
        ValueError: There is no such network, or the images do not make pairs.
        TrainingError: The loss is not finite; memory is too small; a checkpoint cannot be written;
            `should_stop` returned True.
    """
    model_config, config = configured(network, images.images.shape[1:], seed, settings)
    pairs = TrainingPairs(images, shift, seed=seed, batch_size=config.batch_size)
    keras.utils.set_random_seed(seed)
    model = table.create(model_config)
    capacity.check(model, config.batch_size, tf.distribute.get_strategy())
    train(model, config, pairs, steps, checkpoints, should_stop)
    return model


def configured(
    network: str, digit_shape: tuple[int, ...], seed: int, settings: Mapping[str, str]
) -> tuple[NetworkConfig, TrainingConfig]:
    """The network for pairs of digits of a shape, and how it is trained.

    Raises:
        SettingError: A setting cannot be used.
        ValueError: There is no such network.
    """
    if network not in NETWORKS:
        raise ValueError(f'NETWORK must be one of {", ".join(NETWORKS)}, not {network!r}')
    height, width = (str(size + 2 * PADDING) for size in digit_shape)
    ours = {
        'NETWORK': network,
        'SEED': str(seed),
        'IMAGE_HEIGHT': height,
        'IMAGE_WIDTH': width,
    }
    return epochs.network_and_training(configs.from_environment({**settings, **ours}))


def train(
    model: Network,
    config: TrainingConfig,
    pairs: TrainingPairs,
    steps: int,
    checkpoints: Checkpoints | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> None:
    """Trains a network, with a progress bar on standard error.

    Args:
        model: The network.
        config: How to train it; see `trained` about the learning rate.
        pairs: What it learns from, `config.batch_size` a step.
        steps: The number of steps.
        checkpoints: Checkpoints to resume from and to write; None: none.
        should_stop: Asked before each step.

    Raises:
        Diverged: The loss is not finite.
        TrainingError: A checkpoint cannot be written, or `should_stop` returned True.
    """
    schedule = Schedule(config, steps / config.epochs)
    optimizer = FusedAdam(
        schedule, use_ema=bool(config.ema_decay), ema_momentum=config.ema_decay or None
    )
    optimizer.build(model.trainable_variables)
    state = TrainingState(model, optimizer, checkpoints, writes=True)
    state.say_resumed(steps)
    done = state.progress.step
    train_step = make_train_step(model, optimizer, config, steps)
    with progress_bar(done * config.batch_size, steps * config.batch_size) as bar:
        for number, batch in enumerate(pairs.dataset(done, steps), done + 1):
            if should_stop():
                state.stop(number - 1, steps)
            loss = train_step(batch)
            is_due = number == steps or state.is_due(number)
            if is_due or number % _STEPS_BETWEEN_LOSSES == 0:
                check_finite(number - 1, float(loss), schedule)
                bar.set_postfix(loss=f'{float(loss):.4f}', refresh=False)
            if is_due:
                state.save(number)
            bar.update(config.batch_size)
    if config.ema_decay:
        optimizer.finalize_variable_values(model.trainable_variables)


def make_train_step(
    model: Network, optimizer: FusedAdam, config: TrainingConfig, steps: int
) -> Callable[[Pairs], tf.Tensor]:
    """Makes the tf.function of a training step.

    Args:
        model: The network.
        optimizer: An optimizer that is built for the network's trainable variables.
        config: How to train.
        steps: The steps of the whole training.

    Returns:
        A function that trains on a batch of pairs, tensors, and returns the mean of the loss over
        them, float32 [].
    """

    @tf.function(autograph=False)
    def step(pairs: Pairs) -> tf.Tensor:
        moment = Step.on_this_replica(
            config.seed, optimizer.iterations.value, steps, config.batch_size
        )
        with tf.GradientTape() as tape:
            outputs = model(pairs.images, step=moment)
            loss = tf.reduce_mean(
                pair_loss(model, pairs, outputs, config.reconstruction_weight, moment)
            )
        variables = model.trainable_variables
        gradients = tape.gradient(loss, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return loss

    return step


def pair_loss(
    model: Network, pairs: Pairs, outputs: tf.Tensor, reconstruction_weight: float, step: Step
) -> tf.Tensor:
    """The loss of each pair.

    Of capsules it is Eq. 4 of Sabour, Frosst, Hinton 2017 with T_k = 1 for both classes; of logits
    z, the cross-entropy of sigmoid(z_k) with T_k, summed over the classes k. With a decoder, each
    digit is reconstructed from its own class's capsule, as if the other was not there (section 6),
    and the squared errors to the two single digits are added.

    Args:
        model: The network.
        pairs: Tensors.
        outputs: What the network returns for `pairs.images`.
        reconstruction_weight: The weight of the squared errors.
        step: The step of the training.

    Returns:
        float32 [n].
    """
    if model.loss_name == 'margin_loss':
        loss = model.classification_loss(pairs.labels, outputs, step)
    else:
        present = losses.present_classes(pairs.labels, model.config.num_classes)
        loss = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(present, outputs), axis=1)
    if model.config.has_decoder:
        drawn = reconstructions(model, model.capsules(outputs), pairs.labels)
        errors = [
            losses.reconstruction_loss(pairs.singles[:, place], drawn[:, place])
            for place in range(2)
        ]
        loss += reconstruction_weight * tf.add_n(errors)
    return loss


def reconstructions(model: Network, capsules: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
    """Two reconstructions of each image, each from the capsule of one class alone.

    Args:
        model: A network with a decoder.
        capsules: float32 [n, num_classes, capsule_dim].
        classes: integers [n, 2].

    Returns:
        float32 [n, 2, height, width] in (0, 1).

    Raises:
        ValueError: The network has no decoder.
    """
    drawn = model.reconstruct(tf.repeat(capsules, 2, axis=0), tf.reshape(classes, [-1]))
    return tf.reshape(drawn, [-1, 2, *drawn.shape[1:]])


def scores(model: Network, images: np.ndarray) -> np.ndarray:
    """The scores of images, uint8 [n, height, width]: float32 [n, classes].

    Those of a softmax are in the same order as those of sigmoids would be.
    """
    step = tf.function(lambda batch: model.scores(model(batch)), autograph=False)
    pieces = -(-len(images) // memory.images_at_once(model))
    return np.concatenate([step(piece).numpy() for piece in np.array_split(images, pieces)])


def two_highest(scored: np.ndarray) -> np.ndarray:
    """The two classes with the highest scores, the highest first: integers [n, 2]."""
    return np.argsort(-scored, axis=1, kind='stable')[:, :2]


def measures(scored: np.ndarray, labels: np.ndarray) -> list[Measure]:
    """How often the classes with the two highest scores are not those of the pair.

    Args:
        scored: float [n, classes].
        labels: integers [n, 2].

    Returns:
        `both right`: the pairs of which at least one digit is missed, as in section 6 of Sabour,
        Frosst, Hinton 2017. `each by itself`: the digits that are missed.
    """
    is_missed = ~(labels[:, :, np.newaxis] == two_highest(scored)[:, np.newaxis]).any(axis=2)
    return [
        Measure('both right', _percent(is_missed.any(axis=1))),
        Measure('each by itself', _percent(is_missed)),
    ]


def _percent(is_wrong: np.ndarray) -> float:
    return 100 * int(np.count_nonzero(is_wrong)) / is_wrong.size
