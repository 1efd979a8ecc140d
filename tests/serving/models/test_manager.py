import contextlib
import os
import shutil
import threading
import time

import numpy as np
import pytest
import saved_models
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.errors import ServingError
from serving.models import lifecycle, reconciler
from serving.models import manager as manager_module
from serving.models.manager import ModelManager
from serving.models.model import LoadedModel
from serving.models.versions import aspired_versions

POLL = 0.02


@pytest.fixture(scope='module')
def exports(tmp_path_factory):
    """Folders of y = x / 2 + version, for versions 1 to 4."""
    folder = str(tmp_path_factory.mktemp('exports'))
    return {v: saved_models.half_plus_two(folder, v, plus=float(v)) for v in range(1, 5)}


class World:
    """Models in folders, a manager that serves them, and what it reported."""

    def __init__(self, folder, exports):
        self.folder = str(folder)
        self.exports = exports
        self.log = []
        self.stack = contextlib.ExitStack()

    def path(self, version=None, model='m'):
        parts = [self.folder, model] + ([] if version is None else [str(version)])
        return os.path.join(*parts)

    def publish(self, *versions, model='m'):
        for version in versions:
            saved_models.copy(self.exports[version], self.path(model=model), version)

    def remove(self, version):
        # In one step, or the rest of it would be a broken version for a moment.
        os.rename(self.path(version), self.path(f'{version}.gone'))
        shutil.rmtree(self.path(f'{version}.gone'))

    def config(self, *texts):
        config = ModelServerConfig()
        config.model_config_list.SetInParent()
        for text in texts or ['']:
            model = ModelConfig(name='m', model_platform='tensorflow')
            text_format.Merge(text, model)
            model.base_path = model.base_path or self.path(model=model.name)
            config.model_config_list.config.append(model)
        return config

    def manager(self, *texts, poll=POLL, allow=False, **options):
        manager = ModelManager(self.config(*texts), poll, allow, **options)
        manager.on_load.append(lambda name, version: self.log.append(('load', name, version)))
        manager.on_unload.append(lambda name, version: self.log.append(('unload', name, version)))
        manager.on_error.append(
            lambda name, version, error: self.log.append(('error', name, version, error.code))
        )
        self.stack.callback(manager.close)
        return manager

    def serve(self, *texts, **options):
        manager = self.manager(*texts, **options)
        manager.start(wait_for_first=True)
        return manager


@pytest.fixture
def world(tmp_path, exports):
    world = World(tmp_path, exports)
    os.mkdir(world.path())
    with world.stack:
        yield world


def ask(manager, model='m', **which):
    """Which version answers, by what it answers."""
    with manager.servable(model, **which) as servable:
        plus = servable.model.run('serving_default', {'x': np.float32(0)})['y']
        assert servable.name == model
        assert plus == servable.version
        return servable.version


def states(manager, model='m'):
    return {status.version: status.state for status in manager.status(model)}


def eventually(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(POLL / 4)


def refused(function, *args, **kwargs):
    with pytest.raises(ServingError) as caught:
        function(*args, **kwargs)
    return caught.value.code, caught.value.message


def test_the_newest_version_is_served(world):
    world.publish(1, 3, 2)
    manager = world.serve()
    assert ask(manager) == ask(manager, version=3) == 3
    assert states(manager) == {3: 'AVAILABLE'}
    assert refused(ask, manager, version=2) == (
        'NOT_FOUND',
        'Servable not found for request: Specific(m, 2)',
    )
    assert refused(ask, manager, 'n') == (
        'NOT_FOUND',
        'Servable not found for request: Latest(n)',
    )


def test_what_is_no_version(world):
    world.publish(2)
    os.makedirs(world.path('not_a_number'))
    os.makedirs(world.path('9'))  # without a saved_model.pb
    os.makedirs(world.path('-3'))
    with open(world.path('8'), 'w'):
        pass
    shutil.copytree(world.path(2), world.path(2**63))
    shutil.copytree(world.path(2), world.path('٣'))
    manager = world.serve()
    time.sleep(5 * POLL)
    assert states(manager) == {2: 'AVAILABLE'}


def test_folders_may_be_links_and_have_zeros(world, tmp_path):
    link = tmp_path / 'link'
    link.mkdir()
    os.symlink(world.exports[1], link / '00000001')
    manager = world.serve(f'base_path: "{link}"')
    assert ask(manager) == 1


def test_new_version_takes_over_without_a_gap(world):
    world.publish(1)
    manager = world.serve()
    stop = threading.Event()
    answered, failed = [], []

    def keep_asking():
        while not stop.is_set():
            try:
                answered.append(ask(manager))
            except Exception as error:
                failed.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(4)]
    for thread in threads:
        thread.start()
    for version in (2, 3, 4):
        world.publish(version)
        eventually(lambda old=version - 1: states(manager)[old] == 'END')
    for version in (4, 3):
        world.remove(version)
        eventually(lambda old=version: states(manager)[old] == 'END')
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    assert set(answered) == {1, 2, 3, 4}
    assert world.log == [
        ('load', 'm', 1),
        ('load', 'm', 2),
        ('unload', 'm', 1),
        ('load', 'm', 3),
        ('unload', 'm', 2),
        ('load', 'm', 4),
        ('unload', 'm', 3),
        ('load', 'm', 3),
        ('unload', 'm', 4),
        ('load', 'm', 2),
        ('unload', 'm', 3),
    ]


