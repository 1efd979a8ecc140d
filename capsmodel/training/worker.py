"""The process that trains: `python -m capsmodel.training.worker REQUEST`.

The Trainer starts this process, so that training has its own TensorFlow: one that sees the GPUs,
may be deterministic, and can join other workers. REQUEST is a file that TrainingRequest wrote.

To train on several machines (`--strategy multi_worker`, TF_CONFIG), the Trainer starts the chief's
process, and you run this command on each other machine until it ends with 0. All workers read the
same files. The chief writes the checkpoints and the log. If a worker is lost, all end with 1; start
them again and they resume from the last checkpoint.

The first SIGTERM or SIGINT ends the process after the current step, with a checkpoint; a second one
of its kind ends it at once. The exit code is 0 if the training is complete, else 1.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import start_tensorflow
from capsmodel.training.errors import Diverged, TrainingError, out_of_memory, report_full_disk
from capsmodel.training.request import TrainingRequest


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
    # A dataset that is not read to its end calls Python: while Python ends, it would wait for ever.
    gc.collect()
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

    from capsmodel.data.dataset import load_examples
    from capsmodel.training import loop, strategies, warm_start
    from capsmodel.training.checkpoints import Checkpoints, fingerprint

    for gpu in tf.config.list_physical_devices('GPU'):
        tf.config.experimental.set_memory_growth(gpu, True)
    with stop.at_once():
        strategy = strategies.make(strategy_name)
    # Only now, when all workers are there: before, the file may hold an earlier training's request.
    request = TrainingRequest.read(path)
    if request.deterministic:
        tf.config.experimental.enable_op_determinism()
    shape = request.network.uncropped_shape
    with report_full_disk():
        training_data = load_examples(request.train_files, shape)
        evaluation_data = load_examples(request.eval_files, shape, request.network.crop)
    weights = [w for path in request.weights_from for w in warm_start.exported_weights(path)]
    scaled = request.training.scaled_to(strategy.num_replicas_in_sync)
    name = fingerprint(
        {
            'network': dataclasses.asdict(request.network),
            'training': dataclasses.asdict(scaled),
            'code': request.code_version,
        },
        [*training_data, *evaluation_data, *weights],
    )
    checkpoints = Checkpoints(os.path.join(request.checkpoint_root, name), request.checkpoint_steps)
    is_chief = strategies.is_chief(strategy)
    with checkpoints.locked() if is_chief else contextlib.nullcontext():
        try:
            with strategies.report_lost_workers(strategy):
                model = loop.train(
                    request.network,
                    request.training,
                    training_data,
                    evaluation_data,
                    request.log_dir or None,
                    strategy=strategy,
                    checkpoints=checkpoints,
                    should_stop=stop.requested,
                    profile_steps=request.profile_steps,
                    initial_weights=weights,
                    eval_batch_size=request.eval_batch_size,
                    phase=phase.begins,
                    class_names=request.class_names,
                )
        except Exception as error:
            if is_chief and request.log_dir:
                checkpoints.keep_log(request.log_dir)
            if isinstance(error, tf.errors.ResourceExhaustedError | MemoryError):
                logging.getLogger(__name__).exception('Memory ran out.')
                said = out_of_memory('Memory ran out', phase.name, request.network)
                raise TrainingError(said) from error
            raise
    trained = fingerprint(None, [variable.numpy() for variable in model.variables])
    return {'folder': os.fspath(checkpoints.folder), 'weights': trained}


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
    """Notes the first signal as a request to stop; a second one of its kind ends the process."""

    def __init__(self) -> None:
        self._requested = threading.Event()
        self._set(self._handle)

    def _set(self, handler: Any) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, handler)

    def _handle(self, number: int, frame: Any) -> None:
        self._requested.set()
        # The other one may have come during the same step: Python fails if that has no handler.
        signal.signal(number, signal.SIG_DFL)

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
