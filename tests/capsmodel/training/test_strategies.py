"""Where training runs, and what is said of a TF_CONFIG that cannot be used."""

import json
import types

import pytest
import tensorflow as tf
from troubles import assert_printed

from capsmodel.training import strategies
from capsmodel.training.errors import TrainingError

_TWO = {'worker': ['127.0.0.1:2001', '127.0.0.1:2002']}


def _configure(monkeypatch, cluster, kind='worker', index=0):
    task = {'type': kind, 'index': index}
    monkeypatch.setenv('TF_CONFIG', json.dumps({'cluster': cluster, 'task': task}))


def test_one_device_is_the_default_strategy(monkeypatch):
    monkeypatch.delenv('TF_CONFIG', raising=False)
    for name in ('auto', 'default'):
        assert strategies.make(name) is tf.distribute.get_strategy()
    assert strategies.make('mirrored').num_replicas_in_sync == 1
    assert strategies.is_chief(tf.distribute.get_strategy())


def test_one_worker_alone_is_chief_and_agrees_with_itself(monkeypatch):
    _configure(monkeypatch, {'worker': ['127.0.0.1:2001']})
    strategy = strategies.make('auto')
    assert strategy is tf.distribute.get_strategy()
    strategies.assert_same_on_all_workers(strategy, 'text', 'state')


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', 'STRATEGY is multi_worker, but TF_CONFIG names no workers'),
        ('{', 'TF_CONFIG must hold the addresses of all workers'),
        ('{"cluster": {}}', "KeyError: 'task'"),
        (json.dumps({'cluster': _TWO, 'task': {'type': 'ps', 'index': 0}}), 'one of chief, worker'),
        (json.dumps({'cluster': _TWO, 'task': {'type': 'worker', 'index': 2}}), 'IndexError'),
    ],
)
def test_wrong_tf_config_is_a_sentence(monkeypatch, text, said):
    monkeypatch.setenv('TF_CONFIG', text)
    with pytest.raises(TrainingError, match=said) as caught:
        strategies.make('multi_worker')
    if text:
        assert_printed('no tf config', str(caught.value))


def test_unknown_strategy_names_those_that_there_are():
    with pytest.raises(ValueError, match="auto, default, mirrored, multi_worker, not 'tpu'"):
        strategies.make('tpu')


def test_errors_of_one_device_are_left_as_they_are():
    with (
        pytest.raises(tf.errors.UnavailableError),
        strategies.report_lost_workers(tf.distribute.get_strategy()),
    ):
        raise tf.errors.UnavailableError(None, None, 'gone')


@pytest.mark.parametrize(
    ('jobs', 'task', 'writes'),
    [
        (('chief', 'worker'), ('chief', 0), True),
        (('chief', 'worker'), ('worker', 0), False),
        (('worker',), ('worker', 0), True),
        (('worker',), ('worker', 1), False),
    ],
)
def test_the_chief_or_else_the_first_worker_writes(jobs, task, writes):
    cluster = tf.train.ClusterSpec({job: ['localhost:1', 'localhost:2'] for job in jobs})
    kind, index = task
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        cluster, task_type=kind, task_id=index
    )
    # A real one would wait for the other workers.
    strategy = types.SimpleNamespace(cluster_resolver=resolver)
    assert strategies.is_chief(strategy) == writes
