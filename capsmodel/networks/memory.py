"""How many images a network may evaluate at once, from the memory that is free and that it needs.

In training `batch_size` decides. An evaluation keeps nothing for gradients and may take as many
images at once as fit into memory; its results do not depend on their number.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import resource
import subprocess
from collections.abc import Iterator

import tensorflow as tf

from capsmodel.networks.network import Network

# More images at once are no faster, neither on a CPU nor on a GPU.
MOST_IMAGES = 500

# The share of the available memory that an evaluation may take. The rest is for other processes,
# which may grow, and for everything that the estimate leaves out.
_SHARE = 0.5

# The memory that an exported model may take for the images that it computes at once, in addition to
# the memory that it takes for any number of images.
_EXPORTED_BYTES = 2**30

_UNLIMITED = 2**60  # without a limit, cgroups of version 1 have a number above this

# Assumed to be free on a GPU if nvidia-smi does not say.
_GPU_BYTES = 4 * 2**30


def images_at_once(model: Network, most: int = MOST_IMAGES, processes: int = 1) -> int:
    """How many images a network may evaluate at once, from the memory that is available now.

    Args:
        model: The network.
        most: The largest result.
        processes: How many processes evaluate on this machine at a time; GPUs are not shared.

    Returns:
        At least 1.
    """
    sharing = 1 if tf.config.list_logical_devices('GPU') else processes
    once, each = model.bytes_to_evaluate()
    return max(1, min(most, (int(_SHARE * (free() // sharing)) - once) // each))


def images_at_once_when_exported(model: Network) -> int:
    """How many images an exported network computes at once: the same wherever it is exported."""
    _, each = model.bytes_to_evaluate(exported=True)
    return max(1, min(MOST_IMAGES, _EXPORTED_BYTES // each))


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
