"""`make study`: what it trains, what it keeps, and how it goes on after a kill."""

import dataclasses
import os
import pathlib
import signal
import subprocess
import time

import outer_environment
import psutil
import pytest
from study_rows import rows_of

from study import results, run
from study.claims import CLAIMS
from study.plan import TIME_OF_STEPS, TURNS
from study.run import Plan


def _make(root, var, *given):
    environment = {**outer_environment.without_settings(), 'VAR': str(var)}
    command = ['make', 'study', *given]
    return subprocess.Popen(
        command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip


def _said(process):
    out, err = process.communicate()
    return process.returncode, out, err


@pytest.mark.slow
def test_a_small_study_resumes_after_a_kill(root, mnist_dir, tmp_path):
    (tmp_path / 'data').symlink_to(mnist_dir)
    folder = tmp_path / 'study' / 'small'
    file = folder / 'results.csv'
    killed = _make(root, tmp_path, 'CLAIM=iterations', 'SMALL=yes')
    _wait_until(lambda: file.exists() and results.read(file), killed)
    # The first training removes its checkpoint; with that of the second one, it is at its end.
    _wait_until(lambda: not _checkpoints(folder), killed)
    _wait_until(lambda: _checkpoints(folder), killed)
    before = results.read(file)
    for child in psutil.Process(killed.pid).children(recursive=True):
        child.send_signal(signal.SIGKILL)
    killed.communicate()
    assert results.read(file)[: len(before)] == before
    code, out, err = _said(_make(root, tmp_path, 'CLAIM=iterations', 'SMALL=yes'))
    assert code == 0, out + err
    assert f'of which {len(before)} have results' in out
    rows = results.read(file)
    assert rows[: len(before)] == before
    plan = Plan.of(CLAIMS['iterations'], 1, str(tmp_path), is_small=True)
    assert plan.missing() == []
    timed = [row for row in rows if row.condition.endswith(TIME_OF_STEPS)]
    assert len(timed) == TURNS * len(plan.trainings)
    assert all(row.seconds and row.test_error_percent is None for row in timed)
    rows = rows[: -len(timed)]
    assert [row.recipe for row in rows] == [each.recipe for each in plan.trainings]
    # Nobody knows how long the second one had run before the kill.
    assert [number for number, row in enumerate(rows) if row.seconds is None] == [1]
    # A small network has learned something, and its coefficients are equal with one iteration.
    assert all((row.test_error_percent or 100) < 60 for row in rows)
    assert rows[0].coupling_entropy == pytest.approx(3.3219, abs=1e-4)
    assert all((row.coupling_entropy or 4) < 3.3219 for row in rows[1:])
    assert _checkpoints(folder) == []
    code, out, _ = _said(_make(root, tmp_path, 'CLAIM=iterations', 'SMALL=yes'))
    assert code == 0
    assert 'Nothing is left to train' in out


def _checkpoints(folder):
    return list(folder.glob('checkpoints/*/step-*[0-9]'))


def _wait_until(is_so, process, seconds=300):
    end = time.monotonic() + seconds
    while not is_so():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, 'nothing has happened'
        time.sleep(0.2)


@pytest.mark.parametrize(
    ('arguments', 'sentence'),
    [
        (['--claim', 'routing'], "CLAIM is 'routing': it must be one of iterations, examples,"),
        (['--claim', 'overlap', '--small', '1'], "SMALL is '1': it must be yes or no"),
        (['--claim', 'overlap', '--seeds', '0'], "SEEDS is '0': it must be a whole number from 1"),
        (['--claim', 'overlap', '--seeds', '101'], "SEEDS is '101': it must be a .* from 1 to 100"),
        (['--claim', 'overlap', '--seeds', '2', '--small', 'yes'], 'one seed: leave out SEEDS'),
        (['--claim', 'overlap', '--seeds', 'x'], "SEEDS is 'x': it must be a whole number from 1"),
    ],
)
def test_a_wrong_option_is_named(arguments, sentence, monkeypatch):
    _without_settings(monkeypatch)
    with pytest.raises(SystemExit, match=sentence):
        run.main(arguments)


def test_a_setting_that_the_study_does_not_follow_is_refused(monkeypatch):
    _without_settings(monkeypatch)
    monkeypatch.setenv('CAPSNET_EPOCHS', '3')
    with pytest.raises(SystemExit, match='by its own settings: leave out EPOCHS'):
        run.main(['--claim', 'overlap'])


def test_what_is_there_is_not_trained_again(tmp_path):
    claim = CLAIMS['viewpoint']
    plan = dataclasses.replace(
        Plan.of(claim, 3, str(tmp_path), is_small=False), results=tmp_path / 'results.csv'
    )
    assert plan.missing() == list(plan.trainings)
    results.create(plan.results)
    rows = rows_of(claim, 2, lambda training, test: 1.0)
    for row in rows[1:]:
        results.append([row], plan.results)
    # The first training has only one of its two results, and the third seed has none.
    missing = plan.missing()
    assert missing[0] == plan.trainings[0]
    assert missing[1:] == [each for each in plan.trainings if each.seed == 3]


def test_a_small_study_is_of_small_sets_of_mnist(tmp_path):
    for claim in CLAIMS.values():
        plan = Plan.of(claim, 5, str(tmp_path), is_small=True)
        assert plan.preset == 'tiny'
        assert plan.results.is_relative_to(pathlib.Path(tmp_path))
        assert {each.dataset for each in plan.trainings} == {'mnist'}
        assert {each.seed for each in plan.trainings} == {1}
        assert all(each.steps <= 100 and each.images <= 500 for each in plan.trainings)


def _without_settings(monkeypatch):
    for name in os.environ.keys() - outer_environment.without_settings().keys():
        monkeypatch.delenv(name)
