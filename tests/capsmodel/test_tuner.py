"""The search for settings: real trials, the best of which TFX gives to the Trainer."""

import dataclasses
import json

import pytest
import training_request
from tfx.components.trainer.fn_args_utils import FnArgs

from capsmodel import tuner
from capsmodel.training.errors import TrainingError

# Of KerasTuner about Python's names.
pytestmark = pytest.mark.filterwarnings('ignore:(currentThread|getName):DeprecationWarning')


def _made(request, trials, strategy='default'):
    settings = dataclasses.asdict(request)
    files = {name: settings.pop(name) for name in ('train_files', 'eval_files')}
    for name in ('log_dir', 'class_names', 'weights_from'):
        del settings[name]
    custom_config = {
        **settings,
        'strategy': strategy,
        'warm_start': False,
        'guard_false_alarms': 0.05,
        'framing': 'strokes',
        'trials': trials,
    }
    return tuner.tuner_fn(FnArgs(**files, custom_config=custom_config))


def _search(request, trials, strategy='default'):
    result = _made(request, trials, strategy)
    result.tuner.search(**result.fit_kwargs)
    return result.tuner


def test_several_workers_are_refused(tmp_path, monkeypatch):
    cluster = {'worker': ['localhost:1', 'localhost:2']}
    task = {'type': 'worker', 'index': 0}
    monkeypatch.setenv('TF_CONFIG', json.dumps({'cluster': cluster, 'task': task}))
    with pytest.raises(TrainingError, match='TUNER=yes searches on one machine'):
        _search(training_request.write(tmp_path), trials=1, strategy='auto')


@pytest.mark.slow
def test_best_trial_is_that_with_the_highest_accuracy(tmp_path, capfd):
    request = training_request.write(tmp_path, epochs=4)
    search = _search(request, trials=2)
    said = capfd.readouterr()
    trials = search.oracle.get_best_trials(2)
    assert said.out == ''
    assert said.err.count('  trial ') == said.err.count('  epoch 4/4: accuracy ') == 2
    assert trials[0].score > trials[1].score > 0
    best = search.get_best_hyperparameters()[0].get_config()['values']
    assert best.keys() == {
        'learning_rate',
        'learning_rate_decay',
        'reconstruction_weight',
        'routing_iterations',
    }
    used = request.with_values(best)
    assert used.training.learning_rate == best['learning_rate']
    assert used.network.routing_iterations == best['routing_iterations']
    assert used.training.epochs == 4
    # The same search is at its end already.
    again = _search(request, trials=2)
    assert 'epoch' not in capfd.readouterr().err
    assert again.get_best_hyperparameters()[0].values == best


def test_request_that_cannot_be_trained_ends_the_search(tmp_path):
    with pytest.raises(TrainingError, match='A batch of 500 images is more than the 200'):
        _search(training_request.write(tmp_path, batch_size=500), trials=2)


def test_trial_that_diverges_counts_as_the_worst(tmp_path, capfd):
    request = training_request.write(tmp_path, epochs=1)
    search = _made(request, trials=1).tuner
    trial = search.oracle.create_trial('tuner0')
    trial.hyperparameters.values['learning_rate'] = 1e30
    assert search.run_trial(trial) == {'accuracy': 0.0}
    assert 'The loss is nan at step ' in capfd.readouterr().err
