"""States on disk: whole ones are found again, damaged ones noticed, failures do no harm."""

import contextlib
import pathlib
import resource
import subprocess
import threading

import numpy as np
import pytest
import tensorflow as tf
from troubles import assert_printed

from capsmodel.data.stored_images import StoredImages
from capsmodel.training.checkpoints import Checkpoints, Progress, fingerprint
from capsmodel.training.errors import TrainingError, report_full_disk


def _variables(value=0.0):
    variable = tf.Variable(tf.fill([1000], value))
    return variable, tf.train.Checkpoint(weights=[variable])


def _save(checkpoints, *steps):
    for step in steps:
        _, variables = _variables(float(step))
        checkpoints.save(variables, Progress(step, (step / 100, -1 / 3)))


def _restored(checkpoints):
    """Step, best and the value that the variable has."""
    variable, variables = _variables(-1.0)
    progress = checkpoints.restore(variables)
    assert len(set(variable.numpy())) == 1
    return progress.step, progress.best, variable.numpy()[0]


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_last_state_is_restored_and_two_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path / 'training')
    assert _restored(checkpoints) == (0, None, -1.0)
    _save(checkpoints, 1, 20, 3000)
    assert _names(tmp_path / 'training') == ['step-00000020', 'step-00003000']
    assert _restored(Checkpoints(tmp_path / 'training')) == (3000, (30.0, -1 / 3), 3000.0)


def test_checksums_are_those_of_sha256sum(tmp_path):
    _save(Checkpoints(tmp_path), 5)
    command = ['sha256sum', '--check', '--strict', 'SHA256SUMS']
    subprocess.run(command, cwd=tmp_path / 'step-00000005', check=True, capture_output=True)


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize('damage', [_flip, _cut, lambda path: path.unlink()])
@pytest.mark.parametrize(
    'name', ['variables.data-00000-of-00001', 'variables.index', 'progress.json', 'SHA256SUMS']
)
def test_damaged_state_is_said_and_the_one_before_it_is_used(tmp_path, capsys, damage, name):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, 1000, 2000)
    damage(tmp_path / 'step-00002000' / name)
    assert _restored(checkpoints) == (1000, (10.0, -1 / 3), 1000.0)
    assert '  the checkpoint of step 2,000 is damaged, ' in capsys.readouterr().err
    _save(checkpoints, 2000)
    assert _restored(checkpoints)[0] == 2000


def test_without_a_whole_state_training_starts_anew(tmp_path, capsys):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, 1, 2)
    for state in tmp_path.iterdir():
        (state / 'progress.json').write_text('{}')
    assert _restored(checkpoints) == (0, None, -1.0)
    assert capsys.readouterr().err.count('damaged') == 2


def test_unfinished_state_is_not_looked_at(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    _save(checkpoints, 1)
    (tmp_path / 'step-00000001').rename(tmp_path / 'step-00000009.unfinished')
    assert _restored(checkpoints)[0] == 0


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 2.5 MB."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=2500k', 'tmpfs', str(folder)]
    mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f'a small file system cannot be mounted here: {mounted.stderr.strip()}')
    yield folder
    # Lazily: a file in it may be open as long as what failed to write it is not collected.
    subprocess.run(['umount', '--lazy', str(folder)], check=True)


def test_images_that_do_not_fit_on_the_disk_are_said_with_the_folder(small_disk, monkeypatch):
    monkeypatch.setattr('tempfile.tempdir', str(small_disk))
    images = np.zeros((3, 1000, 1000), np.uint8)
    with pytest.raises(TrainingError, match=str(small_disk)) as caught, report_full_disk():
        StoredImages(3, (1000, 1000)).write(np.arange(3), images)
    assert_printed('full disk', str(caught.value))
    assert list(small_disk.iterdir()) == []


@contextlib.contextmanager
def _files_of_at_most(size):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _megabyte():
    return tf.train.Checkpoint(weights=[tf.Variable(tf.random.stateless_normal([250_000], [1, 2]))])


def test_full_disk_is_said_and_the_states_before_stay(small_disk):
    checkpoints = Checkpoints(small_disk / 'training')
    state = _megabyte()
    checkpoints.save(state, Progress(100))
    checkpoints.save(state, Progress(200))
    with pytest.raises(TrainingError) as caught:
        checkpoints.save(state, Progress(300))
    assert str(caught.value) == (
        f'The checkpoint of step 300 cannot be written to {small_disk}/training: No space left on '
        'device; that of step 200 is kept. Free some space there: the same command resumes from '
        'the last checkpoint.'
    )
    assert checkpoints.restore(state).step == 200
    assert _names(small_disk / 'training') == ['step-00000100', 'step-00000200']


def test_state_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = _megabyte()
    with (
        _files_of_at_most(500_000),
        pytest.raises(TrainingError, match=r'written to .*: File too large; there is no earlier'),
    ):
        checkpoints.save(state, Progress(1))
    assert not _names(tmp_path)
    checkpoints.save(state, Progress(1))
    with _files_of_at_most(500_000), pytest.raises(TrainingError, match='that of step 1 is kept'):
        checkpoints.save(state, Progress(2))
    assert checkpoints.restore(state).step == 1


def test_one_at_a_time_is_at_a_training(tmp_path, capsys):
    checkpoints, events = Checkpoints(tmp_path), []

    def other():
        with Checkpoints(tmp_path).locked():
            events.append('other')

    with checkpoints.locked():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join(timeout=0.3)
        assert thread.is_alive()
        events.append('first')
    thread.join()
    assert events == ['first', 'other']
    assert 'another process is at the same training' in capsys.readouterr().err


def test_earlier_log_is_the_last_one_or_its_copy(tmp_path):
    checkpoints = Checkpoints(tmp_path / 'training')
    with checkpoints.locked():
        assert checkpoints.earlier_log() is None
    log = tmp_path / 'log'
    log.mkdir()
    (log / 'events').write_text('curve')
    checkpoints.set_log(str(log))
    assert checkpoints.earlier_log() == str(log)
    # Both are in VAR, which may be moved.
    moved = tmp_path / 'moved'
    moved.mkdir()
    for path in (log, checkpoints.folder):
        path.rename(moved / path.name)
    checkpoints, log = Checkpoints(moved / 'training'), moved / 'log'
    assert checkpoints.earlier_log() == str(log)
    checkpoints.keep_log(str(log))
    (log / 'events').unlink()
    log.rmdir()
    copy = pathlib.Path(checkpoints.earlier_log())
    assert (copy / 'events').read_text() == 'curve'


def test_fingerprint_stands_for_settings_and_data():
    images = np.arange(12, dtype=np.uint8).reshape(3, 4)
    known = fingerprint({'seed': 1, 'epochs': 2}, [images])
    assert known == fingerprint({'epochs': 2, 'seed': 1}, [images.copy()])
    others = [
        fingerprint({'seed': 2, 'epochs': 2}, [images]),
        fingerprint({'seed': 1, 'epochs': 2}, [images.reshape(4, 3)]),
        fingerprint({'seed': 1, 'epochs': 2}, [images[::-1]]),
        fingerprint({'seed': 1, 'epochs': 2}, [images, images]),
    ]
    assert len({known, *others}) == 5
