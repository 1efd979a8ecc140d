import numpy as np
import pytest

from components.drift import quantities


def test_brightness_is_the_mean_and_ink_the_share_above_one_half():
    image = np.array([[0, 127], [128, 255]], np.uint8)
    assert quantities.of_image(image) == {'brightness': pytest.approx(0.5), 'ink': 0.5}
    # A pixel in colour is as bright as the mean of its channels.
    colour = np.array([[[255, 0, 0], [255, 255, 0]]], np.uint8)
    assert quantities.of_image(colour) == {'brightness': pytest.approx(0.5), 'ink': 0.5}


def test_an_answer_has_the_highest_score_and_what_it_is_above_the_next():
    answer = {
        'scores': np.array([0.25, 0.75, 0.5], np.float32),
        'label': np.int64(1),
        'class_name': 'é'.encode(),
        'known': np.bool_(False),
        'reconstruction_error': np.float32(2.5),
        'capsules': np.zeros((3, 16)),
    }
    assert quantities.of_answer(answer) == {
        'score': 0.75, 'margin': 0.25, 'label': 'é', 'known': 'no', 'reconstruction_error': 2.5,
    }  # fmt: skip
    # A version that was pushed before there were names.
    assert quantities.of_answer({'label': np.int64(1)}) == {'label': '1'}


def test_images_that_lack_a_quantity_are_not_among_those_that_have_it():
    joined = quantities.joined([{'score': 0.5, 'label': 'a'}, {'ink': 0.1}, {'score': 0.25}])
    assert {len(values) for values in joined.values()} == {3}
    assert joined.keys() == quantities.NAMES.keys()
    assert quantities.present(joined['score']).tolist() == [0.5, 0.25]
    assert quantities.present(joined['ink']).tolist() == [0.1]
    assert quantities.present(joined['label']).tolist() == ['a']
    assert quantities.present(joined['known']).tolist() == []
