"""Tests of the request log: what is kept, that it stays small, and that it is in nobody's way."""

import contextlib
import glob
import json
import os
import resource
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from rest_server import request
from saved_models import half_plus_two

from components import request_log as reader
from serving.request_log import log as log_module
from serving.request_log.files import RequestLogOptions
from serving.request_log.log import RequestLog

_INPUTS = {'pictures': np.array([b'a picture', b'another'], object)}
_OUTPUTS = {
    'label': np.array([3, 7]),
    'scores': np.array([[0.25, 0.5], [0.75, 1.0]], np.float32),
    'image': np.zeros((2, 4, 4), np.uint8),
}


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / 'log')


def _options(folder, rate=1.0, **others):
    return RequestLogOptions(rate, os.path.join(folder, 'requests'), **others)


def _keep(options, count=1, inputs=_INPUTS):
    """Keeps requests, and returns the counts of what became of them."""
    log = RequestLog(options)
    for _ in range(count):
        log.add('caps', 5, 'explain', inputs, _OUTPUTS)
    log.close()
    return _counts(log)


def test_a_record_has_the_request_and_its_answer(folder):
    assert _keep(_options(folder)) == {'logged': 1, 'dropped': 0, 'failed': 0}
    ((_, number, log),) = reader.read(folder)
    assert number == 1
    asked, said = log.predict_log.request, log.predict_log.response
    for spec in (log.log_metadata.model_spec, asked.model_spec, said.model_spec):
        assert (spec.name, spec.version.value, spec.signature_name) == ('caps', 5, 'explain')
    assert abs(log.log_metadata.timestamp_secs - time.time()) < 60
    assert log.log_metadata.sampling_config.sampling_rate == 1
    for arrays, tensors in ((_INPUTS, asked.inputs), (_OUTPUTS, said.outputs)):
        assert arrays.keys() == tensors.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(tf.make_ndarray(tensors[name]), array)


def test_values_of_one_request_are_not_those_of_the_next(folder):
    log = RequestLog(_options(folder))
    sizes = (1, 2, 1, 100_000, 1)
    for size in sizes:
        log.add('m', 1, 's', {'x': np.array([b'x' * size], object)}, {'n': np.array([size])})
    log.close()
    for size, (_, _, kept) in zip(sizes, reader.read(folder), strict=True):
        assert tf.make_ndarray(kept.predict_log.request.inputs['x']) == [b'x' * size]
        assert tf.make_ndarray(kept.predict_log.response.outputs['n']) == [size]


def test_without_images_neither_pictures_nor_what_shows_them_is_kept(folder):
    _keep(_options(folder, keep_images=False))
    ((_, _, log),) = reader.read(folder)
    assert not log.predict_log.request.inputs
    assert log.predict_log.response.outputs.keys() == {'label', 'scores'}


def test_only_this_user_may_read_it(folder):
    _keep(_options(folder))
    (path,) = glob.glob(f'{folder}/*')
    assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_a_sample_is_a_sample(folder):
    counts = _keep(_options(folder, rate=0.2), count=1000)
    # Five standard deviations of 1,000 throws.
    assert abs(counts['logged'] - 200) < 5 * (1000 * 0.2 * 0.8) ** 0.5
    assert len(list(reader.read(folder))) == counts['logged']


def test_files_are_small_and_the_oldest_go(folder):
    size = 10_000
    inputs = {'x': np.array([b'x' * size], object)}
    options = _options(folder, file_bytes=4 * size, max_bytes=12 * size)
    _keep(options, count=3, inputs=inputs)
    (first,) = os.listdir(folder)
    assert _keep(options, count=30, inputs=inputs)['logged'] == 30
    sizes = [os.path.getsize(path) for path in glob.glob(f'{folder}/*')]
    assert sum(sizes) <= 12 * size
    assert max(sizes) <= 4 * size
    assert first not in os.listdir(folder)
    assert 6 <= len(list(reader.read(folder))) <= 12


@contextlib.contextmanager
def _full_disk():
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def _until(condition):
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def _counts(log):
    return {sample.labels['status']: sample.value for sample in log.family().samples}


def _add(log):
    """Keeps a request, and waits until something has become of it."""
    asked = sum(_counts(log).values())
    log.add('caps', 5, 'explain', _INPUTS, _OUTPUTS)
    _until(lambda: sum(_counts(log).values()) > asked)


@pytest.fixture
def hasty(monkeypatch):
    """Short pauses of logs."""
    monkeypatch.setattr(log_module, '_FLUSH_SECONDS', 0.005)
    monkeypatch.setattr(log_module, '_PAUSE_SECONDS', 0.05)