def test_leased_version_stays_until_it_is_returned(world):
    world.publish(1)
    manager = world.serve()
    with manager.servable('m') as servable, contextlib.ExitStack() as second:
        second.enter_context(manager.servable('m'))
        world.publish(2)
        eventually(lambda: states(manager) == {2: 'AVAILABLE', 1: 'UNLOADING'})
        assert ask(manager) == 2
        assert refused(ask, manager, version=1)[0] == 'NOT_FOUND'
        second.close()
        time.sleep(5 * POLL)
        assert servable.model.run('serving_default', {'x': np.float32(4)})['y'] == 3
        assert states(manager)[1] == 'UNLOADING'
        # A slow request holds up no other version.
        world.publish(3)
        eventually(lambda: states(manager) == {3: 'AVAILABLE', 2: 'END', 1: 'UNLOADING'})
    eventually(lambda: states(manager)[1] == 'END')
    assert ('unload', 'm', 1) in world.log


def test_version_that_comes_back_while_it_is_unloaded(world):
    world.publish(1)
    manager = world.serve()
    with manager.servable('m'):
        world.publish(2)
        eventually(lambda: states(manager).get(1) == 'UNLOADING')
        world.remove(2)
        time.sleep(5 * POLL)
    eventually(lambda: states(manager) == {2: 'END', 1: 'AVAILABLE'})
    assert ask(manager) == 1


def test_broken_version_leaves_the_old_one_in_place_and_is_not_tried_again_and_again(world):
    world.publish(1)
    manager = world.serve()
    saved_models.broken(world.path(), 2)
    eventually(lambda: states(manager) == {2: 'END', 1: 'AVAILABLE'})
    time.sleep(10 * POLL)
    newest, old = manager.status('m')
    assert (newest.error_code, old.error_code) == ('INVALID_ARGUMENT', 'OK')
    assert newest.error_message.startswith('The SavedModel cannot be loaded: Cannot parse file')
    assert ask(manager) == 1
    assert world.log == [('load', 'm', 1), ('error', 'm', 2, 'INVALID_ARGUMENT')]
    # Not even when a later one is broken as well.
    saved_models.broken(world.path(), 3)
    eventually(lambda: states(manager).get(3) == 'END')
    time.sleep(5 * POLL)
    assert ask(manager) == 1
    assert world.log[2:] == [('error', 'm', 3, 'INVALID_ARGUMENT')]
    world.publish(4)
    eventually(lambda: ask(manager) == 4)


@pytest.mark.parametrize(
    ('policy', 'poll', 'served'),
    [
        ('', POLL, {3}),
        ('', 0, {3}),
        ('model_version_policy { latest { num_versions: 2 } }', 0, {3, 1}),
        ('model_version_policy { all { } }', POLL, {3, 1}),
        ('model_version_policy { specific { versions: 4 versions: 1 } }', POLL, {1}),
    ],
)
def test_start_takes_the_newest_version_that_loads(world, policy, poll, served):
    world.publish(1, 3)
    for version in (2, 4, 5):
        # As half a copy is: its graph is cut off, or a variable of it.
        cut = shutil.copytree(world.exports[2], world.path(version))
        name = 'saved_model.pb' if version == 4 else 'variables/variables.data-00000-of-00001'
        os.truncate(os.path.join(cut, name), 5)
    manager = world.serve(policy, poll=poll)
    assert ask(manager) == max(served)
    eventually(lambda: served == {v for v, s in states(manager).items() if s == 'AVAILABLE'})
    for status in manager.status('m'):
        assert status.state in ('AVAILABLE', 'END')
        assert (status.version in served) == (status.error_code == 'OK')
        assert (status.version in served) == (status.error_message == '')
    # Each is tried once.
    time.sleep(5 * POLL)
    assert len(set(world.log)) == len(world.log)


