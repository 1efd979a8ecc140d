"""Checks of what a model that knows digits was asked."""

import json
import os
import pathlib

import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from components.drift import quantities, sampling
from components.drift.errors import CannotJudge

_NUMBERS = {*quantities.NUMERIC}


def _noise(images):
    return np.random.default_rng(1).integers(0, 256, images.shape, np.uint8)


def _state(digits):
    with open(os.path.join(digits.places.state, 'state.json')) as opened:
        return json.load(opened)['read']


def test_ordinary_digits_do_not_move(digits):
    digits.ask(digits.images[:300])
    found = digits.check()
    assert found.moved == []
    assert found.distances.keys() == quantities.NAMES.keys()
    assert (found.asked, found.compared, len(found.reference['score'])) == (300, 300, 600)
    assert sum(_state(digits).values()) == 30
    with pytest.raises(CannotJudge, match='no request that was answered since the last check'):
        digits.check()


def test_noise_moves_and_is_named(digits):
    digits.ask(_noise(digits.images[:100]))
    found = digits.check()
    assert {'brightness', 'ink', 'reconstruction_error', 'known', 'label'} <= {*found.moved}
    assert all(each.images == 100 for each in found.distances.values())


def test_what_was_kept_and_what_the_model_answers_again_are_the_same(digits):
    images = digits.images[:100]
    for signature in ('serving_default', 'examples', 'explain'):
        digits.ask(images, signature)
    requests = digits.check().requests
    for name, values in requests.items():
        first, second, third = (
            sorted(values[place : place + 100].tolist()) for place in (0, 100, 200)
        )
        if name in _NUMBERS:
            np.testing.assert_allclose(first, second, atol=1e-3)
            np.testing.assert_allclose(first, third, atol=1e-3)
        else:
            assert first == second == third


def test_inverted_pictures_do_not_move_where_the_model_frames_them(digits):
    """The model frames dark strokes as it frames light ones, but not what `pixels` is asked."""
    digits.ask(255 - digits.images[:300])
    assert digits.check().moved == []
    digits.ask(255 - digits.images[:300], 'pixels')
    found = digits.check()
    assert {'brightness', 'ink', 'margin', 'known'} <= {*found.moved}
    assert 'reconstruction_error' not in found.distances
    digits.ask(digits.images[:300], 'pixels')
    assert digits.check().moved == []


def test_without_pictures_the_answers_are_compared_and_the_page_says_so(digits):
    digits.ask(_noise(digits.images[:100]), keep_images=False)
    found = digits.check()
    assert found.distances.keys() == {'score', 'margin', 'known', 'label'}
    assert 'known' in found.moved
    page = pathlib.Path(digits.places.state, 'report.html').read_text()
    assert 'Not compared: brightness, ink, reconstruction_error: the pictures are not kept.' in page


def test_few_images_wait_for_more(digits):
    digits.ask(digits.images[:90])
    with pytest.raises(
        CannotJudge, match=r'about 90 images since .* fewer than 100 are not judged'
    ):
        digits.check()
    digits.ask(digits.images[90:110])
    assert digits.check().asked == 110


def test_a_model_with_few_evaluation_images_has_nothing_to_be_compared_with(digits):
    path = pathlib.Path(digits.places.state, 'reference.json')
    found = json.loads(path.read_text())
    found['quantities'] = {name: each[:99] for name, each in found['quantities'].items()}
    path.write_text(json.dumps(found))
    digits.ask(digits.images[:100])
    with pytest.raises(CannotJudge, match=r'has only 99 evaluation images .* and 100 are needed'):
        digits.check()


def test_a_check_that_fails_before_its_end_loses_nothing(digits):
    digits.ask(digits.images[:100])
    os.makedirs(os.path.join(digits.places.state, 'drift.prom'))
    with pytest.raises(OSError, match=r'drift\.prom'):
        digits.check()
    os.rmdir(os.path.join(digits.places.state, 'drift.prom'))
    assert digits.check().asked == 100


def test_the_end_of_a_log_that_a_kill_has_torn_is_left_out(digits):
    digits.ask(digits.images[:120])
    (name,) = os.listdir(digits.places.requests)
    path = os.path.join(digits.places.requests, name)
    os.truncate(path, os.path.getsize(path) - 5)
    assert digits.check().asked == 110


def test_only_the_version_that_was_asked_most_is_compared_and_one_that_is_gone_is_not(digits):
    digits.ask(digits.images[:200], version=3)
    with pytest.raises(CannotJudge, match='was answered by version 3, which is not in'):
        digits.check()
    digits.ask(digits.images[:100])
    found = digits.check()
    assert (found.version, found.asked, found.others) == ('7', 100, {'3': 200})


def test_the_reference_is_measured_once_for_a_version(digits):
    path = pathlib.Path(digits.places.state, 'reference.json')
    whole = path.read_text()
    digits.ask(digits.images[:100])
    assert digits.check().moved == []
    assert digits.asked_for_examples == []
    for damaged in (None, '{"format": 0}', whole.replace('"version": "7"', '"version": "6"')):
        path.unlink() if damaged is None else path.write_text(damaged)
        digits.ask(digits.images[:100])
        assert digits.check().moved == []
        assert path.read_text() == whole
    assert digits.asked_for_examples == ['7'] * 3


def test_data_that_are_gone_are_named(digits, trained):
    pathlib.Path(digits.places.state, 'reference.json').unlink()
    digits.ask(digits.images[:100])
    digits.examples = f'{trained.models}/nothing*'
    with pytest.raises(CannotJudge, match=r'trained with are not there any more: .*/nothing\*'):
        digits.check()


def test_of_many_images_a_sample_is_compared(digits):
    for _ in range(3):
        digits.ask(digits.images, 'explain', keep_images=False)
    found = digits.check()
    assert (found.asked, found.compared) == (2700, sampling.MOST_IMAGES)
    assert found.moved == []


def test_the_metrics_are_what_the_report_says(digits):
    digits.ask(_noise(digits.images[:100]))
    found = digits.check()
    with open(os.path.join(digits.places.state, 'report.json')) as opened:
        report = json.load(opened)
    with open(os.path.join(digits.places.state, 'drift.prom')) as opened:
        families = {each.name: each for each in text_string_to_metric_families(opened.read())}
    samples = {
        each.labels['quantity']: each.value for each in families['capsnet_drift_distance'].samples
    }
    assert samples == {name: each['value'] for name, each in report['quantities'].items()}
    assert report['moved'] == found.moved
    (images,) = families['capsnet_drift_images'].samples
    assert (images.value, images.labels) == (100, {'model': 'digits'})
    assert sorted(os.listdir(digits.places.state)) == [
        'drift.prom', 'lock', 'reference.json', 'report.html', 'report.json', 'state.json',
    ]  # fmt: skip


def test_a_state_that_cannot_be_read_is_not_overwritten(digits):
    path = pathlib.Path(digits.places.state, 'state.json')
    path.write_text('[1]')
    with pytest.raises(CannotJudge, match=r'state\.json cannot be read'):
        digits.check()
    assert path.read_text() == '[1]'
