"""The component that makes new sets of images, run by TFX on Beam."""

import json
import pathlib

import numpy as np
import pytest
import transformed_examples
from tfx.types import artifact_utils, channel_utils, standard_artifacts

from capsmodel.data import dataset
from components.derived_examples.component import DerivedExamples
from study.sets import affine

_TRAIN, _EVAL = transformed_examples.digits()
_CONFIG = {'image_height': 28, 'image_width': 28, 'seed': 1}
_AFFINE = 'study.sets.affine.affine'


@pytest.fixture(scope='module')
def examples(tmp_path_factory):
    """Examples as Transform writes them, one split in two files."""
    artifact = standard_artifacts.Examples()
    artifact.uri, artifact.splits = str(tmp_path_factory.mktemp('examples')), ['train', 'eval']
    for split, data in (('train', _TRAIN), ('eval', _EVAL)):
        folder = pathlib.Path(artifact_utils.get_split_uri([artifact], split))
        folder.mkdir()
        for part in range(2):
            path = folder / f'transformed_examples-0000{part}-of-00002.gz'
            transformed_examples.write(path, data, range(part, len(data.labels), 2))
    return artifact


def _run(examples, folder, splits=('eval',), function=_AFFINE, **settings):
    """Runs the component as TFX does, with Beam's options of a pipeline."""
    derived = standard_artifacts.Examples()
    derived.uri = str(folder)
    node = DerivedExamples(
        examples=channel_utils.as_channel([examples]),
        splits=json.dumps(splits),
        function=function,
        custom_config=json.dumps({**_CONFIG, **settings}),
    ).with_beam_pipeline_args(['--runner=FnApiRunner', '--sdk_container_image=none'])
    executor = node.executor_spec.executor_class(
        node.executor_spec.executor_class.Context(
            beam_pipeline_args=node.executor_spec.beam_pipeline_args, tmp_dir=str(folder)
        )
    )
    outputs = {'derived_examples': [derived]}
    executor.Do({'examples': [examples]}, outputs, dict(node.exec_properties))
    return outputs['derived_examples'][0]


def _read(artifact, split, shape=(40, 40)):
    return dataset.load_examples([artifact_utils.get_split_uri([artifact], split) + '/*'], shape)


def test_each_image_is_changed_by_the_function_with_its_id(examples, tmp_path):
    derived = _run(examples, tmp_path / 'derived')
    assert derived.splits == ['eval']
    images, labels = _read(derived, 'eval')
    np.testing.assert_array_equal(labels, _EVAL.labels)
    for number, image in enumerate(images[:]):
        expected = affine.affine(_EVAL.images[number], 0, f'id {number:04}', {'seed': 1})
        np.testing.assert_array_equal(image, expected)


def test_splits_are_written_apart_and_settings_reach_the_function(examples, tmp_path):
    derived = _run(
        examples,
        tmp_path / 'derived',
        splits=('train', 'eval'),
        function='study.sets.shifted.shifted',
        shift=0,
    )
    assert derived.splits == ['train', 'eval']
    for split, data in (('train', _TRAIN), ('eval', _EVAL)):
        images, labels = _read(derived, split)
        np.testing.assert_array_equal(labels, data.labels)
        np.testing.assert_array_equal(images[:], np.pad(data.images, [(0, 0), (6, 6), (6, 6)]))


def test_a_split_that_is_not_there_is_named(examples, tmp_path):
    message = r'no split test to derive images from: the examples have train, eval\.'
    with pytest.raises(ValueError, match=message):
        _run(examples, tmp_path, splits=('eval', 'test'))


def test_images_of_another_size_are_refused_by_name(examples, tmp_path):
    message = r'The image of id \d+ has 784 bytes, but a grey image of 32x28 pixels has 896'
    with pytest.raises(ValueError, match=message):
        _run(examples, tmp_path, image_height=32)


def test_a_function_that_returns_no_image_is_refused(examples, tmp_path):
    message = r'derivations\.label_of returned no grey image of uint8 for id \d+\.'
    with pytest.raises(ValueError, match=message):
        _run(examples, tmp_path, function='derivations.label_of')