def test_version_in_place_of_a_broken_one_makes_way_for_it_and_for_a_newer_one(world):
    world.publish(1)
    saved_models.broken(world.path(), 2)
    manager = world.serve()
    assert ask(manager) == 1
    shutil.copytree(world.exports[2], world.path(2), dirs_exist_ok=True)
    eventually(lambda: states(manager) == {2: 'AVAILABLE', 1: 'END'})
    saved_models.broken(world.path(), 3)
    eventually(lambda: states(manager).get(3) == 'END')
    assert ask(manager) == 2
    world.publish(4)
    eventually(lambda: states(manager) == {4: 'AVAILABLE', 3: 'END', 2: 'END', 1: 'END'})


def test_broken_version_is_tried_again_once_its_files_change(world):
    world.publish(1)
    manager = world.serve()
    saved_models.broken(world.path(), 2)
    eventually(lambda: ('error', 'm', 2, 'INVALID_ARGUMENT') in world.log)
    shutil.copytree(world.exports[2], world.path(2), dirs_exist_ok=True)
    eventually(lambda: ask(manager) == 2)
    assert {status.error_code for status in manager.status('m')} == {'OK'}


class StuckDisk:
    """Loads versions, but does not come back from one of them before it is told to."""

    def __init__(self, version):
        self.go_on = threading.Event()
        self.tried = []
        self._version = str(version)

    def load(self, folder):
        self.tried.append(os.path.basename(folder))
        model = LoadedModel(folder)
        if os.path.basename(folder) == self._version:
            self.go_on.wait()
        return model


def test_version_that_does_not_load_in_time_blocks_no_other(world):
    world.publish(1, 3)
    world.publish(2, model='n')
    disk = StuckDisk(3)
    world.stack.callback(disk.go_on.set)
    manager = world.serve('', 'name: "n"', load=disk.load, load_seconds=3)
    assert (ask(manager), ask(manager, 'n')) == (1, 2)
    assert states(manager) == {3: 'END', 1: 'AVAILABLE'}
    (late, _) = manager.status('m')
    assert (late.error_code, late.error_message) == (
        'DEADLINE_EXCEEDED',
        'It was not loaded within 3 seconds (--max_load_seconds).',
    )
    # Nor is it tried again, though others come and fail.
    saved_models.broken(world.path(), 4)
    eventually(lambda: states(manager).get(4) == 'END')
    world.publish(4, model='n')
    eventually(lambda: ask(manager, 'n') == 4)
    time.sleep(5 * POLL)
    assert sorted(disk.tried) == ['1', '2', '3', '4', '4']
    # Once it is loaded it is served.
    disk.go_on.set()
    eventually(lambda: states(manager) == {4: 'END', 3: 'AVAILABLE', 1: 'END'})
    assert ask(manager) == 3
    assert manager.status('m', 3)[0].error_code == 'OK'


def test_version_that_takes_long_lets_other_models_load(world, monkeypatch):
    monkeypatch.setattr(lifecycle, 'PATIENCE_SECONDS', 0.3)
    world.publish(1)
    world.publish(2, model='n')
    disk = StuckDisk(1)
    manager = world.manager('', 'name: "n"', load=disk.load)
    world.stack.callback(disk.go_on.set)
    manager.start(wait_for_first=False)
    eventually(lambda: ('load', 'n', 2) in world.log)
    assert states(manager) == {1: 'LOADING'}
    disk.go_on.set()
    eventually(lambda: states(manager) == {1: 'AVAILABLE'})


