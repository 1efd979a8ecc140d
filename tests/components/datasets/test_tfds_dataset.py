"""Which datasets can be used, how they are named, and what is known of them."""

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tfds_data import own_builder

from capsmodel.data import images
from components.datasets.errors import DatasetError
from components.datasets.info import ImageDatasetInfo
from components.datasets.tfds_dataset import (
    image_and_label,
    image_dataset_info,
    load_builder,
    name_and_version,
)

Image, LabeledImage, ClassLabel = (
    tfds.features.Image,
    tfds.features.LabeledImage,
    tfds.features.ClassLabel,
)


@pytest.mark.parametrize(
    ('spelled', 'taken_apart'),
    [
        (('mnist',), ('mnist', None)),
        (('mnist', ''), ('mnist', None)),
        (('mnist', '3.0.1'), ('mnist', '3.0.1')),
        (('mnist:3.0.1',), ('mnist', '3.0.1')),
        (('mnist:3.0.1', '3.0.1'), ('mnist', '3.0.1')),
        (('MNIST:3.*.*',), ('mnist', '3.*.*')),
        (('FashionMNIST',), ('fashion_mnist', None)),
        (('emnist/letters:3.1.0',), ('emnist/letters', '3.1.0')),
    ],
)
def test_name_is_taken_apart(spelled, taken_apart):
    assert name_and_version(*spelled) == taken_apart


@pytest.mark.parametrize(
    'spelled',
    [
        *('mnist:x', 'mnist:', ' mnist', 'mnist\n', 'a b', '', ':3.0.1', '/letters', '../mnist'),
        *('mnist:3', 'mnist:3.0', 'mnist:03.0.1', 'mnist:3.0.1.0', 'mnist:-3.0.1', '4mnist'),
        *('mnist:3.0.1:3.0.1', 'mnist:3.0.1/letters', 'emnist/', 'emnist/letters/x=1'),
        *('huggingface:mnist', 'mníst'),
    ],
)
def test_another_spelling_is_refused(spelled):
    with pytest.raises(DatasetError, match='must be the name of a dataset of TFDS') as refused:
        name_and_version(spelled)
    assert str(refused.value).startswith(f'DATASET is {spelled!r}: ')


def test_two_versions_contradict_each_other():
    with pytest.raises(DatasetError) as refused:
        name_and_version('mnist:3.0.1', '3.0.0')
    assert str(refused.value) == (
        "DATASET is 'mnist:3.0.1', but DATASET_VERSION is '3.0.0': give one version, by either "
        'setting'
    )


@pytest.mark.parametrize(
    ('name', 'facts'),
    [
        ('mnist', (28, 28, 1, 10, '0')),
        ('fashion_mnist:3.0.1', (28, 28, 1, 10, 'T-shirt/top')),
        ('cifar100', (32, 32, 3, 100, '0')),  # its names come with its files
        ('oxford_flowers102', (0, 0, 3, 102, 'pink primrose')),
    ],
)
def test_facts_of_a_dataset_that_is_not_prepared(tmp_path, name, facts):
    info = image_dataset_info(name, str(tmp_path))
    assert facts == (
        *(info.height, info.width, info.channels),
        *(info.num_classes, info.class_names[0]),
    )


@pytest.mark.parametrize(('stored', 'channels'), [(1, 1), (2, 1), (3, 3), (4, 3), (None, 3)])
def test_transparency_is_no_channel_of_the_images(tmp_path, stored, channels):
    features = {'image': Image(shape=(8, 8, stored)), 'label': ClassLabel(names=['cat', 'dog'])}
    example = {'image': np.ones((8, 8, stored or 3), np.uint8), 'label': 1}
    own_builder(tmp_path, features, {'train': [example]}).download_and_prepare()
    info = image_dataset_info('own:1.0.0', str(tmp_path))
    assert info == ImageDatasetInfo(8, 8, channels, ('cat', 'dog'))


@pytest.mark.parametrize(
    ('name', 'message'),
    [
        ('coco', r'has no ClassLabel feature; its features are .*objects \(Sequence\)'),
        ('imdb_reviews', r'has no image feature; .*text \(Text\)'),
        ('no_such_dataset', 'no_such_dataset'),
        ('mnist/no_such_config', 'no_such_config'),
    ],
)
def test_dataset_that_does_not_fit_is_named(tmp_path, name, message):
    with pytest.raises(DatasetError, match=message):
        image_dataset_info(name, str(tmp_path))


def test_the_label_among_several_is_the_supervised_one(tmp_path):
    assert image_and_label(load_builder('cifar100', str(tmp_path))) == ('image', 'label')


