"""A small training and its model as one version wrote them, for later versions to read.

    python tests/support/golden.py FOLDER

writes `golden_checkpoint.tar.xz`, that of a training that was stopped; `golden_model.tar.xz`, what
the network of its best epoch is exported as; and `golden.npz`: under `end/` the weights that the
training comes to when it goes on, under `asked/` and `answered/` questions to the model's
signatures and its answers.
"""

import dataclasses
import pathlib
import sys
import tarfile
import tempfile

import numpy as np
import tensorflow as tf
from run_transform import run_transform
from small_training import TRAINING

from capsmodel import guard, signatures
from capsmodel.data import dataset, features
from capsmodel.networks import capsnet
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.training import loop
from capsmodel.training.checkpoints import Checkpoints
from capsmodel.training.errors import TrainingError
from capsmodel.training.state import load_best

SIZE, CLASSES, DIM = 14, 3, 4
NETWORK = CapsNetConfig(
    image_height=SIZE,
    image_width=SIZE,
    num_classes=CLASSES,
    conv1_filters=4,
    conv1_kernel_size=5,
    primary_channels=2,
    primary_dim=4,
    primary_kernel_size=5,
    digit_dim=DIM,
    decoder_units=(8,),
)
# Beside the weights, their averages and Adam's moments are state.
SETTINGS = dataclasses.replace(
    TRAINING, epochs=10, batch_size=20, learning_rate=0.02, learning_rate_decay=0.97, ema_decay=0.5
)
STOPPED_AT, STEPS = 22, 30


def images(count: int, seed: int) -> dataset.LabeledImages:
    """A bright bar in noise, at a place of its own for each class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    pixels = rng.integers(0, 120, (count, SIZE, SIZE), dtype=np.uint8)
    for image, label in zip(pixels, labels, strict=True):
        image[4 * label + 1 : 4 * label + 4, 2:12] += 100
    return dataset.LabeledImages(pixels, labels)


def train(checkpoints: Checkpoints, steps: int = STEPS) -> capsnet.CapsNet:
    """Trains, resuming from the checkpoints; TrainingError if told to stop before the end."""
    left = iter(range(steps))
    return loop.train(
        NETWORK,
        SETTINGS,
        images(60, seed=1),
        images(40, seed=2),
        None,
        checkpoints=checkpoints,
        should_stop=lambda: next(left, None) is None,
    )


def best(checkpoints: Checkpoints) -> capsnet.CapsNet:
    """The network of the best epoch."""
    network = capsnet.CapsNet(NETWORK)
    load_best(network, checkpoints)
    return network


def export(network: capsnet.CapsNet, folder: pathlib.Path) -> None:
    """Exports a network into `folder`, which is not there yet."""
    png = tf.io.encode_png(images(1, seed=3).images[0][..., np.newaxis]).numpy()
    raw = [{features.IMAGE: png, features.LABEL: 0, features.ID: b'a'}]
    with tempfile.TemporaryDirectory() as transformed:
        _, transform_output = run_transform(raw, transformed, SIZE, SIZE, 'whole')
        shown = images(2, seed=4).images
        thresholds = guard.thresholds(network, shown, false_alarms=0)
        names = [str(label) for label in range(CLASSES)]
        signatures.export(network, transform_output, str(folder), shown, thresholds, names, 'whole')


def questions() -> dict[str, dict[str, np.ndarray]]:
    """Inputs by signature and name."""
    asked = images(5, seed=5).images[:]
    pngs = [tf.io.encode_png(image[..., np.newaxis]).numpy() for image in asked]
    examples = []
    for png in pngs:
        example = tf.train.Example()
        example.features.feature[features.IMAGE].bytes_list.value.append(png)
        examples.append(example.SerializeToString())
    capsules = np.random.default_rng(6).normal(size=(5, DIM)).astype(np.float32)
    return {
        'serving_default': {'image_bytes': np.array(pngs)},
        'pixels': {'pixels': asked},
        'examples': {'examples': np.array(examples)},
        'explain': {'image_bytes': np.array(pngs)},
        'decode': {'capsule': capsules, 'label': np.arange(5) % CLASSES},
    }


def read(archive: np.lib.npyio.NpzFile, part: str) -> dict[str, dict[str, np.ndarray]]:
    """`asked` or `answered` of golden.npz, by signature and name."""
    found: dict[str, dict[str, np.ndarray]] = {}
    for key in archive:
        this, *names = key.split('/')
        if this == part:
            found.setdefault(names[0], {})[names[1]] = archive[key]
    return found


def _pack(folder: pathlib.Path, path: pathlib.Path) -> None:
    with tarfile.open(path, 'w:xz', preset=9) as archive:
        archive.add(folder, '.')


def main(target: pathlib.Path) -> None:
    """Writes all of it into an existing folder."""
    with tempfile.TemporaryDirectory() as temporary:
        checkpoints = Checkpoints(pathlib.Path(temporary, 'checkpoints'))
        try:
            train(checkpoints, STOPPED_AT)
        except TrainingError as stopped:
            print(stopped)
        last = checkpoints.folder / f'step-{STOPPED_AT:08}'
        for path in checkpoints.folder.iterdir():
            if path != last:
                path.rename(pathlib.Path(temporary, path.name))
        _pack(checkpoints.folder, target / 'golden_checkpoint.tar.xz')
        network, exported = best(checkpoints), pathlib.Path(temporary, 'model')
        export(network, exported)
        _pack(exported, target / 'golden_model.tar.xz')
        model = tf.saved_model.load(str(exported))
        kept: dict[str, np.ndarray] = {}
        for name, inputs in questions().items():
            kept |= {f'asked/{name}/{key}': value for key, value in inputs.items()}
            answer = model.signatures[name](**{k: tf.constant(v) for k, v in inputs.items()})
            kept |= {f'answered/{name}/{key}': value.numpy() for key, value in answer.items()}
        for number, variable in enumerate(train(checkpoints).variables):
            kept[f'end/{number}'] = variable.numpy()
        np.savez_compressed(target / 'golden.npz', **kept)


if __name__ == '__main__':
    main(pathlib.Path(sys.argv[1]))
