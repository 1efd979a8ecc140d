"""The function that TFX's Tuner calls: a search for the best settings of a training.

Each trial is a training run with settings drawn at random (Bergstra, Bengio 2012, "Random Search
for Hyper-Parameter Optimization").
"""

from __future__ import annotations

import contextlib
import io
import os
import pathlib
from typing import Any

import keras_tuner
from tfx.components.trainer.fn_args_utils import FnArgs
from tfx.components.tuner.component import TunerFnResult

from capsmodel.networks import table
from capsmodel.networks.settings import RoutingSettings
from capsmodel.summaries.console import say
from capsmodel.training import launcher, strategies
from capsmodel.training.checkpoints import FINISHED, fingerprint
from capsmodel.training.errors import Diverged, TrainingError
from capsmodel.training.request import TrainingRequest
from capsmodel.training.state import load_best

_OBJECTIVE = keras_tuner.Objective('accuracy', 'max')


def tuner_fn(fn_args: FnArgs) -> TunerFnResult:
    """Makes the tuner of a search.

    `fn_args.custom_config` holds the same as for the Trainer (see `trainer.run_fn`), and `trials`,
    the number of trials. Trials never start from the weights of an earlier model.

    Raises:
        TrainingError: There are several workers.
    """
    settings = dict(fn_args.custom_config)
    trials = settings.pop('trials')
    strategy = settings.pop('strategy')
    del settings['warm_start'], settings['guard_false_alarms'], settings['framing']
    if strategies.has_several_workers(strategy):
        raise TrainingError(
            'TUNER=yes searches on one machine, and TF_CONFIG names several: each trial is a '
            'training of its own, and the other workers go away after the first. Search with '
            'STRATEGY=default, then train with what was found, and without TUNER'
        )
    request = TrainingRequest(
        train_files=fn_args.train_files,
        eval_files=fn_args.eval_files,
        log_dir='',
        class_names=[],
        weights_from=[],
        **settings,
    )
    # Results do not depend on how many images are evaluated at once.
    decisive = {**fn_args.custom_config, 'eval_batch_size': 0}
    search = fingerprint([decisive, fn_args.train_files, fn_args.eval_files], [])
    folder = os.path.join(request.checkpoint_root, f'tuner-{search}')
    with contextlib.redirect_stdout(io.StringIO()):  # it prints that it resumes a search
        tuner = TrainingTuner(request, strategy, trials, folder)
    return TunerFnResult(tuner=tuner, fit_kwargs={'verbose': 0})


class TrainingTuner(keras_tuner.Tuner):
    """Trains with settings drawn at random, and ranks them by the accuracy of the best epoch.

    An interrupted search resumes, and so does its current trial from the training's checkpoint.

    Args:
        request: What to train; each trial replaces some of its settings.
        strategy: Where to train, one of `training.settings.STRATEGIES`.
        trials: The number of trials.
        folder: Where to keep the state of the search.
    """

    def __init__(self, request: TrainingRequest, strategy: str, trials: int, folder: str) -> None:
        space = keras_tuner.HyperParameters()
        space.Float('learning_rate', 1e-4, 1e-2, sampling='log')
        if request.training.learning_rate_schedule == 'exponential':
            space.Float('learning_rate_decay', 0.1, 1.0)
        if isinstance(request.network, RoutingSettings):
            space.Int('routing_iterations', 1, 5)
        if request.network.has_decoder:
            space.Float('reconstruction_weight', 5e-5, 5e-3, sampling='log')
        self._request = request
        self._strategy = strategy
        self._trials = trials
        oracle = keras_tuner.oracles.RandomSearchOracle(
            objective=_OBJECTIVE,
            max_trials=trials,
            seed=request.training.seed,
            hyperparameters=space,
        )
        path = pathlib.Path(folder)
        super().__init__(oracle, directory=str(path.parent), project_name=path.name)

    def run_trial(self, trial: Any, **kwargs: Any) -> dict[str, float]:
        """Trains with the settings of a trial and returns the accuracy of the best epoch."""
        values = trial.hyperparameters.values
        shown = ', '.join(f'{name} {value:.4g}' for name, value in sorted(values.items()))
        say(f'trial {int(trial.trial_id) + 1}/{self._trials}: {shown}')
        request = self._request.with_values(values)
        try:
            checkpoints = launcher.train(request, self._strategy)
        except Diverged as error:
            say(str(error))
            return {_OBJECTIVE.name: 0.0}
        except TrainingError as error:
            raise _Ended(*error.args) from error
        progress = load_best(table.create(request.network), checkpoints)
        checkpoints.finish()
        assert progress.best is not None
        return {_OBJECTIVE.name: progress.best[0]}

    def on_search_end(self) -> None:
        """Marks the folder of the search as ready to be removed."""
        pathlib.Path(self.project_dir, FINISHED).touch()

    def search_space_summary(self, extended: bool = False) -> None:
        """Prints nothing, although TFX calls it."""

    def results_summary(self, num_trials: int = 10) -> None:
        """Prints nothing, although TFX calls it."""


class _Ended(TrainingError, keras_tuner.errors.FatalError):
    """Ends the search; any other error would only count as a failed trial."""
