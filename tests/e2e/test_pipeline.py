"""The whole way on real MNIST, through the real tfx CLI.

The tests tell a story in one folder with one metadata store, by the preset `tiny`: most go on from
the first run, and say so if they are selected without it.
"""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.parse

import numpy as np
import person_png
import plain_tensorflow
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from project_paths import RECORDER
from rest_server import request, rest_server
from tfx_project import CACHED, COMPLETE, FAILED, Project, finished, sentence
from troubles import assert_printed

from pipeline import code_version, disk_usage, make_commands, results
from pipeline.lineage.data import of_data
from serving import client

pytestmark = pytest.mark.e2e
_after_the_first_run = pytest.mark.goes_on_from('test_first_run_is_blessed_and_pushed')

_BEFORE_THE_GATE = {
    'TfdsExampleGen',
    'StatisticsGen',
    'ImportSchemaGen',
    'ExampleValidator',
    'SplitComparison',
    'EarlierStatistics',
    'RunComparison',
    'AnomalyGate',
}


@pytest.fixture(scope='module')
def imports(tmp_path_factory):
    """Where each process of the project records what it imports."""
    return tmp_path_factory.mktemp('imports')


@pytest.fixture(scope='module')
def project(root, mnist_dir, imports, tmp_path_factory):
    var = tmp_path_factory.mktemp('var')
    (var / 'data').symlink_to(mnist_dir)
    return Project(root, var, PYTHONPATH=str(RECORDER), RECORDED_IMPORTS=str(imports))


