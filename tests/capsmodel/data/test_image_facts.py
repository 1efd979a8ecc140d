"""Facts about pictures, against other ways to compute them."""

import io

import numpy as np
import pytest
from PIL import Image

from capsmodel.data import image_facts


def _file(pixels, kind='PNG', **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


def test_brightness_and_contrast_are_mean_and_standard_deviation():
    pixels = np.random.default_rng(0).integers(0, 256, [3, 20, 31], np.uint8)
    found = image_facts.facts(pixels)
    assert found['brightness'] == pytest.approx(pixels.mean((1, 2)) / 255, abs=5e-5)
    assert found['contrast'] == pytest.approx(pixels.std((1, 2)) / 255, abs=5e-5)
    assert not found['colourfulness'].any()


def test_grey_in_three_channels_is_as_grey():
    pixels = np.random.default_rng(0).integers(0, 256, [3, 20, 31], np.uint8)
    grey, colour = (
        image_facts.facts(each) for each in (pixels, np.repeat(pixels[..., np.newaxis], 3, -1))
    )
    for name, values in grey.items():
        assert np.array_equal(colour[name], values), name


def test_colours_of_equal_brightness_have_contrast_and_colourfulness():
    pixels = np.zeros([1, 2, 2, 3], np.uint8)
    pixels[0, 0] = 255, 0, 0
    pixels[0, 1] = 0, 255, 0
    found = image_facts.facts(pixels)
    # Red and green are 0 or 1 with variance 1/4, blue has none.
    assert found['contrast'][0] == pytest.approx(np.sqrt(0.5 / 3), abs=5e-5)
    # red - green is 1 or -1, so its deviation is 1; yellow - blue is 1/2 everywhere.
    assert found['colourfulness'][0] == pytest.approx(1 + 0.3 * 0.5, abs=5e-5)


def test_one_colour_everywhere_has_no_contrast():
    pixels = np.full([1, 28, 28, 3], (200, 30, 90), np.uint8)
    assert image_facts.facts(pixels)['contrast'][0] == 0


def test_size_is_that_of_the_file_and_problems_are_told():
    pixels = np.random.default_rng(0).integers(0, 256, [40, 61, 3], np.uint8)
    files = [
        _file(pixels),
        _file(pixels, 'JPEG'),
        _file(pixels, 'JPEG', progressive=True, exif=b'Exif\x00\x00' + b'\xff\xc0' * 30),
        b'no picture',
    ]
    problems, found = image_facts.check(
        files, {'image_height': 28, 'image_width': 28, 'channels': 1}
    )
    assert problems == ['', '', '', 'is neither a PNG nor a JPEG']
    assert found['width'].tolist() == [61, 61, 61, 0]
    assert found['height'].tolist() == [40, 40, 40, 0]
    assert found['brightness'].shape == (4,)
