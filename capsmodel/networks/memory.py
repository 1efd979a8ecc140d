"""How many images a network may evaluate at once, from the memory that is free and that it needs.

In training `batch_size` decides. An evaluation keeps nothing for gradients and may take as many
images at once as fit into memory; its results do not depend on their number.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import pathlib
import resource
import subprocess
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from capsmodel.networks import choices, layers, routing, winograd
from capsmodel.networks.settings import NetworkConfig
from capsmodel.networks.stem import Stem

# More images at once are no faster, neither on a CPU nor on a GPU.
MOST_IMAGES = 500

# The share of the available memory that an evaluation may take. The rest is for other processes,
# which may grow, and for everything that the estimate leaves out.
_SHARE = 0.5

# The memory that an exported model may take for the images that it computes at once, in addition to
# the memory that it takes for any number of images.
_EXPORTED_BYTES = 2**30

_FLOAT = 4
_UNLIMITED = 2**60  # without a limit, cgroups of version 1 have a number above this

# Assumed to be free on a GPU if nvidia-smi does not say.
_GPU_BYTES = 4 * 2**30


def images_at_once(config: NetworkConfig, most: int = MOST_IMAGES, processes: int = 1) -> int:
    """How many images a network may evaluate at once, from the memory that is available now.

    Args:
        config: The settings of the network.
        most: The largest result.
        processes: How many processes evaluate on this machine at a time; GPUs are not shared.

    Returns:
        At least 1.
    """
    sharing = 1 if tf.config.list_logical_devices('GPU') else processes
    once, each = needed(config)
    return max(1, min(most, (int(_SHARE * (free() // sharing)) - once) // each))


def images_at_once_when_exported(config: NetworkConfig) -> int:
    """How many images an exported network computes at once: the same wherever it is exported."""
    _, each = needed(config, exported=True)
    return max(1, min(MOST_IMAGES, _EXPORTED_BYTES // each))


def needed(config: NetworkConfig, exported: bool = False) -> tuple[int, int]:
    """Estimates the bytes that an evaluation takes: in any case, and for each image.

    The counts come from the shapes in the network. Their factors were fitted to the peak of the
    resident memory of evaluations on a CPU (`python -m benchmarks.memory`) and are rather too large
    than too small.

    Args:
        config: The settings of the network.
        exported: Whether the graph does not know the number of images, as in exported models.
    """
    counts = _Counts.of(config)
    # Numbers for all pairs of child and parent. A CPU routes the children in parts, which are
    # bounded for all images together, or for each image if their number is unknown.
    routed = counts.primary * config.num_classes
    if choices.ROUTINGS[config.routing_algorithm].stores_predictions:
        routed = counts.predictions
    elif not tf.config.list_logical_devices('GPU'):
        routed = min(routed, routing.CACHED_FLOATS) if exported else 0
    each = 2 * (counts.stem + counts.conv1) + 3 * counts.transformed + 4 * counts.primary
    each += 3 * routed + counts.decoded
    once = 3 * counts.routing_weights + 24 * routing.CACHED_FLOATS
    return _FLOAT * once, _FLOAT * each


def needed_to_train(config: NetworkConfig, images: int, parameters: int) -> int:
    """Estimates the bytes that a training step takes.

    The network, the optimizer's averages and the best weights are not counted: they are there
    before. The factors were fitted as those of `needed`, by `python -m benchmarks.memory --train`.

    Args:
        config: The settings of the network.
        images: How many images of the step are computed with the same memory.
        parameters: How many numbers the network learns.
    """
    counts = _Counts.of(config, images)
    routed = counts.coupling * (config.routing_iterations - 1)
    if choices.ROUTINGS[config.routing_algorithm].stores_predictions:
        routed += 3 * counts.predictions
    elif tf.config.list_logical_devices('GPU'):
        routed += 3 * counts.primary * config.num_classes
    each = 3 * counts.stem + 2 * counts.conv1 + 4 * counts.transformed + 8 * counts.primary
    each += routed + 2 * counts.decoded
    once = 4 * parameters + 8 * counts.routing_weights + 2 * counts.transformed_weights
    return _FLOAT * (once + images * each)


@dataclasses.dataclass(frozen=True)
class _Counts:
    """How many numbers the parts of a network hold, for one image where nothing else is said.

    Attributes:
        stem: The pixels and what the stem makes of them; 0 without a stem.
        conv1: The outputs of the first convolution.
        transformed: The input of the primary capsules, transformed; 0 where it is not.
        transformed_weights: The kernel of the primary capsules, transformed, for all images; or 0.
        primary: The primary capsules.
        coupling: The coupling coefficients of one iteration.
        predictions: All predictions, which only some ways to route store.
        routing_weights: The weights of the predictions, for all images.
        decoded: The layers of the decoder.
    """

    stem: int
    conv1: int
    transformed: int
    transformed_weights: int
    primary: int
    coupling: int
    predictions: int
    routing_weights: int
    decoded: int

    @classmethod
    def of(cls, config: NetworkConfig, images: int | None = None) -> _Counts:
        """Counts the numbers in the shapes of the layers.

        Args:
            config: The settings of the network.
            images: How many images a step has; None: the graph does not know.
        """
        stem = 0
        if config.stem_strides:
            pixels = (1, *config.image_shape[:2], config.image_channels)
            outputs: list[Any] = Stem(config.stem_strides).output_shapes(pixels)
            stem = sum(map(math.prod, [pixels, *outputs]))
        rows, columns = (size - config.conv1_kernel_size + 1 for size in config.conv1_size)
        primary_caps = layers.PrimaryCaps(
            config.primary_channels,
            config.primary_dim,
            config.primary_kernel_size,
            config.primary_stride,
            config.primary_algorithm,
            dtype=config.precision,
        )
        inputs = (images, rows, columns, config.conv1_filters)
        transformed = primary_caps.transformed_floats(inputs)
        primary = math.prod(primary_caps.compute_output_shape(inputs)[1:])
        children = primary // config.primary_dim
        weights = (winograd.MOST_POINTS * config.primary_stride) ** 2
        weights *= config.conv1_filters * config.primary_channels * config.primary_dim
        decoded = 0
        if config.decoder:
            decoded = 3 * config.num_classes * config.digit_dim + sum(config.decoder_units)
            decoded += 3 * math.prod(config.image_shape)
        return cls(
            stem=stem,
            conv1=rows * columns * config.conv1_filters,
            transformed=transformed,
            transformed_weights=weights if transformed else 0,
            primary=primary,
            coupling=children * config.num_classes,
            predictions=children * config.num_classes * config.digit_dim,
            routing_weights=primary * config.num_classes * config.digit_dim,
            decoded=decoded,
        )


def free() -> int:
    """Bytes that are free where networks compute: on the GPU if there is one, or in main memory."""
    return gpu_available() if tf.config.list_logical_devices('GPU') else available()


def available(root: str = '/') -> int:
    """Bytes of main memory that this process may still take.

    That is the least of the machine's free memory and of the rest of each limit: of the control
    groups (version 1 or 2) of this process, as in containers, and of `ulimit -v` and `ulimit -d`.

    Args:
        root: The folder that contains `proc` and `sys`.
    """
    return max(0, min(_limits(pathlib.Path(root))))


def _limits(root: pathlib.Path) -> Iterator[int]:
    try:
        yield _fields(root / 'proc/meminfo')['MemAvailable'] * 1024
    except (OSError, KeyError):  # a Mac
        yield os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    with contextlib.suppress(OSError, KeyError):
        used = _fields(root / 'proc/self/status')
        for limit, field in ((resource.RLIMIT_AS, 'VmSize'), (resource.RLIMIT_DATA, 'VmData')):
            soft, _ = resource.getrlimit(limit)
            if soft != resource.RLIM_INFINITY:
                yield soft - used[field] * 1024
    with contextlib.suppress(OSError):
        for line in (root / 'proc/self/cgroup').read_text().splitlines():
            _, controllers, path = line.split(':', 2)
            if not controllers:
                yield from _group_limits(root / 'sys/fs/cgroup', path, _VERSION_2)
            elif 'memory' in controllers.split(','):
                yield from _group_limits(root / 'sys/fs/cgroup/memory', path, _VERSION_1)


# The files of the limit and of the use, and the field of memory.stat that can be given up.
_VERSION_1 = ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file')
_VERSION_2 = ('memory.max', 'memory.current', 'inactive_file')


def _group_limits(mount: pathlib.Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """The rest of the limits of a control group and of those around it.

    In a container, the path may be the one outside, which does not exist inside; then the mount
    itself is the process's group.
    """
    limit_name, used_name, given_up = names
    group = mount / path.lstrip('/')
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, KeyError, ValueError):  # 'max' is no number: no limit
            limit = int((folder / limit_name).read_text())
            if limit < _UNLIMITED:
                used = int((folder / used_name).read_text())
                yield limit - used + _fields(folder / 'memory.stat')[given_up]
        if folder == mount:
            return


def _fields(path: pathlib.Path) -> dict[str, int]:
    """The numbers in a file whose lines hold a name, a number and perhaps a unit."""
    fields = {}
    for line in path.read_text().splitlines():
        name, *values = line.replace(':', ' ').split()
        if values and values[0].isdigit():
            fields[name] = int(values[0])
    return fields


def gpu_available() -> int:
    """The free bytes of this process's GPU that has the fewest."""
    command = ['nvidia-smi', '--query-gpu=memory.free', '--format=csv,noheader,nounits']
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible:
        command.append(f'--id={visible}')
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return min(int(line) for line in said.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return _GPU_BYTES