@pytest.mark.parametrize('is_full', [True, False])
def test_a_log_that_cannot_be_written_fails_nothing(folder, monkeypatch, hasty, is_full):
    said: list[str] = []
    # Standard error is a file here, and so as full as the disk.
    monkeypatch.setattr(log_module, 'complain', said.append)
    if not is_full:
        with open(folder, 'w'):
            pass  # a file where the folder should be
    log = RequestLog(_options(folder))
    with _full_disk() if is_full else contextlib.nullcontext():
        for _ in range(30):
            _add(log)
        if is_full:
            _until(lambda: os.listdir(folder) == [])
    if not is_full:
        os.remove(folder)
    failed = 30
    assert _counts(log) == {'logged': 0, 'dropped': 0, 'failed': failed}
    _add(log)
    while not _counts(log)['logged']:  # in the pause after the last failure
        failed += 1
        assert failed < 1000
        _add(log)
    log.close()
    assert _counts(log) == {'logged': 1, 'dropped': 0, 'failed': failed}
    (complaint,) = said  # not one for each request
    assert complaint.startswith('The request log cannot be written: ')
    assert folder in complaint


def test_a_request_larger_than_a_file_fits_below_the_bound(folder):
    counts = _keep(_options(folder, max_bytes=100_000), count=3)
    counts = _keep(
        _options(folder, max_bytes=100_000), inputs={'x': np.array([b'x' * 90_000], object)}
    )
    assert counts['logged'] == 1
    assert sum(os.path.getsize(path) for path in glob.glob(f'{folder}/*')) <= 100_000


def test_a_file_that_somebody_removes_is_written_again(folder, hasty):
    log = RequestLog(_options(folder))
    for _ in range(3):
        _add(log)
        (path,) = glob.glob(f'{folder}/*')
        os.remove(path)
    _add(log)
    log.close()
    assert len(list(reader.read(folder))) == 1


def test_what_cannot_wait_is_dropped(folder):
    megabyte = {'x': np.array([b'x' * (1 << 20)], object)}
    counts = _keep(_options(folder), count=200, inputs=megabyte)
    assert counts['dropped'] > 0
    assert counts['logged'] == 200 - counts['dropped'] == len(list(reader.read(folder)))


def test_reading_goes_on_where_it_ended_and_stops_before_a_torn_record(folder, capfd):
    _keep(_options(folder), count=3)
    (name,) = os.listdir(folder)
    path = os.path.join(folder, name)
    assert [number for _, number, _ in reader.read(folder, {name: 2})] == [3]
    with open(path, 'r+b') as file:
        whole = file.read()
        file.write(whole[: len(whole) // 3 - 1])
    assert [number for _, number, _ in reader.read(folder)] == [1, 2, 3]
    assert list(reader.read(folder, {name: 3})) == []
    assert 'damaged' not in capfd.readouterr().err
    with open(path, 'r+b') as file:
        file.seek(len(whole) // 2)
        file.write(b'!')
    assert [number for _, number, _ in reader.read(folder)] == [1]
    assert f'{path} is damaged after record 1: the rest' in capfd.readouterr().err
    assert list(reader.read(os.path.join(folder, 'missing'))) == []


@contextlib.contextmanager
def _server(root, tmp_path, *flags):
    half_plus_two(str(tmp_path / 'half'), 123)
    command = [sys.executable, '-W', 'ignore', '-m', 'serving.server', '--rest_api_port=0']
    command += ['--model_name=half', f'--model_base_path={tmp_path}/half', *flags]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().split()[-1]
        finally:
            process.kill()


def _ask(url, asked):
    return request('POST', url, json.dumps(asked).encode())[0]


def test_a_server_keeps_what_it_answers_until_it_is_killed(root, tmp_path, folder):
    config, monitoring = tmp_path / 'log.config', tmp_path / 'monitoring.config'
    config.write_text(
        'sampling_config { sampling_rate: 1 } '
        f"log_collector_config {{ type: 'tfrecord' filename_prefix: '{folder}/requests' }}"
    )
    monitoring.write_text('prometheus_config { enable: true }')
    flags = f'--request_log_config_file={config}', f'--monitoring_config_file={monitoring}'
    with _server(root, tmp_path, *flags) as (process, url):
        for x, status in ((0.0, 200), (1.0, 200), (2.0, 200), ('x', 400)):
            assert _ask(f'{url}:predict', {'instances': [x]}) == status
        asked = {'examples': [{'x': 80.0}], 'signature_name': 'regress_x_to_y'}
        assert _ask(f'{url}:regress', asked) == 200
        deadline = time.monotonic() + 10
        while len(kept := list(reader.read(folder))) < 4 and time.monotonic() < deadline:
            time.sleep(0.1)
        page = request('GET', f'{url.partition("/v1/")[0]}/monitoring/prometheus/metrics')[2]
        process.kill()
    specs = [log.log_metadata.model_spec for _, _, log in kept]
    assert {(spec.name, spec.version.value) for spec in specs} == {('half', 123)}
    assert [spec.signature_name for spec in specs] == ['serving_default'] * 3 + ['regress_x_to_y']
    answers = [log.predict_log.response.outputs['y'] for _, _, log in kept[:3]]
    assert [tf.make_ndarray(answer).item() for answer in answers] == [2.0, 2.5, 3.0]
    assert ':tensorflow:serving:request_log_count{status="logged"} 4.0' in page
