import functools

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from project_paths import DATA

from capsmodel.data import framing
from capsmodel.data.images import decode_images

MNIST = np.load(DATA / 'mnist_300.npz')['images']
DIGITS = MNIST[::8]
# Where each pixel of a sheet of 200 x 240 pixels lies, from 0 to 1.
DOWN, ACROSS = np.mgrid[:200, :240] / np.array([200, 240]).reshape(2, 1, 1)


@functools.cache
def _function(height, width):
    return tf.function(
        lambda grey: framing.frame(grey, height, width, 'strokes'),
        input_signature=[tf.TensorSpec([None, None], tf.float32)],
        autograph=False,
    )


def frame(picture, height=28, width=28):
    return _function(height, width)(np.asarray(picture, np.float32)).numpy()


def sheet(digit, factor=4, top=60, left=90, size=(200, 240), resample=Image.Resampling.BICUBIC):
    """float [size], 0 to 1: a digit, enlarged by a whole factor, somewhere on a sheet."""
    side = 28 * factor
    ink = np.zeros(size)
    large = Image.fromarray(digit).resize((side, side), resample)
    ink[top : top + side, left : left + side] = np.asarray(large) / 255
    return ink


def difference(image, expected):
    """Mean absolute difference; framing may be off by a pixel, where the centre is near a half."""
    moved = (np.roll(image.astype(int), (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1))
    return min(np.abs(each - expected).mean() for each in moved)


@pytest.fixture(scope='module')
def whole_mnist(mnist_dir):
    """The 70,000 files of MNIST, and their images, uint8 [70000, 28, 28]."""
    decoders = {'image': tfds.decode.SkipDecoding()}
    examples = tfds.load(
        'mnist', split='train+test', data_dir=mnist_dir, batch_size=-1, decoders=decoders
    )
    files = examples['image']
    images = tf.data.Dataset.from_tensor_slices(files).map(
        lambda file: tf.io.decode_png(file, 1)[..., 0], num_parallel_calls=2
    )
    return files, images.batch(len(files)).get_single_element()


@pytest.mark.slow
def test_all_of_mnist_is_framed_already(whole_mnist):
    _, images = whole_mnist
    assert images.shape == (70_000, 28, 28)
    found, is_framed = tf.function(framing.need_no_framing)(images, 'strokes')
    assert np.all(is_framed)
    np.testing.assert_array_equal(found, images)
    # Inverted, they are found as well.
    found, is_framed = tf.function(framing.need_no_framing)(255 - images[::7], 'strokes')
    assert np.all(is_framed)
    np.testing.assert_array_equal(found, images[::7])


@pytest.mark.slow
def test_all_of_mnist_keeps_every_value(whole_mnist):
    files, images = whole_mnist
    found = tf.function(decode_images)(files, 28, 28, 'strokes')
    np.testing.assert_array_equal(found, images)


def test_with_whole_nothing_is_framed():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    found, is_framed = framing.need_no_framing(images, 'whole')
    np.testing.assert_array_equal(found, images)
    assert np.all(is_framed)


@pytest.mark.parametrize('factor', [1, 2, 5])
@pytest.mark.parametrize('is_dark', [False, True])
def test_a_digit_on_a_sheet_comes_back(factor, is_dark):
    random = np.random.default_rng(factor)
    differences, are_in_place = [], []
    for digit in DIGITS:
        size = random.integers(28 * factor + 1, 56 * factor, 2)
        top, left = random.integers(0, size - 28 * factor + 1)
        ink = 255 * sheet(digit, factor, top, left, size, Image.Resampling.NEAREST)
        found = frame(255 - ink if is_dark else ink)
        differences.append(difference(found, digit))
        are_in_place.append(np.abs(found.astype(int) - digit).mean() == differences[-1])
    # The mean of MNIST is 33. Thin strokes get wider, and thick ones thinner.
    assert np.median(differences) < 3
    assert np.quantile(differences, 0.9) < 11
    assert np.mean(are_in_place) > 0.85


def test_an_inverted_image_becomes_the_original():
    for digit in DIGITS:
        np.testing.assert_array_equal(frame(255 - digit), digit)


def test_an_image_of_the_right_size_in_another_place_is_framed():
    thin = [digit for digit in DIGITS if not digit[:3].any() and not digit[:, :3].any()]
    assert len(thin) > 20
    differences = []
    for digit in thin:
        moved = np.roll(digit, (-3, -3), (0, 1))
        _, is_framed = framing.need_no_framing(moved[np.newaxis], 'strokes')
        assert not is_framed[0]
        differences.append(difference(frame(moved), digit))
    assert np.median(differences) < 3


def test_a_small_drawing_of_the_right_size_is_framed():
    differences = []
    for digit in DIGITS:
        small = Image.fromarray(digit).resize((16, 16), Image.Resampling.BOX)
        drawing = np.pad(np.asarray(small), 6)
        _, is_framed = framing.need_no_framing(drawing[np.newaxis], 'strokes')
        assert not is_framed[0]
        found = frame(drawing)
        ys, xs = np.nonzero(found > 100)
        assert 18 <= max(np.ptp(ys), np.ptp(xs)) + 1 <= 21
        differences.append(difference(found, digit))
    # What is lost with the size does not come back.
    assert np.median(differences) < 15


@pytest.mark.parametrize(
    'picture',
    [
        lambda ink: 255 - 255 * ink,
        lambda ink: 150 - 30 * ink,
        lambda ink: 30 + 60 * ink,
        # Light that falls off, and shadows with a hard edge that lie across the digit.
        lambda ink: (250 - 120 * ACROSS - 60 * DOWN) * (1 - 0.7 * ink),
        lambda ink: (250 - 120 * ACROSS**2 - 60 * DOWN * ACROSS) * (1 - 0.7 * ink),
        lambda ink: (220 - 90 * (ACROSS > 0.7)) * (1 - 0.7 * ink),
        lambda ink: (220 - 90 * ((ACROSS > 0.6) & (DOWN > 0.6))) * (1 - 0.7 * ink),
        lambda ink: 220 - 180 * ink + np.random.default_rng(0).normal(0, 12, ink.shape),
    ],
)
def test_paper_and_light_make_little_difference(picture):
    differences = []
    for digit in DIGITS:
        ink = sheet(digit)
        differences.append(difference(frame(picture(ink)), frame(255 * ink)))
    assert np.median(differences) < 9
    assert np.quantile(differences, 0.9) < 16


def test_specks_are_left_out():
    for digit in DIGITS:
        ink = sheet(digit)
        expected = frame(255 * ink)
        for top, left in ((5, 5), (190, 10), (20, 225), (180, 200)):
            ink[top : top + 4, left : left + 4] = 1
        assert np.abs(frame(255 - 235 * ink).astype(int) - expected).max() <= 2


def test_all_pieces_of_a_digit_are_kept():
    # A bar for its top, and a bow that does not touch it.
    ink = np.zeros((200, 240))
    ink[40:50, 80:150] = 1
    ink[58:140, 80:90] = 1
    ink[130:140, 80:150] = 1
    image = frame(255 - 255 * ink)
    rows = np.flatnonzero((image > 127).any(1))
    assert np.ptp(rows) + 1 == 20
    # The gap of 8 of 100 pixels is between the bar and the bow.
    assert (image[rows[0] + 2 : rows[0] + 5].max(1) < 250).any()
    assert image[rows[0]].max() > 200


@pytest.mark.parametrize('level', [0, 1, 90, 127, 128, 255])
def test_a_blank_picture_has_no_strokes(level):
    for size in ((1, 1), (1, 9), (9, 1), (2, 3), (28, 28), (100, 60), (4096, 1), (1, 4096)):
        assert not frame(np.full(size, level)).any(), size


def test_light_alone_has_no_strokes():
    for fall in (30, 80, 150):
        assert not frame(230 - fall * ACROSS - 0.3 * fall * DOWN**2).any()


def test_noise_nearly_never_has_strokes():
    random = np.random.default_rng(0)
    pictures = [random.normal(128, 10, random.integers(20, 200, 2)) for _ in range(40)]
    pictures += [random.uniform(0, 255, random.integers(20, 200, 2)) for _ in range(40)]
    assert np.mean([frame(picture).any() for picture in pictures]) < 0.2


@pytest.mark.parametrize('size', [(1, 1), (1, 9), (9, 1), (2, 2), (1, 4096), (4096, 1), (3, 256)])
def test_pictures_of_any_size_are_framed(size):
    random = np.random.default_rng(0)
    image = frame(random.integers(0, 256, size))
    assert image.shape == (28, 28)
    assert image.dtype == np.uint8
    # A single pixel of ink, at each end.
    for place in (0, -1):
        picture = np.full(size, 255.0)
        picture.flat[place] = 0
        assert frame(picture).shape == (28, 28)


@pytest.mark.parametrize(('height', 'width'), [(20, 24), (24, 20), (32, 32)])
def test_networks_of_other_sizes(height, width):
    box = round(min(height, width) * 20 / 28)
    for digit in DIGITS[::3]:
        image = frame(255 - 255 * sheet(digit), height, width)
        assert image.shape == (height, width)
        # The ends of thick strokes that are thinned may be faint.
        ys, xs = np.nonzero(image > 30)
        assert abs(max(np.ptp(ys), np.ptp(xs)) + 1 - box) <= 2
        mass = image / image.sum()
        middle = (np.arange(height) + 0.5) @ mass.sum(1), (np.arange(width) + 0.5) @ mass.sum(0)
        # The centre of mass is the middle or up to a pixel beyond it, and strokes are blurred.
        assert abs(middle[0] - height / 2 - 0.5) < 1
        assert abs(middle[1] - width / 2 - 0.5) < 1


def test_pens_become_alike():
    def ring(width):
        radius = np.hypot(DOWN * 200 - 100, ACROSS * 240 - 120)
        return 255.0 * (np.abs(radius - 60) < width / 2)

    def pen(image):
        return image.sum() / 255 / (np.pi * 17)

    # Without a pen of MNIST's, they would be 0.7 and 5 pixels wide.
    assert 1.3 < pen(frame(ring(4))) < pen(frame(ring(30))) < 4.2
