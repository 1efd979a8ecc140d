"""Facts about a dataset of TFDS: its images and classes, and whether it is prepared on disk."""

import hashlib
import os
import re
from typing import Any

from components.datasets.errors import DatasetError, NotPrepared, first_line
from components.datasets.info import ImageDatasetInfo

_NUMBER = r'(?:0|[1-9][0-9]*|\*)'
_DATASET = re.compile(
    r'(?P<name>[A-Za-z][A-Za-z0-9_]*)(?P<config>/[A-Za-z0-9_+.-]+)?'
    rf'(?::(?P<version>{_NUMBER}\.{_NUMBER}\.{_NUMBER}))?'
)


def name_and_version(dataset: str, version: str | None = None) -> tuple[str, str | None]:
    """Splits TFDS's spelling of a dataset: 'mnist:3.0.1' is ('mnist', '3.0.1').

    Args:
        dataset: The name, which may have a config and a version: 'emnist/digits:3.1.0'. It may also
            be in camel case, TFDS's other spelling: 'MNIST'.
        version: The version, if the name has none.

    Returns:
        The name in lower case with the config, and the version, None if neither argument has one.

    Raises:
        DatasetError: `dataset` has another form, or the two versions differ.
    """
    parts = _DATASET.fullmatch(dataset)
    if not parts:
        raise DatasetError(
            f'DATASET is {dataset!r}: it must be the name of a dataset of TFDS, such as mnist or '
            'emnist/digits, and may have a version x.y.z behind it, as in mnist:3.0.1'
        )
    if version and parts['version'] and version != parts['version']:
        raise DatasetError(
            f'DATASET is {dataset!r}, but DATASET_VERSION is {version!r}: '
            'give one version, by either setting'
        )
    name = re.sub('(.)([A-Z][a-z0-9]+)', r'\1_\2', parts['name'])
    name = re.sub('([a-z0-9])([A-Z])', r'\1_\2', name).lower()
    return name + (parts['config'] or ''), parts['version'] or version or None


def load_builder(dataset: str, data_dir: str, version: str | None = None) -> Any:
    """The TFDS builder of `dataset` in `data_dir`, prepared or not; raises DatasetError."""
    import tensorflow_datasets as tfds

    dataset, version = name_and_version(dataset, version)
    try:
        # Absolute for error messages.
        return tfds.builder(dataset, data_dir=os.path.abspath(data_dir), version=version)
    except Exception as error:  # the code of a dataset may raise anything
        name = f'{dataset} {version}' if version else dataset
        reason = first_line(error)
        raise DatasetError(f'TFDS cannot give the dataset {name}: {reason}') from error


def image_dataset_info(dataset: str, data_dir: str, version: str | None = None) -> ImageDatasetInfo:
    """The facts of an image-classification dataset, which need not be prepared.

    A class without a name is called by its number. Raises DatasetError if there is no such dataset,
    or `image_and_label` refuses it.
    """
    builder = load_builder(dataset, data_dir, version)
    image_name, label_name = image_and_label(builder)
    height, width, channels = builder.info.features[image_name].shape
    return ImageDatasetInfo(
        height=height or 0,
        width=width or 0,
        channels=1 if channels in (1, 2) else 3,  # the second and the fourth are transparency
        class_names=tuple(builder.info.features[label_name].names),
    )