def test_version_that_is_no_longer_wanted_when_it_is_loaded(world):
    world.publish(1, 3)
    disk = StuckDisk(3)
    world.stack.callback(disk.go_on.set)
    manager = world.serve(load=disk.load, load_seconds=3)
    version = manager._versions['m'][3]
    world.remove(3)
    eventually(lambda: not version.aspired)
    disk.go_on.set()
    eventually(lambda: not version.loading)  # the thread that loads it has ended
    assert ask(manager) == 1
    manager.close()  # which waits for what its thread does with the loaded version
    assert world.log == [('error', 'm', 3, 'DEADLINE_EXCEEDED'), ('load', 'm', 1)]
    assert states(manager) == {3: 'END', 1: 'AVAILABLE'}


def test_start_fails_though_a_version_is_stuck(world):
    world.publish(2)
    disk = StuckDisk(2)
    world.stack.callback(disk.go_on.set)
    assert refused(world.serve, load=disk.load, load_seconds=0.2) == (
        'DEADLINE_EXCEEDED',
        'Version 2 of m cannot be served: It was not loaded within 0.2 seconds '
        '(--max_load_seconds).',
    )


@pytest.mark.parametrize('name', ['saved_model.pb', 'assets/vocabulary.txt'])
def test_pipe_in_a_version_is_not_read(world, name):
    world.publish(1, 2)
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(world.path(2), name))
    os.makedirs(os.path.dirname(os.path.join(world.path(2), name)), exist_ok=True)
    os.mkfifo(os.path.join(world.path(2), name))
    manager = world.serve()
    assert ask(manager) == 1
    assert manager.status('m', 2)[0].error_message == (
        f'{os.path.join(world.path(2), name)} is no regular file.'
    )


def test_base_path_that_does_not_answer_holds_up_its_own_model_alone(world, monkeypatch):
    monkeypatch.setattr(reconciler, 'LOOK_SECONDS', 0.2)
    monkeypatch.setattr(manager_module, 'LOOK_SECONDS', 0.2)
    stuck = threading.Event()
    world.stack.callback(stuck.set)

    def look(model, broken):
        if model.name == 'm':
            stuck.wait()
        return aspired_versions(model, broken)

    monkeypatch.setattr(reconciler, 'aspired_versions', look)
    world.publish(1)
    world.publish(2, model='n')
    manager = world.serve('name: "n"')
    manager.set_config(world.config('', 'name: "n"'))
    world.publish(3, model='n')
    eventually(lambda: ask(manager, 'n') == 3)
    assert refused(ask, manager)[0] == 'NOT_FOUND'
    stuck.set()
    eventually(lambda: ('load', 'm', 1) in world.log)


def test_version_that_is_being_copied(world):
    world.publish(1)
    manager = world.serve()
    os.makedirs(world.path(2))
    shutil.copytree(os.path.join(world.exports[2], 'variables'), world.path('2/variables'))
    time.sleep(5 * POLL)
    assert states(manager) == {1: 'AVAILABLE'}
    shutil.copy(os.path.join(world.exports[2], 'saved_model.pb'), world.path(2))
    eventually(lambda: ask(manager) == 2)
    assert [event for event in world.log if event[0] == 'error'] == []


def test_without_versions_none_is_served_but_a_missing_base_path_is_a_fault_of_the_disk(world):
    world.publish(1)
    manager = world.serve()
    os.rename(world.path(), world.path(model='away'))
    time.sleep(5 * POLL)
    assert ask(manager) == 1
    os.rename(world.path(model='away'), world.path())
    time.sleep(5 * POLL)
    assert states(manager) == {1: 'AVAILABLE'}
    world.remove(1)
    eventually(lambda: states(manager) == {1: 'END'})
    assert refused(ask, manager)[1] == 'Servable not found for request: Latest(m)'


@pytest.mark.parametrize(
    ('policy', 'served'),
    [
        ('', {4}),
        ('model_version_policy { latest { } }', {4}),
        ('model_version_policy { latest { num_versions: 2 } }', {3, 4}),
        ('model_version_policy { all { } }', {1, 2, 3, 4}),
        ('model_version_policy { specific { versions: 1 versions: 3 versions: 7 } }', {1, 3}),
    ],
)
def test_version_policies(world, policy, served):
    world.publish(1, 2, 3, 4)
    manager = world.serve(policy)
    eventually(lambda: states(manager) == dict.fromkeys(served, 'AVAILABLE'))
    assert ask(manager) == max(served)
    assert [ask(manager, version=version) for version in served] == list(served)


