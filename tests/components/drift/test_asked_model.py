import tarfile

import numpy as np
import pytest
import tensorflow as tf
from project_paths import DATA

from components.drift.asked_model import AskedModel
from components.drift.errors import CannotJudge


def test_a_version_of_before_there_was_an_image_is_refused(tmp_path):
    with tarfile.open(DATA / 'golden_model.tar.xz') as archive:
        archive.extractall(tmp_path, filter='data')
    with pytest.raises(CannotJudge, match='does not answer what its network is given'):
        AskedModel(str(tmp_path))


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(CannotJudge, match='cannot be loaded: '):
        AskedModel(str(tmp_path))


def test_a_picture_that_is_refused_has_no_answer_and_the_others_have(trained):
    model = trained.model
    first, second = (
        tf.io.encode_png(image[..., np.newaxis]).numpy() for image in trained.images[:2]
    )
    answers = [*model.answers([first, b'no picture', second])]
    assert answers[1] is None
    assert (answers[0]['image'] == trained.images[0]).all()
    assert (answers[2]['image'] == trained.images[1]).all()
