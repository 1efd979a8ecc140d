"""Tests of weights that are prepared at load time, and of the networks that answer with them."""

import gc

import keras
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks import strided_convolution
from capsmodel.networks.capsnet import CapsNet
from capsmodel.networks.mlp import Mlp
from capsmodel.networks.prepared_weights import PreparedWeights, prepare_weights
from capsmodel.networks.settings import CapsNetConfig, NetworkConfig

_V1 = tf.compat.v1


def _export(values, directory):
    """A model that answers with the squares and the sums of its weights, prepared."""
    module = tf.Module()
    module.weights = tf.Variable(values)
    module.squares = PreparedWeights(lambda: tf.square(module.weights))
    module.total = PreparedWeights(lambda: tf.reduce_sum(tf.repeat(module.weights, 1000)))

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, 'x')])
    def answer(x):
        return {'squares': x * module.squares(), 'total': x * module.total()}

    tf.saved_model.save(module, str(directory), signatures={'answer': answer})
    return module, answer


def _session_answer(directory):
    """The answer for x = 2 as TensorFlow Serving computes it, which knows no Python objects."""
    with _V1.Session(graph=tf.Graph()) as session:
        loaded = _V1.saved_model.load(session, [tf.saved_model.SERVING], str(directory))
        signature = loaded.signature_def['answer']
        names = {key: info.name for key, info in signature.outputs.items()}
        return session.run(names, {signature.inputs['x'].name: 2.0})


def test_each_loaded_model_prepares_its_own_weights(tmp_path):
    expected = {}
    for name, values in {'a': [1.0, 2.0], 'b': [3.0, -4.0]}.items():
        # The values are not those at the time of the export: the initializer reads the variable.
        module, answer = _export([9.0, 9.0], tmp_path / 'early')
        module.weights.assign(values)
        np.testing.assert_array_equal(answer(1.0)['squares'], [81, 81])
        module, answer = _export(values, tmp_path / name)
        expected[name] = {'squares': 2 * np.square(values), 'total': 2000 * np.sum(values)}
    loaded = {name: tf.saved_model.load(str(tmp_path / name)) for name in expected}
    for name, model in loaded.items():
        found = {key: x.numpy() for key, x in model.signatures['answer'](tf.constant(2.0)).items()}
        for answer in (found, _session_answer(tmp_path / name)):
            assert answer.keys() == expected[name].keys()
            for key, value in answer.items():
                np.testing.assert_allclose(value, expected[name][key])


def test_a_model_that_is_loaded_again_outlives_the_first(tmp_path):
    _export([1.0, 2.0], tmp_path)
    first, second = (tf.saved_model.load(str(tmp_path)) for _ in range(2))
    del first
    gc.collect()
    answer = second.signatures['answer'](tf.constant(2.0))
    np.testing.assert_array_equal(answer['squares'], [2, 8])


def test_what_is_prepared_is_not_saved(tmp_path):
    module = tf.Module()
    module.weight = tf.Variable(1.0)
    module.prepared = PreparedWeights(lambda: tf.fill([1000, 1000], module.weight))
    module.answer = tf.function(lambda: module.prepared()[7], input_signature=[])
    tf.saved_model.save(module, str(tmp_path))
    assert sum(file.stat().st_size for file in tmp_path.rglob('*') if file.is_file()) < 50_000
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.answer(), np.ones(1000))


def _network(**settings):
    keras.utils.set_random_seed(1)
    small = {'conv1_filters': 4, 'primary_channels': 2, 'primary_dim': 4, 'digit_dim': 6}
    size = {'image_height': 28, 'image_width': 30, 'num_classes': 3}
    config = CapsNetConfig(**small, **size, decoder=False, **settings)
    return CapsNet(config.exported)


# The paper's kernels on an image with a column that the convolution leaves over.
NETWORKS = {
    'auto': ({}, {'primary_caps', 'digit_caps'}),
    'winograd': ({'primary_algorithm': 'winograd'}, {'primary_caps', 'digit_caps'}),
    'none of the above': ({'none_of_the_above': True}, {'primary_caps', 'digit_caps'}),
    'bias': ({'digit_bias': True, 'initial_values': 'authors'}, {'primary_caps', 'digit_caps'}),
    'conv2d': ({'primary_algorithm': 'conv2d', 'routing_iterations': 1}, {'digit_caps'}),
    'mixed': ({'precision': 'mixed_bfloat16'}, {'digit_caps'}),
    'mixed winograd': (
        {'precision': 'mixed_bfloat16', 'primary_algorithm': 'winograd'},
        {'primary_caps', 'digit_caps'},
    ),
    'stem': ({'stem': '1', 'primary_kernel_size': 3}, {'digit_caps'}),
}


@pytest.mark.parametrize('name', NETWORKS)
def test_answers_are_those_of_the_call(name):
    settings, prepared_layers = NETWORKS[name]
    network = _network(**settings)
    prepared = {
        key: (lambda value: lambda: value)(prepare())
        for key, prepare in network.weights_to_prepare().items()
    }
    assert prepared.keys() == prepared_layers
    spec = tf.TensorSpec([None, 28, 30], tf.uint8)
    answer = tf.function(
        lambda images: network.answer(images, prepared), input_signature=[spec], autograph=False
    )
    images = np.random.default_rng(3).integers(0, 256, [17, 28, 30]).astype(np.uint8)
    # The products of mixed precision are rounded to 8 bits.
    rounding = 0.02 if 'mixed' in name else 1e-4
    smallest = strided_convolution._SMALLEST_PREPARED_BATCH
    for n in (0, 1, smallest - 1, smallest, 17):
        expected = network(images[:n]).numpy()
        scale = np.abs(expected).max(initial=1e-30)
        np.testing.assert_allclose(answer(images[:n]), expected, atol=rounding * scale)


def test_the_kernel_is_not_transformed_again():
    """The graph reads the transformed kernel and makes no other of its size."""
    network = _network()
    prepared = prepare_weights(network)
    size = prepared['primary_caps']().shape.num_elements()

    def largest_constant_result(answer):
        """The most numbers in a result whose size does not depend on the number of images."""
        spec = tf.TensorSpec([None, 28, 30], tf.uint8)
        graph = tf.function(answer, autograph=False).get_concrete_function(spec).graph
        graphs = [graph, *(f.graph for f in graph._functions.values() if hasattr(f, 'graph'))]
        sizes = [
            output.shape.num_elements() or 0
            for part in graphs
            for operation in part.get_operations()
            if operation.type not in ('Placeholder', 'Const', 'ReadVariableOp')
            for output in operation.outputs
            if output.dtype.is_floating and output.shape.is_fully_defined()
        ]
        return max(sizes, default=0)

    assert largest_constant_result(network) >= size
    answered = largest_constant_result(lambda images: network.answer(images, prepared))
    assert answered < size


def test_other_networks_answer_as_they_are():
    config = NetworkConfig(network='mlp', image_height=5, image_width=6, num_classes=3)
    network = Mlp(config)
    assert network.weights_to_prepare() == {}
    images = np.arange(60, dtype=np.uint8).reshape(2, 5, 6)
    found, expected = network.answer(images, {}), network(images)
    np.testing.assert_array_equal(found, expected)
