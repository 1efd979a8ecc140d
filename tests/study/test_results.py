"""The file of results: what it refuses, what it keeps, and the mean over seeds."""

import dataclasses
import re
import resource
import subprocess
import sys

import pytest
from project_paths import ROOT

from study import results
from study.results import COLUMNS, ResultError, Row, append, mean_and_deviation, read

ROW = Row(
    'routing', 'capsnet', 'quick', '1 round, test images', 1, 1, 429, 1.29, 104.5, '0192a5a', 'make'
)
_HEADER = ','.join(COLUMNS)
_LINE = 'routing,capsnet,quick,plain,1,1,429,1.29,104.5,0192a5a,make run,,,,,'


@pytest.fixture
def file(tmp_path):
    path = tmp_path / 'results.csv'
    path.write_text(f'{_HEADER}\n')
    return path


def test_the_columns_are_these():
    assert _HEADER == (
        'claim,network,recipe,condition,seed,epochs,steps,test_error_percent,seconds,commit,'
        'command,eval_error_percent,eval_loss,refused_percent,coupling_entropy,cpu_seconds'
    )


def test_the_projects_own_file_can_be_read():
    assert {row.claim for row in read()} >= {'accuracy'}


def test_what_is_appended_is_read(file):
    rows = [
        ROW,
        dataclasses.replace(ROW, seed=2, test_error_percent=None, eval_error_percent=0.5),
        dataclasses.replace(ROW, condition='a "quoted", part', seconds=None, commit=''),
        dataclasses.replace(ROW, claim='shift-2', eval_loss=0.0123, test_error_percent=0.0),
    ]
    append(rows[:1], file)
    append(rows[1:], file)
    assert read(file) == rows
    assert list(file.parent.iterdir()) == [file]


def test_lines_stay_as_they_are_when_one_is_appended(file):
    before = f'{_HEADER}\n{_LINE.replace("1.29", "1.290")}'
    file.write_text(before)
    append([ROW], file)
    after = 'routing,capsnet,quick,"1 round, test images",1,1,429,1.29,104.5,0192a5a,make,,,,,\n'
    assert file.read_text() == f'{before}\n{after}'


@pytest.mark.parametrize('name', [name for name in COLUMNS if name not in results.KEY])
def test_the_same_training_is_refused_whatever_came_out(name, file):
    append([ROW], file)
    before = file.read_text()
    again = dataclasses.replace(ROW, **{name: '1234567' if COLUMNS[name] == 'str' else 7})
    assert again != ROW
    with pytest.raises(ResultError, match='row of the same claim, network, recipe, condition, se'):
        append([again], file)
    assert file.read_text() == before


def test_of_rows_of_which_one_is_wrong_none_is_appended(file):
    append([ROW], file)
    before = file.read_text()
    with pytest.raises(ResultError, match='row of the same'):
        append([dataclasses.replace(ROW, seed=2), dataclasses.replace(ROW, seed=2)], file)
    assert file.read_text() == before


def test_nothing_is_left_beside_the_file_without_room(file):
    append([ROW], file)
    before = file.read_text()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 10, limits[1]))
    try:
        with pytest.raises(OSError, match='File too large'):
            append([dataclasses.replace(ROW, seed=2)], file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_text() == before
    assert list(file.parent.iterdir()) == [file]


def test_rows_of_several_processes_are_all_there(file):
    append([ROW], file)
    code = (
        'import dataclasses, pathlib, sys\n'
        'from study.results import append, read\n'
        'file, first = pathlib.Path(sys.argv[1]), int(sys.argv[2])\n'
        'row = read(file)[0]\n'
        'for seed in range(first, first + 100):\n'
        '    append([dataclasses.replace(row, seed=seed)], file)\n'
    )
    processes = [
        subprocess.Popen([sys.executable, '-c', code, file, first], cwd=ROOT)
        for first in ('100', '200')
    ]
    assert [process.wait() for process in processes] == [0, 0]
    assert sorted(row.seed for row in read(file)) == [1, *range(100, 300)]


@pytest.mark.parametrize('name', results.KEY)
def test_another_training_is_not(name, file):
    append([ROW], file)
    append([dataclasses.replace(ROW, **{name: 7 if name == 'seed' else 'other'})], file)
    assert len(read(file)) == 2


@pytest.mark.parametrize(
    ('old', 'new', 'message'),
    [
        (',1,1,429', ',one,1,429', "column seed: 'one' must be a whole number from 0"),
        (',1,1,429', ',1,-1,429', 'column epochs: -1 must be a whole number from 0'),
        (',429,', ',,', "column steps: '' must be a whole number from 0"),
        (
            '1.29',
            '101',
            'column test_error_percent: 101.0 must be a number from 0 to 100, or empty',
        ),
        ('1.29', 'nan', 'column test_error_percent: nan must be'),
        ('104.5', 'inf', 'column seconds: inf must be a number from 0, or empty'),
        ('104.5', '104,5', 'it has 17 values for 16 columns'),
        ('0192a5a', 'HEAD', "column commit: 'HEAD' must be 7 to 40 hexadecimal digits, or empty"),
        ('routing', 'Does it?', "column claim: 'Does it?' must be a name of small letters"),
        ('plain', '', "column condition: '' must be a text of one line"),
        ('plain', '"two\nlines"', 'column condition'),
        ('make run', 'make run ', "column command: 'make run ' must be a text of one line"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line_and_column(old, new, message, file):
    assert old in _LINE
    file.write_text(f'{_HEADER}\n{_LINE.replace(",1,1,", ",2,1,")}\n{_LINE.replace(old, new)}\n')
    number = 4 if '\n' in new else 3
    with pytest.raises(ResultError, match=re.escape(f'{file}, line {number}: {message}')):
        read(file)


def test_a_training_that_stands_twice_is_refused_with_its_line(file):
    file.write_text(f'{_HEADER}\n{_LINE}\n{_LINE}\n')
    with pytest.raises(ResultError, match='line 3: there is a row of the same claim'):
        read(file)


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'line 1: the columns must be claim,network,'),
        (_HEADER.replace(',seed', '').encode(), 'line 1: the columns must be claim,network,'),
        (f'{_HEADER}\n{_LINE}\n"open'.encode(), 'cannot be read: unexpected end of data'),
        (f'{_HEADER}\nfianc\xe9'.encode('latin-1'), "cannot be read: 'utf-8' codec"),
        (None, 'cannot be read: .* No such file'),
    ],
)
def test_a_file_that_is_not_of_results_is_refused(content, message, file):
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(ResultError, match=message):
        read(file)
    before = sorted(file.parent.iterdir())
    with pytest.raises(ResultError, match=message):
        append([ROW], file)
    assert sorted(file.parent.iterdir()) == before


def test_mean_and_sample_deviation_by_hand():
    mean, deviation = mean_and_deviation([1.29, 1.18, 1.22])
    assert mean == pytest.approx(1.23)
    assert deviation == pytest.approx(((0.06**2 + 0.05**2 + 0.01**2) / 2) ** 0.5)
    assert mean_and_deviation([0.38]) == (0.38, None)
