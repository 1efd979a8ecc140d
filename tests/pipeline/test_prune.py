"""What is removed and what stays, by records of runs as TFX writes them, with their folders."""

import contextlib
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import threading
import time

import ml_metadata as mlmd
import outer_environment
import pytest
from google.protobuf import text_format
from ml_metadata.proto import metadata_store_pb2
from mlmd_records import CACHED, Records
from tfx.orchestration import metadata as mlmd_of_tfx
from tfx.orchestration.portable import cache_utils
from tfx.orchestration.portable.input_resolution import channel_resolver
from tfx.orchestration.portable.mlmd import context_lib
from tfx.proto.orchestration import pipeline_pb2

from components import locks
from pipeline import configs, disk_usage, metadata, var_folder
from pipeline.lineage.graph import LineageError
from pipeline.prune import __main__ as prune
from pipeline.prune.errors import PruneError

_NOTHING: dict[str, str] = {}  # properties
_NOBODY = 'http://127.0.0.1:1'
_DELETED = metadata_store_pb2.Artifact.DELETED
_RUNNING = metadata_store_pb2.Execution.RUNNING


@pytest.fixture
def config(tmp_path):
    return configs.from_preset('tiny', var=str(tmp_path))


@pytest.fixture
def records(config):
    return Records(config, with_folders=True)


class _Runs:
    """Runs of one pipeline, each with a network of its own unless it says otherwise."""

    def __init__(self, config, records, pipeline=None):
        self._config, self._records = config, records
        self.pipeline = pipeline or config.pipeline_name

    def _execute(self, *arguments, **more):
        return self._records.execute(*arguments, pipeline=self.pipeline, **more)

    def data(self, run, examples=None):
        """Examples that a run has made, or that it took from the cache."""
        if examples:
            self._execute('TfdsExampleGen', {}, {'examples': examples}, run=run, state=CACHED)
            return examples
        (examples,) = self._execute('TfdsExampleGen', {}, {'examples': ('Examples', {})}, run=run)
        (statistics,) = self._execute(
            'StatisticsGen',
            {'examples': examples},
            {'statistics': ('ExampleStatistics', {})},
            run=run,
        )
        self._execute('AnomalyGate', {'statistics': statistics}, {}, run=run, comparable='x')
        return examples

    def model(self, run, examples, members=()):
        outputs = {'model': ('Model', _NOTHING), 'model_run': ('ModelRun', _NOTHING)}
        custom = json.dumps({'members': [[folder, 'f' * 16] for folder in members]})
        model, _ = self._execute(
            'Trainer', {'examples': examples}, outputs, run=run, custom_config=custom
        )
        return model

    def judge(self, run, model, blessed=1, baseline=None, infra=1):
        """The Evaluator's blessing, and InfraCheck's of a model that is blessed."""
        inputs = {'model': model, **({'baseline_model': baseline} if baseline else {})}
        about = {'blessed': blessed, 'current_model_id': model}
        blessing = {'blessing': ('ModelBlessing', about)}
        (of_model,) = self._execute('Evaluator', inputs, blessing, run=run)
        if blessed and infra:
            blessing = {'blessing': ('InfraBlessing', about)}
            self._execute('InfraCheck', {'model': model}, blessing, run=run)
        return of_model

    def push(self, run, model, version):
        folder = f'serving_model/{self.pipeline}/{version}'
        pushed = {'pushed_version': version, 'pushed_destination': folder}
        self._execute(
            'Pusher', {'model': model}, {'pushed_model': ('PushedModel', pushed)}, run=run
        )
        os.makedirs(os.path.join(self._config.var, folder), exist_ok=True)
        pathlib.Path(self._config.var, folder, 'saved_model.pb').write_bytes(bytes(20_000))

    def whole(self, run, version, examples=None, **more):
        examples = self.data(run, examples)
        model = self.model(run, examples)
        self.judge(run, model, **more)
        self.push(run, model, version)
        return examples, model


@pytest.fixture
def runs(config, records):
    return _Runs(config, records)


def _there(config, pipeline='capsnet-tiny'):
    """What lies in the folders of a pipeline: node, output and execution of each artifact."""
    root = pathlib.Path(config.var, 'pipeline_root', pipeline)
    return {f'{path.parts[-3]}/{path.name}' for path in root.glob('*/*/*')}


def _versions(config, pipeline='capsnet-tiny'):
    return sorted(os.listdir(os.path.join(config.var, 'serving_model', pipeline)), key=int)


