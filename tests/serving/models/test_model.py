import concurrent.futures
import os
import shutil
import threading
import time

import numpy as np
import pytest
import saved_models
import tensorflow as tf
from busy_model import busy_model
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import inference_pb2, prediction_log_pb2

from serving.errors import ServingError
from serving.models import model as model_module
from serving.models.model import LoadedModel

X = np.array([[1.0], [2.0], [5.0]], np.float32)
Y = np.array([[2.5], [3.0], [4.5]], np.float32)


def example(**features):
    message = tf.train.Example()
    for name, value in features.items():
        message.features.feature[name].float_list.value.append(value)
    return message


def strings(*values):
    return np.array(values, dtype=object)


@pytest.fixture(scope='module', params=['half_plus_two', 'half_plus_two_tf1'])
def half_plus_two(request, tmp_path_factory):
    directory = str(tmp_path_factory.mktemp(request.param))
    model = LoadedModel(getattr(saved_models, request.param)(directory))
    yield model
    model.close()


@pytest.fixture(scope='module')
def tf1(tmp_path_factory):
    return LoadedModel(saved_models.half_plus_two_tf1(str(tmp_path_factory.mktemp('tf1'))))


def test_signatures_of_every_method_answer(half_plus_two):
    (y,) = half_plus_two.run('serving_default', {'x': X}).items()
    assert y[0] == 'y'
    assert y[1].dtype == np.float32
    np.testing.assert_array_equal(y[1], Y)
    inputs = {'inputs': strings(*(example(x=x).SerializeToString() for (x,) in X))}
    np.testing.assert_array_equal(half_plus_two.run('regress_x_to_y', inputs)['outputs'], Y)
    np.testing.assert_array_equal(half_plus_two.run('classify_x_to_y', inputs)['scores'], Y)


def test_signature_defs_are_those_of_the_saved_model_but_for_initializers(half_plus_two):
    definitions = half_plus_two.signature_defs
    assert set(definitions) - {'look_up'} == {
        'serving_default',
        'regress_x_to_y',
        'classify_x_to_y',
    }
    assert definitions['regress_x_to_y'].method_name == saved_models.REGRESS
    assert definitions['classify_x_to_y'].method_name == saved_models.CLASSIFY
    assert definitions['serving_default'].inputs['x'].dtype == tf.float32.as_datatype_enum


def test_initializer_of_a_tf1_export_fills_its_table_from_its_asset(tf1):
    words = strings(b'one', b'zero', b'two')
    np.testing.assert_array_equal(tf1.run('look_up', {'word': words})['place'], [1, 0, 2])


@pytest.mark.parametrize('shape', [(), (2,), (2, 2), (2, 0), (2, 1, 1)])
def test_inputs_of_other_shapes_than_declared_are_refused(tf1, shape):
    for answer in (tf1.check, tf1.run):
        with pytest.raises(ServingError, match=r'must have the shape \[\?, 1\], not') as caught:
            answer('serving_default', {'x': np.ones(shape, np.float32)})
        assert caught.value.code == 'INVALID_ARGUMENT'


def test_answers_that_are_not_one_for_each_row_are_refused(tmp_path):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, 'x')])
    def halved(x):
        return {'y': x[::2]}

    @tf.function(input_signature=[tf.TensorSpec([2], tf.float32, 'x')])
    def fixed(x):
        return {'y': tf.reduce_sum(x)[tf.newaxis]}

    functions = {'halved': halved, 'fixed': fixed}
    model = LoadedModel(saved_models.export(str(tmp_path), 1, functions))
    with pytest.raises(ServingError, match=r'2 rows the .* halved answers with y of .* \[1\]'):
        model.run('halved', {'x': np.array([1, 2], np.float32)})
    x = np.array([3, 4], np.float32)
    np.testing.assert_array_equal(model.run('halved', {'x': x[:1]})['y'], [3])
    np.testing.assert_array_equal(model.run('fixed', {'x': x})['y'], [7])
    assert model.can_merge('halved')
    assert not model.can_merge('fixed')


