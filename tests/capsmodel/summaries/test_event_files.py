"""Event files of an interrupted training: nothing twice, nothing lost, torn ends left out."""

import itertools
import pathlib

import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from capsmodel.summaries import event_files


def _write(folder, values):
    """Scalars {step: value} under the tag 'loss'."""
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        for step, value in values.items():
            tf.summary.scalar('loss', value, step=step)
    writer.close()


def _read(folder):
    """What every reader of event files sees: no event is left to TensorBoard to throw away."""
    events = EventAccumulator(str(folder), purge_orphaned_data=False).Reload()
    if 'loss' not in events.Tags()['tensors']:
        return {}
    steps = [event.step for event in events.Tensors('loss')]
    assert steps == sorted(set(steps))
    return {e.step: float(tf.make_ndarray(e.tensor_proto)) for e in events.Tensors('loss')}


@pytest.mark.parametrize('same_folder', [True, False])
def test_steps_that_are_made_again_are_dropped(same_folder, tmp_path):
    earlier = tmp_path / 'earlier'
    folder = earlier if same_folder else tmp_path / 'new'
    _write(earlier, {0: 1.0, 20: 0.5, 40: 0.4, 60: 0.3})
    event_files.take_over(str(earlier), str(folder), first_step=45)
    _write(folder, {60: 0.31, 80: 0.2})
    assert _read(folder) == pytest.approx({0: 1.0, 20: 0.5, 40: 0.4, 60: 0.31, 80: 0.2})
    event_files.remove(str(earlier))
    assert not event_files.event_files(str(earlier))


def test_a_training_may_be_interrupted_many_times(tmp_path):
    folders = [tmp_path / str(number) for number in range(4)]
    expected: dict[int, float] = {}
    for number, (before, folder) in enumerate(itertools.pairwise(folders)):
        _write(before, {30 * number + step: number for step in (0, 10, 20, 30, 40)})
        expected |= {30 * number + step: number for step in (0, 10, 20)}
        event_files.take_over(str(before), str(folder), first_step=30 * (number + 1))
    assert _read(folders[-1]) == expected


def test_a_torn_end_is_left_out_and_the_rest_kept(tmp_path):
    _write(tmp_path / 'earlier', {0: 1.0, 20: 0.5, 40: 0.4})
    (path,) = map(pathlib.Path, event_files.event_files(str(tmp_path / 'earlier')))
    path.write_bytes(path.read_bytes()[:-5])
    event_files.take_over(str(tmp_path / 'earlier'), str(tmp_path / 'new'), first_step=100)
    assert _read(tmp_path / 'new') == {0: 1.0, 20: 0.5}


def test_events_that_were_taken_over_but_not_removed_count_once(tmp_path):
    # As if the process was killed in between.
    _write(tmp_path, {0: 1.0, 20: 0.5})
    (old,) = map(pathlib.Path, event_files.event_files(str(tmp_path)))
    copy = old.read_bytes()
    event_files.take_over(str(tmp_path), str(tmp_path), first_step=100)
    old.write_bytes(copy)
    event_files.take_over(str(tmp_path), str(tmp_path), first_step=100)
    assert _read(tmp_path) == {0: 1.0, 20: 0.5}


def test_there_need_be_nothing_earlier(tmp_path):
    event_files.take_over(str(tmp_path / 'none'), str(tmp_path / 'new'), first_step=10)
    event_files.remove(str(tmp_path / 'none'))
    assert _read(tmp_path / 'new') == {}