def _artifacts(config):
    return mlmd.MetadataStore(metadata.connection_config(config)).get_artifacts()


def _is_where_it_should_be(config):
    """Whether ML Metadata and the disk agree."""
    return all(
        os.path.isdir(os.path.join(config.var, artifact.uri)) == (artifact.state != _DELETED)
        for artifact in _artifacts(config)
    )


def _prune(config, keep, **more):
    return prune.prune(config, keep, _NOBODY, delete=True, **more)


def test_what_kept_runs_used_stays_though_an_older_run_made_it(config, runs):
    examples, first = runs.whole('run 1', '1')  # executions 1 to 7
    _, second = runs.whole('run 2', '2', examples, baseline=first)  # 8 to 12
    runs.whole('run 3', '3', examples, baseline=second)  # 13 to 17
    said = _prune(config, 1)
    assert _there(config) == {
        'TfdsExampleGen/1',
        'StatisticsGen/2',  # a later run's are compared with them
        'Trainer/9',  # the baseline
        *('Trainer/14', 'Evaluator/15', 'InfraCheck/16', 'Pusher/17'),
    }
    assert _is_where_it_should_be(config)
    assert _versions(config) == ['2', '3']  # what is served, and what make rollback goes back to
    assert said[0] == (
        'What the newest 1 of 3 runs of capsnet-tiny need stays, and so does what is served or is '
        'a baseline.'
    )
    assert '  pipeline_root/capsnet-tiny/Trainer/model: 4' in said
    assert '  serving_model/capsnet-tiny: 1' in said
    assert said[-1].startswith('Removed: ')
    counts = dict(line.split()[:2] for line in said if re.match(r'\w+ +\d', line))
    assert [counts[kind] for kind in ('artifacts', 'TensorBoard', 'versions')] == ['7', '2', '1']
    assert prune.prune(config, 1, _NOBODY)[-1] == 'There is nothing to remove'


def test_nothing_is_removed_before_it_is_asked_for(config, runs):
    examples, _ = runs.whole('run 1', '1')
    runs.whole('run 2', '2', examples)
    runs.whole('run 3', '3', examples)
    before = _there(config)
    os.makedirs(os.path.join(config.lock_dir, 'pipelines'))
    takes, _ = disk_usage.measured(config.var)
    said = prune.prune(config, 1, _NOBODY)
    assert re.fullmatch(
        r'Nothing is removed yet\. To remove (\d+ kB): make .*prune .*KEEP=1 DELETE=yes', said[-1]
    )
    assert _there(config) == before
    assert all(artifact.state != _DELETED for artifact in _artifacts(config))
    _prune(config, 1)
    now, _ = disk_usage.measured(config.var)
    assert disk_usage.in_words(takes - now) in said[-1]


def test_runs_of_other_pipelines_and_what_they_need_stay(config, records, runs):
    for number in '123':
        runs.whole(f'run {number}', number)
    runs.push('run 4', runs.model('run 4', runs.data('run 4')), '4')
    others = _Runs(config, records, 'ensemble')
    made = others.model('other 1', others.data('other 1'), ['serving_model/capsnet-tiny/1'])
    others.push('other 1', made, '1')
    # One is being trained, and one has failed.
    for state, member in ((_RUNNING, '2'), (metadata_store_pb2.Execution.FAILED, '3')):
        custom = json.dumps(
            {'members': [[f'{config.var}/serving_model/capsnet-tiny/{member}', '']]}
        )
        records.execute(
            'Trainer', {}, {}, run='other 2', pipeline='ensemble', state=state, custom_config=custom
        )
    before = _there(config, 'ensemble')
    runs.whole('run 5', '5')
    _prune(config, 1)
    assert _there(config, 'ensemble') == before
    assert _versions(config, 'ensemble') == ['1']
    assert _versions(config) == ['1', '2', '4', '5']
    # Once nothing is left of the ensemble that has it, a member can go.
    prune.prune(
        configs.from_preset('tiny', var=config.var, pipeline_name='ensemble'),
        1,
        _NOBODY,
        delete=True,
    )
    _prune(config, 1)
    assert _versions(config) == ['2', '4', '5']


