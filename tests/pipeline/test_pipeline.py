"""What is refused before the first node runs, and what TFX takes."""

import re

import pytest
import tfds_data

from pipeline import configs, pipeline


def test_a_shift_that_moves_images_out_of_sight_is_refused(tmp_path):
    images = tfds_data.synthetic_images(30, seed=1)
    tfds_data.write_dataset(tmp_path / 'data', {'train': images, 'test': images}, 'fashion_mnist')
    wanted = {'DATASET': 'fashion_mnist', 'MIN_TEST_IMAGES': '30', 'VAR': str(tmp_path)}
    pipeline.create_pipeline(configs.from_environment({**wanted, 'AUGMENTATION': 'shift:27'}))
    with pytest.raises(configs.SettingError) as caught:
        pipeline.create_pipeline(configs.from_environment({**wanted, 'AUGMENTATION': 'shift:28'}))
    assert str(caught.value) == (
        "AUGMENTATION is 'shift:28': its shift must be less than the 28 x 28 pixels of an image"
    )


def test_tfx_takes_the_longest_name_that_a_pipeline_may_have(tmp_path):
    images = tfds_data.synthetic_images(30, seed=1)
    tfds_data.write_dataset(tmp_path / 'data', {'train': images, 'test': images}, 'fashion_mnist')
    wanted = {'DATASET': 'fashion_mnist', 'MIN_TEST_IMAGES': '30', 'VAR': str(tmp_path)}
    with pytest.raises(configs.SettingError) as refused:
        configs.from_environment({**wanted, 'PIPELINE_NAME': 'n' * 300})
    longest = int(re.search(r'it may have (\d+)$', str(refused.value))[1])
    config = configs.from_environment({**wanted, 'PIPELINE_NAME': 'n' * longest})
    assert pipeline.create_pipeline(config).pipeline_name == 'n' * longest
