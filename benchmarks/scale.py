"""Time and memory of each node as the images, their classes and their size grow.

`python -m benchmarks.scale` runs the pipeline on folders of drawn pictures, each node in a process
of its own, up to `--until`. `--images 60000,600000`, `--classes`, `--pixels` choose the cases, and
NAME=VALUE at the end are settings of the pipeline. The network is small: the data count here.

With `--training`, only the process that trains is measured, for one epoch of random images in the
form that Transform writes. `--code FOLDER` measures that of another checkout, to compare with.

Memory is the largest sum over the processes of a node of what they hold by themselves, which the
system cannot take back; pages of files, such as of the programs themselves, do not count.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import psutil

from benchmarks.interleaved import report

IMAGES, CLASSES, PIXELS = (60_000, 240_000, 600_000), (10, 100), (28, 64, 96)
_QUICK = ((600,), (3,), (28,))
_NETWORK = {'conv1_filters': 4, 'primary_channels': 1, 'digit_dim': 4, 'decoder': False}
_BATCH = 500
_EVALUATION_IMAGES = 5000
_SECONDS_BETWEEN_SAMPLES = 0.2
_COLUMNS = {
    'name': '',
    'images': ',',
    'classes': '',
    'pixels': '',
    'seconds': ',.1f',
    'memory_mb': ',.0f',
}
_ROOT = pathlib.Path(__file__).parents[1]


class Case(NamedTuple):
    """How many grey images there are, of how many classes; `pixels` is their height and width."""

    images: int
    classes: int
    pixels: int


def pictures(case: Case) -> Iterator[tuple[int, np.ndarray]]:
    """Labels, and images uint8 [pixels, pixels]: bars whose place tells the class, in noise."""
    random = np.random.default_rng(0)
    places = np.linspace(0, case.pixels - 2, case.classes)
    for number in range(case.images):
        label = number % case.classes
        image = random.integers(0, 60, (case.pixels, case.pixels), np.uint8)
        first = round(places[label])
        image[first : first + 2] += 180
        yield label, image


def write_folder(folder: pathlib.Path, case: Case) -> None:
    """Writes `pictures` as PNGs, one sub-folder for each class."""
    for label in range(case.classes):
        (folder / f'class {label:03}').mkdir(parents=True)
    for number, (label, image) in enumerate(pictures(case)):
        (folder / f'class {label:03}' / f'{number:07}.png').write_bytes(_png(image))


def _png(image: np.ndarray) -> bytes:
    """A grey PNG, written faster than by an encoder that looks for a small one."""
    size = np.array([image.shape[1], image.shape[0]], '>u4').tobytes()
    rows = np.pad(image, ((0, 0), (1, 0))).tobytes()  # each begins with 0: it has no filter
    parts = {
        b'IHDR': size + bytes([8, 0, 0, 0, 0]),
        b'IDAT': zlib.compress(rows, 1),
        b'IEND': b'',
    }
    chunks = [
        len(data).to_bytes(4, 'big') + name + data + zlib.crc32(name + data).to_bytes(4, 'big')
        for name, data in parts.items()
    ]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunks)


def write_transformed(path: pathlib.Path, case: Case) -> None:
    """Writes `pictures` as Transform does."""
    import tensorflow as tf

    options = tf.io.TFRecordOptions('GZIP', compression_level=1)
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for number, (label, image) in enumerate(pictures(case)):
            values = {
                'image': tf.train.Feature(bytes_list={'value': [image.tobytes()]}),
                'label': tf.train.Feature(int64_list={'value': [label]}),
                'id': tf.train.Feature(bytes_list={'value': [f'{number:07}'.encode()]}),
            }
            example = tf.train.Example(features={'feature': values})
            writer.write(example.SerializeToString())


def measured(
    command: Sequence[str], environment: Mapping[str, str], folder: str | os.PathLike
) -> dict[str, float]:
    """Runs a command to its end, with its output on standard error.

    Returns:
        `seconds`, and `memory_mb`, the peak of `_own_memory` of all its processes.

    Raises:
        SystemExit: It fails.
    """
    started, peak = time.monotonic(), 0
    process = subprocess.Popen(
        command, env={**os.environ, **environment}, cwd=folder, stdout=sys.stderr
    )
    root = psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, sum(map(_own_memory, [root, *root.children(recursive=True)])))
        except psutil.NoSuchProcess:  # it has ended meanwhile
            continue
        time.sleep(_SECONDS_BETWEEN_SAMPLES)
    if process.returncode:
        raise SystemExit(f'{" ".join(command)} has failed: see what it says above')
    return {'seconds': time.monotonic() - started, 'memory_mb': peak / 2**20}


def _own_memory(process: psutil.Process) -> int:
    """Resident bytes of a process that are no pages of files; 0 if it has ended."""
    try:
        info = process.memory_info()
    except psutil.Error:
        return 0
    return info.rss - getattr(info, 'shared', 0)


def measure_training(case: Case, folder: pathlib.Path, code: pathlib.Path) -> dict[str, float]:
    """Measures the process that trains for one epoch, of the checkout in `code`."""
    train, evaluation = folder / 'train.gz', folder / 'eval.gz'
    write_transformed(train, case)
    write_transformed(evaluation, case._replace(images=min(case.images, _EVALUATION_IMAGES)))
    request = {
        'network': {
            'image_height': case.pixels,
            'image_width': case.pixels,
            'num_classes': case.classes,
            **_NETWORK,
        },
        'training': {'epochs': 1, 'batch_size': min(_BATCH, case.images)},
        'train_files': [str(train)],
        'eval_files': [str(evaluation)],
        'log_dir': '',
        'checkpoint_root': str(folder / 'checkpoints'),
        'weights_from': [],
        'code_version': '',
    }
    path = folder / 'request.json'
    path.write_text(json.dumps(request))
    command = [sys.executable, '-m', 'capsmodel.training.worker', '--strategy=default', str(path)]
    return measured(command, {'TMPDIR': str(folder)}, code)


def measure_nodes(
    case: Case, folder: pathlib.Path, until: str, settings: Sequence[str]
) -> Iterator[tuple[str, dict[str, float]]]:
    """Measures the nodes of a run on a folder of pictures, one after another.

    Args:
        case: The pictures.
        folder: An empty folder, for them and for everything that the run writes.
        until: The last node to run; empty: all.
        settings: More settings, NAME=VALUE.
    """
    from pipeline import configs, run_node, var_folder

    write_folder(folder / 'images', case)
    given = [
        f'IMAGES={folder / "images"}',
        f'VAR={folder / "var"}',
        *(f'{name.upper()}={value}' for name, value in _NETWORK.items()),
        f'BATCH_SIZE={min(_BATCH, case.images // 2)}',  # 80% of the images are learned from
        'EPOCHS=1',
        *('MIN_ACCURACY=0', 'MIN_CLASS_ACCURACY=0', 'MIN_CLASS_IMAGES=0', 'MIN_TEST_IMAGES=0'),
        *settings,
    ]
    config = configs.from_environment(run_node.assignments(given))
    with var_folder.entered(config) as inside:
        nodes = [each.pipeline_node.node_info.id for each in run_node.compiled(inside, 'a').nodes]
    if until and until not in nodes:
        raise SystemExit(f"There is no node '{until}': with these settings there are {nodes}")
    (folder / 'tmp').mkdir()
    for node in nodes[: nodes.index(until) + 1 if until else len(nodes)]:
        command = [sys.executable, '-m', 'pipeline.run_node', '--node', node, '--run_id', 'scale']
        environment = {'TMPDIR': str(folder / 'tmp'), 'TF_CPP_MIN_LOG_LEVEL': '3'}
        yield node, measured([*command, *given], environment, _ROOT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the command with its arguments, or those of the process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, numbers in (('images', IMAGES), ('classes', CLASSES), ('pixels', PIXELS)):
        parser.add_argument(f'--{name}', type=_numbers, default=numbers, help='numbers with commas')
    parser.add_argument('--quick', action='store_true', help='only one small case')
    parser.add_argument('--until', default='', metavar='NODE', help='the last node to run')
    parser.add_argument('--training', action='store_true', help='only the process that trains')
    parser.add_argument('--code', default=_ROOT, type=pathlib.Path, help='another checkout')
    parser.add_argument('--json', help='a file for the rows')
    parser.add_argument('settings', nargs='*', metavar='NAME=VALUE', help='settings')
    options = parser.parse_args(arguments)
    sizes = _QUICK if options.quick else (options.images, options.classes, options.pixels)
    rows: list[dict[str, Any]] = []
    for case in itertools.starmap(Case, itertools.product(*sizes)):
        with tempfile.TemporaryDirectory(prefix='capsnet-') as temporary:
            folder = pathlib.Path(temporary)
            if options.training:
                results = iter([('training', measure_training(case, folder, options.code))])
            else:
                results = measure_nodes(case, folder, options.until, options.settings)
            for name, values in results:
                rows.append({'name': name, **case._asdict(), **values})
                print(f'{case}: {name}: {values}', file=sys.stderr)
    report(rows, _COLUMNS, options.json)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(','))


if __name__ == '__main__':
    main()