@pytest.mark.parametrize(
    ('fields', 'stay'),
    [
        ('', '4 5'),
        ('model_version_policy { specific { versions: 2 } }', '1 2 4 5'),
        ('version_labels { key: "stable" value: 3 }', '2 3 4 5'),
        ('model_version_policy { latest { num_versions: 2 } }', '3 4 5'),
        ('model_version_policy { all { } }', '1 2 3 4 5'),
    ],
)
def test_what_is_served_stays(config, runs, fields, stay):
    examples = None
    for number in '12345':
        examples, _ = runs.whole(f'run {number}', number, examples)
    file = pathlib.Path(config.var, 'serving_config', 'another', 'models.config')
    file.parent.mkdir(parents=True)
    file.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{config.serving_model_dir}" '
        f'model_platform: "tensorflow" {fields} }} }}'
    )
    _prune(config, 1)
    assert _versions(config) == stay.split()


@contextlib.contextmanager
def _server(states):
    """The address of a server that says the states of versions as TensorFlow Serving does."""

    class Status(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = self.path == '/v1/models/capsnet-tiny'
            self.send_response(200 if found else 404)
            self.end_headers()
            status = {'error_code': 'OK', 'error_message': ''}
            versions = [{'version': v, 'state': s, 'status': status} for v, s in states.items()]
            self.wfile.write(json.dumps({'model_version_status': found and versions}).encode())

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(('127.0.0.1', 0), Status) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ('states', 'stay'),
    [
        ({'2': 'AVAILABLE'}, '1 2 5 6'),
        ({'3': 'UNLOADING', '4': 'END'}, '2 3 5 6'),
    ],
)
def test_what_a_running_server_has_loaded_stays(config, runs, states, stay):
    examples = None
    for number in '123456':
        examples, _ = runs.whole(f'run {number}', number, examples)
    with _server(states) as url:
        prune.prune(config, 1, url, delete=True)
    assert _versions(config) == stay.split()


def test_what_cannot_be_removed_is_named_and_the_next_call_removes_it(config, runs):
    examples, _ = runs.whole('run 1', '1')
    for number in '23':
        runs.whole(f'run {number}', number, examples)
    in_the_way = pathlib.Path(config.serving_model_dir, '1.pruned')
    in_the_way.touch()
    with pytest.raises(PruneError) as caught:
        _prune(config, 1)
    assert str(caught.value) == (
        f'{config.serving_model_dir}/1 cannot be removed: Not a directory. Once that is mended, '
        'the same command removes the rest'
    )
    in_the_way.unlink()
    _prune(config, 1)
    assert _versions(config) == ['2', '3']
    assert _is_where_it_should_be(config)


def test_a_config_that_cannot_be_read_stops_it(config, runs):
    examples, _ = runs.whole('run 1', '1')
    runs.whole('run 2', '2', examples)
    file = pathlib.Path(config.var, 'serving_config', 'capsnet-tiny', 'models.config')
    file.parent.mkdir(parents=True)
    file.write_text('model_config_list { {')
    before = _there(config)
    with pytest.raises(PruneError, match=r'models\.config says which .* Nothing is removed: mend'):
        _prune(config, 1)
    assert _there(config) == before


def test_baselines_of_each_kind_stay_until_there_is_a_later_one(config, runs):
    models = []
    facts = [{'network': 'a'}, {'network': 'b'}, {'network': 'a'}, {'network': 'c'}, {}]
    examples = runs.data('run 0')
    for number, about in enumerate(facts):
        model = runs.model(f'run {number}', examples)
        blessed = {'blessed': 0} if about == {} else {'infra': about != {'network': 'c'}}
        runs.judge(f'run {number}', model, **blessed)
        models.append(model)
        (uri,) = [artifact.uri for artifact in _artifacts(config) if artifact.id == model]
        file = pathlib.Path(config.var, uri, 'Format-Serving', 'assets.extra', 'model_facts.json')
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(about))
    runs.data('run 9')
    _prune(config, 1)
    left = {artifact.id for artifact in _artifacts(config) if artifact.state != _DELETED}
    assert [model in left for model in models] == [False, True, True, False, False]
    kinds = [a.type for a in _artifacts(config) if a.id in left and a.type.endswith('Blessing')]
    assert sorted(kinds) == ['InfraBlessing', 'InfraBlessing', 'ModelBlessing', 'ModelBlessing']
    assert _is_where_it_should_be(config)


def test_leftovers_of_killed_runs_go_and_what_is_unknown_stays(config, runs, records):
    records.execute('Trainer', {}, {}, run='run 1', state=_RUNNING)  # execution 1, killed
    runs.whole('run 2', '2')
    root = pathlib.Path(config.pipeline_root)
    for path in ('Trainer/model/1', 'Trainer/.system/executor_execution/1', 'Trainer/model/99'):
        (root / path).mkdir(parents=True)
    pathlib.Path(config.serving_model_dir, '1').mkdir()  # copied there
    _prune(config, 1)
    assert not (root / 'Trainer/model/1').exists()
    assert os.listdir(root / 'Trainer/.system/executor_execution') == []
    assert (root / 'Trainer/model/99').exists()
    assert _versions(config) == ['1', '2']


