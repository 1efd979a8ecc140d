"""How many images a network may evaluate at once: memory that is available, memory that is needed.

Of training `batch_size` decides. An evaluation keeps nothing for gradients and may take as many
images at once as there is room for; its results do not depend on that.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
import resource
import subprocess
from collections.abc import Iterator

import tensorflow as tf

from capsmodel.networks import layers, routing
from capsmodel.networks.settings import NetworkConfig

# More images at once are no faster, neither on a CPU nor on a GPU.
MOST_IMAGES = 500

# The part of the available memory that an evaluation may take. The rest is for other processes,
# which may grow meanwhile, and for what the estimate leaves out.
_SHARE = 0.5

# What an exported model may take for the images that it computes at once, however many it is given,
# beside what it takes for any number.
_EXPORTED_BYTES = 2**30

_FLOAT = 4
_UNLIMITED = 2**60  # cgroups of version 1 have a number in this region where there is no limit

# What a GPU has free where nvidia-smi does not say.
_GPU_BYTES = 4 * 2**30


def images_at_once(config: NetworkConfig, most: int = MOST_IMAGES, processes: int = 1) -> int:
    """How many images a network may evaluate at once, by the memory that is available now.

    Args:
        config: The network's.
        most: The result is not above this.
        processes: How many evaluate on this machine at the same time; GPUs are not shared.

    Returns:
        At least 1.
    """
    has_gpu = bool(tf.config.list_logical_devices('GPU'))
    bytes_ = gpu_available() if has_gpu else available() // processes
    once, each = needed(config)
    return max(1, min(most, (int(_SHARE * bytes_) - once) // each))


def images_at_once_when_exported(config: NetworkConfig) -> int:
    """How many images an exported network computes at once: the same wherever it is exported."""
    _, each = needed(config, exported=True)
    return max(1, min(MOST_IMAGES, _EXPORTED_BYTES // each))


def needed(config: NetworkConfig, exported: bool = False) -> tuple[int, int]:
    """Bytes that an evaluation takes: whatever the number of images is, and for each of them.

    The counts are those of the network's own shapes. What they are multiplied by was fitted to the
    peak of the resident memory of evaluations on a CPU (`python -m benchmarks.memory`); it is
    rather too much than too little.

    Args:
        config: The network's.
        exported: Whether the number of images is unknown to the graph, as in exported models.
    """
    rows, columns = (
        size - config.conv1_kernel_size + 1 for size in (config.image_height, config.image_width)
    )
    conv1 = rows * columns * config.conv1_filters
    primary_caps = layers.PrimaryCaps(
        config.primary_channels,
        config.primary_dim,
        config.primary_kernel_size,
        config.primary_stride,
        config.primary_algorithm,
        dtype=config.precision,
    )
    inputs = (None, rows, columns, config.conv1_filters)
    transformed = primary_caps.transformed_floats(inputs)
    primary = math.prod(filter(None, primary_caps.compute_output_shape(inputs)))
    kernel = primary * config.num_classes * config.digit_dim
    # On a CPU, routing goes through the children in parts that are bounded for all images together,
    # or for each where their number is unknown.
    routed = primary * config.num_classes
    if not tf.config.list_logical_devices('GPU'):
        routed = min(routed, routing.CACHED_FLOATS) if exported else 0
    drawn = 0
    if config.decoder:
        drawn = 3 * config.num_classes * config.digit_dim + sum(config.decoder_units)
        drawn += 3 * config.image_height * config.image_width
    each = 2 * conv1 + 3 * transformed + 4 * primary + 3 * routed + drawn
    once = 3 * kernel + 24 * routing.CACHED_FLOATS
    return _FLOAT * once, _FLOAT * each


def available(root: str = '/') -> int:
    """Bytes of main memory that this process may still take.

    The machine's, or what is left of a limit: of the control groups (version 1 or 2) that the
    process is in, as in containers, and of `ulimit -v` and `ulimit -d`.

    Args:
        root: Where `proc` and `sys` are.
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


# Files of a limit and of what is used, and in memory.stat the field of what can be given up.
_VERSION_1 = ('memory.limit_in_bytes', 'memory.usage_in_bytes', 'total_inactive_file')
_VERSION_2 = ('memory.max', 'memory.current', 'inactive_file')


def _group_limits(mount: pathlib.Path, path: str, names: tuple[str, str, str]) -> Iterator[int]:
    """What is left in a control group and those around it.

    In a container the path may be that outside of it, which is not there inside: then the mount
    itself is the process's group.
    """
    limit_name, used_name, given_up = names
    group = mount / path.lstrip('/')
    for folder in (group, *group.parents):
        with contextlib.suppress(OSError, KeyError, ValueError):  # no limit is 'max'
            limit = int((folder / limit_name).read_text())
            if limit < _UNLIMITED:
                used = int((folder / used_name).read_text())
                yield limit - used + _fields(folder / 'memory.stat')[given_up]
        if folder == mount:
            return


def _fields(path: pathlib.Path) -> dict[str, int]:
    """Numbers of a file with a name, a number and perhaps a unit in each line."""
    fields = {}
    for line in path.read_text().splitlines():
        name, *values = line.replace(':', ' ').split()
        if values and values[0].isdigit():
            fields[name] = int(values[0])
    return fields


def gpu_available() -> int:
    """Bytes that are free on the GPU of this process that has the fewest."""
    command = ['nvidia-smi', '--query-gpu=memory.free', '--format=csv,noheader,nounits']
    visible = os.environ.get('CUDA_VISIBLE_DEVICES')
    if visible:
        command.append(f'--id={visible}')
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return min(int(line) for line in said.split()) * 2**20
    except (OSError, subprocess.SubprocessError, ValueError):
        return _GPU_BYTES
