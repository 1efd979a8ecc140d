"""The log of a training for TensorBoard.

The log's folder holds the settings and the network's graph; its folder `train` has the measurements
of steps, and `eval` has those of evaluations.

An error in the log never ends a training: anything that cannot be drawn or written is left out, and
a message says so.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams_api
from tensorboard.plugins.hparams import api_pb2 as hparams_pb2
from tensorboard.plugins.hparams import summary as hparams_summary

from capsmodel.data import dataset
from capsmodel.data.stored_images import StoredImages
from capsmodel.networks.network import Network
from capsmodel.summaries import coupling, event_files, pictures
from capsmodel.summaries.console import reason, say

STEPS_BETWEEN_SCALARS = 20

_PROFILE = 'the profile'

_ROUTED_IMAGES = 16
# The predictions that coupling coefficients are computed from may take this much: if those of an
# image are large, there are fewer images.
_ROUTED_BYTES = 2**27
_CLASSES_WITH_HISTOGRAMS = 30  # more classes share one pair of histograms


class TrainingLog:
    """The log of one training, which may resume after an interruption.

    Its methods do not raise if something cannot be drawn or written. Use it as a context manager
    around the training's steps:

        with TrainingLog(...) as log:
            for epoch in epochs:
                log.start_epoch()
                for step in steps:
                    with log.profiled(step):
                        results = step_function(batches)
                    means = log.record(step, results)
                log.evaluated(step, scalars, scores)

    Args:
        log_dir: The folder. Events in it are removed, except those before `first_step`. None: write
            nothing, since only one of several workers writes.
        model: The network that is trained.
        evaluation_data: The images that the pictures are made from.
        settings: The settings of this training. Values other than bool, number and string are shown
            as text.
        learning_rate: Maps a step to its learning rate.
        batch_size: Images a step.
        class_names: The name of each class; empty: their numbers.
        first_step: The step that training starts from.
        earlier_log: Folder of the log with the steps before `first_step`, by default `log_dir`.
            They are copied to `log_dir`. The earlier log is removed on entering the context; store
            the new folder's name before.
        profile_steps: First and last step that the profiler looks at; empty: no profile.
    """

    def __init__(
        self,
        log_dir: str | None,
        model: Network,
        evaluation_data: dataset.LabeledImages,
        *,
        settings: Mapping[str, Any],
        learning_rate: Callable[[int], Any],
        batch_size: int,
        class_names: Sequence[str] = (),
        first_step: int = 0,
        earlier_log: str | None = None,
        profile_steps: Sequence[int] = (),
    ) -> None:
        self._log_dir = log_dir
        self._earlier_log = earlier_log
        self._model = model
        self._evaluation_data = evaluation_data
        self._learning_rate = learning_rate
        self._batch_size = batch_size
        numbers = [str(label) for label in range(model.config.num_classes)]
        self._class_names = class_names or numbers
        self._profile_steps = tuple(profile_steps)
        self._profiling = False
        self._window: list[Mapping[str, tf.Tensor]] = []
        # The step and the time at which scalars were last written in this epoch.
        self._written: tuple[int, float] | None = None
        self._writers: dict[str, tf.summary.SummaryWriter] = {}
        self._left_out_before: set[str] = set()
        if log_dir is None:
            return
        # The settings and the graph are written again, so that none of their events are kept.
        for part, kept_below in (('', 0), ('train', first_step), ('eval', first_step)):
            folder = os.path.join(log_dir, part)
            self._writers[part] = tf.summary.create_noop_writer()
            with self._left_out('what was logged before'):
                earlier = os.path.join(earlier_log or log_dir, part)
                event_files.take_over(earlier, folder, kept_below)
            with self._left_out('the event files'):
                self._writers[part] = tf.summary.create_file_writer(folder)
        with self._written_to('', 0, 'the settings'):
            hparams_api.hparams({k: _hparam(v) for k, v in settings.items()})
        with self._written_to('', 0, 'the graph'):
            tf.summary.graph(_graph(model))

    @contextlib.contextmanager
    def _left_out(self, what: str) -> Iterator[None]:
        """Inside, an error leaves `what` out of the log instead of ending the training.

        The first error for each `what` is shown to the user, and its traceback is logged.
        """
        try:
            yield
        except Exception as error:
            if what in self._left_out_before:
                return
            self._left_out_before.add(what)
            logging.getLogger(__name__).warning('Left out: %s', what, exc_info=True)
            say(f'TensorBoard will not show {what}: {reason(error)}')

    @contextlib.contextmanager
    def _written_to(self, part: str, step: int, what: str) -> Iterator[None]:
        """Inside, summaries are written to a part of the log, or left out if that fails."""
        with self._left_out(what), self._writers[part].as_default(step):
            yield
            self._writers[part].flush()

    def __enter__(self) -> TrainingLog:
        if self._earlier_log and self._earlier_log != self._log_dir:
            for part in self._writers:
                with self._left_out('what was logged before'):
                    event_files.remove(os.path.join(self._earlier_log, part))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._profiling:
            with self._left_out(_PROFILE):
                tf.profiler.experimental.stop(save=kind is None)
        if not self._writers:
            return
        status = hparams_pb2.STATUS_FAILURE if kind else hparams_pb2.STATUS_SUCCESS
        with self._written_to('', 0, 'how the training ended'):
            end = hparams_summary.session_end_pb(status)
            tf.summary.experimental.write_raw_pb(end.SerializeToString())
        for writer in self._writers.values():
            with self._left_out('the event files'):
                writer.close()

    def start_epoch(self) -> None:
        """Starts the measurement of speed again: the time until now was not spent on steps."""
        self._written = None

    @contextlib.contextmanager
    def profiled(self, step: int) -> Iterator[None]:
        """Around a step: profiles it if it is one of `profile_steps`."""
        if not self._profile_steps or self._log_dir is None:
            yield
            return
        first, last = self._profile_steps
        if first <= step <= last and not self._profiling:
            with self._left_out(_PROFILE):
                tf.profiler.experimental.start(os.path.join(self._log_dir, 'train'))
                self._profiling = True
        if not self._profiling:
            yield
            return
        with tf.profiler.experimental.Trace('train', step_num=step, _r=1):
            yield
        if step == last:
            self._profiling = False
            with self._left_out(_PROFILE):
                tf.profiler.experimental.stop()

    def record(self, step: int, results: Mapping[str, tf.Tensor]) -> dict[str, float] | None:
        """Collects a step's results, and writes their means every STEPS_BETWEEN_SCALARS steps.

        Args:
            step: The number of the step.
            results: Scalars by name.

        Returns:
            The written scalars by name: the means over the steps since the last written one; this
            step's `gradient_norm` and `learning_rate`; and, except for the first time in an epoch,
            `images_per_second`. None for the steps in between.
        """
        self._window.append(results)
        if step % STEPS_BETWEEN_SCALARS:
            return None
        scalars = {
            name: float(np.mean([float(results[name]) for results in self._window]))
            for name in results
        }
        if 'gradient_norm' in results:
            scalars['gradient_norm'] = float(results['gradient_norm'])
        self._window.clear()
        scalars['learning_rate'] = float(self._learning_rate(step))
        now = time.monotonic()
        if self._written:
            images = (step - self._written[0]) * self._batch_size
            scalars['images_per_second'] = images / (now - self._written[1])
        self._written = (step, now)
        self._write_scalars('train', step, scalars)
        return scalars

    def evaluated(self, step: int, scalars: Mapping[str, float], scores: np.ndarray) -> None:
        """Writes the results of an evaluation.

        Args:
            step: The last step before the evaluation.
            scalars: Accuracy and losses by name.
            scores: float32 [n, classes], of all the evaluation images.
        """
        if self._log_dir is None:
            return
        self._write_scalars('eval', step, scalars)
        model, labeled = self._model, self._evaluation_data
        with self._written_to('eval', step, 'the scores'):
            _write_scores(labeled.labels, scores, self._class_names, model.score_name)
        if model.coupled_floats:
            with self._written_to('eval', step, 'the coupling coefficients'):
                _write_routing(model, labeled.images)
        names = pictures.readable(self._class_names)
        for picture in pictures.of(model.config):
            with self._written_to('eval', step, f'the picture "{picture.name}"'):
                figure = picture.draw(model, labeled, scores, names)
                tf.summary.image(
                    f'pictures/{picture.name}',
                    figure[np.newaxis],
                    description=picture.description,
                )

    def _write_scalars(self, part: str, step: int, scalars: Mapping[str, float]) -> None:
        if self._log_dir is None:
            return
        optimizer = ('learning_rate', 'gradient_norm', 'images_per_second')
        with self._written_to(part, step, 'the curves'):
            for name, value in scalars.items():
                group = 'optimizer' if name in optimizer else 'metrics'
                tf.summary.scalar(f'{group}/{name}', value)


def _write_scores(labels: np.ndarray, scores: np.ndarray, names: Sequence[str], what: str) -> None:
    """Writes a pair of histograms for each class or, for many classes, one pair for all."""
    classes = scores.shape[1]
    is_there = labels[:, np.newaxis] == np.arange(classes)
    groups = {'of its class': slice(None)}
    if classes <= _CLASSES_WITH_HISTOGRAMS:
        groups = {name: slice(label, label + 1) for label, name in enumerate(names)}
    for name, group in groups.items():
        some, there = scores[:, group], is_there[:, group]
        tf.summary.histogram(f'scores/{what} {name} where it is', some[there])
        tf.summary.histogram(f'scores/{what} {name} where it is not', some[~there])


def _write_routing(model: Network, images: np.ndarray | StoredImages) -> None:
    fitting = _ROUTED_BYTES // (4 * model.coupled_floats)
    images = images[: max(1, min(_ROUTED_IMAGES, fitting))]
    coefficients = model.coupling_coefficients(images)
    for number, (some, entropies) in enumerate(
        zip(coefficients, coupling.entropy(coefficients), strict=True), start=1
    ):
        tf.summary.histogram(f'routing/coupling coefficients, iteration {number}', some)
        tf.summary.histogram(f'routing/their entropy in bits, iteration {number}', entropies)


def _graph(model: Network) -> tf.Graph:
    """The network as a graph: images -> scores and reconstructions."""

    @tf.function(
        input_signature=[tf.TensorSpec([None, *model.config.image_shape], tf.uint8, name='images')],
        autograph=False,
    )
    def answer(images: tf.Tensor) -> Any:
        outputs = model(images)
        with tf.name_scope('scores'):
            scores = model.scores(outputs)
        if not model.config.has_decoder:
            return scores
        with tf.name_scope('reconstruct'):
            return scores, model.reconstruct(model.capsules(outputs), tf.argmax(scores, axis=-1))

    return answer.get_concrete_function().graph


def _hparam(value: Any) -> bool | int | float | str:
    if isinstance(value, tuple):
        value = list(value)  # as JSON has it
    return value if isinstance(value, bool | int | float) else str(value)