def test_values_of_every_kind_and_rank(tmp_path):
    @tf.function(
        input_signature=[tf.TensorSpec([], tf.string, 'word'), tf.TensorSpec([], tf.int64, 'n')]
    )
    def answer(word, n):
        return {
            'word': word,
            'words': tf.fill([n], word),
            'n': n,
            'n_again': n,
            'none': tf.zeros([n, 0], tf.uint8),
            'half': tf.cast(n, tf.bfloat16)[tf.newaxis],
            'is_two': tf.equal(n, 2),
        }

    path = saved_models.export(str(tmp_path), 1, {'answer': answer.get_concrete_function()})
    model = LoadedModel(path)
    answered = model.run('answer', {'word': strings(b'caf\xe9')[0], 'n': np.array(2, np.int64)})
    expected = {
        'word': np.array(b'caf\xe9', dtype=object),
        'words': strings(b'caf\xe9', b'caf\xe9'),
        'n': np.array(2, np.int64),
        'n_again': np.array(2, np.int64),
        'none': np.zeros([2, 0], np.uint8),
        'half': np.array([2], tf.bfloat16.as_numpy_dtype),
        'is_two': np.array(True),
    }
    assert set(answered) == set(expected)
    for name, value in expected.items():
        assert isinstance(answered[name], np.ndarray)
        assert answered[name].dtype == value.dtype
        np.testing.assert_array_equal(answered[name], value)


@pytest.mark.parametrize(
    ('signature', 'inputs', 'code', 'said'),
    [
        ('none', {'x': X}, 'FAILED_PRECONDITION', 'Serving signature key "none" not found.'),
        (
            'serving_default',
            {'y': X, 'z': X},
            'INVALID_ARGUMENT',
            'input size does not match signature: 2!=1. Sent extra: {y,z}. '
            'Missing but required: {x}.',
        ),
        (
            'serving_default',
            {'x': X.astype(np.float64)},
            'INVALID_ARGUMENT',
            'Expects arg[0] to be float but double is provided',
        ),
        (
            'regress_x_to_y',
            {'inputs': strings(b'no example')},
            'INVALID_ARGUMENT',
            "Could not parse example input, value: 'no example'",
        ),
    ],
)
def test_request_that_the_model_cannot_answer(half_plus_two, signature, inputs, code, said):
    with pytest.raises(ServingError) as caught:
        half_plus_two.run(signature, inputs)
    assert (caught.value.code, caught.value.message.split('\n')[0]) == (code, said)
    np.testing.assert_array_equal(half_plus_two.run('serving_default', {'x': X})['y'], Y)


def test_signature_whose_tensors_are_not_there(tmp_path):
    directory = saved_models.half_plus_two_tf1(str(tmp_path))
    path = os.path.join(directory, 'saved_model.pb')
    with open(path, 'rb') as file:
        saved_model = saved_model_pb2.SavedModel.FromString(file.read())
    signature = saved_model.meta_graphs[0].signature_def['serving_default']
    signature.outputs['y'].name = 'gone:0'
    with open(path, 'wb') as file:
        file.write(saved_model.SerializeToString())
    model = LoadedModel(directory)
    with pytest.raises(
        ServingError, match=r'^Signature "serving_default" cannot run: .*gone'
    ) as it:
        model.run('serving_default', {'x': X})
    assert it.value.code == 'INVALID_ARGUMENT'


def test_threads_get_each_their_own_answer(half_plus_two):
    together = threading.Barrier(8)

    def ask(thread):
        together.wait()
        for count in range(1, 200):
            x = np.full([count % 7 + 1, 1], thread, np.float32)
            np.testing.assert_array_equal(
                half_plus_two.run('serving_default', {'x': x})['y'], x / 2 + 2
            )

    with concurrent.futures.ThreadPoolExecutor(8) as executor:
        list(executor.map(ask, range(8)))


