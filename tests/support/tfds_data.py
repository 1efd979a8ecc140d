"""Small datasets for tests, written in the layout that TFDS reads."""

import io
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.core import registered

_BUILDERS = {
    'mnist': tfds.image_classification.mnist.MNIST,
    'fashion_mnist': tfds.image_classification.mnist.FashionMNIST,
}


def write_dataset(
    data_dir: str | pathlib.Path,
    splits: Mapping[str, tuple[np.ndarray | list[np.ndarray | bytes], np.ndarray]],
    dataset: str = 'mnist',
) -> None:
    """Writes `dataset`, 'mnist' or 'fashion_mnist', so that `tfds.load(..., data_dir)` finds it.

    Args:
        data_dir: The folder that TFDS keeps datasets in.
        splits: From 'train' and 'test' to images and integer labels [n]. The images are uint8
            [n, 28, 28], or a list in which one may also be bytes, which are stored as they are.
        dataset: The one whose place this one takes.
    """
    base: Any = _BUILDERS[dataset]
    # Registered, this class would take the place of TFDS's own.
    with registered.skip_registration():

        class SmallDataset(base):
            """TFDS's dataset with other images."""

            name = dataset

            def _split_generators(self, dl_manager):
                return {
                    split: self._generate_examples(images, labels)
                    for split, (images, labels) in splits.items()
                }

            def _generate_examples(self, images, labels):
                for index, (image, label) in enumerate(zip(images, labels, strict=True)):
                    is_file = isinstance(image, bytes)
                    stored = io.BytesIO(image) if is_file else image[..., np.newaxis]
                    yield index, {'image': stored, 'label': int(label)}

    tfds.disable_progress_bar()
    SmallDataset(data_dir=data_dir).download_and_prepare()


def own_builder(
    data_dir: str | pathlib.Path,
    features: Mapping[str, Any],
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    supervised_keys: tuple[str, str] | None = None,
) -> Any:
    """The builder of a dataset `own` that TFDS does not know.

    Args:
        data_dir: The folder that TFDS keeps datasets in.
        features: TFDS's, by name.
        splits: The examples of each split. With `download_and_prepare` of the builder they are
            written, and `tfds.load('own', data_dir=data_dir)` finds them.
        supervised_keys: Names of what is learned from, and of what is learned.
    """
    with registered.skip_registration():

        class Own(tfds.core.GeneratorBasedBuilder):
            """A dataset of the tests."""

            name = 'own'
            VERSION = tfds.core.Version('1.0.0')

            def _info(self):
                return tfds.core.DatasetInfo(
                    builder=self,
                    features=tfds.features.FeaturesDict(features),
                    supervised_keys=supervised_keys,
                )

            def _split_generators(self, dl_manager):
                return {split: enumerate(examples) for split, examples in splits.items()}

            def _generate_examples(self):
                raise NotImplementedError

    tfds.disable_progress_bar()
    return Own(data_dir=data_dir)


def synthetic_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 [count, 28, 28] of ten classes that a network soon learns, and labels [count].

    A class is a bar of its own angle through a place near the centre, white on black, with noise.
    """
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    random.shuffle(labels)
    angles = labels * np.pi / 10
    centres = 13.5 + random.uniform(-2, 2, size=(2, count, 1, 1))
    rows, columns = np.mgrid[:28, :28]
    distances = np.abs(
        (rows - centres[0]) * np.cos(angles)[:, None, None]
        - (columns - centres[1]) * np.sin(angles)[:, None, None]
    )
    inside = np.hypot(rows - 13.5, columns - 13.5) < 10
    images = 255.0 * (distances < 1.5) * inside + random.uniform(0, 40, size=(count, 28, 28))
    return np.clip(images, 0, 255).astype(np.uint8), labels