def test_policy_changes_while_running(world):
    world.publish(1, 2, 3)
    manager = world.serve()
    manager.set_config(world.config('model_version_policy { specific { versions: 2 } }'))
    eventually(lambda: states(manager) == {3: 'END', 2: 'AVAILABLE'})
    manager.set_config(world.config('model_version_policy { all { } }'))
    eventually(lambda: states(manager) == dict.fromkeys((1, 2, 3), 'AVAILABLE'))
    manager.set_config(world.config())
    eventually(lambda: states(manager) == {3: 'AVAILABLE', 2: 'END', 1: 'END'})
    assert world.log[:3] == [('load', 'm', 3), ('load', 'm', 2), ('unload', 'm', 3)]


def test_models_come_and_go(world):
    world.publish(1)
    world.publish(2, model='n')
    manager = world.serve()
    assert refused(manager.status, 'n') == (
        'NOT_FOUND',
        'Could not find any versions of model n',
    )
    manager.set_config(world.config('', 'name: "n"', 'name: "nowhere"'))
    eventually(lambda: ('load', 'n', 2) in world.log)
    assert (ask(manager), ask(manager, 'n')) == (1, 2)
    assert refused(manager.status, 'nowhere')[0] == 'NOT_FOUND'
    # A base path that is not there holds up no other model.
    world.publish(3, model='n')
    eventually(lambda: ask(manager, 'n') == 3)
    manager.set_config(world.config('name: "n"'))
    eventually(lambda: states(manager) == {1: 'END'})
    assert refused(ask, manager)[0] == 'NOT_FOUND'
    assert ask(manager, 'n') == 3


def labels(**versions):
    return '\n'.join(
        f'version_labels {{ key: "{label}" value: {version} }}'
        for label, version in versions.items()
    )


def not_available(version):
    return (
        'FAILED_PRECONDITION',
        f'Request to assign label to version {version} of model m, which is not currently '
        'available for inference',
    )


def test_labels_stand_for_versions(world):
    world.publish(1, 2)
    manager = world.serve('model_version_policy { all { } }')
    eventually(lambda: set(states(manager).values()) == {'AVAILABLE'})
    manager.set_config(
        world.config('model_version_policy { all { } }' + labels(stable=1, canary=2))
    )
    assert (ask(manager, label='stable'), ask(manager, label='canary')) == (1, 2)
    for model, label in (('m', 'other'), ('n', 'stable')):
        assert refused(ask, manager, model, label=label) == (
            'INVALID_ARGUMENT',
            f'Unrecognized servable version label: {label}',
        )
    # As the real server has it: the status is that of all versions.
    assert [status.version for status in manager.status('m', label='other')] == [2, 1]
    manager.set_config(world.config(labels(stable=2)))
    assert ask(manager, label='stable') == 2
    assert refused(ask, manager, label='canary')[0] == 'INVALID_ARGUMENT'


def test_label_whose_version_is_gone(world):
    world.publish(1)
    manager = world.serve()
    manager.set_config(world.config(labels(stable=1)))
    world.publish(2)
    eventually(lambda: states(manager)[1] == 'END')
    assert refused(ask, manager, label='stable') == (
        'NOT_FOUND',
        'Servable not found for request: Specific(m, 1)',
    )


def test_label_does_not_move_to_a_version_that_is_not_available(world):
    world.publish(1, 2)
    manager = world.serve()
    manager.set_config(world.config(labels(stable=2)))
    pin = 'model_version_policy { specific { versions: 1 } }'
    assert refused(manager.set_config, world.config(pin + labels(stable=1))) == not_available(1)
    time.sleep(5 * POLL)
    assert states(manager) == {2: 'AVAILABLE'}  # nor has the rest of that configuration been taken
    assert ask(manager, label='stable') == 2
    both = 'model_version_policy { specific { versions: 1 versions: 2 } }'
    manager.set_config(world.config(both + labels(stable=2)))
    eventually(lambda: states(manager) == {2: 'AVAILABLE', 1: 'AVAILABLE'})
    manager.set_config(world.config(pin + labels(stable=1)))
    assert ask(manager, label='stable') == 1
    eventually(lambda: states(manager)[2] == 'END')
    assert ask(manager, label='stable') == 1


