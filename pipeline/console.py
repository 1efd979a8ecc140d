"""What you see of a run: a line for each node, a summary, or a sentence that says why it stopped.

Everything else that TFX, Beam and TensorFlow write goes to a log file.
"""

from __future__ import annotations

import contextlib
import datetime
import errno
import io
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

import start_tensorflow
from capsmodel.training.errors import TrainingError
from components.datasets.errors import DatasetError, NotPrepared, first_line
from components.gate import BaselineMissing, GateRefused
from components.push_error import PushError
from pipeline import disk_usage, make_commands
from pipeline.configs import SettingError
from pipeline.metadata_error import MetadataError
from pipeline.settings import Config

if TYPE_CHECKING:
    from pipeline.results import Results

_INTERRUPTED = 'Interrupted. Finished nodes are kept: the same command resumes from there.'

# Errors whose message is for the person who started the run.
_FOR_PEOPLE = (DatasetError, GateRefused, MetadataError, PushError, SettingError, TrainingError)

# LocalDagRunner logs these by absl before and after it launches a node.
STARTED = 'Component %s is running.'
_FINISHED = 'Component %s is finished.'
# These say how to reach ML Metadata, with a database's password.
_SECRET = ('Using deployment config:\n %s', 'Using connection config:\n %s')


def open_log(config: Config, name: str = '') -> str:
    """Sends the process's log and warnings to a file and returns its path.

    The pipeline and `name`, by default the time and the process, name the file.

    Call it before TensorFlow is imported: by then TensorFlow would have written to the terminal,
    and Keras to the home directory. The first line that is logged creates the file.
    """
    os.environ.setdefault('KERAS_HOME', os.path.join(config.cache_dir, 'keras'))
    os.makedirs(config.log_dir, exist_ok=True)
    if not os.access(config.log_dir, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), config.log_dir)
    if not name:
        # Two runs may start within a second.
        name = f'{datetime.datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}'
    path = os.path.join(config.log_dir, f'{config.pipeline_name}-{name}.log')
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter('%(asctime)s %(levelname)s %(name)s: %(message)s'))
    handler.addFilter(lambda record: record.msg not in _SECRET)
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    # A log that cannot be written, as on a full disk, must not cover the terminal.
    logging.raiseExceptions = False
    warnings.simplefilter('default')
    from absl import logging as absl_logging

    absl_logging.set_verbosity(absl_logging.INFO)
    # TensorFlow's logger has a handler of its own that writes to the terminal.
    tensorflow_logger = logging.getLogger('tensorflow')
    tensorflow_logger.handlers = [logging.NullHandler()]
    return path


class NodeLines(logging.Handler):
    """Prints a line when the runner has finished a node."""

    def __init__(self, config: Config, nodes: int, heading: str = ''):
        """Prints lines for a pipeline of `nodes` nodes, after a heading if there is one."""
        super().__init__()
        self.current = ''
        self._config = config
        self._nodes = nodes
        self._heading = heading
        self._number = 0
        self._started = 0.0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if record.msg == STARTED and record.args:
                self._start(record.getMessage().split()[1])
            elif record.msg == _FINISHED:
                self._finish()
        except OSError:
            # The run goes on without a terminal.
            self.handleError(record)

    def _start(self, node: str) -> None:
        self.current = node
        self._number += 1
        self._started = time.monotonic()
        # Not before: the tfx command, too, loads the pipeline when it only registers it.
        if self._number == 1 and self._heading:
            print(self._heading, flush=True)
        if sys.stdout.isatty():
            print(f'{self._label()} ...', end='\r', flush=True)

    def _finish(self) -> None:
        from pipeline import results

        took = duration(time.monotonic() - self._started)
        state = self._state()
        if state == results.FAILED:
            # The runner goes on where the inputs of a node could not be resolved. Without the model
            # of its resolver, the Evaluator would bless one that was compared with nothing.
            raise LookupError('its inputs could not be read from ML Metadata')
        if state == results.CACHED:
            took = 'cached'
        clear = '\033[K' if sys.stdout.isatty() else ''
        print(f'{clear}{self._label()} {took}', flush=True)

    def _state(self) -> int | None:
        from pipeline import results

        try:
            return results.node_states(self._config).get(self.current)
        except Exception:
            # The run goes on without this line.
            logging.getLogger(__name__).exception('Cannot read how the node ended.')
            return None

    def _label(self) -> str:
        return f'[{self._number:2}/{self._nodes}] {self.current:18}'


@contextlib.contextmanager
def node_lines(
    config: Config, nodes: int, heading: str = '', *, is_summarized: bool = True
) -> Iterator[None]:
    """Prints the nodes of a run that happens inside, then its summary.

    Args:
        config: The settings of the run.
        nodes: The number of nodes in the pipeline.
        heading: A line that comes before them.
        is_summarized: Whether there is a summary: a pipeline without a model has none.

    Raises:
        NodeFailed: A node raised an error that you cannot mend by a setting.
    """
    lines = NodeLines(config, nodes, heading)
    logger = logging.getLogger('absl')
    logger.addHandler(lines)
    try:
        yield
    except (*_FOR_PEOPLE, KeyboardInterrupt):
        raise
    except Exception as error:
        if not lines.current:
            raise
        raise NodeFailed.of(lines.current, error) from error
    finally:
        logger.removeHandler(lines)
    if lines.current and is_summarized:
        _print_summary(config)


