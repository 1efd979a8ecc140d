"""How large a network is, and whether a step of its training fits into memory."""

from __future__ import annotations

import tensorflow as tf

from capsmodel.networks import memory, native_routing
from capsmodel.networks.network import Network
from capsmodel.summaries.console import say
from capsmodel.training import strategies
from capsmodel.training.errors import TrainingError


def check(model: Network, batch_size: int, strategy: tf.distribute.Strategy) -> None:
    """Says how large a network is and how much memory a step takes.

    Args:
        model: The network.
        batch_size: Images a step, all replicas together.
        strategy: The strategy that the network was made under.

    Raises:
        TrainingError: The step takes more memory than is free, or the network's routing cannot be
            loaded.
    """
    _check_routing(getattr(model.config, 'routing_algorithm', ''))
    images = batch_size // strategy.num_replicas_in_sync
    if not tf.config.list_logical_devices('GPU'):  # replicas on this machine share its memory
        images *= strategies.replicas_here(strategy)
    needed, free = model.bytes_to_train(images), memory.free()
    say(
        f'the network has {model.size()}; a step of {images:,} images takes about {_size(needed)} '
        'of memory'
    )
    if needed > free:
        raise TrainingError(
            f'A step takes about {_size(needed)} of memory, and {_size(free)} are free: '
            f'{model.how_to_save_memory}'
        )


def _check_routing(algorithm: str) -> None:
    on_gpu = bool(tf.config.list_logical_devices('GPU'))
    why_not = native_routing.why_not() if algorithm in ('auto', 'native') and not on_gpu else ''
    if why_not and algorithm == 'native':
        raise TrainingError(
            f'ROUTING_ALGORITHM=native cannot be had, since {why_not}; auto takes matmul then'
        )
    if why_not:
        say(f'routing is matmul, which takes longer than native, since {why_not}')


def _size(count: int) -> str:
    """Bytes in a unit that fits."""
    return f'{count / 1e9:.1f} GB' if count >= 1e9 else f'{count / 1e6:,.0f} MB'
