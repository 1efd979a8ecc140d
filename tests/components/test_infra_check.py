"""InfraCheck: warm-up requests are asked in a process of its own, and of the server."""

import http.server
import io
import os
import pathlib
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2
from tfx.dsl.io import filesystem_registry
from tfx.dsl.io.plugins import tensorflow_gfile
from tfx.types import standard_artifacts

from components import local_copy
from components.gate import GateRefused
from components.infra_check import component, probe


class _Scores(tf.Module):
    """Answers with `scale` times its input; `halve` gives an answer too few."""

    def __init__(self, scale):
        super().__init__()
        self.scale = tf.Variable(scale, dtype=tf.float32)

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name='values')])
    def serving_default(self, values):
        return {'scores': self.scale * values}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name='values')])
    def other(self, values):
        return {'values': values}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name='values')])
    def halve(self, values):
        return {'half': values[::2]}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name='values')])
    def guess(self, values):
        return {'guess': tf.random.uniform(tf.shape(values))}


def _export(folder, *, scale=0.5, signatures=('serving_default',), requests=('serving_default',)):
    module = _Scores(scale)
    tf.saved_model.save(module, str(folder), {name: getattr(module, name) for name in signatures})
    if requests:
        _write_warmup(folder, requests)
    return str(folder)


def _write_warmup(folder, names):
    os.makedirs(folder / 'assets.extra', exist_ok=True)
    path = str(folder / 'assets.extra' / 'tf_serving_warmup_requests')
    with tf.io.TFRecordWriter(path) as writer:
        for name in names:
            request = predict_pb2.PredictRequest()
            request.model_spec.signature_name = name
            values = tf.make_tensor_proto(np.ones([4, 2], np.float32))
            request.inputs['values'].CopyFrom(values)
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())


@pytest.mark.parametrize(
    ('export', 'said'),
    [
        (
            {'scale': 1.5},
            "signature 'serving_default' answered with capsule lengths outside [0, 1)",
        ),
        (
            {'scale': float('nan')},
            "signature 'serving_default' answered with 'scores' that is not finite",
        ),
        (
            {'signatures': ('serving_default', 'halve'), 'requests': ('serving_default', 'halve')},
            "signature 'halve' answered 4 inputs with 'half' of shape (2, 2)",
        ),
        (
            {'signatures': ('serving_default', 'halve')},
            "no warm-up request asks its signature 'halve'",
        ),
        (
            {'requests': ('serving_default', 'more')},
            "a warm-up request asks for 'more', a signature that it does not have",
        ),
        (
            {'signatures': ('other',), 'requests': ('other',)},
            "it has no signature 'serving_default'",
        ),
        ({'requests': ()}, 'it has no warm-up requests (assets.extra/tf_serving_warmup_requests)'),
    ],
)
def test_unfit_model_is_refused_with_the_reason(tmp_path, export, said):
    with pytest.raises(probe.Refused) as caught:
        probe.ask(_export(tmp_path, **export), io.StringIO())
    assert str(caught.value) == said


def test_model_that_does_not_load_is_refused(tmp_path):
    _export(tmp_path)
    (tmp_path / 'saved_model.pb').write_bytes(b'not a graph')
    with pytest.raises(GateRefused, match=r'failed the infra check: .*saved_model\.pb'):
        component.probe(str(tmp_path), 120)


@pytest.mark.parametrize(
    ('script', 'said'),
    [
        ('import os; os.kill(os.getpid(), 9)', 'exit code -9 and said: nothing'),
        ('print(\'{"answered": {}}\', flush=True); import os; os._exit(3)', 'exit code 3'),
        ('print(5)', 'exit code 0 and said: nothing'),
        ('import sys; sys.stdout.buffer.write(b"\\xff{}")', 'exit code 0'),
        ('raise MemoryError("too large")', 'exit code 1 and said: MemoryError: too large'),
    ],
)
def test_process_that_ends_in_another_way_is_a_refusal(tmp_path, monkeypatch, script, said):
    path = tmp_path / 'probe.py'
    path.write_text(script)
    monkeypatch.setattr(component, 'PROBE', str(path))
    with pytest.raises(GateRefused, match=f'the process ended with {said}'):
        component.probe(str(tmp_path), 120)


def test_model_that_a_session_cannot_load_is_refused(tmp_path):
    """Variables of Keras 3 in a tf.Module: tf.saved_model.load finds them, the server does not."""
    module = tf.Module()
    module.layer = keras.layers.Dense(2)
    values = tf.TensorSpec([None, 2], tf.float32, name='values')
    signature = tf.function(
        lambda values: {'values': module.layer(values)}, input_signature=[values]
    )
    tf.saved_model.save(module, str(tmp_path), {'serving_default': signature})
    _write_warmup(tmp_path, ['serving_default'])
    with pytest.raises(GateRefused, match=r'the server did not start: .* cannot be served: '):
        component.probe(str(tmp_path), 120)


def test_model_that_answers_otherwise_over_rest_is_refused(tmp_path):
    names = ('serving_default', 'guess')
    with pytest.raises(GateRefused) as caught:
        component.probe(_export(tmp_path, signatures=names, requests=names), 120)
    assert str(caught.value) == (
        "The exported model failed the infra check: over REST, signature 'guess' answered with "
        "another 'guess' than in this process."
    )