class Counter(tf.Module):
    """Counts what it was asked, and adds up the x and the y of the examples."""

    def __init__(self):
        super().__init__()
        self.asked = tf.Variable(0)
        self.total = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, 'x')])
    def predict(self, x):
        self.asked.assign_add(1)
        self.total.assign_add(tf.reduce_sum(x))
        return {'y': tf.identity(x)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, 'inputs')])
    def examples(self, inputs):
        spec = tf.io.FixedLenFeature([], tf.float32)
        parsed = tf.io.parse_example(inputs, {'x': spec, 'y': spec})
        return {'outputs': self.predict(parsed['x'] + parsed['y'])['y']}

    @tf.function(input_signature=[])
    def report(self):
        return {'asked': self.asked.read_value(), 'total': self.total.read_value()}


@pytest.fixture(scope='module')
def counter_export(tmp_path_factory):
    counter = Counter()
    return saved_models.export(
        str(tmp_path_factory.mktemp('counter')),
        1,
        {
            'serving_default': counter.predict,
            'examples': counter.examples,
            'report': counter.report,
        },
        counter,
    )


@pytest.fixture
def counter(counter_export, tmp_path):
    """The folder of a model that has no warm-up requests yet."""
    return saved_models.copy(counter_export, str(tmp_path), 1)


def predict_log(x, signature=''):
    log = prediction_log_pb2.PredictionLog()
    request = log.predict_log.request
    request.model_spec.signature_name = signature
    request.inputs['x'].CopyFrom(tf.make_tensor_proto(x, tf.float32))
    return log


def examples_log(kind, *examples, context=None):
    log = prediction_log_pb2.PredictionLog()
    request = getattr(log, kind).request
    if kind == 'multi_inference_log':
        task = inference_pb2.InferenceTask()
        task.model_spec.signature_name = 'examples'
        request.tasks.extend([task, task])
    else:
        request.model_spec.signature_name = 'examples'
    if context:
        request.input.example_list_with_context.context.CopyFrom(context)
        request.input.example_list_with_context.examples.extend(examples)
    else:
        request.input.example_list.examples.extend(examples)
    return log


@pytest.mark.parametrize(
    ('logs', 'asked', 'total'),
    [
        ([predict_log([1, 2]), predict_log([3], 'serving_default')], 2, 6),
        ([examples_log('classify_log', example(x=1, y=2), example(x=3, y=4))], 1, 10),
        ([examples_log('regress_log', example(x=1, y=2))], 1, 3),
        # The context stands in each example, and gives way to its own features.
        (
            [examples_log('regress_log', example(x=1), example(x=2, y=30), context=example(y=5))],
            1,
            38,
        ),
        ([examples_log('multi_inference_log', example(x=1, y=2))], 2, 6),
        ([prediction_log_pb2.PredictionLog()], 0, 0),
        ([predict_log([1])] * model_module.MAX_WARMUP_RECORDS, 1000, 1000),
        ([], 0, 0),
    ],
)
def test_warmup_requests_are_replayed(counter, logs, asked, total):
    saved_models.write_warmup(counter, logs)
    report = LoadedModel(counter).run('report', {})
    assert (report['asked'], report['total']) == (asked, total)


def test_warmup_requests_may_be_left_out(counter):
    saved_models.write_warmup(counter, [predict_log([1])])
    assert LoadedModel(counter, warm_up=False).run('report', {})['asked'] == 0


def test_tags_choose_the_graph(counter):
    file = os.path.join(counter, 'saved_model.pb')
    with open(file, 'rb') as opened:
        saved_model = saved_model_pb2.SavedModel.FromString(opened.read())
    saved_model.meta_graphs[0].meta_info_def.tags.append('gpu')
    with open(file, 'wb') as opened:
        opened.write(saved_model.SerializeToString())
    with pytest.raises(ServingError, match='serve'):
        LoadedModel(counter)
    assert LoadedModel(counter, tags=['gpu', 'serve']).run('report', {})['asked'] == 0