def image_and_label(builder: Any) -> tuple[str, str]:
    """The names of the image feature and of the class label.

    If there are several of a kind, the one in the dataset's `supervised_keys` counts. Features
    inside other features do not count, nor does a LabeledImage, whose pixels are classes. The
    images may have any number of channels that PNG and JPEG have, and 8 or 16 bits.

    Raises:
        DatasetError: There is no image or label, or no single one; the images are neither uint8 nor
            uint16, or they are films; or there are fewer than two classes.
    """
    import numpy as np
    import tensorflow_datasets as tfds

    image_name = _feature_of_type(builder, tfds.features.Image, 'image')
    label_name = _feature_of_type(builder, tfds.features.ClassLabel, 'ClassLabel')
    image, label = (builder.info.features[name] for name in (image_name, label_name))
    # TFDS stores a float32 as the four channels of a PNG, which decode to the bits of the number.
    dtype = np.dtype(image.np_dtype).name
    if dtype not in ('uint8', 'uint16'):
        raise DatasetError(
            f'the images of {builder.name} (feature {image_name!r}) are {dtype}: '
            'only uint8 and uint16 can be read'
        )
    if len(image.shape) != 3:
        raise DatasetError(
            f'the images of {builder.name} (feature {image_name!r}) have the shape {image.shape}: '
            'only those of height, width and channels can be read'
        )
    if (label.num_classes or 0) < 2:
        raise DatasetError(
            f'the number of classes of {builder.name} (feature {label_name!r}) is '
            f'{label.num_classes or "unknown"}: it must be at least 2'
        )
    return image_name, label_name


def _feature_of_type(builder: Any, kind: type, called: str) -> str:
    import tensorflow_datasets as tfds

    features = builder.info.features
    features = dict(features) if isinstance(features, tfds.features.FeaturesDict) else {}
    names = [
        name
        for name, each in features.items()
        if isinstance(each, kind) and not isinstance(each, tfds.features.LabeledImage)
    ]
    supervised = [name for name in names if name in (builder.info.supervised_keys or ())]
    for candidates in (supervised, names):
        if len(candidates) == 1:
            return candidates[0]
    kinds = ', '.join(f'{name} ({type(each).__name__})' for name, each in features.items())
    raise DatasetError(
        f'{builder.name} is not an image-classification dataset: it has '
        f'{"more than one" if names else "no"} {called} feature; its features are {kinds}'
    )


def is_prepared(builder: Any) -> bool:
    """Whether the dataset is on disk."""
    return bool(builder.info.splits)


def check_prepared(builder: Any) -> None:
    """Raises NotPrepared unless the dataset is on disk."""
    if not is_prepared(builder):
        raise NotPrepared(f'{builder.name} is not prepared in {builder.data_dir}')


def fingerprint(builder: Any) -> str:
    """SHA-256 of a prepared dataset: features.json, and names and examples of its record files.

    It does not depend on the dataset's folder, nor on the time at which it was written. Examples
    are hashed in their canonical form, because protocol buffers leave the order of the features in
    an example open, so that TFDS writes different bytes each time. Raises DatasetError if a record
    file is missing or damaged.
    """
    import tensorflow as tf
    from tensorflow_datasets.core import file_adapters

    adapter = file_adapters.ADAPTER_FOR_FORMAT[builder.info.file_format]
    names = {name for split in builder.info.splits.values() for name in split.filenames}
    total = hashlib.sha256((builder.data_path / 'features.json').read_bytes())
    for name in sorted(names):
        total.update(f'{name}\n'.encode())
        path = builder.data_path / name
        try:
            for batch in adapter.make_tf_data(str(path)).batch(1024):
                for record in batch.numpy():
                    example = tf.train.Example.FromString(record)
                    content = example.SerializeToString(deterministic=True)
                    total.update(b'%d ' % len(content) + content)
        except tf.errors.OpError as error:
            kinds = {tf.errors.NotFoundError: 'is missing', tf.errors.DataLossError: 'is damaged'}
            what = kinds.get(type(error), f'cannot be read ({error.message})')
            raise NotPrepared(
                f'{path} {what}: remove {builder.data_dir} and prepare the dataset again'
            ) from error
    return total.hexdigest()


def version_number(version: str) -> int:
    """TFDS's version x.y.z as one integer, which TFX artifacts need: x*1e6 + y*1e3 + z."""
    major, minor, patch = (int(part) for part in version.split('.'))
    return major * 1_000_000 + minor * 1_000 + patch
