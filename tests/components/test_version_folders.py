"""Versions as a pipeline writes them: their numbers, and what of killed pushes is removed."""

import os
import re
import shutil
import threading

import pytest
import saved_models
import tensorflow as tf
from tfx.dsl.io import filesystem_registry
from tfx.dsl.io.plugins import tensorflow_gfile

from components import version_folders
from components.push_error import PushError


@pytest.fixture(scope='module')
def export(tmp_path_factory):
    return saved_models.half_plus_two(str(tmp_path_factory.mktemp('export')), 1)


@pytest.mark.parametrize(
    ('taken', 'now', 'number'),
    [
        ([], 1795412128.9, 1795412128),
        ([3, 1795412127], 1795412128.9, 1795412128),
        ([1795412128], 1795412128.9, 1795412129),
        # A clock that was ahead, or that is behind now.
        ([4102444800, 7], 1795412128.9, 4102444801),
        ([5], -1.0, 6),
        ([2**63 - 2], 1795412128.9, 2**63 - 1),
    ],
)
def test_a_new_version_is_the_newest(taken, now, number):
    assert version_folders.next_version(taken, now) == number


def test_there_is_no_number_above_the_highest():
    with pytest.raises(PushError, match=r'there is a version 9223372036854775807, the highest'):
        version_folders.next_version([2**63 - 1], 1795412128.9)


def test_what_is_named_by_a_number(tmp_path):
    assert version_folders.find(str(tmp_path / 'none')) == {}
    for name in ('7', '0012', '9.unfinished', '-3', '٣', str(2**63), 'notes'):
        (tmp_path / name).mkdir()
    (tmp_path / '8').touch()
    assert version_folders.find(str(tmp_path)) == {
        7: str(tmp_path / '7'),
        8: str(tmp_path / '8'),
        12: str(tmp_path / '0012'),
    }


def _truncated(export, folder, size):
    """What is left where TFX's Pusher is killed: it writes saved_model.pb last, and in place."""
    shutil.copytree(export, folder)
    os.truncate(folder / 'saved_model.pb', size)


def test_halves_are_removed_and_what_may_be_good_stays(tmp_path, export):
    size = os.path.getsize(f'{export}/saved_model.pb')
    for number, rest in enumerate((0, 2, 4096, size - 1), 1):
        _truncated(export, tmp_path / str(number), rest)
    (tmp_path / '5').mkdir()
    shutil.copytree(f'{export}/variables', tmp_path / '6' / 'variables')
    shutil.copytree(export, tmp_path / '7.unfinished')
    (tmp_path / '8.unfinished').mkdir()

    shutil.copytree(export, tmp_path / '20')
    _truncated(export, tmp_path / '21', 4096)
    (tmp_path / '21' / 'notes.txt').touch()
    _truncated(export, tmp_path / 'elsewhere', 4096)
    (tmp_path / '22').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / '23').write_text('a file')
    (tmp_path / '24').mkdir()
    (tmp_path / '24' / 'saved_model.pbtxt').touch()
    (tmp_path / '25' / 'saved_model.pb').mkdir(parents=True)
    _truncated(export, tmp_path / '26.aside', 4096)

    version_folders.remove_leftovers(str(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted(
        ['20', '21', '22', '23', '24', '25', '26.aside', 'elsewhere']
    )
    assert os.listdir(tmp_path / 'elsewhere')


def test_one_push_at_a_time(tmp_path):
    base_directory = str(tmp_path / 'new' / 'base')
    entered = threading.Event()

    def enter():
        with version_folders.locked(base_directory):
            entered.set()

    other = threading.Thread(target=enter)
    with version_folders.locked(base_directory):
        other.start()
        assert not entered.wait(0.1)
    assert entered.wait(60)
    other.join()


class _InMemory(tensorflow_gfile.TensorflowFilesystem):
    SUPPORTED_SCHEMES = ['ram://']


def test_in_a_bucket(export):
    # TensorFlow's file system in memory, which TFX reaches as it reaches a bucket.
    filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(_InMemory, priority=0)
    base = 'ram://versions/capsnet'
    with version_folders.locked(base):
        version_folders.remove_leftovers(base)
        assert version_folders.find(base) == {}
        version_folders.publish(export, f'{base}/5')
        version_folders.publish(f'{base}/5', f'{base}/6')
    assert version_folders.find(base) == {5: f'{base}/5', 6: f'{base}/6'}
    digests = version_folders.digests(export)
    assert digests.keys() >= {'saved_model.pb', 'variables/variables.index'}
    assert all(re.fullmatch('[0-9a-f]{64}', digest) for digest in digests.values())
    assert version_folders.digests(f'{base}/6') == digests
    with tf.io.gfile.GFile(f'{base}/6/variables/variables.index', 'a') as file:
        file.write('x')
    assert version_folders.digests(f'{base}/6') != digests
