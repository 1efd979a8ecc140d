"""Which slices a run takes of datasets of several sizes, and when it refuses."""

import json

import pytest
import tfds_data

from components.datasets.errors import DatasetError
from pipeline import configs, pipeline, slices


@pytest.fixture(scope='module')
def var(tmp_path_factory):
    """With a small `fashion_mnist` prepared."""
    var = tmp_path_factory.mktemp('var')
    splits = {
        'train': tfds_data.synthetic_images(240, seed=1),
        'test': tfds_data.synthetic_images(60, seed=2),
    }
    tfds_data.write_dataset(var / 'data', splits, 'fashion_mnist')
    return var


def settings(var, **environment):
    fashion = {'DATASET': 'fashion_mnist', 'MIN_TEST_IMAGES': '60', 'VAR': str(var)}
    return configs.from_environment({**fashion, **environment})


def splits(config):
    return config.train_split, config.eval_split, config.test_split


@pytest.mark.parametrize('preset', ['quick', 'tiny'])
def test_default_slices_follow_the_prepared_dataset(var, preset):
    config = settings(var, PRESET=preset)
    assert splits(config) == ('', '', '')
    chosen = ('train[:220]', 'train[220:]', 'test')
    assert splits(slices.choose(config)) == chosen
    assert slices.chosen(config) == (
        'Slices chosen of fashion_mnist: TRAIN_SPLIT=train[:220] (220 images), '
        'EVAL_SPLIT=train[220:] (20 images), TEST_SPLIT=test (60 images)'
    )
    example_gen = pipeline.create_pipeline(config).components[1]
    assert all(
        f'"pattern": "{each}"' in example_gen.exec_properties['input_config'] for each in chosen
    )


def test_slices_that_are_set_stay(var):
    config = settings(var, TRAIN_SPLIT='train[:90]', DATASET='FashionMNIST:3.0.1')
    assert splits(slices.choose(config)) == ('train[:90]', 'train[220:]', 'test')
    assert 'TRAIN_SPLIT' not in slices.chosen(config)
    config = settings(var, TRAIN_SPLIT='train[:9]', EVAL_SPLIT='train[9:]', TEST_SPLIT='test')
    assert slices.choose(config) == config
    assert slices.chosen(config) == ''


def test_mnist_and_what_is_not_prepared_have_the_slices_of_mnist(mnist_dir, tmp_path):
    mnists = ('train[:55000]', 'train[55000:]', 'test')
    (tmp_path / 'data').symlink_to(mnist_dir)
    for dataset in ('mnist', 'mnist:3.0.1', 'fashion_mnist'):
        config = settings(tmp_path, DATASET=dataset)
        assert splits(slices.choose(config)) == mnists
        assert slices.chosen(config) == ''


def test_pipeline_is_refused_before_the_first_node_with_all_that_is_wrong(var):
    wrong = {'TRAIN_SPLIT': 'train[:55000]', 'EVAL_SPLIT': 'valid', 'MIN_TEST_IMAGES': '1000'}
    with pytest.raises(DatasetError) as refused:
        pipeline.create_pipeline(settings(var, **wrong))
    for part in (
        "TRAIN_SPLIT ('train[:55000]') is not a slice",
        "EVAL_SPLIT ('valid') is not a slice",
        "TEST_SPLIT ('test') has 60 images, and MIN_TEST_IMAGES asks for at least 1,000",
    ):
        assert part in str(refused.value)


@pytest.mark.parametrize(('pick', 'judging'), [('best', ['eval', 'test']), ('last', ['test'])])
def test_what_a_network_is_chosen_or_judged_by_it_has_not_learned_from(var, pick, judging):
    nodes = {
        node.id: node for node in pipeline.create_pipeline(settings(var, PICK=pick)).components
    }
    assert json.loads(nodes['AnomalyGate'].exec_properties['judging_splits']) == judging
    for split, purpose in (('eval', 'EVAL_SPLIT'), ('test', 'TEST_SPLIT')):
        overlapping = settings(var, PICK=pick, **{purpose: 'train[:60]'})
        if split in judging:
            with pytest.raises(DatasetError, match=f'TRAIN_SPLIT .* and {purpose} .* share'):
                pipeline.create_pipeline(overlapping)
        else:
            pipeline.create_pipeline(overlapping)
