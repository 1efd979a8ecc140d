"""A version of a model that knows digits, its own data, and a log of what it is asked."""

import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from run_transform import run_transform
from small_training import NETWORK, TRAINING

from capsmodel import guard, signatures
from capsmodel.data import dataset, features
from capsmodel.training import loop
from components.drift import asked_model, reference
from components.drift.check import Places, check
from serving.request_log.files import RequestLogOptions
from serving.request_log.log import RequestLog

VERSION = 7


class Digits:
    """The model `digits`, asked as a server asks it and with the server's log.

    Attributes:
        places: Where a check finds everything.
        images: uint8 [900, 28, 28], digits that neither training nor reference have.
    """

    def __init__(self, folder, trained):
        self.places = Places(str(folder / 'requests'), str(trained.models), str(folder / 'state'))
        self.images = trained.images
        self.examples = trained.examples
        self._model = trained.model
        self._loaded = trained.loaded
        self.asked_for_examples = []

    def ask(self, images, signature='serving_default', keep_images=True, version=VERSION):
        """Asks about images, uint8 [n, 28, 28], ten in a request, and keeps what is answered."""
        log = RequestLog(
            RequestLogOptions(1.0, f'{self.places.requests}/requests', keep_images=keep_images)
        )
        for first in range(0, len(images), 10):
            some = images[first : first + 10]
            if signature == 'pixels':
                inputs = {'pixels': some}
            else:
                pngs = np.array([png(image) for image in some], object)
                if signature == 'examples':
                    inputs = {'examples': np.array([example(each) for each in pngs], object)}
                else:
                    inputs = {'image_bytes': pngs}
            tensors = {name: tf.constant(value) for name, value in inputs.items()}
            outputs = self._loaded.signatures[signature](**tensors)
            answers = {name: output.numpy() for name, output in outputs.items()}
            log.add('digits', version, signature, inputs, answers)
        log.close()

    def check(self):
        """Makes a check."""
        return check('digits', self.places, self._pattern, lambda path: self._model)

    def _pattern(self, version):
        self.asked_for_examples.append(version)
        return self.examples


def png(image):
    """A PNG of an image, uint8 [height, width]."""
    return tf.io.encode_png(image[..., np.newaxis]).numpy()


def example(picture):
    """A serialized raw example of a picture."""
    value = tf.train.Feature(bytes_list=tf.train.BytesList(value=[picture]))
    return tf.train.Example(
        features=tf.train.Features(feature={features.IMAGE: value})
    ).SerializeToString()


@pytest.fixture(scope='session')
def trained(mnist_dir, tmp_path_factory):
    """The folder of versions, the pattern of raw examples, and digits to ask about."""
    folder = tmp_path_factory.mktemp('drift')
    learned, own, others = (
        _load(mnist_dir, split) for split in ('train[:1000]', 'train[1000:1600]', 'test[:900]')
    )
    network = loop.train(NETWORK, TRAINING, learned, own, str(folder / 'log'))
    raw = [{features.IMAGE: png(own.images[0]), features.LABEL: 0, features.ID: b'a'}]
    _, transform_output = run_transform(raw, str(folder / 'transform'), 28, 28)
    signatures.export(
        network,
        transform_output,
        str(folder / 'models' / str(VERSION)),
        own.images[:2],
        guard.thresholds(network, own.images, false_alarms=0.05),
        [str(label) for label in range(10)],
        'strokes',
    )
    with tf.io.TFRecordWriter(str(folder / 'examples.gz'), 'GZIP') as writer:
        for image in own.images:
            writer.write(example(png(image)))
    # To load a version takes seconds, and every test looks at the same one.
    version = str(folder / 'models' / str(VERSION))
    model, loaded = asked_model.AskedModel(version), tf.saved_model.load(version)
    measured = reference.measure(model, f'{folder}/ex*.gz')
    reference.save(str(folder / 'reference.json'), str(VERSION), measured)
    return types.SimpleNamespace(
        models=folder / 'models',
        examples=f'{folder}/ex*.gz',
        reference=folder / 'reference.json',
        images=others.images,
        model=model,
        loaded=loaded,
    )


@pytest.fixture
def digits(trained, tmp_path):
    """The model in a folder of its own, with a reference and nothing asked yet."""
    (tmp_path / 'state').mkdir()
    shutil.copy(trained.reference, tmp_path / 'state')
    return Digits(tmp_path, trained)


def _load(mnist_dir, split):
    examples = tfds.as_numpy(tfds.load('mnist', split=split, data_dir=mnist_dir, batch_size=-1))
    return dataset.LabeledImages(examples['image'][..., 0], examples['label'].astype(np.int64))