@pytest.mark.parametrize(
    ('served', 'said'),
    [
        ({'a': [1.0], 'b': [2]}, 'answered with a, b instead of a, c'),
        ({'a': [1.0, 1.0], 'c': [2]}, r"answered with 'a' of shape \(2,\) instead of \(1,\)"),
        ({'a': [1.0], 'c': [3]}, "answered with another 'c' than in this process"),
    ],
)
def test_answers_over_rest_must_be_those_of_the_process(served, said):
    expected = {'a': np.array([1.00001], np.float32), 'c': np.array([2])}
    probe.compare('sum', expected, {'a': [1.0], 'c': [2]})
    with pytest.raises(probe.Refused, match=f"over REST, signature 'sum' {said}"):
        probe.compare('sum', expected, served)


def test_texts_over_rest_must_be_those_of_the_process():
    expected = {'name': np.array([b'cat', 'dög'.encode()], object)}
    probe.compare('look', expected, {'name': ['cat', 'dög']})
    with pytest.raises(probe.Refused, match="another 'name' than in this process"):
        probe.compare('look', expected, {'name': ['cat', 'dog']})


def test_the_one_output_of_a_signature_has_no_name_over_rest():
    probe.compare('one', {'scores': np.array([0.5])}, {'': [0.5]})
    with pytest.raises(probe.Refused, match="another 'scores'"):
        probe.compare('one', {'scores': np.array([0.5])}, {'': [0.6]})


def test_what_the_server_refuses_is_said(tmp_path):
    class Refuse(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(400)
            self.end_headers()
            self.wfile.write(b'{"error": "no"}')

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(('127.0.0.1', 0), Refuse) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_port}/v1/models/default'
        with pytest.raises(probe.Refused) as caught:
            probe.ask_over_rest(url, 'sum', {'a': np.ones(1)})
        server.shutdown()
    assert str(caught.value) == 'over REST, signature \'sum\' answered 400: {"error": "no"}'


def test_the_address_is_taken_from_what_the_server_says():
    said = 'Loading.\nServing m, version 1, at http://127.0.0.1:1234/v1/models/m\nMore.\n'
    assert probe.served_at(io.StringIO(said)) == 'http://127.0.0.1:1234/v1/models/m'
    with pytest.raises(probe.Unserved):
        probe.served_at(io.StringIO('Loading.\n'))


def test_model_that_takes_too_long_is_refused(tmp_path):
    with pytest.raises(GateRefused, match=r'did not load and answer within 0\.1 seconds'):
        component.probe(_export(tmp_path), 0.1)


def test_the_server_may_take_as_long_as_the_process(tmp_path, monkeypatch):
    (tmp_path / 'serving').mkdir()
    (tmp_path / 'serving/__init__.py').touch()
    (tmp_path / 'serving/server.py').write_text('import sys; sys.exit(" ".join(sys.argv))')
    monkeypatch.setattr(component, '_PACKAGES', str(tmp_path))
    model = _export(tmp_path / 'model')
    with pytest.raises(GateRefused, match=r'the server did not start: .*--max_load_seconds=300'):
        component.probe(model, 300)


def test_component_blesses_as_the_pusher_expects_also_behind_a_proxy(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv('http_proxy', 'http://127.0.0.1:9')  # leads nowhere
    model, blessing = standard_artifacts.Model(), standard_artifacts.InfraBlessing()
    model.id = 5
    model.uri, blessing.uri = str(tmp_path / 'model'), str(tmp_path / 'blessing')
    _export(tmp_path / 'model' / 'Format-Serving', requests=('serving_default', 'serving_default'))
    with caplog.at_level('INFO', 'absl'):
        component.InfraCheck.test_call(model=model, blessing=blessing, timeout=120)
    assert "InfraCheck: {'serving_default': 2}" in caplog.messages
    assert blessing.get_int_custom_property('blessed') == 1
    assert blessing.get_int_custom_property('current_model_id') == 5
    assert os.listdir(blessing.uri) == ['INFRA_BLESSED']


class _InMemory(tensorflow_gfile.TensorflowFilesystem):
    SUPPORTED_SCHEMES = ['ram://']


def test_model_in_a_bucket_is_copied(tmp_path):
    assert _copied(str(tmp_path)) == (str(tmp_path), [])
    # TensorFlow's file system in memory, which TFX reaches as it reaches a bucket.
    registry = filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY
    registry.register(_InMemory, priority=0)
    for name in ('saved_model.pb', 'variables/variables.index'):
        tf.io.gfile.makedirs(os.path.dirname(f'ram://bucket/model/{name}'))
        with tf.io.gfile.GFile(f'ram://bucket/model/{name}', 'w') as file:
            file.write(name)
    folder, files = _copied('ram://bucket/model')
    assert files == ['saved_model.pb', 'variables/variables.index']
    assert not os.path.exists(folder)


def _copied(model_dir):
    with local_copy.on_this_machine(model_dir) as folder:
        files = [path for path in pathlib.Path(folder).rglob('*') if path.is_file()]
        assert all(path.read_text() == str(path.relative_to(folder)) for path in files)
        return folder, sorted(str(path.relative_to(folder)) for path in files)
