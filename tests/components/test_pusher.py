"""A push is whole or not there at all, happens where it is needed, and only there."""

import contextlib
import functools
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import saved_models
import tensorflow as tf
from project_paths import PROGRAMS
from tfx import v1 as tfx
from tfx.components.pusher import executor as tfx_pusher
from tfx.proto import pusher_pb2
from tfx.types import standard_artifacts
from tfx.types.experimental.simple_artifacts import File
from tfx.utils import proto_utils

from components import pusher, version_folders
from components.checkpoint_removal import CheckpointRemoval
from components.model_card import files
from components.push_error import PushError
from pipeline import configs, metadata, results
from serving.models import versions as served


def _model(folder, **options):
    """A Model as the Trainer writes it; returns its folder."""
    path = saved_models.half_plus_two(str(folder), 1, **options)
    os.rename(path, folder / 'Format-Serving')
    return folder


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp('models')
    return {name: _model(folder / name, plus=float(i)) for i, name in enumerate('ab')}


def _artifacts(model, pushed, blessed=1, infra_blessed=1, card=None):
    artifacts = {
        'model': standard_artifacts.Model(),
        'model_blessing': standard_artifacts.ModelBlessing(),
        'infra_blessing': standard_artifacts.InfraBlessing(),
    }
    artifacts['model'].uri = str(model)
    artifacts['model_blessing'].set_int_custom_property('blessed', blessed)
    artifacts['infra_blessing'].set_int_custom_property('blessed', infra_blessed)
    if card:
        artifacts['model_card'] = File()
        artifacts['model_card'].uri = str(card)
    output = standard_artifacts.PushedModel()
    output.uri = str(pushed)
    return {key: [artifact] for key, artifact in artifacts.items()}, {'pushed_model': [output]}


def _push(model, base_directory, archive, **options):
    """The properties of the PushedModel: pushed, pushed_destination, pushed_version, ..."""
    inputs, outputs = _artifacts(model, archive, **options)
    parameters = {'base_directory': str(base_directory), 'run_id': 'run'}
    pusher.PusherExecutor().Do(inputs, outputs, parameters)
    properties = outputs['pushed_model'][0].mlmd_artifact.custom_properties
    return {
        key: value.int_value if value.HasField('int_value') else value.string_value
        for key, value in properties.items()
    }


def _content(folder):
    return version_folders.digests(str(folder))


def _newest(base_directory):
    found = served.find_versions(str(base_directory))
    return _content(found[max(found)])


def test_push_and_what_is_recorded_of_it(tmp_path, models):
    base = tmp_path / 'serving' / 'm'
    before = int(time.time())
    recorded = _push(models['a'], base, tmp_path / 'archive')
    (version,) = os.listdir(base)
    assert before <= int(version) <= time.time()
    assert recorded == {
        'pushed': 1,
        'pushed_destination': str(base / version),
        'pushed_version': version,
        'live_already': 0,
    }
    content = _content(models['a'] / 'Format-Serving')
    assert _content(base / version) == _content(tmp_path / 'archive') == content

    again = _push(models['a'], base, tmp_path / 'second')
    assert again == {**recorded, 'live_already': 1}
    assert not (tmp_path / 'second').exists()
    # In the same second, and after versions of a clock that was ahead.
    ahead = base / str(int(version) + 1000)
    shutil.copytree(base / version, ahead)
    recorded = _push(models['b'], base, tmp_path / 'third')
    assert recorded['pushed_version'] == str(int(version) + 1001)
    assert _newest(base) == _content(models['b'] / 'Format-Serving')
    assert len(os.listdir(base)) == 3


def test_a_card_is_pushed_with_its_model_and_makes_no_other_model_of_it(tmp_path, models):
    base = tmp_path / 'base'

    def push(number, name='a'):
        card = tmp_path / f'card {number}'
        card.mkdir()
        for file in files.NAMES:
            (card / file).write_text(f'{file} {number}')
        return _push(models[name], base, tmp_path / f'archive {number}', card=card)

    recorded = push(1)
    version = base / recorded['pushed_version']
    cards = {f'assets.extra/{file}' for file in files.NAMES}
    assert _content(version).keys() == _content(models['a'] / 'Format-Serving').keys() | cards
    assert _content(version) == _content(tmp_path / 'archive 1')
    assert (version / 'assets.extra' / 'model_card.json').read_text() == 'model_card.json 1'
    before = _content(base)
    # Another evaluation of the same model, and a push without a card, as of an earlier pipeline.
    assert push(2)['live_already'] == _push(models['a'], base, tmp_path / '3')['live_already'] == 1
    assert _content(base) == before
    assert push(4, 'b')['live_already'] == 0


