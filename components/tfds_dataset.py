"""Facts about a dataset of TFDS: what its images look like, and what is prepared on disk."""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

from components.dataset_error import DatasetError, NotPrepared, first_line


@dataclasses.dataclass(frozen=True)
class ImageDatasetInfo:
    """What the schema, the network and the signatures need to know of a dataset."""

    height: int  # in pixels; 0 where the images differ in it
    width: int  # likewise
    num_classes: int


def load_builder(dataset: str, data_dir: str, version: str | None = None) -> Any:
    """The TFDS builder of `dataset` in `data_dir`, prepared or not; raises DatasetError."""
    import tensorflow_datasets as tfds

    try:
        return tfds.builder(dataset, data_dir=data_dir, version=version)
    except (tfds.core.DatasetNotFoundError, AssertionError, ValueError) as error:
        name = f'{dataset} {version}' if version else dataset
        reason = first_line(error)
        raise DatasetError(f'TFDS cannot give the dataset {name}: {reason}') from error


def image_dataset_info(dataset: str, data_dir: str, version: str | None = None) -> ImageDatasetInfo:
    """The facts of an image-classification dataset, from TFDS's code when it is not prepared.

    Raises DatasetError when there is no such dataset, or none with one image and one class label.
    """
    builder = load_builder(dataset, data_dir, version)
    image_name, label_name = image_and_label(builder)
    height, width, _ = builder.info.features[image_name].shape
    return ImageDatasetInfo(
        height=height or 0,
        width=width or 0,
        num_classes=builder.info.features[label_name].num_classes,
    )


def image_and_label(builder: Any) -> tuple[str, str]:
    """Names of the image feature and of the class label; DatasetError if there is none or a choice.

    Of several candidates the one among the dataset's `supervised_keys` is taken.
    """
    import tensorflow_datasets as tfds

    return (
        _feature_of_type(builder, tfds.features.Image, 'image'),
        _feature_of_type(builder, tfds.features.ClassLabel, 'ClassLabel'),
    )


def _feature_of_type(builder: Any, kind: type, called: str) -> str:
    names = [name for name, each in builder.info.features.items() if isinstance(each, kind)]
    supervised = [name for name in names if name in (builder.info.supervised_keys or ())]
    for candidates in (supervised, names):
        if len(candidates) == 1:
            return candidates[0]
    raise DatasetError(
        f'{builder.name} is not an image-classification dataset: it has '
        f'{"more than one" if names else "no"} {called} feature; '
        f'its features are {", ".join(builder.info.features)}'
    )


def is_prepared(builder: Any) -> bool:
    """Whether the dataset lies on disk."""
    return bool(builder.info.splits)


def check_prepared(builder: Any) -> None:
    """Raises NotPrepared unless the dataset lies on disk."""
    if not is_prepared(builder):
        raise NotPrepared(f'{builder.name} is not prepared in {builder.data_dir}')


def check_slice(builder: Any, pattern: str) -> None:
    """Raises DatasetError unless the TFDS slice `pattern` selects images of the dataset."""
    splits = builder.info.splits
    sizes = ', '.join(f'{name} ({split.num_examples} images)' for name, split in splits.items())
    try:
        count = splits[pattern].num_examples
    except (KeyError, ValueError, AssertionError) as error:
        raise DatasetError(
            f'{pattern!r} is not a slice of {builder.name}, whose splits are {sizes}'
        ) from error
    if count <= 0:
        raise DatasetError(
            f'the slice {pattern!r} of {builder.name} is empty; its splits are {sizes}'
        )


def check_disjoint(builder: Any, slices: Mapping[str, str]) -> None:
    """Raises DatasetError where an image is in two of the slices, named by what they are for."""
    pieces = [
        (part.filename, part.skip, part.skip + part.take, name)
        for name, pattern in slices.items()
        for part in builder.info.splits[pattern].file_instructions
    ]
    for (file, _, end, name), (next_file, start, _, next_name) in itertools.pairwise(
        sorted(pieces)
    ):
        if file == next_file and start < end:
            raise DatasetError(
                f'{name} ({slices[name]!r}) and {next_name} ({slices[next_name]!r}) of '
                f'{builder.name} share images: what was learned from says nothing of a model'
            )


def fingerprint(builder: Any) -> str:
    """sha256 of a prepared dataset: features.json, and names and examples of its record files.

    It does not depend on where the dataset lies nor on when it was written. Examples are taken in
    their canonical form, because TFDS writes the same ones with other bytes each time: protocol
    buffers leave the order of the features within an example open. Raises DatasetError when a
    record file is missing or damaged.
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
            raise NotPrepared(
                f'{path} is missing or damaged ({error.message}): remove {builder.data_dir} and '
                'prepare the dataset again'
            ) from error
    return total.hexdigest()


def version_number(version: str) -> int:
    """TFDS's version x.y.z as the one integer that a TFX artifact holds: x*1e6 + y*1e3 + z."""
    major, minor, patch = (int(part) for part in version.split('.'))
    return major * 1_000_000 + minor * 1_000 + patch
