"""Metrics for Prometheus, under the names of TensorFlow Serving.

Names, labels and bucket limits are those of tensorflow_serving/servables/tensorflow/util.cc and
tensorflow_serving/batching/ (commit 9d981c5), with `:` instead of `/`.
"""

from __future__ import annotations

import bisect
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Protocol

from prometheus_client import exposition
from prometheus_client.metrics_core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

_PREFIX = ':tensorflow:serving:'
_ENTRYPOINT = 'REST'
# The real server's name for a session that runs SavedModels.
_RUNTIME = 'TF1'


class Counted(Protocol):
    """What counts by itself."""

    def family(self) -> Metric:
        """The counts, for Prometheus."""


class Metrics(Collector):
    """Counts and histograms since the start; only one thread may use it.

    Latencies are exported in microseconds.

    Args:
        request_log: Counts what became of the requests that are kept; None if none are.
    """

    def __init__(self, request_log: Counted | None = None) -> None:
        if request_log:
            self._request_log = request_log
        self._requests = _Counts(
            'request_count', 'The total number of requests.', ('model_name', 'status')
        )
        self._request_latency = _Histogram(
            'request_latency',
            'Microseconds from a whole request to its answer, of requests that are OK.',
            ('model_name', 'API', 'entrypoint'),
            _exponential(10, 1.8, 33),
        )
        self._runtime_latency = _Histogram(
            'runtime_latency',
            'Microseconds that TensorFlow took, waiting for a batch included.',
            ('model_name', 'API', 'runtime'),
            _exponential(10, 1.8, 33),
        )
        self._queuing_latency = _Histogram(
            'batching_session:queuing_latency',
            'Microseconds that a task waited for its batch to run.',
            ('thread_pool_name',),
            _exponential(100, 1.2, 52),
        )
        self._batch_runs = _Counts(
            'batching_session:wrapped_run_count', 'The number of batches that ran.', ()
        )
        batch_sizes = _exponential(1, 2, 14)
        self._input_size = _Histogram(
            'batching_session:input_batch_size', 'Sizes of tasks.', (), batch_sizes
        )
        self._processed_size = _Histogram(
            'batching_session:processed_batch_size',
            'Sizes of batches, padding included.',
            (),
            batch_sizes,
        )
        self._padding_size = _Histogram(
            'batching_session:padding_size',
            'What was added to batches.',
            ('execution_batch_size',),
            batch_sizes,
        )

    def request(self, model: str, api: str, code: str, seconds: float) -> None:
        """Counts a request that was answered.

        Args:
            model: Its model. Each name is kept for ever, so pass only names of served models.
            api: 'predict', 'classify' or 'regress'; '' for status and metadata.
            code: The canonical code of the outcome, such as 'OK'.
            seconds: From the whole request to its answer.
        """
        self._requests.add((model, code))
        if code == 'OK':
            self._request_latency.observe((model, api, _ENTRYPOINT), 1e6 * seconds)

    def runtime(self, model: str, api: str, seconds: float) -> None:
        """Counts the time that TensorFlow took for a request; `api` as in `request`."""
        self._runtime_latency.observe((model, api.capitalize(), _RUNTIME), 1e6 * seconds)

    def input(self, size: int) -> None:
        """Counts an input with `size` rows, of a request that will be batched."""
        self._input_size.observe((), size)

    def batch(self, thread_pool: str, waited: Sequence[float], size: int, padding: int) -> None:
        """Counts a batch that starts to run.

        Args:
            thread_pool: The name of the pool that runs it.
            waited: Seconds that each of its tasks has waited.
            size: Rows without padding.
            padding: Rows of padding.
        """
        for seconds in waited:
            self._queuing_latency.observe((thread_pool,), 1e6 * seconds)
        self._processed_size.observe((), size + padding)
        self._padding_size.observe((str(size + padding),), padding)
        self._batch_runs.add(())

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics to prometheus-client."""
        for metric in vars(self).values():
            yield metric.family()

    def page(self) -> bytes:
        """The page that Prometheus reads."""
        page = exposition.generate_latest(self)
        # prometheus-client adds _total to the names of counters in the lines that describe them.
        return re.sub(rb'(?m)^(# (?:HELP|TYPE) \S+)_total ', rb'\1 ', page)


class _Counts:
    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._name, self._text, self._labels = _PREFIX + name, text, labels
        self._counts: Counter[tuple[str, ...]] = Counter()

    def add(self, values: tuple[str, ...]) -> None:
        self._counts[values] += 1

    def family(self) -> Metric:
        family = Metric(self._name, self._text, 'counter')
        for values, count in self._counts.items():
            family.add_sample(self._name, dict(zip(self._labels, values, strict=True)), count)
        return family


class _Histogram:
    def __init__(
        self, name: str, text: str, labels: tuple[str, ...], limits: Sequence[float]
    ) -> None:
        self._name, self._text, self._labels = _PREFIX + name, text, labels
        self._limits = limits
        # As the real server writes them, so that the same query finds a bucket of either server.
        # prometheus_client.Histogram would write '10.0', and samples `_created`.
        self._le = [*(f'{limit:g}' for limit in limits), '+Inf']
        self._buckets: dict[tuple[str, ...], list[int]] = {}
        self._sums: dict[tuple[str, ...], float] = {}

    def observe(self, values: tuple[str, ...], observed: float) -> None:
        buckets = self._buckets.get(values)
        if buckets is None:
            buckets = self._buckets[values] = [0] * len(self._le)
            self._sums[values] = 0.0
        buckets[bisect.bisect_left(self._limits, observed)] += 1
        self._sums[values] += observed

    def family(self) -> Metric:
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, buckets in self._buckets.items():
            total, cumulative = 0, []
            for le, count in zip(self._le, buckets, strict=True):
                total += count
                cumulative.append((le, total))
            family.add_metric(values, cumulative, self._sums[values])
        return family


def _exponential(scale: float, growth: float, count: int) -> list[float]:
    return [scale * growth**exponent for exponent in range(count)]
