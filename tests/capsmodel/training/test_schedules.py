"""The learning rate of each step."""

import dataclasses

import numpy as np
import pytest
from small_training import TRAINING

from capsmodel.training.schedules import Schedule


def _rates(steps_per_epoch=10, **settings):
    """The learning rate of each of 100 steps, and of the step behind the last one."""
    values = {'epochs': 10, 'learning_rate': 0.5, 'learning_rate_decay': 0.8, **settings}
    schedule = Schedule(dataclasses.replace(TRAINING, **values), steps_per_epoch)
    return np.array([float(schedule(step)) for step in range(101)])


def test_exponential_is_multiplied_by_the_decay_in_each_epoch():
    assert _rates() == pytest.approx(0.5 * 0.8 ** (np.arange(101) / 10), rel=1e-5)


def test_flat_linear_falls_in_the_last_three_tenths():
    rates = _rates(learning_rate_schedule='flat_linear')
    assert rates[:71] == pytest.approx(np.full(71, 0.5))
    assert rates[70:] == pytest.approx(np.linspace(0.5, 0, 31), abs=1e-6)


def test_cosine_falls_from_the_first_step_to_the_last():
    rates = _rates(learning_rate_schedule='cosine')
    assert rates == pytest.approx(0.25 + 0.25 * np.cos(np.pi * np.arange(101) / 100), abs=1e-6)


@pytest.mark.parametrize('schedule', ['exponential', 'flat_linear', 'cosine'])
def test_no_rate_is_below_the_floor_and_the_others_stay(schedule):
    rates = _rates(learning_rate_schedule=schedule)
    floored = _rates(learning_rate_schedule=schedule, learning_rate_floor=0.3)
    assert floored == pytest.approx(np.maximum(rates, 0.15))
    assert (floored > rates).any()


def test_warm_up_rises_to_the_schedule():
    rates = _rates(learning_rate_schedule='flat_linear', learning_rate_warmup=20)
    assert rates[:20] == pytest.approx(0.5 * np.arange(1, 21) / 20)
    assert rates[20] == pytest.approx(0.5)
