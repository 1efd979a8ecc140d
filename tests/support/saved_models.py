"""Small SavedModels for the tests of serving: y = x / 2 + 2, as in TensorFlow Serving's own tests.

Each function writes `directory/<version>` as a whole (beside, then renamed), as a Pusher does, and
returns its path. The signatures of `half_plus_two` and `half_plus_two_tf1`:

    serving_default  predict   x float32 -> y float32, of any shape (TF1: of [n, 1])
    regress_x_to_y   regress   inputs: serialized tf.Examples with x -> outputs float32 [n, 1]
    classify_x_to_y  classify  inputs: serialized tf.Examples with x -> scores float32 [n, 1]
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

PREDICT = 'tensorflow/serving/predict'
CLASSIFY = 'tensorflow/serving/classify'
REGRESS = 'tensorflow/serving/regress'
_EXAMPLE = {'x': tf.io.FixedLenFeature([1], tf.float32)}


def half_plus_two(directory: str, version: int = 123, plus: float = 2.0) -> str:
    """A TF2 export of y = x / 2 + plus."""

    def write(path: str) -> None:
        module = _HalfPlus(plus)
        signatures = {
            'serving_default': module.predict,
            'regress_x_to_y': module.regress,
            'classify_x_to_y': module.classify,
        }
        tf.saved_model.save(module, path, signatures=signatures)
        set_methods(path, regress_x_to_y=REGRESS, classify_x_to_y=CLASSIFY)

    return _publish(directory, version, write)


def half_plus_two_tf1(directory: str, version: int = 123, plus: float = 2.0) -> str:
    """A TF1 export of y = x / 2 + plus.

    It also has the signature `look_up`: word string [n] -> place int64 [n], 0 for 'zero', 1 for
    'one', 2 for all else, from a table that its initializer (main_op) fills from an asset.
    """
    v1 = tf.compat.v1

    def write(path: str) -> None:
        vocabulary = f'{path}.vocabulary.txt'
        with open(vocabulary, 'w', encoding='utf-8') as opened:
            opened.write('zero\none\n')
        with tf.Graph().as_default(), v1.Session() as session:
            half = v1.Variable(0.5, use_resource=False)
            examples = v1.placeholder(tf.string, [None], 'examples')
            x = tf.identity(v1.parse_example(examples, _EXAMPLE)['x'], 'x')
            y = tf.identity(half * x + plus, 'y')
            table = tf.lookup.StaticVocabularyTable(
                tf.lookup.TextFileInitializer(
                    vocabulary,
                    tf.string,
                    tf.lookup.TextFileIndex.WHOLE_LINE,
                    tf.int64,
                    tf.lookup.TextFileIndex.LINE_NUMBER,
                ),
                num_oov_buckets=1,
            )
            word = v1.placeholder(tf.string, [None], 'word')
            place = table.lookup(word)
            session.run(v1.global_variables_initializer())
            builder = v1.saved_model.Builder(path)
            builder.add_meta_graph_and_variables(
                session,
                [tf.saved_model.SERVING],
                signature_def_map={
                    'serving_default': _signature({'x': x}, {'y': y}, PREDICT),
                    'regress_x_to_y': _signature({'inputs': examples}, {'outputs': y}, REGRESS),
                    'classify_x_to_y': _signature({'inputs': examples}, {'scores': y}, CLASSIFY),
                    'look_up': _signature({'word': word}, {'place': place}, PREDICT),
                },
                assets_collection=v1.get_collection(v1.GraphKeys.ASSET_FILEPATHS),
                main_op=v1.tables_initializer(),
            )
            builder.save()
        os.remove(vocabulary)

    return _publish(directory, version, write)


def export(
    directory: str,
    version: int,
    signatures: dict[str, tf.types.experimental.ConcreteFunction],
    module: tf.Module | None = None,
) -> str:
    """Any functions as a TF2 export; `module` owns what they need, as variables."""
    return _publish(
        directory,
        version,
        lambda path: tf.saved_model.save(module or tf.Module(), path, signatures=signatures),
    )


def set_methods(path: str, **methods: str) -> None:
    """Gives signatures of an export their methods: tf.saved_model.save knows predict alone."""
    file = os.path.join(path, 'saved_model.pb')
    with open(file, 'rb') as opened:
        saved_model = saved_model_pb2.SavedModel.FromString(opened.read())
    for name, method in methods.items():
        saved_model.meta_graphs[0].signature_def[name].method_name = method
    with open(file, 'wb') as opened:
        opened.write(saved_model.SerializeToString())


def copy(version_dir: str, directory: str, version: int) -> str:
    """A version that is there already once more, which takes a few milliseconds."""
    return _publish(directory, version, lambda path: shutil.copytree(version_dir, path))


def broken(directory: str, version: int) -> str:
    """A version whose saved_model.pb cannot be read."""

    def write(path: str) -> None:
        os.makedirs(path)
        with open(os.path.join(path, 'saved_model.pb'), 'wb') as opened:
            opened.write(b'not a graph')

    return _publish(directory, version, write)


def write_warmup(version_dir: str, logs: Iterable[prediction_log_pb2.PredictionLog]) -> None:
    """Writes warm-up requests into a SavedModel."""
    folder = os.path.join(version_dir, 'assets.extra')
    os.makedirs(folder, exist_ok=True)
    with tf.io.TFRecordWriter(os.path.join(folder, 'tf_serving_warmup_requests')) as writer:
        for log in logs:
            writer.write(log.SerializeToString())


class _HalfPlus(tf.Module):
    def __init__(self, plus: float) -> None:
        super().__init__()
        self.half = tf.Variable(0.5)
        self.plus = tf.Variable(plus)

    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, 'x')])
    def predict(self, x):
        return {'y': self.half * x + self.plus}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, 'inputs')])
    def regress(self, inputs):
        return {'outputs': self.predict(tf.io.parse_example(inputs, _EXAMPLE)['x'])['y']}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, 'inputs')])
    def classify(self, inputs):
        return {'scores': self.predict(tf.io.parse_example(inputs, _EXAMPLE)['x'])['y']}


def _signature(inputs: dict[str, tf.Tensor], outputs: dict[str, tf.Tensor], method: str):
    def infos(tensors: dict[str, tf.Tensor]):
        return {
            key: tf.compat.v1.saved_model.build_tensor_info(tensor)
            for key, tensor in tensors.items()
        }

    return tf.compat.v1.saved_model.build_signature_def(infos(inputs), infos(outputs), method)


def _publish(directory: str, version: int, write: Callable[[str], object]) -> str:
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, str(version))
    unfinished = f'{path}.unfinished'
    shutil.rmtree(unfinished, ignore_errors=True)
    write(unfinished)
    os.rename(unfinished, path)
    return path
