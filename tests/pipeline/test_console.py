"""What a person sees when a run ends, in whatever way."""

import contextlib
import io
import logging
import os
import subprocess
import sys

import pytest
from absl import logging as absl_logging
from project_paths import PROGRAMS
from tfx import v1 as tfx
from tfx.dsl.components.common import resolver

from pipeline import configs, console, metadata
from pipeline.results import Results


@pytest.mark.parametrize(
    ('seconds', 'text'),
    [
        (0.04, '0.0 s'),
        (9.94, '9.9 s'),
        (59.4, '59 s'),
        (60, '1 min 0 s'),
        (3599, '59 min 59 s'),
        (3600, '1 h 0 min'),
        (7500, '2 h 5 min'),
    ],
)
def test_duration(seconds, text):
    assert console.duration(seconds) == text


def _summary(**changes):
    results = Results(
        **{
            'seconds': 75,
            'accuracy': 0.98765,
            'test_images': 10000,
            'worst_class': '9',
            'worst_class_accuracy': 0.9712,
            'pushed_to': 'var/serving_model/capsnet/17',
            **changes,
        }
    )
    return console.summary(results).splitlines()


def test_summary_of_a_first_model():
    assert _summary() == [
        '',
        'Test accuracy:  98.77% of 10,000 images; the worst class is 9 with 97.12%',
        'Blessed:        yes; there was no blessed model before to compare with',
        'Pushed to:      var/serving_model/capsnet/17',
        'Took:           1 min 15 s',
    ]


def test_summary_of_a_rerun_and_of_a_comparison():
    lines = _summary(accuracy_change=-0.0012, pushed_earlier=True)
    assert lines[2] == 'Blessed:        yes; accuracy -0.12% against the last blessed model'
    assert lines[3] == 'Pushed to:      var/serving_model/capsnet/17 (in an earlier run)'


def test_summary_says_that_earlier_models_cannot_be_compared():
    assert _summary(others_blessed=True)[2] == (
        'Blessed:        yes, by the bounds alone: the blessed models before have other classes, '
        'or look at images of another shape'
    )


def test_summary_names_the_worst_kind_of_picture():
    assert _summary(worst_kind='thin pen', worst_kind_accuracy=0.9412)[2] == (
        'Pictures:       the worst kind of picture is thin pen with 94.12%'
    )


def test_summary_says_how_many_images_were_left_out():
    assert _summary(left_out=1200)[4] == (
        'Left out:       1,200 images of the dataset, which cannot be decoded'
    )


def _run(tmp_path, how, heading='Slices chosen', **environment):
    return subprocess.run(
        [sys.executable, PROGRAMS / 'end_a_run.py', tmp_path, how, heading],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def _log(tmp_path):
    (path,) = (tmp_path / 'logs').iterdir()
    return path, path.read_text()


@pytest.mark.parametrize('how', ['refused', 'without a baseline'])
def test_refusal_is_one_sentence_and_exit_code_1(tmp_path, how):
    done = _run(tmp_path, how)
    assert (done.returncode, done.stdout) == (1, 'Slices chosen\n')
    assert done.stderr == 'The model is rejected: too short.\n'


def test_a_terminal_may_lack_letters(tmp_path):
    done = _run(tmp_path, 'refused', heading='cat, dög', PYTHONIOENCODING='ascii')
    assert done.stdout == 'cat, d\\xf6g\n'
    assert done.stderr == 'The model is rejected: too short.\n'


def test_error_names_the_stage_and_the_log_which_has_the_traceback(tmp_path):
    done = _run(tmp_path, 'failed')
    path, text = _log(tmp_path)
    assert done.returncode == 1
    assert done.stderr == f'Trainer failed: ValueError: no such\nThe whole log: {path}\n'
    assert 'Traceback' in text
    assert 'a detail of TFX' in text


def test_folder_that_cannot_be_written_is_named_without_a_traceback(tmp_path):
    (tmp_path / 'logs').write_text('a file in the place of the folder')
    done = _run(tmp_path, 'well')
    assert done.returncode == 1
    assert str(tmp_path / 'logs') in done.stderr
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('how', ['interrupted', 'stopped', 'told'])
def test_interruption_says_how_to_go_on(tmp_path, how):
    done = _run(tmp_path, how)
    assert done.returncode == 1
    assert done.stderr.startswith('Interrupted. Finished nodes are kept')
    assert 'Traceback' not in done.stderr


@contextlib.contextmanager
def _node(config, heading=''):
    """A run of one node, as the runner logs it."""
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        with console.node_lines(config, nodes=1, heading=heading):
            absl_logging.info('Component %s is running.', 'Trainer')
            yield
            absl_logging.info('Component %s is finished.', 'Trainer')
    finally:
        absl_logging.set_verbosity(verbosity)


@pytest.mark.parametrize('heading', ['', 'Slices chosen'])
def test_a_run_goes_on_without_its_terminal(tmp_path, monkeypatch, heading):
    config = configs.from_preset('tiny', var=str(tmp_path))
    monkeypatch.setattr(logging, 'raiseExceptions', False)  # as open_log does
    with open('/dev/full', 'wb', buffering=0) as full:
        monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(full, write_through=True))
        with _node(config, heading):
            pass
        with (
            pytest.raises(console.NodeFailed, match=r'^Trainer failed: ValueError: no such$'),
            _node(config, heading),
        ):
            raise ValueError('no such')


def test_a_run_is_done_though_its_summary_cannot_be_read(tmp_path, capsys):
    config = configs.from_preset('tiny', var=str(tmp_path))
    with _node(config):
        pass
    node, blank, summary, disk, following, *_ = capsys.readouterr().out.splitlines()
    assert node.startswith('[ 1/1] Trainer ')
    assert blank == ''
    assert summary.startswith('The run is done, but its summary cannot be read: ')
    assert disk.startswith('Disk: ')
    assert following.startswith('Next: ')


class _Failing(resolver.ResolverStrategy):
    def resolve_artifacts(self, store, input_dict):
        raise RuntimeError('database is locked')


def test_node_whose_inputs_cannot_be_resolved_ends_the_run(tmp_path):
    config = configs.from_preset('tiny', var=str(tmp_path))
    pipeline = tfx.dsl.Pipeline(
        pipeline_name=config.pipeline_name,
        pipeline_root=config.pipeline_root,
        metadata_connection_config=metadata.connection_config(config),
        components=[
            tfx.dsl.Resolver(
                strategy_class=_Failing,
                model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
            ).with_id('BaselineResolver')
        ],
    )
    verbosity = absl_logging.get_verbosity()
    absl_logging.set_verbosity(absl_logging.INFO)
    try:
        with (
            pytest.raises(console.NodeFailed, match=r'^BaselineResolver failed: .*its inputs'),
            console.node_lines(config, nodes=1),
        ):
            tfx.orchestration.LocalDagRunner().run(pipeline)
    finally:
        absl_logging.set_verbosity(verbosity)


def test_password_of_ml_metadata_is_not_logged(tmp_path):
    program = PROGRAMS / 'run_nothing_with_a_secret.py'
    subprocess.run([sys.executable, program, tmp_path], check=True)
    log = (tmp_path / 'logs' / 'capsnet-tiny-log.log').read_text()
    assert 'The end.' in log
    assert 'secret' not in log
