"""Images in a file: read as arrays are, and gone with the process."""

import numpy as np
import pytest
import tensorflow as tf

from capsmodel.data.stored_images import PIECE, StoredImages, pieces, rows_in_piece

_IMAGES = np.random.default_rng(0).integers(0, 256, (20, 4, 5, 3), np.uint8)


@pytest.fixture
def stored():
    images = StoredImages(20, (4, 5, 3))
    order = np.random.default_rng(1).permutation(20)
    for rows in np.split(order, [7]):
        images.write(rows, _IMAGES[rows])
    return images


@pytest.mark.parametrize(
    'rows', [slice(None), slice(3), slice(2, 19, 4), np.array([7, 0, 7]), np.array([], int)]
)
def test_they_are_read_as_from_an_array(stored, rows):
    assert (stored.shape, len(stored), stored.dtype) == (_IMAGES.shape, 20, _IMAGES.dtype)
    np.testing.assert_array_equal(stored[rows], _IMAGES[rows])


def test_a_graph_reads_its_rows_of_the_file(stored):
    @tf.function
    def rows(numbers):
        return tf.gather(stored.tensor(), numbers)

    np.testing.assert_array_equal(rows(tf.constant([3, 19])), _IMAGES[[3, 19]])


def test_the_file_has_no_name_that_a_kill_could_leave_behind(tmp_path, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(tmp_path))
    images = StoredImages(20, (4, 5, 3))
    images.write(np.arange(20), _IMAGES)
    assert list(tmp_path.iterdir()) == []


def test_pieces_hold_all_rows_in_order(stored, monkeypatch):
    monkeypatch.setattr('capsmodel.data.stored_images.PIECE', 7 * 60)
    for images in (stored, _IMAGES):
        parts = list(pieces(images))
        assert [len(part) for part in parts] == [7, 7, 6]
        np.testing.assert_array_equal(np.concatenate(parts), _IMAGES)


def test_a_row_that_is_larger_than_a_piece_is_read_by_itself():
    assert (rows_in_piece(PIECE + 1), rows_in_piece(PIECE // 3), rows_in_piece(0)) == (1, 3, PIECE)
