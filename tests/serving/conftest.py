"""A network that knows digits, for what people see of the server."""

import dataclasses
import fcntl
import os
import tempfile

import numpy as np
import pytest
import saved_models
import tensorflow as tf
import tensorflow_datasets as tfds
from chromium import browser
from drawing_page import DESKTOP, open_demo
from rest_server import rest_server
from run_transform import run_transform

from capsmodel import guard, signatures
from capsmodel.data import dataset, features
from capsmodel.networks import capsnet, table
from capsmodel.networks.settings import CapsNetConfig, NetworkConfig
from capsmodel.training import loop
from capsmodel.training.settings import TrainingConfig

VERSION = 3

# Small, and trained in some seconds; a decoder with a larger weight than usual learns sooner.
_NETWORK = CapsNetConfig(
    28, 28, 10, conv1_filters=32, primary_channels=8, digit_dim=16, decoder_units=(64, 128)
)
# Of photographs; it has learned nothing.
_COLOURS = CapsNetConfig(
    *(20, 24, 3),
    image_channels=3,
    conv1_filters=4,
    primary_channels=2,
    digit_dim=4,
    decoder_units=(8,),
)

_TRAINING = TrainingConfig(
    epochs=3,
    batch_size=50,
    learning_rate=4e-3,
    learning_rate_decay=0.4,
    reconstruction_weight=0.005,
    augmentation='shift:2',
    seed=1,
)


@pytest.fixture(scope='session')
def mnist_test(mnist_dir):
    """1,000 images of MNIST's test set, uint8 [1000, 28, 28], and their labels."""
    return _load(mnist_dir, 'test[:1000]')


@pytest.fixture(scope='session')
def digits_url(mnist_dir, tmp_path_factory):
    """URL of the model `digits`, trained on genuine digits, on a running server with the page.

    It merges requests, and also serves networks that have learned nothing: `undecoded` without a
    decoder, `perceptron` without capsules, and `photographs` with named classes; and `unchecked`,
    which takes float32 [n, 2, 3] but makes rows of whatever it gets.
    """
    temporary = tmp_path_factory.getbasetemp()
    # Processes that test side by side share what one of them has trained.
    shared = temporary.parent if 'PYTEST_XDIST_WORKER' in os.environ else temporary
    folder = shared / 'digits'
    with open(shared / 'digits.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            _write_models(mnist_dir, shared / 'unfinished-digits')
            os.rename(shared / 'unfinished-digits', folder)
    config = ''
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        config += (
            f'config {{ name: "{path.name}" base_path: "{path}" model_platform: "tensorflow" }}'
        )
    (temporary / 'models.config').write_text(f'model_config_list {{ {config} }}')
    flags = [f'--model_config_file={temporary / "models.config"}', '--demo', '--enable_batching']
    flags.append('--max_load_seconds=600')  # the machine may be busy with other tests
    with rest_server(*flags, '--batching_parameters_file=serving/config/batching.config') as url:
        yield url


@pytest.fixture(scope='module')
def new_page():
    """A function that opens a page in one Chromium."""
    with browser() as opened:
        yield opened


@pytest.fixture
def page(new_page, digits_url):
    """The page on a desktop; nothing may have been complained about when the test is over."""
    page = new_page()
    page.show(*DESKTOP)
    open_demo(page, digits_url)
    yield page
    assert page.complaints == []


def _write_models(mnist_dir, folder):
    learned, judged = _load(mnist_dir, 'train[:3000]'), _load(mnist_dir, 'train[3000:3300]')
    numbers = [str(label) for label in range(10)]
    with tempfile.TemporaryDirectory() as log_dir:
        digits = loop.train(_NETWORK, _TRAINING, learned, judged, log_dir)
    undecoded = capsnet.CapsNet(dataclasses.replace(_NETWORK, decoder=False))
    photographs = np.random.default_rng(1).integers(0, 256, (20, 20, 24, 3), np.uint8)
    perceptron = table.create(NetworkConfig(28, 28, 10, network='mlp'))
    models = {'digits': digits, 'undecoded': undecoded, 'perceptron': perceptron}
    _export(models, folder, judged.images, numbers, 'strokes')
    _export(
        {'photographs': capsnet.CapsNet(_COLOURS)},
        folder,
        photographs,
        ['red', 'dark green', 'dög'],
        'whole',
    )
    (folder / 'digits' / str(VERSION) / 'assets.extra' / 'model_card.html').write_text(
        '<!doctype html><title>The card of digits</title>'
    )
    saved_models.export(str(folder / 'unchecked'), VERSION, {'serving_default': _unchecked})


def _export(models, folder, images, names, framing):
    """Exports models for images of one shape, uint8 [n, height, width] or in colour."""
    png = tf.io.encode_png(images[0].reshape(*images[0].shape[:2], -1)).numpy()
    raw = [{features.IMAGE: png, features.LABEL: 0, features.ID: b'a'}]
    with tempfile.TemporaryDirectory() as transformed:
        channels = next(iter(models.values())).config.image_channels
        _, transform_output = run_transform(raw, transformed, *images.shape[1:3], framing, channels)
        for name, model in models.items():
            signatures.export(
                model,
                transform_output,
                str(folder / name / str(VERSION)),
                images[:2],
                guard.thresholds(model, images, false_alarms=0.05),
                names,
                framing,
            )


@tf.function(input_signature=[tf.TensorSpec([None, 2, 3], tf.float32, 'x')])
def _unchecked(x):
    n = tf.shape(x)[0]
    return {'y': tf.reduce_sum(tf.reshape(x, [-1, 6]), axis=1)[:n]}


def _load(mnist_dir, split):
    examples = tfds.as_numpy(tfds.load('mnist', split=split, data_dir=mnist_dir, batch_size=-1))
    return dataset.LabeledImages(examples['image'][..., 0], examples['label'].astype(np.int64))
