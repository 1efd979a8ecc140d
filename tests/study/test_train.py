"""What a signal does while a network is trained in the process of the study."""

import contextlib
import os
import signal

import pytest

from study.train import signals_noted


class _HandedOn(Exception):
    pass


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT])
def number(request):
    def hand_on(number, frame):
        raise _HandedOn

    before = signal.signal(request.param, hand_on)
    yield request.param
    assert signal.signal(request.param, before) is hand_on


def _received(*numbers, error=None):
    """What has come when this process has sent itself these signals; then raises the error."""
    seen = []
    with contextlib.suppress(_HandedOn), signals_noted() as received:
        for number in numbers:
            os.kill(os.getpid(), number)
            seen.append(set(received))
        if error:
            raise error
        return seen, 'at the end'
    return seen, 'handed on'


def test_a_signal_is_noted_and_handed_on_at_the_end(number):
    assert _received(number) == ([{number}], 'handed on')


def test_a_second_signal_is_handed_on_at_once(number):
    assert _received(number, number) == ([{number}], 'handed on')


def test_an_error_says_what_the_signal_did(number):
    with pytest.raises(ValueError, match='told to stop'):
        _received(number, error=ValueError('told to stop'))


def test_an_ignored_signal_is_ignored_inside(number):
    before = signal.signal(number, signal.SIG_IGN)
    assert _received(number) == ([set()], 'at the end')
    signal.signal(number, before)