@pytest.mark.parametrize('refusal', [{'blessed': 0}, {'infra_blessed': 0}])
def test_what_is_not_blessed_is_not_pushed(tmp_path, models, refusal):
    assert _push(models['a'], tmp_path / 'base', tmp_path / 'archive', **refusal) == {'pushed': 0}
    assert os.listdir(tmp_path) == []


def test_version_that_was_changed_is_replaced(tmp_path, models):
    for damage in ('truncated', 'added', 'removed'):
        base = tmp_path / damage
        _push(models['a'], base, tmp_path / f'{damage} archive')
        (version,) = base.iterdir()
        if damage == 'truncated':
            os.truncate(version / 'variables' / 'variables.index', 10)
        elif damage == 'added':
            (version / 'assets.extra').mkdir()
            (version / 'assets.extra' / 'more').touch()
        else:
            os.remove(version / 'saved_model.pb')
        assert _push(models['a'], base, tmp_path / f'{damage} again')['live_already'] == 0
        assert _newest(base) == _content(models['a'] / 'Format-Serving')


@contextlib.contextmanager
def _small_files(limit):
    """A disk that is full for whoever writes more into a file; this needs no root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_cannot_be_written_leaves_nothing(tmp_path, models):
    base = tmp_path / 'base'
    _push(models['a'], base, tmp_path / 'archive')
    versions = os.listdir(base)
    model = models['b'] / 'Format-Serving'
    with _small_files(1000), pytest.raises(OSError, match='File too large'):
        version_folders.publish(str(model), str(base / '9'))
    assert os.listdir(base) == versions
    with _small_files(1000), pytest.raises(PushError) as caught:
        _push(models['b'], base, tmp_path / 'second')
    assert str(caught.value) == (
        f'The model cannot be pushed to {base}: File too large. Servers keep what they have. Once '
        'that is mended, the same command pushes the model.'
    )
    assert os.listdir(base) == versions
    assert _push(models['b'], base, tmp_path / 'third')['live_already'] == 0


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 400 kB, and what gives it more."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=400k', 'tmpfs', folder]
    if os.geteuid() or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip('only root may mount a small disk')
    yield (
        folder,
        lambda: subprocess.run(
            ['mount', '-o', 'remount,size=10m', folder], check=True, capture_output=True
        ),
    )
    subprocess.run(['umount', folder], check=True)


def test_full_disk_and_what_the_pusher_of_tfx_left_there(tmp_path, models, small_disk):
    disk, enlarge = small_disk
    base = disk / 'base'
    _push(models['a'], base, tmp_path / 'archive')
    versions = os.listdir(base)
    function = tf.function(lambda: {'y': tf.constant(b'x' * 600_000)}, input_signature=[])
    path = saved_models.export(
        str(tmp_path / 'large'), 1, {'serving_default': function.get_concrete_function()}
    )
    os.rename(path, tmp_path / 'large' / 'Format-Serving')
    with pytest.raises(PushError, match='No space left on device'):
        _push(tmp_path / 'large', base, tmp_path / 'second')
    assert os.listdir(base) == versions

    inputs, outputs = _artifacts(tmp_path / 'large', tmp_path / 'third')
    destination = pusher_pb2.PushDestination()
    destination.filesystem.base_directory = str(base)
    time.sleep(max(0, int(versions[0]) + 1 - time.time()))  # or it takes the same version
    with pytest.raises(tf.errors.OpError, match='No space left on device'):
        tfx_pusher.Executor().Do(
            inputs, outputs, {'push_destination': proto_utils.proto_to_json(destination)}
        )
    (half,) = set(os.listdir(base)) - set(versions)
    assert 'saved_model.pb' in os.listdir(base / half)
    enlarge()
    assert _push(tmp_path / 'large', base, tmp_path / 'fourth')['live_already'] == 0
    assert len(os.listdir(base)) == 2
    assert half not in os.listdir(base)
    assert _newest(base) == _content(tmp_path / 'large' / 'Format-Serving')


def _run(config, model, blessing):
    """Runs a pipeline that ends as ours does; returns its results."""
    given = {
        'model': (standard_artifacts.Model, {}),
        'model_blessing': (standard_artifacts.ModelBlessing, {'blessed': 1, 'bound': blessing}),
        'infra_blessing': (standard_artifacts.InfraBlessing, {'blessed': 1}),
    }
    importers = {
        name: tfx.dsl.Importer(
            source_uri=str(model), artifact_type=artifact_type, custom_properties=properties
        ).with_id(name)
        for name, (artifact_type, properties) in given.items()
    }
    push = pusher.Pusher(
        **{name: importer.outputs['result'] for name, importer in importers.items()},
        base_directory=config.serving_model_dir,
    )
    removal = CheckpointRemoval(
        pushed_model=push.outputs['pushed_model'], finished=f'{config.checkpoint_dir}/*/finished'
    )
    tfx.orchestration.LocalDagRunner().run(
        tfx.dsl.Pipeline(
            config.pipeline_name,
            config.pipeline_root,
            metadata.connection_config(config),
            [*importers.values(), push, removal],
            enable_cache=True,
        )
    )
    return results.read(config)


def test_in_a_pipeline_the_newest_version_is_always_the_model(tmp_path, models):
    config = configs.from_preset('tiny', var=str(tmp_path))
    os.makedirs(os.path.dirname(config.metadata_path))
    base = config.serving_model_dir
    seen = []
    for name, bound, is_pushed in [
        ('a', 1, True),
        ('a', 1, False),
        ('b', 1, True),
        ('a', 1, True),
        ('b', 1, True),
        ('b', 2, False),
    ]:
        said = _run(config, models[name], bound)
        assert _newest(base) == _content(models[name] / 'Format-Serving')
        assert said.pushed_to == os.path.join(base, max(os.listdir(base), key=int))
        assert said.pushed_earlier == (not is_pushed)
        assert (said.pushed_to not in seen) == is_pushed
        seen.append(said.pushed_to)
    states = results.node_states(config)
    assert results.CACHED not in {states['Pusher'], states['CheckpointRemoval']}
    shutil.rmtree(base)
    assert not _run(config, models['b'], 2).pushed_earlier
    assert _newest(base) == _content(models['b'] / 'Format-Serving')


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path):
    rng = np.random.default_rng(0)
    contents = {}
    for name in 'ab':
        module = tf.Module()
        module.weights = tf.Variable(rng.normal(size=4_000_000).astype(np.float32))
        function = tf.function(lambda: {'y': tf.constant(1)}, input_signature=[])
        path = saved_models.export(
            str(tmp_path / name), 1, {'serving_default': function.get_concrete_function()}, module
        )
        os.rename(path, tmp_path / name / 'Format-Serving')
        contents[name] = _content(tmp_path / name / 'Format-Serving')
    base = tmp_path / 'base'
    base.mkdir()
    done = threading.Event()
    seen = {}

    def watch():
        """What a server would find: each version that it sees for the first time is whole."""
        while not done.is_set():
            for number, path in served.find_versions(str(base)).items():
                if number not in seen:
                    seen[number] = _content(path)
            time.sleep(0.002)

    def copying(size):
        """Waits for a new copy beside the versions, until it has that many bytes."""
        before = set(base.glob('*.unfinished'))
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for folder in set(base.glob('*.unfinished')) - before:
                with contextlib.suppress(FileNotFoundError):
                    if sum(path.stat().st_size for path in folder.rglob('*')) >= size:
                        return

    watcher = threading.Thread(target=watch, daemon=True)
    with subprocess.Popen(
        [sys.executable, '-W', 'ignore', PROGRAMS / 'push_models.py'],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as pushes:

        def push(name, wait=None):
            """Exit status, and seconds; it is killed when `wait` returns."""
            archive = tmp_path / 'archive' / str(time.time_ns())
            print(tmp_path / name, base, archive, file=pushes.stdin, flush=True)
            process = int(pushes.stdout.readline())
            start = time.monotonic()
            if wait:
                wait()
                os.kill(process, signal.SIGKILL)
            print(file=pushes.stdin, flush=True)
            return int(pushes.stdout.readline()), time.monotonic() - start

        watcher.start()
        status, seconds = push('a')
        assert status == 0
        statuses, leftovers = [], 0
        for wait in [
            *(functools.partial(time.sleep, moment) for moment in np.linspace(0, seconds, 4)),
            *(functools.partial(copying, size) for size in (0, 5 << 20, 16 << 20)),
        ]:
            newest = _newest(base)
            name = 'a' if newest == contents['b'] else 'b'
            statuses.append(push(name, wait)[0])
            leftovers += any(entry.endswith('.unfinished') for entry in os.listdir(base))
            assert _newest(base) in (newest, contents[name])
        assert statuses.count(signal.SIGKILL) > 2
        assert leftovers
        for name in 'ab':
            assert push(name)[0] == 0
            assert _newest(base) == contents[name]
        pushes.stdin.close()
    done.set()
    watcher.join()
    assert all(entry.isdigit() for entry in os.listdir(base))
    assert len(seen) >= 3
    assert all(content in contents.values() for content in seen.values())