def test_labels_at_the_start(world):
    world.publish(1, 2)
    manager = world.manager(labels(stable=1))
    assert refused(manager.start, wait_for_first=True) == not_available(1)
    pin = 'model_version_policy { specific { versions: 1 } }'
    manager = world.serve(pin + labels(stable=1), allow=True)
    assert ask(manager, label='stable') == 1
    # The flag lets no label move that is in use.
    assert refused(manager.set_config, world.config(labels(stable=2))) == not_available(2)
    manager.set_config(world.config(pin + labels(stable=1, canary=2)))
    assert refused(ask, manager, label='canary')[0] == 'NOT_FOUND'


@pytest.mark.parametrize('looks_again', [True, False])
def test_base_path_is_looked_at_once_with_poll_0(world, looks_again):
    world.publish(1)
    manager = world.serve(poll=0)
    world.publish(2)
    if looks_again:
        manager.set_config(world.config())
        eventually(lambda: ask(manager) == 2)
    else:
        time.sleep(5 * POLL)
        assert states(manager) == {1: 'AVAILABLE'}


def test_negative_poll_never_looks(world):
    world.publish(1)
    manager = world.manager(poll=-1)
    manager.start(wait_for_first=False)
    manager.set_config(world.config())
    time.sleep(5 * POLL)
    assert refused(manager.status, 'm')[0] == 'NOT_FOUND'


def test_start_says_why_a_model_cannot_be_served(world):
    world.publish(1)
    assert refused(world.serve, '', 'name: "nowhere"') == (
        'NOT_FOUND',
        f'nowhere: {world.path(model="nowhere")} is not there.',
    )
    os.mkdir(world.path(model='n'))
    assert refused(world.serve, '', 'name: "n"') == (
        'NOT_FOUND',
        f'n: {world.path(model="n")} holds no version: no folder named by a number, with a '
        'saved_model.pb in it.',
    )
    pinned = 'model_version_policy { specific { versions: 5 versions: 7 } }'
    assert refused(world.serve, pinned) == (
        'NOT_FOUND',
        f'm: {world.path()} does not hold the version that is asked for: 5, 7.',
    )
    saved_models.broken(world.path(), 5)
    # Who asks for a version by its number is given no other.
    code, said = refused(world.serve, pinned)
    assert code == 'INVALID_ARGUMENT'
    assert said.startswith('Version 5 of m cannot be served: The SavedModel cannot be loaded: ')
    world.remove(1)
    saved_models.broken(world.path(), 4)
    saved_models.broken(world.path(), 3)
    _, said = refused(world.serve)
    assert said.startswith('Version 5 of m cannot be served, nor can 4, 3: The SavedModel cannot')


def test_start_that_does_not_wait(world):
    manager = world.manager()
    manager.start(wait_for_first=False)
    assert refused(ask, manager)[0] == 'NOT_FOUND'
    world.publish(1)
    eventually(lambda: ('load', 'm', 1) in world.log)
    assert ask(manager) == 1


def test_status_of_one_version(world):
    world.publish(1)
    manager = world.serve()
    (status,) = manager.status('m', 1)
    assert (status.version, status.state, status.error_code, status.error_message) == (
        1,
        'AVAILABLE',
        'OK',
        '',
    )
    assert refused(manager.status, 'm', 2) == ('NOT_FOUND', 'Could not find version 2 of model m')
    assert refused(manager.status, 'n', 1) == ('NOT_FOUND', 'Could not find version 1 of model n')


def test_closed_manager_serves_nothing_but_what_is_leased(world):
    world.publish(1)
    manager = world.serve(poll=0)  # each look has a thread of its own
    before = threading.active_count()
    with manager.servable('m') as servable:
        manager.close()
        assert servable.model.run('serving_default', {'x': np.float32(0)})['y'] == 1
    assert refused(ask, manager)[0] == 'NOT_FOUND'
    assert threading.active_count() == before - 1
    manager.close()


def test_a_lease_costs_microseconds(world):
    world.publish(1)
    manager = world.serve()
    manager.set_config(world.config(labels(stable=1)))
    start = time.perf_counter()
    for _ in range(10_000):
        with manager.servable('m', label='stable'):
            pass
    assert (time.perf_counter() - start) / 10_000 < 100e-6
