"""One run of a pipeline at a time, and what happens to ML Metadata's file meanwhile."""

import contextlib
import os
import threading
import time

import pytest
from damaging_component import Afterwards, Damage
from lock_holder import held_elsewhere
from tfx.orchestration.pipeline import Pipeline

from components import locks
from pipeline import configs, metadata
from pipeline.exclusive_runner import ExclusiveRunner
from pipeline.metadata_error import MetadataError


@pytest.fixture
def config(tmp_path):
    return configs.from_preset('tiny', var=str(tmp_path))


def _run(config, *nodes, lines=None):
    pipeline = Pipeline(
        config.pipeline_name,
        config.pipeline_root,
        metadata.connection_config(config),
        components=list(nodes),
    )
    ExclusiveRunner(config, lines).run(pipeline)


def test_it_waits_for_another_run_of_the_same_pipeline(config, capfd):
    run = threading.Thread(target=_run, args=[config, Afterwards()])
    of_pipelines = os.path.join(config.lock_dir, 'pipelines')
    with held_elsewhere(os.path.join(of_pipelines, 'capsnet-tiny')):
        run.start()
        said = ''
        while 'Waiting' not in said:
            assert run.is_alive()
            time.sleep(0.01)
            said += capfd.readouterr().out
        assert said == 'Waiting for another run of capsnet-tiny to end ...\n'
        assert not os.path.exists(config.metadata_path)
        # Another pipeline in the same folder does not wait.
        other = configs.from_preset('tiny', var=config.var, pipeline_name='other')
        _run(other, Afterwards())
    # The other run was killed.
    run.join(60)
    assert os.listdir(config.pipeline_root) == ['Afterwards']


def test_the_summary_is_read_before_another_run_begins(config):
    lock = os.path.join(config.lock_dir, 'pipelines', config.pipeline_name)
    seen = []

    @contextlib.contextmanager
    def lines():
        yield
        with open(lock) as file:
            seen.append(locks.take(file.fileno()))

    _run(config, Afterwards(), lines=lines())
    assert seen == [False]


@pytest.mark.parametrize(
    ('how', 'said'),
    [
        ('removed', 'was removed, emptied or overwritten during the run'),
        ('emptied', 'was removed, emptied or overwritten during the run'),
        pytest.param(
            # TFX tries ten times to connect.
            *('garbage', r'is damaged \('),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_file_that_is_damaged_meanwhile_is_named(config, how, said):
    node = Damage(path=config.metadata_path, how=how)
    with pytest.raises(MetadataError, match=f'{config.metadata_path} {said}.*Or remove it: '):
        _run(config, node, Afterwards())
