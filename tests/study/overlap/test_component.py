"""The component that writes pairs of digits, in a pipeline of TFX with Beam."""

import numpy as np
import pytest
import transformed_examples
from tfx import v1 as tfx

from capsmodel.data.dataset import LabeledImages
from pipeline.beam_options import beam_options
from study.overlap import component, pair_files
from study.overlap.pairs import PADDING


def _run(folder, labeled, *, order=None, files=1, **settings):
    """Pairs of images that are written to some files, in some order."""
    source, split = folder / 'examples', folder / 'examples' / 'Split-test'
    split.mkdir(parents=True)
    order = np.arange(len(labeled.labels)) if order is None else order
    for number, part in enumerate(np.array_split(order, files)):
        name = f'data_tfrecord-{number:05}-of-{files:05}.gz'
        transformed_examples.write(split / name, labeled, part)
    importer = tfx.dsl.Importer(
        source_uri=str(source),
        artifact_type=tfx.types.standard_artifacts.Examples,
        properties={'split_names': '["test"]'},
    )
    pairs = component.OverlappingPairs(
        examples=importer.outputs['result'], split='test', **{'shift': 4, **settings}
    )
    pipeline = tfx.dsl.Pipeline(
        'pairs',
        str(folder / 'root'),
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(folder / 'metadata.db')
        ),
        components=[importer, pairs],
        beam_pipeline_args=beam_options('--runner=FnApiRunner'),
    )
    tfx.orchestration.LocalDagRunner().run(pipeline)
    return pair_files.load(str(folder / 'root/OverlappingPairs/derived/*/Split-test/*'))


def _moved(digit, offset):
    """A digit where it lies in a larger image when it is moved by an offset."""
    sheet = np.zeros([size + 4 * PADDING for size in digit.shape], np.uint8)
    top, left = 2 * PADDING + np.array(offset)
    sheet[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    return sheet[PADDING:-PADDING, PADDING:-PADDING]


@pytest.fixture(scope='module')
def digits():
    return transformed_examples.digits()[1]


@pytest.fixture(scope='module')
def pairs(digits, tmp_path_factory):
    return _run(tmp_path_factory.mktemp('pairs'), digits)


def test_each_image_is_the_first_digit_of_a_pair_with_another_class(pairs, digits):
    np.testing.assert_array_equal(pairs.labels[:, 0], digits.labels)
    assert (pairs.labels[:, 0] != pairs.labels[:, 1]).all()
    assert pairs.images.shape == (100, 36, 36)
    light = pairs.singles.astype(int).sum(axis=1)
    np.testing.assert_array_equal(pairs.images, np.minimum(light, 255))


def test_digits_are_moved_as_far_as_asked_and_no_further(pairs, digits):
    found = set()
    steps = range(-4, 5)
    for digit, (single, _) in zip(digits.images, pairs.singles, strict=True):
        places = [
            (down, right)
            for down in steps
            for right in steps
            if np.array_equal(single, _moved(digit, (down, right)))
        ]
        assert len(places) == 1
        found.update(places)
    assert {down for down, _ in found} == {right for _, right in found} == set(steps)


def test_the_second_digit_is_an_image_of_the_split(pairs, digits):
    light = {
        label: {int(image.sum()) for image in digits.images[digits.labels == label]}
        for label in range(10)
    }
    for (_, single), (_, label) in zip(pairs.singles, pairs.labels, strict=True):
        assert int(single.sum()) in light[label]
    assert len({single[1].sum() for single in pairs.singles}) > 60


def test_pairs_depend_on_ids_and_seed_and_not_on_files(pairs, digits, tmp_path):
    order = np.random.default_rng(0).permutation(100)
    again = _run(tmp_path / 'again', digits, order=order, files=3)
    for values, expected in zip(again, pairs, strict=True):
        np.testing.assert_array_equal(values, expected)


def test_large_splits_are_paired_in_groups_and_another_seed_makes_other_pairs(
    pairs, digits, tmp_path, monkeypatch
):
    monkeypatch.setattr(component, '_GROUP', 25)
    grouped = _run(tmp_path, digits, shift=6, seed=2)
    np.testing.assert_array_equal(grouped.labels[:, 0], digits.labels)
    assert (grouped.labels[:, 0] != grouped.labels[:, 1]).all()
    assert (grouped.labels[:, 1] != pairs.labels[:, 1]).any()


@pytest.mark.parametrize(
    ('change', 'settings', 'error'),
    [
        (lambda digits: digits, {'shift': 9}, 'A digit can be shifted by 0 to 8 pixels, not by 9'),
        (
            lambda digits: LabeledImages(digits.images, np.full(100, 3)),
            {},
            'A pair needs images of two classes, and 100 of the split are of class 3 alone',
        ),
        (
            lambda digits: LabeledImages(digits.images[:, 1:], digits.labels),
            {},
            'id 00.. has 756 bytes, which are no square of grey pixels',
        ),
    ],
)
def test_what_cannot_be_paired_is_said(digits, tmp_path, change, settings, error):
    with pytest.raises(Exception, match=error):
        _run(tmp_path, change(digits), **settings)
