"""Tests of what the benchmarks share."""

import functools
import json
import os
import sys
import time

import pytest
from project_paths import PROGRAMS

from benchmarks.interleaved import Command, measure, report, started
from benchmarks.train_step import prepare_product

# A program of which a call takes 0.02 s.
SLEEP = (functools.partial, (time.sleep, 0.02))


def test_programs_are_timed_in_processes_of_their_own():
    timings = measure({'a': (prepare_product, ()), 'b': SLEEP}, turns=2, seconds=0.01)
    assert timings['a'].cpu > timings['b'].cpu
    assert timings['b'].wall >= 0.02 > timings['b'].cpu
    assert timings['a'].peak_rss_mb > timings['b'].peak_rss_mb


def test_a_program_that_fails_ends_the_measurement():
    with pytest.raises(SystemExit, match='has ended early'):
        measure({'a': (prepare_product, ('one argument too many',))}, turns=1, seconds=0.01)


def _command(root, step):
    values = {'checkout': 'there', 'data': 'data.npz', 'batch': 2, 'threads': 1, 'step': step}
    options = [f'--{name}={value}' for name, value in values.items()]
    program = os.fspath(PROGRAMS / 'benchmarked_peer.py')
    return Command((sys.executable, program, *options), {'PYTHONPATH': root})


def test_a_command_takes_turns_with_a_function(root):
    command = _command(root, 'sleeps')
    timings = measure({'a': command, 'b': SLEEP}, turns=3, seconds=0.2)
    assert timings['a'].facts == {'parameters': 7}
    assert 0.02 <= timings['a'].wall < 0.1  # of about ten calls a turn
    assert timings['a'].cpu < timings['a'].wall
    assert 100 < timings['a'].peak_rss_mb < 200
    assert timings['b'].facts == {}


def test_a_turn_has_what_the_program_returned(root):
    with started({'a': _command(root, 'epoch'), 'b': SLEEP}, warm_ups=0) as running:
        turn = running.turn('a')
        assert turn.result == 1.5
        assert turn.wall >= 0.02
        assert running.turn('b', calls=2).result is None


def test_a_command_that_fails_says_why(tmp_path, root):
    command = _command(root, 'fails')
    with pytest.raises(SystemExit, match=r"'a' has ended early: There is no net\.py$"):
        measure({'a': command}, turns=1, seconds=0.01)
    command = Command((os.fspath(tmp_path / 'nothing'),))
    with pytest.raises(SystemExit, match=r"'b' does not start: .*nothing"):
        measure({'b': command}, turns=1, seconds=0.01)


def test_report_prints_columns_and_writes_all_fields(capsys, tmp_path):
    rows = [{'name': 'long name', 'rate': 12.345, 'hidden': 1}, {'name': 'b'}]
    report(rows, {'name': '', 'rate': '.1f'}, str(tmp_path / 'rows.json'))
    assert capsys.readouterr().out.splitlines() == [
        '     name  rate',
        'long name  12.3',
        '        b     -',
    ]
    assert json.loads((tmp_path / 'rows.json').read_text()) == rows
    assert [path.name for path in tmp_path.iterdir()] == ['rows.json']
