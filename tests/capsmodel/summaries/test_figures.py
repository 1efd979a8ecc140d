"""Figures: what is shown stands where it should, in the colors that say what it is."""

import numpy as np
import pytest

from capsmodel.summaries import figures

NUMBERS = [str(number) for number in range(1000)]
RED, BLUE = (217, 48, 37), (26, 115, 232)
_RNG = np.random.default_rng(0)


def _count(figure, color):
    return int(np.sum(np.all(figure == color, axis=-1)))


def _find(figure, tile):
    """Places (row, column) at which a gray tile stands in a figure."""
    plane = figure[..., 0]
    windows = np.lib.stride_tricks.sliding_window_view(plane, tile.shape)
    # The corner alone first: comparing every window whole takes long.
    candidates = np.argwhere(windows[..., 0, 0] == tile[0, 0])
    return [tuple(place) for place in candidates if np.array_equal(windows[tuple(place)], tile)]


@pytest.mark.parametrize('size', [(28, 28), (40, 30), (84, 84), (100, 75)])
def test_reconstructions_stand_below_their_inputs(size):
    images = _RNG.integers(1, 255, (10, *size), dtype=np.uint8)
    drawings = _RNG.integers(1, 255, (10, *size), dtype=np.uint8)
    labels = np.arange(10)
    predictions = labels.copy()
    figure = figures.reconstructions(images, drawings / 255, labels, predictions, NUMBERS)
    scale = max(1, round(84 / max(size)))
    places = []
    for above, below in zip(images, drawings, strict=True):
        (place,) = _find(figure, above.repeat(scale, 0).repeat(scale, 1))
        (place_below,) = _find(figure, below.repeat(scale, 0).repeat(scale, 1))
        assert place_below == (place[0] + scale * size[0] + 2, place[1])
        places.append(place)
    assert places == sorted(places)
    assert len({row for row, _ in places}) == 2
    assert not _count(figure, RED)
    predictions[3] = 7
    assert _count(figures.reconstructions(images, drawings, labels, predictions, NUMBERS), RED)


def test_each_number_of_a_capsule_has_its_row_and_each_offset_its_column():
    drawings = _RNG.integers(1, 255, (3, 4, 5, 9, 8)).astype(np.float64) / 255
    figure = figures.capsule_dimensions(drawings, NUMBERS[:3], (-0.2, -0.1, 0, 0.1, 0.2))
    assert figure.dtype == np.uint8
    assert figure.shape[2] == 1
    places = np.array(
        [
            _find(figure, np.round(255 * drawing).astype(np.uint8))
            for drawing in drawings.reshape(-1, 9, 8)
        ]
    ).reshape(3, 4, 5, 2)
    np.testing.assert_array_equal(np.diff(places, axis=1)[..., 0], 10)
    np.testing.assert_array_equal(np.diff(places, axis=2)[..., 1], 9)
    # The panels stand side by side.
    np.testing.assert_array_equal(np.diff(places[..., 0], axis=0), 0)
    assert np.all(np.diff(places[..., 1], axis=0) > 5 * 9)


def test_pictures_of_colour_images_are_in_colour():
    colours = _RNG.integers(1, 255, (2, 3, 2, 9, 8, 3), dtype=np.uint8)
    drawings = colours / 255
    images, drawn = colours[0, 0], drawings[1, 0]
    labels = np.array([0, 1])
    lengths = np.eye(2, dtype=np.float32)
    shown = {
        'reconstructions': figures.reconstructions(images, drawn, labels, labels, NUMBERS),
        'mistakes': figures.mistakes(images, drawn, labels, lengths, NUMBERS),
    }
    for name, figure in shown.items():
        for tile in (images[1], colours[1, 0, 1]):
            large = tile.repeat(9, 0).repeat(9, 1)
            (place,) = _find(figure, large[..., 0])
            found = figure[place[0] :, place[1] :][: large.shape[0], : large.shape[1]]
            np.testing.assert_array_equal(found, large, err_msg=name)
    figure = figures.capsule_dimensions(drawings, NUMBERS[:2], (0.0, 0.1))
    for tile in colours.reshape(-1, 9, 8, 3):
        (place,) = _find(figure, tile[..., 0])
        np.testing.assert_array_equal(figure[place[0] :, place[1] :][:9, :8], tile)


def test_large_drawings_are_shown_in_a_picture_of_bounded_size():
    drawings = np.linspace(0.01, 0.99, 100 * 90).reshape(1, 1, 1, 100, 90)
    figure = figures.capsule_dimensions(drawings, NUMBERS[:1], (0.0,))
    shown = np.round(255 * drawings[0, 0, 0, ::3, ::3]).astype(np.uint8)
    assert len(_find(figure, shown)) == 1


