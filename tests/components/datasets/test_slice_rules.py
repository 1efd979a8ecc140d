"""Slices of a dataset: which are taken, and which are refused."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tfds_data import own_builder

from components.datasets.errors import DatasetError
from components.datasets.slice_rules import check_slices, default_slices

MNIST = {'train': 60_000, 'test': 10_000}


@pytest.fixture(scope='module')
def builder(tmp_path_factory):
    """Of a dataset of 40 images to train on, in two files, and 20 to test."""
    features = {'image': tfds.features.Image(shape=(1, 1, 1))}
    black = {'image': np.zeros((1, 1, 1), np.uint8)}
    builder = own_builder(
        tmp_path_factory.mktemp('data'), features, {'train': [black] * 40, 'test': [black] * 20}
    )
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(num_shards=2),
    )
    return builder


@pytest.mark.parametrize(
    ('sizes', 'train', 'evaluation', 'test'),
    [
        (MNIST, 'train[:55000]', 'train[55000:]', 'test'),
        ({'train': 1020, 'validation': 1020, 'test': 6149}, 'train', 'validation', 'test'),
        ({'train': 9469, 'validation': 3925}, 'train[:8679]', 'train[8679:]', 'validation'),
        ({'train': 27_000}, 'train[:20250]', 'train[20250:22500]', 'train[22500:]'),
        ({'train': 500, 'unlabelled': 9, 'test': 80}, 'train[:458]', 'train[458:]', 'test'),
        ({'train': 120, 'test': 0}, 'train[:90]', 'train[90:100]', 'train[100:]'),
    ],
)
def test_default_slices_follow_the_sizes(sizes, train, evaluation, test):
    assert default_slices(sizes) == {'train': train, 'eval': evaluation, 'test': test}


@pytest.mark.parametrize(
    ('sizes', 'train', 'evaluation', 'test'),
    [
        (MNIST, 'train[:2000]', 'train[2000:2500]', 'test[:1000]'),
        ({'train': 2500, 'test': 900}, 'train[:2000]', 'train[2000:]', 'test'),
        ({'train': 240, 'test': 900}, 'train[:220]', 'train[220:]', 'test'),
        ({'train': 9, 'validation': 900, 'test': 9}, 'train', 'validation[:500]', 'test'),
        ({'train': 27_000}, 'train[:2000]', 'train[2000:2500]', 'train[22500:23500]'),
    ],
)
def test_default_slices_have_no_more_images_than_asked_for(sizes, train, evaluation, test):
    most = {'train': 2000, 'eval': 500, 'test': 1000}
    assert default_slices(sizes, most) == {'train': train, 'eval': evaluation, 'test': test}


def test_without_a_split_to_train_on_there_are_no_default_slices():
    assert default_slices({'test': 10_000}) == {}


def test_default_slices_of_a_single_split_follow_each_other_to_its_end():
    for size in range(4, 1000):
        slices = default_slices({'train': size})
        ends = [int(end) for text in slices.values() for end in text[6:-1].split(':') if end]
        assert ends == sorted(ends)
        assert 0 < ends[0] == ends[1] < ends[2] == ends[3] < size


@pytest.mark.parametrize(
    'slices',
    [
        {'train': 'train', 'test': 'test'},
        {'train': 'train[:30]', 'eval': 'train[30:]'},
        {'train': 'train[:25%] + train[75%:]', 'eval': 'train[10:20]'},
        {'train': 'train[-10:]', 'eval': 'train[:-10]'},
    ],
)
def test_slices_that_share_nothing_can_be_used(builder, slices):
    check_slices(builder, slices)


@pytest.mark.parametrize(
    ('pattern', 'problem'),
    [
        ('validation', r"is not a slice of own \(Unknown split 'validation'"),
        ('train[:41]', r'is not a slice of own \(Requested slice \[:41\] .*40 examples\)'),
        ('train[-41:]', r'is not a slice of own'),
        ('train[', r'is not a slice of own \(Unrecognized split format'),
        ('train[:150%]', r'is not a slice of own \(.*in \[-100, 100\]'),
        ('train[:1.5]', r'is not a slice of own \(invalid literal'),
        ('train+', r'is not a slice of own'),
        ('all[:5]', r"is not a slice of own \('all' can only be taken as a whole\)"),
        ('train[40:]', 'is empty'),
        ('train[20:10]', 'is empty'),
        ('train[:20]+train[39:25]', 'is empty'),
        ('train[:0%]', 'is empty'),
        ('train+train[:1]', 'has images more than once'),
        ('all+test', 'has images more than once'),
        ('', "is not set, and there is no split 'train'"),
    ],
)
def test_impossible_slice_is_named_with_its_setting(builder, pattern, problem):
    with pytest.raises(
        DatasetError, match=rf'^own cannot be sliced .* EVAL_SPLIT .*{problem}'
    ) as no:
        check_slices(builder, {'eval': pattern})
    assert str(no.value).endswith('Its splits are train (40 images), test (20 images).')
    assert not pattern or repr(pattern) in str(no.value)


@pytest.mark.parametrize(
    'slices',
    [
        {'train': 'train[:31]', 'eval': 'train[30:]'},
        {'train': 'train[10:]', 'eval': 'test+train[:11]'},
        {'train': 'train', 'eval': 'train[25:26]'},
        {'train': 'all', 'eval': 'test[:1]'},
    ],
)
def test_slices_that_share_images_are_refused(builder, slices):
    with pytest.raises(DatasetError, match=r'TRAIN_SPLIT .* and EVAL_SPLIT .* share images'):
        check_slices(builder, slices)


def test_two_purposes_may_be_allowed_to_share_images_and_no_others(builder):
    slices = {'train': 'train', 'eval': 'train[30:]'}
    check_slices(builder, slices, may_share=('train', 'eval'))
    with pytest.raises(DatasetError, match=r'TRAIN_SPLIT .* and TEST_SPLIT .* share images'):
        check_slices(builder, {**slices, 'test': 'train[:1]'}, may_share=('train', 'eval'))
    with pytest.raises(DatasetError, match='has images more than once'):
        check_slices(builder, {'train': 'train+train[:1]'}, may_share=('train', 'eval'))


def test_all_that_is_wrong_is_said_at_once(builder):
    slices = {'train': 'train', 'eval': 'train[38:]', 'test': 'test[:5]+test[:3]'}
    with pytest.raises(DatasetError) as refused:
        check_slices(builder, {**slices, 'more': 'nothing'}, min_test_images=1000)
    assert str(refused.value) == (
        "own cannot be sliced like this: MORE_SPLIT ('nothing') is not a slice of own (Unknown "
        "split 'nothing'. Should be one of ['train', 'test']); TRAIN_SPLIT ('train') and "
        "EVAL_SPLIT ('train[38:]') share images: what was learned from says nothing of a model; "
        "TEST_SPLIT ('test[:5]+test[:3]') has images more than once; TEST_SPLIT "
        "('test[:5]+test[:3]') has 8 images, and MIN_TEST_IMAGES asks for at least 1,000: choose a "
        'larger slice or a lower bound. Its splits are train (40 images), test (20 images).'
    )


def test_as_many_test_images_as_asked_for_are_enough(builder):
    check_slices(builder, {'train': 'train', 'test': 'test'}, min_test_images=20)
    with pytest.raises(DatasetError, match=r"TEST_SPLIT \('test'\) has 20 images"):
        check_slices(builder, {'train': 'train', 'test': 'test'}, min_test_images=21)
