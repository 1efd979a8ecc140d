"""What is refused before the first node runs, since it does not fit the images."""

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
