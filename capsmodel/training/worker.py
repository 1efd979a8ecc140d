"""The process that trains: `python -m capsmodel.training.worker REQUEST`.

The Trainer starts this process, so that training has its own TensorFlow: one that sees the GPUs,
may be deterministic, and can join other workers. REQUEST is a JSON file that `Request.write` wrote.

To train on several machines (`--strategy multi_worker`, TF_CONFIG), the Trainer starts the chief's
process, and you run this command on each other machine until it ends with 0. All workers read the
same files. The chief writes the checkpoints and the log. If a worker is lost, all end with 1; start
them again and they resume from the last checkpoint.

The first SIGTERM or SIGINT ends the process after the current step, with a checkpoint; the second
one ends it at once. The exit code is 0 if the training is complete, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import logging
import os
import signal
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import start_tensorflow
from capsmodel.training.errors import Diverged, TrainingError, out_of_memory

if TYPE_CHECKING:
    import numpy as np
    import tensorflow as tf

    from capsmodel.data.dataset import LabeledImages
    from capsmodel.networks.capsnet import NetworkConfig
    from capsmodel.training.loop import TrainingConfig


@dataclasses.dataclass(frozen=True)
class Request:
    """What to train.

    Attributes:
        network: The JSON form of NetworkConfig.
        training: The JSON form of TrainingConfig.
        train_files: Patterns of the transformed examples to learn from.
        eval_files: Patterns of those that pick the best epoch.
        log_dir: Folder for TensorBoard; empty: no log.
        checkpoint_root: Folder in which each training has one for its checkpoints.
        checkpoint_steps: Steps between two checkpoints; 0: only each epoch's end has one.
        eval_batch_size: Images a step of an evaluation; 0: as many as there is memory for.
        deterministic: Whether to use deterministic operations only.
        profile_steps: First and last step that TensorFlow's profiler looks at; none: no profile.
        warm_start_from: Folder of an exported network whose weights to start from; empty: none.
        code_version: Of the code that trains: a checkpoint of another one is not used.
    """

    network: dict[str, Any]
    training: dict[str, Any]
    train_files: list[str]
    eval_files: list[str]
    log_dir: str
    checkpoint_root: str
    checkpoint_steps: int
    eval_batch_size: int
    deterministic: bool
    profile_steps: list[int]
    warm_start_from: str
    code_version: str

    def with_values(self, values: Mapping[str, Any]) -> Request:
        """The same with other values of the settings of network and training so named."""
        changed: dict[str, Any] = {
            part: {name: values.get(name, value) for name, value in getattr(self, part).items()}
            for part in ('network', 'training')
        }
        return dataclasses.replace(self, **changed)

    def with_absolute_paths(self) -> Request:
        """The same for processes that have another working directory."""
        return dataclasses.replace(
            self,
            train_files=[_absolute(path) for path in self.train_files],
            eval_files=[_absolute(path) for path in self.eval_files],
            log_dir=_absolute(self.log_dir),
            checkpoint_root=_absolute(self.checkpoint_root),
            warm_start_from=_absolute(self.warm_start_from),
        )

    def write(self, path: str | os.PathLike) -> None:
        """Writes the request as JSON."""
        unfinished = f'{os.fspath(path)}.{uuid.uuid4().hex}'
        with open(unfinished, 'w', encoding='utf-8') as file:
            json.dump(dataclasses.asdict(self), file)
        os.replace(unfinished, path)

    @classmethod
    def read(cls, path: str | os.PathLike) -> Request:
        """Reads what `write` wrote.

        Raises:
            TrainingError: It is not there, or not a request.
        """
        try:
            with open(path, encoding='utf-8') as file:
                return cls(**json.load(file))
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f'The request {path} cannot be read: {error}') from error


def main() -> None:
    """Trains as the command line says."""
    parser = argparse.ArgumentParser(description='Trains a network.')
    parser.add_argument('request', help='JSON file that says what to train')
    parser.add_argument(
        '--supervised',
        action='store_true',
        help='print the phases and the outcome as lines of JSON; stop when standard input ends',
    )
    parser.add_argument(
        '--strategy', default='auto', help='auto, default, mirrored or multi_worker (TF_CONFIG)'
    )
    arguments = parser.parse_args()
    stop = _Stop()
    phase = _Phase(arguments.supervised)
    _send_noise_to_standard_output()
    if arguments.supervised:
        stop.when_standard_input_ends()
    try:
        outcome = _train(arguments.request, arguments.strategy, stop, phase)
    except Diverged as error:
        outcome = {'diverged': str(error)}
    except TrainingError as error:
        outcome = {'error': str(error)}
    except Exception as error:
        logging.getLogger(__name__).exception('Training failed.')
        outcome = {'failure': f'{type(error).__name__}: {error}'}
    if arguments.supervised:
        print(json.dumps(outcome), flush=True)
    elif 'folder' not in outcome:
        print(*outcome.values(), file=sys.stderr)
    sys.exit('folder' not in outcome)


def _train(path: str, strategy_name: str, stop: _Stop, phase: _Phase) -> dict[str, str]:
    """Trains to the end, from the last checkpoint on.

    Returns:
        `folder`, the folder of the checkpoints, and `weights`, a fingerprint of the weights.

    Raises:
        TrainingError: The training cannot start or go on, memory runs out, or `stop` was requested.
    """
    # TensorFlow takes seconds to load: `stop` handles signals meanwhile.
    import tensorflow as tf

    from capsmodel.training import loop, strategies
    from capsmodel.training.checkpoints import Checkpoints, fingerprint

    for gpu in tf.config.list_physical_devices('GPU'):
        tf.config.experimental.set_memory_growth(gpu, True)
    with stop.at_once():
        strategy = strategies.make(strategy_name)
    # Only now, when all workers are there: before, the file may hold an earlier training's request.
    request = Request.read(path)
    if request.deterministic:
        tf.config.experimental.enable_op_determinism()
    given = _read_inputs(request)
    folder = os.path.join(request.checkpoint_root, _identity(request, given, strategy))
    checkpoints = Checkpoints(folder, request.checkpoint_steps)
    is_chief = strategies.is_chief(strategy)
    with checkpoints.locked() if is_chief else contextlib.nullcontext():
        try:
            with strategies.report_lost_workers(strategy):
                model = loop.train(
                    given.network_config,
                    given.training_config,
                    given.training_data,
                    given.evaluation_data,
                    request.log_dir or None,
                    strategy=strategy,
                    checkpoints=checkpoints,
                    should_stop=stop.requested,
                    profile_steps=request.profile_steps,
                    initial_weights=given.initial_weights,
                    eval_batch_size=request.eval_batch_size,
                    phase=phase.begins,
                )
        except Exception as error:
            if is_chief and request.log_dir:
                checkpoints.keep_log(request.log_dir)
            if isinstance(error, tf.errors.ResourceExhaustedError | MemoryError):
                logging.getLogger(__name__).exception('Memory ran out.')
                raise TrainingError(out_of_memory('Memory ran out', phase.name)) from error
            raise
    trained = fingerprint(None, [variable.numpy() for variable in model.variables])
    return {'folder': os.fspath(checkpoints.folder), 'weights': trained}


class _Inputs(NamedTuple):
    """What a request names, read from its files."""

    network_config: NetworkConfig
    training_config: TrainingConfig
    training_data: LabeledImages
    evaluation_data: LabeledImages
    initial_weights: list[np.ndarray]


def _read_inputs(request: Request) -> _Inputs:
    from capsmodel.data.dataset import load_examples
    from capsmodel.networks.capsnet import NetworkConfig
    from capsmodel.training.loop import TrainingConfig
    from capsmodel.training.warm_start import exported_weights

    network_config = NetworkConfig.from_json_dict(request.network)
    size = (network_config.image_height, network_config.image_width)
    return _Inputs(
        network_config,
        TrainingConfig.from_json_dict(request.training),
        load_examples(request.train_files, *size),
        load_examples(request.eval_files, *size),
        exported_weights(request.warm_start_from) if request.warm_start_from else [],
    )


def _identity(request: Request, given: _Inputs, strategy: tf.distribute.Strategy) -> str:
    """A fingerprint of everything that decides the training's result."""
    from capsmodel.training.checkpoints import fingerprint

    scaled = given.training_config.scaled_to(strategy.num_replicas_in_sync)
    settings = {
        'network': given.network_config.to_json_dict(),
        'training': scaled.to_json_dict(),
        'code': request.code_version,
    }
    arrays = [*given.training_data, *given.evaluation_data, *given.initial_weights]
    return fingerprint(settings, arrays)