def test_checkpoints_of_older_trainings_go_unless_one_is_going_on(config, runs):
    runs.data('run 1')
    runs.model('run 1', runs.data('run 1'))  # execution 7: rejected
    time.sleep(0.01)
    runs.model('run 2', runs.data('run 2'))  # execution 11
    folder = pathlib.Path(config.checkpoint_dir)
    logs = {'rejected': 7, 'busy': 7, 'kept': 11}
    # One was made again after a call was killed over it.
    for name in (*logs, 'old', 'new', 'half.pruned', 'old.pruned'):
        (folder / name / 'step-00000200').mkdir(parents=True)
        if name in logs:
            log = f'../../pipeline_root/capsnet-tiny/Trainer/model_run/{logs[name]}'
            (folder / name / 'log_dir').write_text(log)
    os.utime(folder / 'old', (1, 1))
    (folder / 'request.json').write_text('{}')
    with locks.held(str(folder / 'busy' / 'lock')):
        _prune(config, 1)
    assert sorted(os.listdir(folder)) == ['busy', 'kept', 'new', 'request.json']


def test_logs_of_older_runs_go(config, runs):
    runs.data('run 1')
    runs.data('run 2')
    folder = pathlib.Path(config.log_dir)
    folder.mkdir()
    times = {
        'capsnet-tiny-20261127-061400-11.log': 1,
        'capsnet-tiny-20261127-061500-12.log': None,
        'capsnet-tiny-run 1-Trainer.log': None,
        'capsnet-tiny-run 2-Trainer.log': None,
        'capsnet-tiny-cifar10-20261127-061400-11.log': 1,
        'capsnet-20261127-061400-11.log': 1,
    }
    for name, at in times.items():
        (folder / name).write_text('x')
        if at:
            os.utime(folder / name, (at, at))
    _prune(config, 1)
    assert set(times) - set(os.listdir(folder)) == {
        'capsnet-tiny-20261127-061400-11.log',
        'capsnet-tiny-run 1-Trainer.log',
    }


@pytest.mark.parametrize('steps', [0, 1, 2, 10, 11, 12, 20])
def test_what_a_kill_leaves_is_whole_and_the_next_call_ends_it(config, runs, monkeypatch, steps):
    """There are 21 steps: the mark, then ten folders are renamed, then they are removed."""
    examples, _ = runs.whole('run 1', '1')
    runs.whole('run 2', '2', examples)
    runs.whole('run 3', '3', examples)
    done: list[object] = []

    def counted(step):
        def stop_before(*arguments, **more):
            if len(done) == steps:
                raise KeyboardInterrupt
            done.append(step)
            return step(*arguments, **more)

        return stop_before

    with monkeypatch.context() as patched:
        patched.setattr(
            mlmd.MetadataStore, 'put_artifacts', counted(prune.mlmd.MetadataStore.put_artifacts)
        )
        patched.setattr(prune.os, 'rename', counted(os.rename))
        patched.setattr(prune.shutil, 'rmtree', counted(prune.shutil.rmtree))
        with pytest.raises(KeyboardInterrupt):
            _prune(config, 1)
    for artifact in _artifacts(config):
        if artifact.state != _DELETED:
            assert os.path.isdir(os.path.join(config.var, artifact.uri)), artifact.uri
    # Whatever is kept now, what is marked goes.
    _prune(config, 3)
    assert _is_where_it_should_be(config) or steps == 0
    names = [name for _, folders, _ in os.walk(config.var) for name in folders]
    assert not [name for name in names if name.endswith('.pruned')]
    _prune(config, 1)
    assert _is_where_it_should_be(config)
    assert _versions(config) == ['2', '3']


