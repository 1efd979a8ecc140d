import gzip

import numpy as np
import pytest
from PIL import Image

from benchmarks import fashion_folder


def _write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, '>i4').tobytes()
    path.write_bytes(gzip.compress(header + array.tobytes()))


def test_each_image_becomes_a_png_in_the_folder_of_its_class(tmp_path, capsys):
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (12, 28, 28), np.uint8) for name in ('train', 't10k')}
    labels = np.arange(12, dtype=np.uint8) % 10
    for name, pixels in images.items():
        _write_idx(tmp_path / f'{name}-images-idx3-ubyte.gz', pixels)
        _write_idx(tmp_path / f'{name}-labels-idx1-ubyte.gz', labels)
    out = tmp_path / 'out'
    fashion_folder.main([str(out), '--source', str(tmp_path)])
    assert capsys.readouterr().out == f'{out}: 12 in train, 12 in test\n'
    for split, name in (('train', 'train'), ('test', 't10k')):
        for index, class_name in ((0, 'T-shirt'), (5, 'Sandal'), (11, 'Trouser')):
            with Image.open(out / split / class_name / f'{index:05}.png') as image:
                np.testing.assert_array_equal(np.asarray(image), images[name][index])


def test_a_missing_file_ends_in_a_sentence(tmp_path):
    with pytest.raises(SystemExit, match=r'train-images-idx3-ubyte\.gz: No such file'):
        fashion_folder.main([str(tmp_path / 'out'), '--source', str(tmp_path)])
