"""docs/tutorial.ipynb, as it is in the project and when it runs."""

import base64
import io
import json
import re
import subprocess

import numpy as np
import outer_environment
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image
from project_paths import ROOT
from run_transform import run_transform

from capsmodel import guard, signatures
from capsmodel.data import dataset, features
from capsmodel.networks.settings import CapsNetConfig
from capsmodel.training import loop
from capsmodel.training.settings import TrainingConfig

_NOTEBOOK = ROOT / 'docs' / 'tutorial.ipynb'
_PYTHON = ROOT / '.venv-docs' / 'bin' / 'python'
# A network that learns digits in some seconds, as settings of the notebook and of the training.
_SMALL = {
    'CONV1_FILTERS': '32',
    'PRIMARY_CHANNELS': '8',
    'DIGIT_DIM': '8',
    'DECODER_UNITS': '64,128',
}
_NETWORK = CapsNetConfig(
    28, 28, 10, conv1_filters=32, primary_channels=8, digit_dim=8, decoder_units=(64, 128)
)
_TRAINING = TrainingConfig(epochs=3, batch_size=50, learning_rate=4e-3, learning_rate_decay=0.4)


def _cells(path):
    """The code cells: what each printed, and its picture if it has one."""
    for cell in json.loads(path.read_text())['cells']:
        if cell['cell_type'] == 'code':
            outputs = cell['outputs']
            said = ''.join(line for each in outputs for line in each.get('text', ()))
            pictures = [each['data']['image/png'] for each in outputs if 'data' in each]
            decoded = [Image.open(io.BytesIO(base64.b64decode(each))) for each in pictures]
            yield said, decoded[0] if decoded else None


def test_the_committed_notebook_has_run_and_is_small():
    cells = list(_cells(_NOTEBOOK))
    assert all(said or picture for said, picture in cells)
    assert [picture.size for _, picture in cells if picture] == [
        (10 * 28 * 2, 2 * 28 * 2),
        (11 * 28, 16 * 28),
        (10 * 28 * 2, 2 * 28 * 2),
    ]
    text = _NOTEBOOK.read_text()
    assert len(text) < 300_000
    assert not re.search(r'/(tmp|home|root|work)/', text)


def _run(notebook, output, **settings):
    if not _PYTHON.exists():
        pytest.skip('make setup-docs installs what this test needs')
    return subprocess.run(
        [_PYTHON, ROOT / 'tools' / 'run_notebook.py', notebook, '--output', output],
        env={
            **outer_environment.without_settings(),
            'PYTHONWARNINGS': 'ignore',
            'TF_CPP_MIN_LOG_LEVEL': '3',
            **settings,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def _load(mnist_dir, split):
    examples = tfds.as_numpy(tfds.load('mnist', split=split, data_dir=mnist_dir, batch_size=-1))
    return dataset.LabeledImages(examples['image'][..., 0], examples['label'].astype('int64'))


@pytest.fixture
def var(mnist_dir, tmp_path):
    """A folder of results with a pushed model of a small network."""
    learned, judged = _load(mnist_dir, 'train[:3000]'), _load(mnist_dir, 'train[3000:3300]')
    model = loop.train(_NETWORK, _TRAINING, learned, judged, str(tmp_path / 'log'))
    png = tf.io.encode_png(judged.images[0][..., None]).numpy()
    raw = [{features.IMAGE: png, features.LABEL: 0, features.ID: b'a'}]
    _, transform_output = run_transform(raw, str(tmp_path / 'transform'), 28, 28, 'strokes', 1)
    signatures.export(
        model,
        transform_output,
        str(tmp_path / 'var' / 'serving_model' / 'capsnet' / '17'),
        judged.images[:2],
        guard.thresholds(model, judged.images, false_alarms=0.05),
        [str(label) for label in range(10)],
        'strokes',
    )
    return tmp_path / 'var'


@pytest.mark.slow
def test_it_runs_on_a_pushed_model(var, tmp_path):
    done = _run(_NOTEBOOK, tmp_path / 'run.ipynb', VAR=str(var), **_SMALL)
    assert done.returncode == 0, done.stderr
    cells = list(_cells(tmp_path / 'run.ipynb'))
    loaded, predicted, reconstructed, _, coupled, _ = (said for said, _ in cells)
    assert 'decode: reconstruction\n' in loaded
    assert 'class:  7\n' in predicted
    labels = re.search(r'labels: \[(.*)\]', reconstructed)[1].split()
    assert sum(label == str(digit) for digit, label in enumerate(labels)) >= 8
    assert [picture.size for _, picture in cells if picture] == [
        (10 * 28 * 2, 2 * 28 * 2),
        (11 * 28, 8 * 28),
        (10 * 28 * 2, 2 * 28 * 2),
    ]
    # Each number of the capsule changes what is drawn, and the column in the middle is the same.
    rows = np.split(np.asarray(cells[3][1]), 8)
    assert all((row[:, :28] != row[:, -28:]).any() for row in rows)
    assert all((row[:, 5 * 28 : 6 * 28] == rows[0][:, 5 * 28 : 6 * 28]).all() for row in rows)
    means = [float(mean) for mean in re.findall(r'mean (0\.\d+)', coupled)]
    assert len(means) == 3
    assert means[0] == 0.1
    assert means[0] < means[1] < means[2]


@pytest.mark.slow
def test_a_cell_that_fails_is_said_and_nothing_is_written(tmp_path):
    done = _run(_NOTEBOOK, tmp_path / 'run.ipynb', VAR=str(tmp_path))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(r'A cell of .*tutorial\.ipynb failed: FileNotFoundError: .*', last)
    assert 'Traceback' not in done.stderr
    assert not (tmp_path / 'run.ipynb').exists()
