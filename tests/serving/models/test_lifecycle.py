"""What is done next with the versions of a model."""

import pytest

from serving.models.lifecycle import (
    AVAILABLE,
    END,
    LOADING,
    START,
    UNLOADING,
    Version,
    next_step,
)


def _next(*versions, may_load=True):
    """State and number of the next step, of versions (number, state, whether aspired, leases)."""
    made = [
        Version('m', number, '', aspired, state, leases=leases)
        for number, state, aspired, leases in versions
    ]
    step = next_step(made, may_load)
    return step and (step.state, step.version.number)


@pytest.mark.parametrize(
    ('versions', 'step'),
    [
        # The newest is loaded first.
        ([(2, START, True, 0), (3, START, True, 0)], (LOADING, 3)),
        ([(2, START, True, 0), (3, START, False, 0)], (LOADING, 2)),
        ([(3, LOADING, True, 0)], None),
        # The last one that answers stays until another one does.
        ([(2, AVAILABLE, False, 0), (3, LOADING, True, 0)], None),
        ([(2, AVAILABLE, False, 0), (3, AVAILABLE, True, 0)], (UNLOADING, 2)),
        ([(1, AVAILABLE, True, 0), (2, AVAILABLE, False, 0)], (UNLOADING, 2)),
        # Of several, the oldest goes first.
        (
            [(1, AVAILABLE, False, 0), (2, AVAILABLE, False, 0), (3, LOADING, True, 0)],
            (UNLOADING, 1),
        ),
        ([(1, AVAILABLE, False, 0), (2, AVAILABLE, False, 0)], (UNLOADING, 1)),
        ([(2, AVAILABLE, False, 0)], (UNLOADING, 2)),
        # A version is freed when no request uses it any more.
        ([(2, UNLOADING, False, 1)], None),
        ([(2, UNLOADING, False, 0), (3, START, True, 0)], (END, 2)),
        ([(2, END, False, 0), (3, AVAILABLE, True, 0)], None),
    ],
)
def test_next_step(versions, step):
    assert _next(*versions) == step


def test_nothing_is_loaded_while_another_version_is():
    assert _next((3, START, True, 0), may_load=False) is None
    assert _next((2, AVAILABLE, False, 0), (3, START, True, 0), may_load=False) is None
