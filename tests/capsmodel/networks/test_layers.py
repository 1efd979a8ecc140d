"""Tests of the layers against the numpy oracle, and what every layer has to bear."""

import contextlib
import json

import capsnet_oracle as oracle
import keras
import numpy as np
import pytest
import tensorflow as tf

from capsmodel.networks import strided_convolution
from capsmodel.networks.decoder import Decoder
from capsmodel.networks.layers import DigitCaps, PrimaryCaps
from capsmodel.networks.routing import squash

LAYERS = {
    'primary_caps_winograd': (
        lambda: PrimaryCaps(3, 4, kernel_size=3, strides=2, algorithm='winograd'),
        (7, 6, 5),
    ),
    'primary_caps': (lambda: PrimaryCaps(3, 4, kernel_size=3, strides=2), (7, 6, 5)),
    'digit_caps': (lambda: DigitCaps(3, 5, iterations=2, gradient='last'), (8, 4)),
    'digit_caps_fused': (lambda: DigitCaps(3, 5, iterations=3, algorithm='fused'), (8, 4)),
    'decoder': (lambda: Decoder((7, 6), (4, 5)), (9,)),
}


@pytest.fixture(params=LAYERS)
def layer_and_inputs(request):
    make_layer, shape = LAYERS[request.param]
    inputs = np.random.default_rng(2).normal(size=(3, *shape)).astype(np.float32)
    return make_layer(), inputs


def _make_like(layer, inputs):
    layer = type(layer).from_config(json.loads(json.dumps(layer.get_config())))
    layer.build((None, *inputs.shape[1:]))
    return layer


def test_config_makes_an_equal_layer(layer_and_inputs):
    layer, inputs = layer_and_inputs
    expected = layer(inputs)
    copy = _make_like(layer, inputs)
    assert copy.get_config() == layer.get_config()
    assert [w.shape for w in copy.weights] == [w.shape for w in layer.weights]
    copy.set_weights(layer.get_weights())
    np.testing.assert_array_equal(copy(inputs), expected)


def test_checkpoint_restores_the_layer(layer_and_inputs, tmp_path):
    layer, inputs = layer_and_inputs
    expected = layer(inputs)
    path = tf.train.Checkpoint(layer=layer).write(str(tmp_path / 'checkpoint'))
    copy = _make_like(layer, inputs)
    assert not np.allclose(copy(inputs), expected, rtol=1e-3, atol=0)
    tf.train.Checkpoint(layer=copy).read(path).assert_consumed()
    np.testing.assert_array_equal(copy(inputs), expected)