@pytest.mark.parametrize(
    ('logs', 'code', 'said'),
    [
        (
            [predict_log([1], 'other')],
            'FAILED_PRECONDITION',
            'Serving signature key "other" not found.',
        ),
        (
            [examples_log('regress_log', example(x=1))],
            'INVALID_ARGUMENT',
            'Feature: y (data type: float) is required but could not be found.',
        ),
        (
            [predict_log([[1]])],
            'INVALID_ARGUMENT',
            'must have the shape [?], not [1, 1]',
        ),
        (
            [predict_log([1])] * (model_module.MAX_WARMUP_RECORDS + 1),
            'INVALID_ARGUMENT',
            'Number of warmup records exceeds the maximum (1000) at ',
        ),
        (
            [prediction_log_pb2.PredictionLog(session_run_log={})],
            'UNIMPLEMENTED',
            'Unsupported log_type for warmup: session_run_log',
        ),
    ],
)
def test_model_with_a_warmup_request_that_fails_is_not_loaded(counter, logs, code, said):
    saved_models.write_warmup(counter, logs)
    with pytest.raises(ServingError) as caught:
        LoadedModel(counter)
    assert caught.value.code == code
    assert said in caught.value.message


def test_warmup_file_that_is_none(counter):
    saved_models.write_warmup(counter, [])
    path = os.path.join(counter, model_module.WARMUP)
    with open(path, 'wb') as opened:
        opened.write(b'no TFRecord at all, but long enough')
    with pytest.raises(ServingError, match='verify your warmup data is in TFRecord') as caught:
        LoadedModel(counter)
    assert caught.value.code == 'DATA_LOSS'
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(b'no message')
    with pytest.raises(ServingError, match='Failed to parse warmup record from') as caught:
        LoadedModel(counter)
    assert caught.value.code == 'INVALID_ARGUMENT'


def test_what_takes_too_long_is_ended(tmp_path):
    model = LoadedModel(busy_model(str(tmp_path)), 0.2)
    started = time.monotonic()
    for is_costly in (False, True):
        with pytest.raises(ServingError) as caught:
            model.run('serving_default', {'seconds': np.array([20], np.float32)}, is_costly)
        assert caught.value.code == 'DEADLINE_EXCEEDED'
        outputs = model.run('serving_default', {'seconds': np.array([0], np.float32)}, is_costly)
        np.testing.assert_array_equal(outputs['waited'], [0])
    assert time.monotonic() - started < 10


def test_a_slow_warmup_request_does_not_keep_a_model_from_being_loaded(tmp_path):
    path = busy_model(str(tmp_path))
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.inputs['seconds'].CopyFrom(tf.make_tensor_proto([20], tf.float32))
    saved_models.write_warmup(path, [log])
    model = LoadedModel(path, 0.2)
    assert model.run('serving_default', {'seconds': np.array([0], np.float32)})['waited'] == [0]


def test_folder_that_holds_no_model(counter, tmp_path):
    with pytest.raises(ServingError, match='SavedModel file does not exist at'):
        LoadedModel(str(tmp_path / 'none'))
    with pytest.raises(ServingError, match='Cannot parse file'):
        LoadedModel(saved_models.broken(str(tmp_path), 2))
    shutil.rmtree(os.path.join(counter, 'variables'))
    with pytest.raises(ServingError, match='variables'):
        LoadedModel(counter)


def test_model_for_other_tags_is_refused(tmp_path):
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        builder = v1.saved_model.Builder(str(tmp_path / '1'))
        builder.add_meta_graph_and_variables(session, ['train'])
        builder.save()
    with pytest.raises(ServingError, match='serve'):
        LoadedModel(str(tmp_path / '1'))


def test_closed_models_give_their_memory_back(tmp_path):
    class Big(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf.Variable(tf.random.uniform([32 << 20]))  # 128 MB

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, 'i')])
        def ask(self, i):
            return {'weight': self.weights[i]}

    big = Big()
    path = saved_models.export(str(tmp_path), 1, {'serving_default': big.ask}, big)
    models, used = [], []
    for _ in range(5):
        models.append(LoadedModel(path))
        assert 0 <= models[-1].run('serving_default', {'i': np.array(7, np.int32)})['weight'] < 1
        models[-1].close()
        with open('/proc/self/statm', encoding='ascii') as opened:
            used.append(int(opened.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') >> 20)
    assert used[-1] - used[0] < 256, used
