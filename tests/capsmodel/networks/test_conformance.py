"""What every network in NETWORKS does, whatever it is made of."""

import dataclasses
import json
import os
import subprocess
import sys

import keras
import network_configs
import numpy as np
import plain_tensorflow
import pytest
import tensorflow as tf
from project_paths import DATA, PROGRAMS

from capsmodel.data import dataset
from capsmodel.networks import table
from capsmodel.networks.step import Step
from capsmodel.training import evaluation, loop
from capsmodel.training.settings import TrainingConfig

_QUICK = ('capsnet', 'mlp', 'ensemble')
# In which a network has learned 100 images, with some to spare.
_EPOCHS = {**dict.fromkeys(_QUICK, 15), 'matrix_capsnet': 80, 'cnn_large_kernels': 80}
_ALL = [pytest.param(n, marks=[] if n in _QUICK else pytest.mark.slow) for n in table.NETWORKS]
each_network = pytest.mark.parametrize('name', _ALL)
_TRAINED = [name for name in table.NETWORKS if not table.has_members(name)]
each_trained = pytest.mark.parametrize('name', [p for p in _ALL if p.values[0] in _TRAINED])


def _network(name, **changes):
    keras.utils.set_random_seed(1)
    return table.create(network_configs.small(name, **changes))


def _digits(count):
    with np.load(DATA / 'mnist_300.npz') as data:
        labels = data['labels'][:count].astype(np.int64)
        return dataset.LabeledImages(data['images'][:count], labels)


@each_network
def test_outputs_have_their_shapes_for_any_number_of_images(name):
    network = _network(name)
    images, _ = _digits(3)
    reads = tf.TensorSpec([None, 28, 28], tf.uint8)
    answer = tf.function(network, input_signature=[reads], autograph=False)
    expected = network(images)
    for n in (3, 1, 0):
        outputs = answer(images[:n])
        tf.nest.assert_same_structure(outputs, network.outputs_spec())
        scores = network.scores(outputs).numpy()
        assert scores.shape == (n, 10)
        assert scores.dtype == np.float32
        assert np.all((scores >= 0) & (scores <= 1))
        np.testing.assert_allclose(scores, network.scores(expected)[:n], rtol=1e-3, atol=1e-6)
        if network.capsule_dim:
            assert network.capsules(outputs).shape == (n, 10, network.capsule_dim)
        if network.config.has_decoder:
            labels = np.arange(n) % 10
            drawn = network.reconstruct(network.capsules(outputs), labels)
            assert drawn.shape == (n, 28, 28)
    if network.coupled_floats:
        coefficients = network.coupling_coefficients(images)
        assert coefficients.shape[1:3] == (3, 10)
        assert np.max(tf.reduce_sum(coefficients, axis=2)) <= 1 + 1e-5


@each_network
def test_config_survives_json_and_makes_the_network(name):
    network = _network(name)
    config = json.loads(json.dumps(dataclasses.asdict(network.config)))
    assert table.config_of(config) == network.config
    assert config['network'] == name
    copy = type(network).from_config(json.loads(json.dumps(network.get_config())))
    shapes = [[tuple(v.shape) for v in each.variables] for each in (network, copy)]
    assert shapes[0] == shapes[1]


@each_network
def test_mixed_precision_stays_inside(name):
    exact, mixed = _network(name), _network(name, precision='mixed_bfloat16')
    images, _ = _digits(20)
    outputs = mixed(images)
    assert {output.dtype for output in tf.nest.flatten(outputs)} == {tf.float32}
    assert {variable.dtype for variable in mixed.variables} == {'float32'}
    np.testing.assert_allclose(mixed.scores(outputs), exact.scores(exact(images)), atol=0.05)
    assert not np.array_equal(mixed.scores(outputs), exact.scores(exact(images)))


@each_network
def test_gradients_of_blank_and_saturated_images_are_finite(name):
    network = _network(name)
    for level in (0, 255):
        images = np.full((4, 28, 28), level, np.uint8)
        labels = tf.constant([0, 1, 2, 3], tf.int64)
        with tf.GradientTape() as tape:
            step = Step.on_this_replica(0, tf.constant(0), 10, batch_size=4)
            outputs = network(images, step=step)
            loss = tf.reduce_sum(network.classification_loss(labels, outputs, step))
        assert np.isfinite(loss)
        assert loss > 0
        gradients = tape.gradient(loss, network.trainable_variables)
        # The loss of classes does not depend on what reconstructs. An ensemble learns nothing.
        there = [gradient for gradient in gradients if gradient is not None]
        assert there or not gradients
        assert all(np.all(np.isfinite(gradient)) for gradient in there)
        assert all(np.all(np.isfinite(variable)) for variable in network.variables)


@each_trained
def test_100_images_are_learned_completely(name):
    images, labels = _digits(100)
    # MNIST's digits have a margin of four pixels, which would only take time.
    digits = dataset.LabeledImages(images[:, 4:24, 4:24], labels)
    settings = TrainingConfig(
        epochs=_EPOCHS.get(name, 40),
        batch_size=10,
        learning_rate=table.NETWORKS[name].presets.get('tiny', {}).get('learning_rate', 3e-3),
        learning_rate_decay=0.97,
        augmentation='none',
    )
    model = loop.train(network_configs.small(name, 20), settings, digits, digits, None)
    assert evaluation.evaluate(model, digits).accuracy == 1


@each_network
def test_memory_grows_with_the_images(name):
    network = _network(name)
    once, each = network.bytes_to_evaluate()
    assert each > 4 * 28 * 28
    assert once > 0
    assert network.bytes_to_train(200) > network.bytes_to_train(100) > 4 * network.count_params()


@pytest.mark.slow
def test_plain_tensorflow_gets_the_same_answers(tmp_path):
    """From one SavedModel with a signature for each network."""
    images, _ = _digits(3)
    module, expected = tf.Module(), {}
    networks = {name: _network(name).exported() for name in table.NETWORKS}
    module.weights = {name: [v.value for v in m.variables] for name, m in networks.items()}
    spec = tf.TensorSpec([None, 28, 28], tf.uint8, 'pixels')

    def signature(network):
        return tf.function(
            lambda pixels: {'scores': network.scores(network(pixels))},
            input_signature=[spec],
            autograph=False,
        )

    signatures = {name: signature(network) for name, network in networks.items()}
    tf.saved_model.save(module, str(tmp_path / 'model'), signatures=signatures)
    expected = {name: network.scores(network(images)) for name, network in networks.items()}
    asked = {name: {'pixels': images} for name in networks}
    for name, answer in plain_tensorflow.answers(tmp_path / 'model', asked, tmp_path).items():
        np.testing.assert_allclose(answer['scores'], expected[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_each_resumes_to_the_bit_and_two_replicas_train_as_one_does():
    command = [sys.executable, PROGRAMS / 'train_networks.py', *_TRAINED, 'planted']
    environment = {**os.environ, 'PYTHONPATH': str(PROGRAMS.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