def _print_summary(config: Config) -> None:
    from pipeline import results

    try:
        text = summary(results.read(config))
    except Exception as error:
        # The run succeeded and its model is live, even if its records cannot be read.
        logging.getLogger(__name__).exception('There is no summary.')
        text = f'\nThe run is done, but its summary cannot be read: {error}'
    first, *others = make_commands.next_steps(config)
    disk = disk_usage.of_folder(config.var, make_commands.make_command('prune', config, KEEP='5'))
    steps = [_labelled('Disk', disk), _labelled('Next', first)]
    steps += [_labelled('', step) for step in others]
    with contextlib.suppress(OSError):  # without a terminal as well, the run is done
        print('\n'.join([text, *steps]), flush=True)


class NodeFailed(Exception):
    """A node of the pipeline has no results, for the reason that the message gives."""

    @classmethod
    def of(cls, node: str, error: Exception) -> NodeFailed:
        """The failure of a node that raised an error."""
        return cls(f'{node} failed: {type(error).__name__}: {first_line(error)}')


@contextlib.contextmanager
def exit_on_error(config: Config, log_name: str = '') -> Iterator[None]:
    """Ends the process with exit code 1 and one sentence if anything goes wrong inside.

    The traceback goes to the log, which is opened first under `log_name` (see `open_log`). Then
    TensorFlow is loaded, before the context is entered.
    """
    try:
        log = open_log(config, log_name)
    except OSError as error:
        sys.exit(f'No log can be written in {config.log_dir}: {error.strerror}')
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal may lack letters that the classes' names have.
        sys.stdout.reconfigure(errors='backslashreplace')
    try:
        interrupted = _interrupts()
        try:
            start_tensorflow.load()
            with start_tensorflow.without_noise():
                yield
        except (Exception, BaselineMissing) as error:
            logging.getLogger(__name__).exception('The run ends here.')
            sys.exit(_sentence(error, config, log, interrupted.is_set()))
    except KeyboardInterrupt:
        # It may also come while an error is told.
        sys.exit(_INTERRUPTED)


def _sentence(error: BaseException, config: Config, log: str, is_interrupted: bool) -> str:
    if isinstance(error, NotPrepared):
        return f'{error}. To prepare it: {make_commands.make_command("data", config)}'
    if isinstance(error, (*_FOR_PEOPLE, BaselineMissing)):
        return str(error)
    if is_interrupted:
        return _INTERRUPTED
    prefix = '' if isinstance(error, NodeFailed) else f'{type(error).__name__}: '
    return f'{prefix}{error}\nThe whole log: {log}'


def _interrupts() -> threading.Event:
    """Raises KeyboardInterrupt at Ctrl-C and SIGTERM from now on, so that temporary files go.

    By itself, the first process of a container ignores SIGTERM.

    Returns:
        Set once that has happened. Libraries make other errors of it: a module in C that is being
        imported, for one, is then missing.
    """
    interrupted = threading.Event()

    def interrupt(number: int, frame: Any) -> NoReturn:
        interrupted.set()
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    # A shell starts what runs in the background with Ctrl-C ignored.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    return interrupted


def summary(results: Results) -> str:
    """The closing lines of a run that succeeded."""
    lines = [
        (
            'Test accuracy',
            f'{results.accuracy:.2%} of {results.test_images:,} images; the worst class is '
            f'{results.worst_class} with {results.worst_class_accuracy:.2%}',
        ),
        *([('Pictures', _worst_kind(results))] if results.worst_kind else []),
        ('Blessed', _blessing(results)),
        (
            'Pushed to',
            results.pushed_to + (' (in an earlier run)' if results.pushed_earlier else ''),
        ),
        *([('Left out', _left_out(results))] if results.left_out else []),
        ('Took', duration(results.seconds)),
    ]
    return '\n' + '\n'.join(_labelled(name, text) for name, text in lines)


def _labelled(name: str, text: str) -> str:
    return f'{name + ":" if name else "":15} {text}'


def _worst_kind(results: Results) -> str:
    return (
        f'the worst kind of picture is {results.worst_kind} with {results.worst_kind_accuracy:.2%}'
    )


def _left_out(results: Results) -> str:
    return f'{results.left_out:,} images of the dataset, which cannot be decoded'


def _blessing(results: Results) -> str:
    if results.accuracy_change is None and results.others_blessed:
        return (
            'yes, by the bounds alone: the blessed models before have other classes, or look at '
            'images of another shape'
        )
    if results.accuracy_change is None:
        return 'yes; there was no blessed model before to compare with'
    return f'yes; accuracy {results.accuracy_change:+.2%} against the last blessed model'


def duration(seconds: float) -> str:
    """`7.2 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 10:
        return f'{seconds:.1f} s'
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s'
    if whole < 3600:
        return f'{whole // 60} min {whole % 60} s'
    return f'{whole // 3600} h {whole % 3600 // 60} min'
