"""Tests of trainings that a GPU without TensorFlow runs, here on the CPU."""

import json
import os
import subprocess

import numpy as np
import pytest
from project_paths import ROOT

from benchmarks.training_program import configs, write

JAX_PYTHON = ROOT / '.venv-bench/bin/python'


def test_settings_go_to_the_network_and_to_the_training():
    network, training = configs(['NETWORK=cnn', 'CNN_WIDTH=0.5', 'EPOCHS=3', 'EMA_DECAY=0.9'])
    assert (network.network, vars(network)['cnn_width']) == ('cnn', 0.5)
    assert (training.epochs, training.ema_decay, training.seed) == (3, 0.9, 42)


@pytest.mark.parametrize(
    ('assignment', 'message'),
    [
        ('EPOCHS', "'EPOCHS' must be NAME=VALUE"),
        ('EPOCHS=many', "EPOCHS is 'many': it must be a whole number"),
        ('NETWORK=resnet', "NETWORK is 'resnet': it must be one of capsnet"),
        ('CNN_WIDTH=0.5', 'there is no setting CNN_WIDTH'),
    ],
)
def test_a_wrong_setting_is_refused_in_a_sentence(assignment, message):
    with pytest.raises(ValueError, match='^' + message):
        configs([assignment])


@pytest.mark.slow
@pytest.mark.skipif(not JAX_PYTHON.exists(), reason='`make setup-bench` has not been run')
def test_a_network_learns_and_averages_its_weights(tmp_path):
    """It learns two classes, of light and of dark images, and knows test images of both."""

    def images_of(labels):
        noise = np.random.default_rng(len(labels)).integers(0, 100, (len(labels), 28, 28))
        return (noise + 100 * labels[:, np.newaxis, np.newaxis]).astype(np.uint8)

    labels = {'train': np.arange(5500) % 2, 'test': np.arange(1000) % 2}
    arrays = {f'{split}_images': images_of(of) for split, of in labels.items()}
    np.savez(tmp_path / 'mnist.npz', **arrays, **{f'{k}_labels': v for k, v in labels.items()})
    settings = ['NETWORK=mlp', 'EPOCHS=4', 'BATCH_SIZE=50', 'LEARNING_RATE=0.003', 'EMA_DECAY=0.5']
    write(str(tmp_path), 'light', [*settings, 'AUGMENTATION=shift:1,rotate:5'])

    command = [JAX_PYTHON, '-m', 'benchmarks.gpu_training', tmp_path, 'light', '--test', '--all']
    subprocess.run(
        [*command, '--seeds', '1', '2', '--out', tmp_path],
        check=True,
        capture_output=True,
        cwd=ROOT,
        env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    )

    results = json.loads((tmp_path / 'light.json').read_text())
    first, second = results['trainings']
    assert first['steps'] == 4 * 110
    assert first['loss_error_eval_loss'] != second['loss_error_eval_loss']
    with np.load(tmp_path / 'light.npz') as scores:
        for training in (first, second):
            assert training['test_error_percent'] < 2
            wrong = scores[str(training['seed'])].argmax(axis=1) != labels['test']
            assert 100 * wrong.mean() == training['test_error_percent']
