"""Other data and another network through the whole pipeline, by the real tfx CLI."""

import os
import pathlib
import re
import shutil
import signal
import time

import numpy as np
import pytest
import tensorflow as tf
import tfds_data
from tfx_project import CACHED, COMPLETE, Project, finished, sentence

from pipeline import results

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
_after_the_first_run = pytest.mark.goes_on_from(
    'test_another_dataset_and_network_run_to_a_pushed_model'
)

# People's pictures are neither drawn nor read: the other tests see to that.
_PLAIN = {'FRAMING': 'whole'}


def _run_to_the_end(project):
    done = project.run()
    assert done.returncode == 0, done.stderr
    assert set(project.states().values()) == {COMPLETE}
    (version,) = project.versions()
    return done, tf.saved_model.load(f'{project.config.serving_model_dir}/{version}')


def _run_killed_in_training(project):
    """A run by the tfx CLI that is killed, with all its processes, after its first checkpoint."""
    created = project.create()
    assert created.returncode == 0, created.stderr
    checkpoints = pathlib.Path(project.config.checkpoint_dir)
    command = project.command('run', 'create', f'--pipeline_name={project.config.pipeline_name}')
    with project.start(*command, start_new_session=True) as process:
        while not list(checkpoints.glob('*/step-*[0-9]')):
            assert process.poll() is None, finished(process)
            time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        return finished(process)


@pytest.fixture(scope='module')
def splits():
    return {
        'train': tfds_data.synthetic_images(2500, seed=1),
        'test': tfds_data.synthetic_images(1000, seed=2),
    }


@pytest.fixture(scope='module')
def other(root, splits, tmp_path_factory):
    """Another dataset, which a network without a decoder learns."""
    var = tmp_path_factory.mktemp('other')
    tfds_data.write_dataset(var / 'data', splits, dataset='fashion_mnist')
    return Project(root, var, DATASET='fashion_mnist', DECODER='no')


def test_another_dataset_and_network_run_to_a_pushed_model(other, splits):
    assert other.config.pipeline_name == 'capsnet-fashion_mnist-tiny'
    done, model = _run_to_the_end(other)
    line = (
        'Slices chosen of fashion_mnist: TRAIN_SPLIT=train[:2000] (2,000 images), '
        'EVAL_SPLIT=train[2000:] (500 images), TEST_SPLIT=test (1,000 images)\n[ 1/17]'
    )
    assert line in done.stdout
    assert set(model.signatures) == {'serving_default', 'pixels', 'examples', 'explain'}
    images, labels = splits['test']
    answer = model.signatures['pixels'](pixels=tf.constant(images))
    correct = (answer['label'].numpy() == labels).mean()
    assert correct >= 0.8
    assert f'Test accuracy:  {correct:.2%} of 1,000 images' in done.stdout


@_after_the_first_run
def test_slices_that_are_not_there_are_named_and_no_node_runs(other):
    states = other.states()
    wrong = {'TRAIN_SPLIT': 'train[:2501]', 'EVAL_SPLIT': 'valid', 'TEST_SPLIT': 'test[:999]'}
    refused = other.run(DATASET='fashion_mnist:3.0.1', **wrong)
    assert refused.returncode == 1
    said = sentence(refused)
    for name, pattern in wrong.items():
        assert f'{name} ({pattern!r})' in said
    assert 'MIN_TEST_IMAGES asks for at least 1,000' in said
    assert other.states() == states