@pytest.mark.parametrize('jit_compile', [False, True])
def test_saved_model_answers_for_any_batch_size(layer_and_inputs, tmp_path, jit_compile):
    layer, inputs = layer_and_inputs
    expected = layer(inputs)
    module = tf.Module()
    module.layer = layer
    module.answer = tf.function(
        lambda x: layer(x),  # noqa: PLW0108 (a Keras layer itself has no signature to be traced)
        input_signature=[tf.TensorSpec([None, *inputs.shape[1:]])],
        jit_compile=jit_compile,
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for n in (0, 1, 3):
        np.testing.assert_allclose(loaded.answer(inputs[:n]), expected[:n], atol=1e-6)
    if jit_compile:
        return
    # What an operation gets in a session is checked by nobody: it may be no other batch.
    (graph,) = loaded.answer.concrete_functions
    for axis in range(1, inputs.ndim):
        for size in (inputs.shape[axis] // 2, 2 * inputs.shape[axis], 4 * inputs.shape[axis]):
            other = tf.constant(np.take(inputs, range(size), axis, mode='wrap'))
            with contextlib.suppress(tf.errors.InvalidArgumentError):
                assert graph(other).shape == expected.shape


def test_one_training_step_moves_every_weight(layer_and_inputs):
    layer, inputs = layer_and_inputs
    layer.build(inputs.shape)
    before = layer.get_weights()
    assert len(layer.trainable_variables) == len(layer.weights) > 0
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.square(1 - layer(inputs)))
    gradients = tape.gradient(loss, layer.trainable_variables)
    keras.optimizers.SGD(1.0).apply_gradients(
        zip(gradients, layer.trainable_variables, strict=True)
    )
    for old, new in zip(before, layer.get_weights(), strict=True):
        assert not np.array_equal(old, new)


@pytest.mark.parametrize('policy', ['mixed_bfloat16', 'mixed_float16'])
def test_outputs_are_float32_under_mixed_precision(layer_and_inputs, policy):
    layer, inputs = layer_and_inputs
    expected = layer(inputs)
    config = {**layer.get_config(), 'dtype': policy}
    mixed = type(layer).from_config(config)
    mixed.build(inputs.shape)
    mixed.set_weights(layer.get_weights())
    outputs = mixed(inputs)
    assert outputs.dtype == tf.float32
    assert all(weight.dtype == 'float32' for weight in mixed.weights)
    np.testing.assert_allclose(outputs, expected, atol=0.02)
    assert np.any(outputs != expected)


def test_shape_is_known_without_a_call(layer_and_inputs):
    layer, inputs = layer_and_inputs
    assert layer.compute_output_shape(inputs.shape) == tuple(layer(inputs).shape)
    assert layer.compute_output_shape((None, *inputs.shape[1:]))[0] is None


def test_primary_caps_order_and_values():
    inputs = np.random.default_rng(3).normal(size=(2, 8, 7, 3)).astype(np.float32)
    layer = PrimaryCaps(channels=4, dim=2, kernel_size=3, strides=2)
    layer.build(inputs.shape)
    kernel = layer.kernel.numpy()
    bias = np.linspace(-0.5, 0.5, 8)
    layer.bias.assign(bias)
    outputs = layer(inputs)
    assert outputs.shape == (2, 3 * 3 * 4, 2)
    for features, capsules in zip(inputs, outputs, strict=True):
        expected = oracle.primary_capsules_one(features, kernel, bias, stride=2, dim=2)
        np.testing.assert_allclose(capsules, expected, atol=1e-5)


def test_algorithms_of_primary_caps_share_weights_and_results(tmp_path):
    inputs = np.random.default_rng(3).uniform(size=(20, 20, 20, 6)).astype(np.float32)
    layers = [PrimaryCaps(2, 4, 9, 2, algorithm) for algorithm in ('conv2d', 'winograd', 'auto')]
    for layer in layers:
        layer.build(inputs.shape)
    path = tf.train.Checkpoint(layer=layers[0]).write(str(tmp_path / 'checkpoint'))
    results = []
    for layer in layers:
        tf.train.Checkpoint(layer=layer).read(path).assert_consumed()
        with tf.GradientTape() as tape:
            outputs = layer(inputs)
            loss = tf.reduce_sum(tf.square(outputs - 0.1))
        results.append([outputs, *tape.gradient(loss, layer.trainable_variables)])
    for direct, transformed, automatic in zip(*results, strict=True):
        np.testing.assert_allclose(transformed, direct, atol=1e-4 * np.max(np.abs(direct)))
        np.testing.assert_array_equal(automatic, transformed)


def by_patches(layer, inputs):
    """What a layer with a kernel of 9 x 9 gives where it multiplies patches of the images."""
    patches = tf.image.extract_patches(inputs, [1, 9, 9, 1], [1, 2, 2, 1], [1, 1, 1, 1], 'VALID')
    features = tf.tensordot(patches, tf.reshape(layer.kernel, [-1, 8]), 1) + layer.bias
    return squash(tf.reshape(features, [len(inputs), -1, 4]))


@pytest.mark.parametrize('unknown_batch', [False, True])
def test_automatic_choice_is_by_the_number_of_images(unknown_batch):
    inputs = np.random.default_rng(3).uniform(size=(20, 20, 20, 6)).astype(np.float32)
    automatic = PrimaryCaps(2, 4, 9, 2)
    automatic.build(inputs.shape)
    run = automatic
    if unknown_batch:
        run = tf.function(automatic.call, input_signature=[tf.TensorSpec([None, 20, 20, 6])])
    few = 'patches' if unknown_batch else 'conv2d'
    for n, algorithm in ((1, few), (15, few), (16, 'winograd'), (20, 'winograd')):
        if algorithm == 'patches':
            expected = by_patches(automatic, inputs[:n])
        else:
            layer = PrimaryCaps(2, 4, 9, 2, algorithm)
            layer.build(inputs.shape)
            layer.set_weights(automatic.get_weights())
            expected = layer(inputs[:n])
        np.testing.assert_allclose(run(inputs[:n]), expected, atol=5e-7)


def test_an_unknown_number_of_images_takes_as_many_patches_as_memory_allows(monkeypatch):
    inputs = np.random.default_rng(3).uniform(size=(5, 20, 20, 6)).astype(np.float32)
    # 36 positions with 9 x 9 x 6 numbers each: three images are allowed.
    monkeypatch.setattr(strided_convolution, '_MOST_PATCH_FLOATS', 3 * 36 * 9 * 9 * 6)
    layer = PrimaryCaps(2, 4, 9, 2)
    layer.build(inputs.shape)
    specification = tf.TensorSpec([None, 20, 20, 6])
    run = tf.function(layer.call, input_signature=[specification], autograph=False)
    for n in range(1, 6):
        expected = by_patches(layer, inputs[:n]) if n <= 3 else layer(inputs[:n])
        np.testing.assert_allclose(run(inputs[:n]), expected, atol=5e-7)


def test_automatic_choice_is_direct_where_little_is_to_be_won():
    inputs = np.random.default_rng(3).uniform(size=(20, 8, 7, 6)).astype(np.float32)
    automatic, direct = (PrimaryCaps(2, 4, 3, 2, algorithm) for algorithm in ('auto', 'conv2d'))
    for layer in (automatic, direct):
        layer.build(inputs.shape)
    direct.set_weights(automatic.get_weights())
    np.testing.assert_array_equal(automatic(inputs), direct(inputs))


def test_primary_caps_refuse_bad_algorithms():
    with pytest.raises(ValueError, match="one of 'auto', 'conv2d', 'winograd', not 'fft'"):
        PrimaryCaps(2, 4, 9, 2, 'fft')
    with pytest.raises(ValueError, match="here 10, not 11: use 'conv2d'"):
        PrimaryCaps(2, 4, 11, 1, 'winograd').build((None, 20, 20, 6))


@pytest.mark.parametrize('iterations', [1, 3])
def test_digit_caps_route_the_predictions(iterations):
    inputs = np.random.default_rng(4).normal(size=(2, 6, 3)).astype(np.float32)
    layer = DigitCaps(parents=4, dim=5, iterations=iterations)
    layer.build(inputs.shape)
    # Weights of this size make the coupling coefficients far from equal.
    kernel = np.random.default_rng(5).normal(size=(6, 4, 3, 5)).astype(np.float32)
    layer.kernel.assign(kernel)
    u_hat = np.zeros((2, 6, 4, 5))
    for i in range(6):
        for j in range(4):
            u_hat[:, i, j] = inputs[:, i] @ kernel[i, j]
    np.testing.assert_allclose(layer(inputs), oracle.route(u_hat, iterations)[0], atol=1e-4)


def test_digit_caps_refuse_bad_routing():
    with pytest.raises(ValueError, match='at least 1, not 0'):
        DigitCaps(3, 4, iterations=0)
    with pytest.raises(ValueError, match="'all' or 'last'"):
        DigitCaps(3, 4, gradient='none')


def test_decoder_is_relu_relu_sigmoid():
    decoder = Decoder((3, 4), (2, 3))
    inputs = np.random.default_rng(7).normal(size=(5, 6)).astype(np.float32)
    decoder.build(inputs.shape)
    rng = np.random.default_rng(8)
    weights = [rng.normal(size=w.shape) for w in decoder.weights]
    decoder.set_weights(weights)
    x = np.maximum(0, inputs @ weights[0] + weights[1])
    x = np.maximum(0, x @ weights[2] + weights[3])
    x = 1 / (1 + np.exp(-(x @ weights[4] + weights[5])))
    np.testing.assert_allclose(decoder(inputs), x.reshape(5, 2, 3), atol=1e-5)
