"""Names and numbers as TensorFlow Serving exports them, read back by prometheus-client's parser."""

import asyncio

import pytest
from prometheus_client.parser import text_string_to_metric_families

from serving.errors import ServingError
from serving.metrics import Metrics


def _samples(metrics):
    families = text_string_to_metric_families(metrics.page().decode())
    return {
        # The parser appends this to the names of counters.
        (sample.name.removesuffix('_total'), tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def test_requests_are_counted_by_model_and_status_under_the_real_name():
    metrics = Metrics()
    metrics.request('m', 'predict', 'OK', 0.001)
    metrics.request('m', 'predict', 'OK', 0.001)
    metrics.request('m', 'predict', 'INVALID_ARGUMENT', 0.001)
    lines = metrics.page().decode().splitlines()
    assert '# TYPE :tensorflow:serving:request_count counter' in lines
    assert ':tensorflow:serving:request_count{model_name="m",status="OK"} 2.0' in lines
    assert (
        ':tensorflow:serving:request_count{model_name="m",status="INVALID_ARGUMENT"} 1.0' in lines
    )
    assert '_total' not in metrics.page().decode()


def test_latency_is_a_histogram_of_microseconds_with_the_real_buckets():
    metrics = Metrics()
    # The limits are 10, 18, 32.4, 58.32, ...: 10 times 1.8 to the power of 0 to 32.
    for microseconds in (9, 10, 18.1, 40, 1e12):
        metrics.request('m', 'predict', 'OK', microseconds / 1e6)
    metrics.request('m', 'predict', 'UNAVAILABLE', 1)  # only what is OK counts
    labels = (('API', 'predict'), ('entrypoint', 'REST'), ('model_name', 'm'))
    name = ':tensorflow:serving:request_latency'
    samples = _samples(metrics)
    buckets = {
        dict(labels)['le']: count
        for (sample, labels), count in samples.items()
        if sample == f'{name}_bucket'
    }
    assert list(buckets)[:4] == ['10', '18', '32.4', '58.32']
    assert list(buckets)[-2:] == ['1.47476e+09', '+Inf']
    assert len(buckets) == 34
    assert [buckets[le] for le in ('10', '18', '32.4', '58.32', '1.47476e+09', '+Inf')] == [
        *(2, 2, 3, 4, 4, 5)
    ]
    assert samples[f'{name}_count', labels] == 5
    assert samples[f'{name}_sum', labels] == pytest.approx(9 + 10 + 18.1 + 40 + 1e12)


def test_runtime_latency_has_the_labels_of_the_real_one():
    metrics = Metrics()
    metrics.runtime('m', 'classify', 0.002)
    labels = (('API', 'Classify'), ('model_name', 'm'), ('runtime', 'TF1'))
    name = ':tensorflow:serving:runtime_latency'
    assert _samples(metrics)[f'{name}_sum', labels] == pytest.approx(2000)


def test_batches_are_counted():
    metrics = Metrics()
    metrics.input(2)
    metrics.input(3)
    metrics.batch('pool', [0.001, 0.003], size=5, padding=3)
    samples = _samples(metrics)
    name = ':tensorflow:serving:batching_session'
    assert samples[f'{name}:queuing_latency_sum', (('thread_pool_name', 'pool'),)] == (
        pytest.approx(4000)
    )
    assert samples[f'{name}:queuing_latency_count', (('thread_pool_name', 'pool'),)] == 2
    assert samples[f'{name}:wrapped_run_count', ()] == 1
    assert samples[f'{name}:input_batch_size_sum', ()] == 5
    assert samples[f'{name}:processed_batch_size_sum', ()] == 8
    assert samples[f'{name}:padding_size_sum', (('execution_batch_size', '8'),)] == 3


def test_label_values_are_escaped():
    metrics = Metrics()
    metrics.request('a"b\\c\n', '', 'OK', 0)
    labels = (('model_name', 'a"b\\c\n'), ('status', 'OK'))
    assert _samples(metrics)[':tensorflow:serving:request_count', labels] == 1


def test_versions_are_told_apart_under_a_name_of_our_own():
    metrics = Metrics()
    with metrics.of_version('m', 5, 'predict'):
        pass
    wrong = ServingError('INVALID_ARGUMENT', 'no image')
    errors = (wrong, asyncio.CancelledError(), ConnectionResetError(), MemoryError())
    for error in errors:
        with pytest.raises(type(error)), metrics.of_version('m', 8, 'predict'):
            raise error
    lines = metrics.page().decode().splitlines()
    name = 'capsnet_serving_request'
    assert [line for line in lines if line.startswith(f'{name}_count{{')] == [
        f'{name}_count{{model_name="m",status="OK",version="5"}} 1.0',
        f'{name}_count{{model_name="m",status="INVALID_ARGUMENT",version="8"}} 1.0',
        f'{name}_count{{model_name="m",status="CANCELLED",version="8"}} 2.0',
        f'{name}_count{{model_name="m",status="INTERNAL",version="8"}} 1.0',
    ]
    labels = (('API', 'predict'), ('model_name', 'm'), ('version', '5'))
    samples = _samples(metrics)
    assert samples[f'{name}_latency_count', labels] == 1
    assert 0 < samples[f'{name}_latency_sum', labels] < 1e6
    assert not [of for _, of in samples if ('version', '8') in of and ('API', 'predict') in of]