@_after_the_first_run
def test_a_pushed_network_becomes_a_member_of_an_ensemble(other, root, tmp_path):
    (version,) = other.versions()
    pushed = pathlib.Path(other.config.serving_model_dir, version)
    model = tf.saved_model.load(str(pushed))
    before = results.read(other.config)
    twin = shutil.copytree(pushed, tmp_path / 'twin')
    together = other.run(
        NETWORK='ensemble',
        MEMBERS=f'{pushed},{twin}',
        DECODER='',
        PIPELINE_NAME=other.config.pipeline_name,
    )
    assert together.returncode == 0, together.stderr
    assert 'nothing is trained: the network is made of 2 members' in together.stderr
    assert 'the last blessed one is another network, capsnet' in together.stderr
    assert results.read(other.config).accuracy == before.accuracy
    states = other.states()
    assert states['Transform'] == CACHED
    assert states['Trainer'] == states['Evaluator'] == states['Pusher'] == COMPLETE
    for folder in (pushed, twin):
        shutil.rmtree(folder)
    (version,) = other.versions()
    ensemble = tf.saved_model.load(f'{other.config.serving_model_dir}/{version}')
    picture = tf.constant([pathlib.Path(root, 'docs', 'seven.png').read_bytes()])
    alone, both = (m.signatures['explain'](image_bytes=picture) for m in (model, ensemble))
    np.testing.assert_allclose(both['scores'], alone['scores'], rtol=1e-4, atol=1e-6)
    assert alone.keys() - both.keys() == {'capsules'}


def test_a_killed_training_from_the_last_blessed_model_goes_on_and_that_model_must_be_there(
    root, mnist_dir, tmp_path
):
    (tmp_path / 'var').mkdir()
    (tmp_path / 'var' / 'data').symlink_to(mnist_dir)
    settings = {**_PLAIN, 'WARM_START': 'yes', 'EPOCHS': '3', 'CHECKPOINT_STEPS': '5'}
    project = Project(root, tmp_path / 'var', MAX_ACCURACY_DROP='1', **settings)
    first, _ = _run_to_the_end(project)
    assert 'training starts from random weights: no model is blessed' in first.stderr
    killed = _run_killed_in_training(project)
    assert 'training starts from the last blessed model' in killed.stderr
    project.move()
    second = project.run()
    assert second.returncode == 0, second.stderr
    assert re.search(r'resuming from the checkpoint of step \d+ of 120', second.stderr)
    accuracies = [
        [float(found) for found in re.findall(r'epoch 1/3: accuracy ([\d.]+)%', said)]
        for said in (first.stderr, killed.stderr + second.stderr)
    ]
    assert accuracies[1][0] > accuracies[0][0]
    states = project.states()
    assert states['TfdsExampleGen'] == states['Transform'] == CACHED
    assert states['Trainer'] == states['Pusher'] == COMPLETE
    assert re.search(r'Blessed:        yes; accuracy [+-]\d\.\d\d% against', second.stdout)
    assert len(project.versions()) == 2
    assert os.listdir(project.config.checkpoint_dir) == ['request.json']

    models = pathlib.Path(project.config.pipeline_root, 'Trainer', 'model')
    last = max(models.iterdir(), key=lambda path: int(path.name))
    shutil.rmtree(last)
    third = project.run()
    assert third.returncode == 1
    said = sentence(third)
    assert said.startswith('The last blessed model is missing')
    assert f'{last}/Format-Serving' in said
    assert 'Traceback' not in third.stderr
    assert len(project.versions()) == 2


def test_tuner_finds_settings_that_the_trainer_uses(root, mnist_dir, tmp_path):
    (tmp_path / 'data').symlink_to(mnist_dir)
    low = {'MIN_ACCURACY': '0.2', 'MIN_CLASS_ACCURACY': '0'}
    project = Project(root, tmp_path, TUNER='yes', TUNER_TRIALS='2', EPOCHS='2', **low, **_PLAIN)
    done, _ = _run_to_the_end(project)
    tried = re.findall(r'trial \d/2: learning_rate ([\d.e-]+), learning_rate_decay', done.stderr)
    assert len(tried) == 2
    used = re.findall(r'50 images a step; learning rate ([\d.e-]+)\n', done.stderr)
    assert [float(rate) for rate in used[:2]] == pytest.approx([float(r) for r in tried], rel=1e-3)
    assert used[2] in used[:2]
    assert 'Search space' not in done.stdout
    assert os.listdir(project.config.checkpoint_dir) == ['request.json']


def test_dataset_that_is_not_prepared_is_named(root, tmp_path):
    project = Project(root, tmp_path)
    done = project.run()
    assert done.returncode == 1
    assert 'mnist is not prepared' in done.stderr
    assert f'To prepare it: make data VAR={tmp_path}\n' in done.stderr
    assert 'Traceback' not in done.stderr