def test_unknown_version_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r'mnist 9\.9\.9'):
        image_dataset_info('mnist', str(tmp_path), '9.9.9')


def test_code_of_a_dataset_that_raises_anything_ends_in_a_sentence(tmp_path, monkeypatch):
    def missing(*args, **kwargs):
        raise ModuleNotFoundError("No module named 'rarely_installed'")

    monkeypatch.setattr(tfds.image_classification.cifar.Cifar10, '_info', missing)
    with pytest.raises(DatasetError, match=r"cifar10: .*No module named 'rarely_installed'"):
        load_builder('cifar10', str(tmp_path))


LABEL = {'label': ClassLabel(num_classes=3)}
NESTED = tfds.features.FeaturesDict({'image': Image()})


@pytest.mark.parametrize(
    ('features', 'message'),
    [
        (
            {'picture': Image(shape=(8, 8, 1), dtype=np.float32), **LABEL},
            r"the images of own \(feature 'picture'\) are float32: only uint8 and uint16",
        ),
        ({'image': Image(shape=(None, 8, 8, 3)), **LABEL}, r'have the shape \(None, 8, 8, 3\)'),
        ({'pair': NESTED, **LABEL}, r'no image feature; .* pair \(FeaturesDict\)'),
        ({'all': tfds.features.Sequence(Image()), **LABEL}, r'no image feature; .*\(Sequence\)'),
        ({'film': tfds.features.Video(shape=(None, 8, 8, 3)), **LABEL}, 'no image feature'),
        ({'image': tfds.features.Tensor(shape=(8, 8, 1), dtype=np.bool_), **LABEL}, 'no image'),
        ({'mask': LabeledImage(labels=3), **LABEL}, r'no image .* mask \(LabeledImage\)'),
        ({'left': Image(), 'right': Image(), **LABEL}, 'more than one image feature'),
        ({'image': Image()}, 'no ClassLabel feature'),
        ({'image': Image(), 'label': tfds.features.Scalar(np.int64)}, r'label \(Scalar\)'),
        ({'image': Image(), 'label': tfds.features.Text()}, 'no ClassLabel feature'),
        ({'image': Image(), 'labels': tfds.features.Sequence(LABEL['label'])}, 'no ClassLabel'),
        (
            {'image': Image(), 'label': ClassLabel(num_classes=1)},
            r"feature 'label'\) is 1: it must",
        ),
        ({'image': Image(), 'label': ClassLabel()}, 'is unknown: it must be at least 2'),
    ],
)
def test_features_that_cannot_be_used_are_named(tmp_path, features, message):
    with pytest.raises(DatasetError, match=message):
        image_and_label(own_builder(tmp_path, features, {}))


def test_a_mask_is_not_the_image(tmp_path):
    features = {'mask': LabeledImage(labels=3), 'photo': Image(), **LABEL}
    assert image_and_label(own_builder(tmp_path, features, {})) == ('photo', 'label')
    features = {'a': Image(), 'b': Image(), **LABEL}
    builder = own_builder(tmp_path, features, {}, supervised_keys=('b', 'label'))
    assert image_and_label(builder) == ('b', 'label')


@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
@pytest.mark.parametrize('channels', [1, 2, 3, 4])
def test_images_of_each_dtype_and_number_of_channels_become_grey(tmp_path, dtype, channels):
    """Of 16 bits the upper 8; of colours the luma; transparency shows black below light."""
    full = np.iinfo(dtype).max
    image = np.random.default_rng(1).integers(full // 2, full, (8, 8, channels), dtype)
    features = {'image': Image(shape=image.shape, dtype=dtype), **LABEL}
    builder = own_builder(tmp_path, features, {})
    assert image_and_label(builder) == ('image', 'label')
    stored = features['image'].encode_example(image)
    bits = image.astype(np.float64) / (full + 1) * 256
    colours = bits[..., : channels - (channels % 2 == 0)]
    grey = colours[..., 0] if colours.shape[-1] == 1 else colours @ [0.299, 0.587, 0.114]
    if channels % 2 == 0:
        grey *= image[..., -1] / full
    found = images.decode_images(tf.constant([stored]), 8, 8, 'whole')
    np.testing.assert_allclose(found[0], grey, atol=1.6)


def test_prepared_dataset_of_its_own_is_read_with_its_facts(tmp_path):
    features = {'image': Image(shape=(8, 6, 1), dtype=np.float32), **LABEL}
    example = {'image': np.ones((8, 6, 1), np.float32), 'label': 1}
    own_builder(tmp_path, features, {'train': [example]}).download_and_prepare()
    with pytest.raises(DatasetError, match='are float32'):
        image_dataset_info('own:1.0.0', str(tmp_path))