def test_confusion_matrix_has_right_in_blue_and_wrong_in_red():
    counts = np.diag([10, 10, 10])
    figure = figures.confusion_matrix(counts, NUMBERS[: len(counts)])
    cell = (56 - 1) ** 2
    assert 0.9 * 3 * cell < _count(figure, BLUE) <= 3 * cell
    assert not _count(figure, RED)
    counts[2, 0] = 2
    counts[2, 2] = 8
    figure = figures.confusion_matrix(counts, NUMBERS[: len(counts)])
    assert 0.9 * 2 * cell < _count(figure, BLUE) <= 2 * cell
    assert 0.9 * cell < _count(figure, RED) <= cell
    # Rows are the true classes: the mistake is in the last row and the first column.
    rows, columns = np.nonzero(np.all(figure == RED, axis=-1))
    blue_rows, blue_columns = np.nonzero(np.all(figure == BLUE, axis=-1))
    assert rows.min() > blue_rows.max()
    assert columns.max() < blue_columns.max()


@pytest.mark.parametrize('classes', [2, 40, 41, 100, 1000])
def test_confusion_matrix_of_any_number_of_classes(classes):
    counts = np.eye(classes, dtype=int)
    counts[0, 0] = 0  # a class without images
    figure = figures.confusion_matrix(counts, NUMBERS[: len(counts)])
    assert max(figure.shape) < 1000


def test_of_many_classes_the_most_mistaken_have_a_row_and_the_others_one_together():
    counts = np.diag(np.full(1000, 10))
    counts[700, 3] = 5
    counts[700, 900] = 2
    figure = figures.confusion_matrix(counts, NUMBERS[: len(counts)])
    cell = 720 // 26
    # Mistakes are red from a tenth of a class's images on, and the other 997 classes have none.
    assert 0.7 * 2 * (cell - 1) ** 2 < _count(figure, RED) <= 2 * (cell - 1) ** 2
    rows, _ = np.nonzero(np.all(figure == RED, axis=-1))
    assert rows.max() - rows.min() < cell
    # No class is left out of the counts.
    counts[:] = 0
    counts[np.arange(1000), np.arange(1000) - 1] = 1
    _, grouped = figures.most_mistaken(counts)
    assert grouped.sum() == 1000


@pytest.mark.parametrize('has_decoder', [True, False])
def test_bars_are_as_long_as_the_capsules(has_decoder):
    image = _RNG.integers(1, 255, (1, 28, 28), dtype=np.uint8)
    drawings = image[:, ::-1] if has_decoder else image[:0]
    lengths = np.array([[0.1, 0.25, 0.75, 0.0]], np.float32)
    figure = figures.mistakes(image, drawings, np.array([1]), lengths, NUMBERS[: lengths.shape[1]])
    assert len(_find(figure, image[0].repeat(3, 0).repeat(3, 1))) == 1
    assert len(_find(figure, image[0, ::-1].repeat(3, 0).repeat(3, 1))) == has_decoder
    for color, length in ((BLUE, 0.25), (RED, 0.75)):
        # Of a bar's columns each has its whole height; text has less.
        heights = np.sum(np.all(figure == color, axis=-1), axis=0)
        assert heights.max() == pytest.approx(84 * length, abs=2)


@pytest.mark.parametrize('classes', [45, 46, 61, 1000])
def test_of_many_capsules_the_longest_and_the_labels_have_bars(classes):
    image = _RNG.integers(1, 255, (1, 28, 28), dtype=np.uint8)
    lengths = np.zeros((1, classes), np.float32)
    lengths[0, :20] = 0.5
    lengths[0, classes - 1], lengths[0, classes - 2] = 0.75, 0.25
    figure = figures.mistakes(
        image, image, np.array([classes - 2]), lengths, NUMBERS[: lengths.shape[1]]
    )
    for color, length in ((BLUE, 0.25), (RED, 0.75)):
        heights = np.sum(np.all(figure == color, axis=-1), axis=0)
        assert heights.max() == pytest.approx(84 * length, abs=2)
    assert max(figure.shape) < 1400


def test_long_names_have_room():
    """They stand upright where they do not fit, and push nothing out of the figure."""
    names = ['an exceedingly …', 'cat', 'others']
    image = _RNG.integers(1, 255, (1, 28, 28), dtype=np.uint8)
    counts = np.diag([10, 10, 10])
    lengths = np.array([[0.1, 0.25, 0.75]], np.float32)
    for draw in (
        lambda names: figures.confusion_matrix(counts, names),
        lambda names: figures.reconstructions(image, image, np.array([0]), np.array([1]), names),
        lambda names: figures.mistakes(image, image, np.array([1]), lengths, names),
    ):
        figure, small = draw(names), draw(NUMBERS[:3])
        assert figure.shape > small.shape
        # A margin of the ground is on every side.
        assert figure[:10].min() == figure[-10:].min() == 255
        assert figure[:, :10].min() == figure[:, -10:].min() == 255
    # A class may be called like the group of the others.
    assert _count(figures.confusion_matrix(counts, names), BLUE) > 0.9 * 3 * 55**2


def test_a_rightly_read_image_has_no_red():
    image = _RNG.integers(1, 255, (1, 28, 28), dtype=np.uint8)
    lengths = np.array([[0.1, 0.9]], np.float32)
    assert not _count(
        figures.mistakes(image, image, np.array([1]), lengths, NUMBERS[: lengths.shape[1]]), RED
    )
    assert _count(
        figures.mistakes(image, image, np.array([0]), lengths, NUMBERS[: lengths.shape[1]]), RED
    )