def _absolute(path: str) -> str:
    return path if not path or '://' in path else os.path.abspath(path)


class _Phase:
    """What the training is doing, printed as a line of JSON if `is_printed`."""

    def __init__(self, is_printed: bool) -> None:
        self.name = ''
        self._is_printed = is_printed

    def begins(self, name: str) -> None:
        self.name = name
        if self._is_printed:
            print(json.dumps({'phase': name}), flush=True)


class _Stop:
    """Notes the first signal as a request to stop, and lets the second one end the process."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._set(self._handle)

    def _set(self, handler: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        self._requested.set()
        self._set(signal.SIG_DFL)

    @contextlib.contextmanager
    def at_once(self) -> Iterator[None]:
        """Inside, SIGINT ends the process at once.

        While TensorFlow waits for other workers, no Python code runs, not even signal handlers.
        TensorFlow also replaces the handler for SIGTERM, which is restored at the end.
        """
        self._set(signal.SIG_DFL)
        try:
            yield
        finally:
            self._set(self._handle)

    def when_standard_input_ends(self) -> None:
        """Requests a stop when the process that started this one is gone, and writes no more."""

        def wait() -> None:
            while os.read(0, 1):
                pass
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for descriptor in (1, 2, sys.stderr.fileno()):
                os.dup2(nowhere, descriptor)
            self._requested.set()

        threading.Thread(target=wait, daemon=True).start()

    def requested(self) -> bool:
        return self._requested.is_set()


def _send_noise_to_standard_output() -> None:
    """Keeps standard error for messages to a person.

    Log lines of libraries, and what TensorFlow writes to file descriptor 2, go to standard output,
    which the Trainer copies to the log of the run.
    """
    person = os.fdopen(os.dup(2), 'w', buffering=1)
    os.dup2(1, 2)
    logging.basicConfig(stream=sys.stdout, format='%(levelname)s %(name)s: %(message)s')
    logging.captureWarnings(True)
    # TensorFlow's logger keeps the standard error that it finds when it is imported.
    start_tensorflow.load()
    sys.stderr = person


if __name__ == '__main__':
    main()