def test_a_wrong_setting_ends_in_a_sentence(project):
    done = project.tfx(
        'pipeline', 'create', f'--pipeline_path={project.runner}', CAPSNET_PRESET='enormous'
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == (
        "Wrong setting: PRESET is 'enormous': it must be one of tiny, quick, paper, folder, "
        'cifar10, svhn, efficient'
    )
    assert 'Traceback' not in done.stderr


@pytest.fixture(scope='module')
def second_run(project):
    """Starts a run while the first one of the same pipeline is going on, once, and gives it."""

    @functools.cache
    def start():
        return project.start(sys.executable, project.runner)

    yield start
    start().kill()


def test_the_tfx_command_knows_the_pipeline(project):
    done = project.create()
    assert done.returncode == 0, done.stderr
    assert 'Pipeline "capsnet-tiny" created successfully.' in done.stdout


@pytest.mark.goes_on_from('test_the_tfx_command_knows_the_pipeline')
def test_first_run_is_blessed_and_pushed(project, second_run):
    command = project.command('run', 'create', f'--pipeline_name={project.config.pipeline_name}')
    with project.start(*command) as first:
        while not os.path.exists(project.config.metadata_path):
            assert first.poll() is None, finished(first).stderr
            time.sleep(0.1)
        second_run()
        done = finished(first)
    assert done.returncode == 0, done.stderr
    assert re.findall('cached|Waiting', done.stdout) == []
    assert len(project.versions()) == 1
    assert f'Pushed to:      {project.config.serving_model_dir}/{project.versions()[0]}\n' in (
        done.stdout
    )
    settings = f'PRESET=tiny VAR={project.var}'
    assert done.stdout.endswith(
        f'Next:           make serve {settings}\n'
        f'                make predict {settings} IMAGE=docs/seven.png\n'
        f'                make tensorboard {settings}\n'
    )
    accuracy = re.search(r'Test accuracy:  ([\d.]+)% of 1,000 images', done.stdout)
    assert float(accuracy[1]) >= 80
    assert re.search(r'\[11/18\] Trainer +\d', done.stdout)
    assert re.search(r'Pictures: +the worst kind of picture is [a-z ]+ with \d', done.stdout)
    # The terminal holds progress and the summary; what TFX logs is in a file.
    assert len(done.stdout.splitlines()) < 32
    assert 'absl' not in done.stdout + done.stderr
    # Each process has a log of its own; the second run may have come to its end, too.
    logs = [log.read_text() for log in (project.var / 'logs').iterdir()]
    assert any('Component Pusher is finished.' in log for log in logs)


@_after_the_first_run
def test_the_card_of_the_first_run_is_beside_its_model_and_says_what_the_evaluator_found(project):
    found = results.read(project.config)
    extra = pathlib.Path(project.config.serving_model_dir, project.versions()[0], 'assets.extra')
    card = json.loads((extra / 'model_card.json').read_text())
    overall = card['evaluation']['overall']
    assert card['evaluation']['blessed']
    assert (overall['accuracy'], overall['images']) == (found.accuracy, found.test_images)
    worst = min(card['evaluation']['kinds'], key=lambda each: each['accuracy'])
    assert worst['accuracy'] == found.worst_kind_accuracy
    # The model answers the card as it answers the Evaluator.
    asked = card['asked']
    assert asked['images'] == asked['of_images'] == 1000
    assert asked['correct'] == round(found.accuracy * 1000)
    assert asked['guard']['refused'] == round(overall['refused'] * 1000)
    bins = asked['reliability']
    error = sum(each['images'] * abs(each['accuracy'] - each['mean_score']) for each in bins)
    assert error / 1000 == pytest.approx(overall['calibration_error'], abs=1e-5)
    assert len(asked['mistakes']) == min(20, 1000 - asked['correct'])
    splits = card['data']['splits']
    assert {name: each['images'] for name, each in splits.items()} == {
        'train': 2000,
        'eval': 500,
        'test': 1000,
    }
    assert len(card['data']['fingerprint']) == 64
    assert card['curves']['eval']['accuracy'][-1][1] > 0.8
    assert card['reproduce'] == 'make run PRESET=tiny'
    page = (extra / 'model_card.html').read_text()
    assert f'{found.accuracy:.2%}' in page
    assert 'http://' not in page
    assert _card(project) == extra / 'model_card.html'


def _card(project, *arguments):
    """The path that `make card` prints."""
    command = (sys.executable, '-m', 'pipeline.card', *arguments)
    with project.start(*command, BROWSER='true') as process:
        done = finished(process)
    assert done.returncode == 0, done.stderr
    (path,) = done.stdout.splitlines()
    return pathlib.Path(path)


@_after_the_first_run
def test_cache_keys_have_all_that_the_first_run_imported(imports):
    processes = ('local_runner.py', 'training.worker', 'serving.server')
    by_process: dict[str, set[str]] = {name: set() for name in processes}
    for path in imports.iterdir():
        command, *modules = path.read_text().splitlines()
        for name, imported in by_process.items():
            if name in command:
                imported.update(modules)
    keys = {node: code_version.modules_of(node).keys() for node in code_version.STARTS_WITH}

    def unknown(process, known):
        return {
            module
            for module in by_process[process]
            if module not in known and not module.startswith(code_version.WITHOUT_RESULTS)
        }

    assert 'capsmodel.training.loop' in by_process['training.worker']
    assert 'serving.app' in by_process['serving.server']
    assert unknown('training.worker', keys['Trainer']) == set()
    assert unknown('serving.server', keys['InfraCheck']) == set()
    # Nodes that are never cached have no key; the others are what the runner itself uses.
    assert unknown('local_runner.py', set().union(*keys.values())) == {
        'components.baseline_strategy',
        'components.earlier_statistics',
        'components.locks',
        'components.push_error',
        'components.pusher',
        'components.temporary_files',
        'components.version_folders',
    }


@_after_the_first_run
def test_nothing_is_written_elsewhere(project):
    assert not (project.var / 'home').exists()
    assert sorted(path.name for path in project.var.iterdir()) == [
        'cache',
        'checkpoints',
        'data',
        'locks',
        'logs',
        'metadata',
        'pipeline_root',
        'schema',
        'serving_model',
        'tfx',
        'tmp',
    ]


@_after_the_first_run
def test_pushed_model_answers_without_this_project(project, mnist_dir, tmp_path):
    digits = tfds.as_numpy(
        tfds.load('mnist', split='test[:100]', data_dir=mnist_dir, batch_size=-1)
    )
    images, labels = digits['image'][..., 0], digits['label']
    examples = []
    for image in images:
        example = tf.train.Example()
        png = tf.io.encode_png(image[..., np.newaxis]).numpy()
        example.features.feature['image'].bytes_list.value.append(png)
        examples.append(example.SerializeToString())
    person = np.array([person_png.as_person_png(image) for image in images], dtype=object)
    version_dir = f'{project.config.serving_model_dir}/{project.versions()[0]}'
    model = tf.saved_model.load(version_dir)
    explained = model.signatures['explain'](image_bytes=tf.constant(person.tolist()))
    winners = tf.gather(explained['capsules'], explained['label'], axis=1, batch_dims=1)
    answers = plain_tensorflow.answers(
        version_dir,
        {
            'pixels': {'pixels': images},
            'serving_default': {'image_bytes': person},
            'examples': {'examples': np.array(examples, dtype=object)},
            'explain': {'image_bytes': person},
            'decode': {'capsule': winners.numpy(), 'label': explained['label'].numpy()},
        },
        tmp_path,
    )
    assert np.mean(answers['pixels']['label'] == labels) >= 0.8
    np.testing.assert_array_equal(answers['examples']['label'], answers['pixels']['label'])
    np.testing.assert_allclose(
        answers['examples']['scores'], answers['pixels']['scores'], atol=1e-5
    )
    # A person's picture of a digit, black on white, 200 x 300 and RGBA, is read as the digit is.
    assert np.mean(answers['serving_default']['label'] == answers['pixels']['label']) >= 0.9
    np.testing.assert_allclose(
        answers['decode']['reconstruction'], answers['explain']['reconstruction'], atol=1e-5
    )
    assert answers['explain']['reconstruction'].shape == (100, 28, 28)


@_after_the_first_run
def test_pushed_model_is_served(project, mnist_dir, root):
    digits = tfds.as_numpy(tfds.load('mnist', split='test[:50]', data_dir=mnist_dir, batch_size=-1))
    name, base_path = project.config.pipeline_name, project.config.serving_model_dir
    pictures = map(person_png.as_person_png, digits['image'][..., 0])
    with rest_server(f'--model_name={name}', f'--model_base_path={base_path}') as url:
        found = [client.predict(picture, url)['label'] for picture in pictures]
        _, _, status = request('GET', url)
        pasted = make_commands.make_command(
            'predict', project.config, IMAGE=make_commands.SAMPLE_IMAGE
        )
        predicted = subprocess.run(
            pasted,
            shell=True,
            cwd=root,
            env={'PATH': os.environ['PATH'], 'PORT': str(urllib.parse.urlsplit(url).port)},
            capture_output=True,
            text=True,
            check=False,
        )
    assert np.mean(found == digits['label']) >= 0.8
    assert predicted.returncode == 0, predicted.stderr
    assert re.fullmatch(
        r'(.* The closest is )?\d, score 0\.\d{3}\.?', predicted.stdout.splitlines()[0]
    )
    (version,) = project.versions()
    assert f'"version": "{version}"' in status
    assert '"state": "AVAILABLE"' in status


@_after_the_first_run
def test_pushed_version_is_told_back_to_the_dataset(project, root):
    told = subprocess.run(
        make_commands.make_command('lineage', project.config, VERSION=project.versions()[0]),
        shell=True,
        cwd=root,
        env={'PATH': os.environ['PATH']},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith(f'Version {project.versions()[0]} of capsnet-tiny; ')
    assert re.search(r'by TfdsExampleGen at .*\n.*code [0-9a-f]{16}\n', told.stdout)
    assert 'DATASET=mnist' in told.stdout
    assert 'NETWORK=capsnet' in told.stdout
    assert '(removed)' not in told.stdout
    assert '(changed since)' not in told.stdout
    (outcome,) = [line for line in of_data(project.config, 'mnist') if 'blessed' in line]
    assert outcome.strip() == f'blessed and pushed as version {project.versions()[0]}'


@_after_the_first_run
def test_rerun_that_has_waited_is_cached_and_pushes_nothing(project, second_run):
    versions = project.versions()
    done = finished(second_run())
    assert done.returncode == 0, done.stderr
    assert 'Waiting for another run of capsnet-tiny to end ...\n' in done.stdout
    states = project.states()
    for node in ('TfdsExampleGen', 'Transform', 'Trainer', 'Evaluator', 'ModelCard', 'InfraCheck'):
        assert states[node] == CACHED, node
    # It looks whether the model is still the newest version.
    assert states['Pusher'] == COMPLETE
    assert project.versions() == versions
    pushed_to = f'{project.config.serving_model_dir}/{versions[0]}'
    assert f'Pushed to:      {pushed_to} (in an earlier run)' in done.stdout
    assert os.listdir(project.var / 'tmp') == []


@_after_the_first_run
def test_untrained_network_is_rejected_in_a_folder_that_was_moved(project):
    versions = project.versions()
    project.move()
    done = project.run_by_tfx(LEARNING_RATE='0', EPOCHS='1')
    assert done.returncode == 1
    *_, said, added = done.stderr.strip().splitlines()
    assert added.startswith('Error while running ')
    assert_printed('below bound', said)
    assert said.startswith('The model is rejected: ')
    assert re.search(r'accuracy of all images is 0\.\d+, 0\.\d+ below the bound 0\.8', said)
    assert re.search(r'changed by -0\.\d+ against the last blessed model', said)
    assert 'Traceback' not in done.stderr
    states = project.states()
    assert states['TfdsExampleGen'] == states['Transform'] == CACHED
    assert states['EvaluationGate'] == FAILED
    assert 'Rejected' in _card(project, '--latest').read_text()
    assert not {'InfraCheck', 'Pusher'} & states.keys()
    assert project.versions() == versions


@_after_the_first_run
def test_anomaly_stops_the_run_before_transform(project, tmp_path):
    (schema,) = (project.var / 'schema').glob('*/schema.pbtxt')
    spoiled = tmp_path / 'schema.pbtxt'
    spoiled.write_text(re.sub(r'max: 9\b', 'max: 8', schema.read_text()))
    done = project.run(SCHEMA_FILE=str(spoiled))
    assert done.returncode == 1
    said = sentence(done)
    assert all(word in said for word in ('train', 'eval', 'test', 'label')), said
    assert 'Traceback' not in done.stderr
    assert project.states().keys() == _BEFORE_THE_GATE


@_after_the_first_run
def test_model_that_does_not_answer_in_time_is_not_pushed(project):
    versions = project.versions()
    done = project.run(INFRA_CHECK_TIMEOUT='1')
    assert done.returncode == 1
    assert sentence(done) == (
        'The exported model failed the infra check: it did not load and answer within 1 seconds '
        '(INFRA_CHECK_TIMEOUT).'
    )
    states = project.states()
    assert states['Evaluator'] == CACHED
    assert states['InfraCheck'] == FAILED
    assert 'Pusher' not in states
    assert project.versions() == versions


@_after_the_first_run
def test_pruned_folder_serves_what_it_served_and_a_rerun_is_cached(project, root):
    """After five runs: one that pushed, a cached one, a rejected one, and two that were stopped."""
    versions = project.versions()
    rejected = project.var / 'pipeline_root' / 'capsnet-tiny' / 'Trainer' / 'model'
    assert len(list(rejected.iterdir())) == 2
    before, _ = disk_usage.measured(project.config.var)

    def prune(**variables):
        done = subprocess.run(
            make_commands.make_command('prune', project.config, **variables),
            shell=True,
            cwd=root,
            env={'PATH': os.environ['PATH']},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = prune(KEEP='2')
    removed = prune(KEEP='2', DELETE='yes')
    assert listed.splitlines()[:-1] == removed.splitlines()[:-1]
    assert removed.startswith('What the newest 2 of 5 runs of capsnet-tiny need stays')
    now, _ = disk_usage.measured(project.config.var)
    assert f'Removed: {disk_usage.in_words(before - now)}. ' in removed
    assert before - now > 1e6
    assert len(list(rejected.iterdir())) == 1
    assert list((project.var / 'checkpoints' / 'capsnet-tiny').glob('*/finished')) == []
    assert project.versions() == versions
    name, base_path = project.config.pipeline_name, project.config.serving_model_dir
    with rest_server(f'--model_name={name}', f'--model_base_path={base_path}') as url:
        _, _, status = request('GET', url)
    assert '"state": "AVAILABLE"' in status
    done = project.run()
    assert done.returncode == 0, done.stderr
    states = project.states()
    for node in ('TfdsExampleGen', 'Transform', 'Trainer', 'Evaluator', 'InfraCheck'):
        assert states[node] == CACHED, node
    assert project.versions() == versions
    assert re.search(r'\nDisk: +[\d.]+ MB in ', done.stdout)