def test_tfx_takes_nothing_that_is_marked_from_the_cache_and_no_baseline(config, runs):
    """What TFX itself does with these artifacts, on whichever line is installed."""
    _, first = runs.whole('run 1', '1')
    runs.whole('run 2', '2')
    _, third = runs.whole('run 3', '3')
    query = text_format.Parse(
        """context_queries { type { name: 'pipeline' }
                             name { field_value { string_value: 'capsnet-tiny' } } }
           artifact_query { type { name: 'Model' } }
           output_key: 'model'""",
        pipeline_pb2.InputSpec.Channel(),
    )
    connection = mlmd_of_tfx.sqlite_metadata_connection_config(config.metadata_path)
    with mlmd_of_tfx.Metadata(connection) as handle:
        trainings = handle.store.get_executions_by_type('tfx.components.Trainer')
        caches = []
        for training in trainings:
            context = context_lib.register_context_if_not_exists(
                handle, context_lib.CONTEXT_TYPE_EXECUTION_CACHE, f'key {training.id}'
            )
            association = metadata_store_pb2.Association(
                execution_id=training.id, context_id=context.id
            )
            handle.store.put_attributions_and_associations([], [association])
            caches.append(context)

        def cached():
            # The folders are relative to VAR, as in a run.
            with var_folder.entered(config):
                found = [cache_utils.get_cached_outputs(handle, cache) for cache in caches]
            return [outputs['model'][0].id if outputs else None for outputs in found]

        def resolved():
            return {each.id for each in channel_resolver.resolve_single_channel(handle, query)}

        before = cached()
        assert before[0] == first
        assert resolved() == set(before)
        # Marked, and not yet removed.
        marked = handle.store.get_artifacts_by_id([first])
        marked[0].state = _DELETED
        handle.store.put_artifacts(marked)
        assert cached() == [None, *before[1:]]
        assert resolved() == set(before[1:])
        _prune(config, 1)
        assert cached() == [None, None, third]
        assert resolved() == {third}


def test_nothing_is_removed_during_a_run(config, runs):
    runs.data('run 1')
    with locks.held(os.path.join(config.lock_dir, 'pipelines', config.pipeline_name)):
        with pytest.raises(PruneError, match=r'^A run of capsnet-tiny is going on, and nothing'):
            _prune(config, 1)
        assert prune.prune(config, 1, _NOBODY)


def test_what_cannot_be_done_ends_in_a_sentence(config, records):
    with pytest.raises(PruneError, match=r'^ML Metadata knows no run of capsnet-tiny, and nothing'):
        _prune(config, 1)
    in_a_bucket = configs.from_preset('tiny', var=config.var, pipeline_root='gs://b/root')
    with pytest.raises(PruneError, match=r'^PIPELINE_ROOT is gs://b/root: '):
        _prune(in_a_bucket, 1)
    os.remove(config.metadata_path)
    with pytest.raises(LineageError, match=r'^There is no .*metadata\.db'):
        _prune(config, 1)


def _command(config, *arguments):
    return subprocess.run(
        [sys.executable, '-m', 'pipeline.prune', *arguments],
        env={**outer_environment.without_settings(), 'VAR': config.var, 'PRESET': 'tiny'},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_asks_how_many_runs_to_keep(config, runs):
    runs.data('run 1')
    for keep, said in (('', 'KEEP must say'), ('0', "KEEP is '0': it must say"), ('x', 'KEEP is')):
        done = _command(config, '--keep', keep)
        assert done.returncode == 1
        assert done.stderr.startswith(said)
        assert done.stderr.rstrip().endswith(f'make prune PRESET=tiny VAR={config.var} KEEP=5')
    done = _command(config, '--keep', '5', '--delete', 'y')
    assert (done.returncode, done.stderr) == (1, "DELETE is 'y': it must be yes or no\n")
    done = _command(config, '--keep', '5')
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.endswith('There is nothing to remove\n')


@pytest.mark.parametrize(
    ('number', 'text'),
    [(0, '0 bytes'), (999, '999 bytes'), (1000, '1.0 kB'), (99_949, '99.9 kB'), (99_950, '100 kB'),
     (999_600, '1.0 MB'), (5.04e9, '5.0 GB'), (2e15, '2000 TB')],
)  # fmt: skip
def test_bytes_in_words(number, text):
    assert disk_usage.in_words(number) == text


def test_the_disk_that_a_folder_takes(tmp_path):
    (tmp_path / 'a').mkdir()
    (tmp_path / 'a' / 'b').write_bytes(bytes(1_000_000))
    (tmp_path / 'link').symlink_to(tmp_path / 'a')
    out = subprocess.run(['du', '-s', '-B1', tmp_path], capture_output=True, text=True, check=True)
    assert disk_usage.measured(str(tmp_path)) == (int(out.stdout.split()[0]), True)
    assert disk_usage.of_folder(str(tmp_path), 'make prune') == f'1.0 MB in {tmp_path}'
    number, is_all = disk_usage.measured(str(tmp_path), seconds=-1)
    assert number < 1_000_000
    assert not is_all
