"""The batcher on real event loops and threads, with functions of numpy instead of models."""

import asyncio
import concurrent.futures
import dataclasses
import gc
import threading
import weakref

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from serving.config_files import BatchingOptions
from serving.errors import ServingError
from serving.metrics import Metrics
from serving.requests.batching import Batcher
from serving.requests.request_cost import MAX_BATCH_COST


class _Model:
    """Doubles `x`; keeps the sizes of its calls, and fails over negative values."""

    def __init__(self):
        self.sizes = []
        self.may_run = threading.Event()
        self.may_run.set()
        self.started = threading.Event()

    def run(self, signature_name, inputs):
        self.sizes.append(len(inputs['x']))
        self.started.set()
        assert self.may_run.wait(10)
        if inputs['x'].dtype != object and (inputs['x'] < 0).any():
            raise ServingError('INVALID_ARGUMENT', f'{inputs["x"].min()} is negative')
        return {'y': inputs['x'] + inputs['x'], signature_name: inputs['x']}

    def hold(self):
        self.may_run.clear()
        self.started.clear()


def _options(**changes):
    options = BatchingOptions(
        max_batch_size=8, batch_timeout_micros=20_000, max_enqueued_batches=4, num_batch_threads=1
    )
    return dataclasses.replace(options, **changes)


def _batched(options, scenario, metrics=None):
    """The result of the coroutine function `scenario`, given a batcher."""

    async def run():
        with concurrent.futures.ThreadPoolExecutor(options.num_batch_threads) as executor:
            batcher = Batcher(options, executor, metrics or Metrics())
            return await asyncio.wait_for(scenario(batcher), 20)

    return asyncio.run(run())


def _ask_all(options, model, inputs, metrics=None):
    """Outputs or errors of all inputs, asked at the same time."""

    async def scenario(batcher):
        asked = [batcher.run(model.run, 'serve', each) for each in inputs]
        return await asyncio.gather(*asked, return_exceptions=True)

    return _batched(options, scenario, metrics)


def _x(*values):
    return {'x': np.array(values, np.float32)}


def test_requests_at_the_same_time_run_as_one():
    model = _Model()
    answers = _ask_all(_options(), model, [_x(1), _x(2, 3), _x(4)])
    assert model.sizes == [4]
    assert [answer['y'].tolist() for answer in answers] == [[2], [4, 6], [8]]
    assert [answer['serve'].tolist() for answer in answers] == [[1], [2, 3], [4]]


def test_costly_requests_do_not_run_as_one():
    model = _Model()
    half = MAX_BATCH_COST / 2

    async def scenario(batcher):
        costs = (half, half, half, MAX_BATCH_COST, 0)
        await asyncio.gather(*(batcher.run(model.run, 's', _x(1), cost) for cost in costs))

    _batched(_options(), scenario)
    assert model.sizes == [2, 1, 2]


def test_a_full_batch_does_not_wait_and_the_next_one_does():
    model = _Model()
    options = _options(batch_timeout_micros=10_000_000, max_batch_size=2)

    async def scenario(batcher):
        first, second, third = (batcher.run(model.run, 's', _x(value)) for value in (1, 2, 3))
        await asyncio.gather(first, second)
        await asyncio.sleep(0.05)
        assert not third.done()
        third.cancel()

    _batched(options, scenario)
    assert model.sizes == [2]


def test_without_a_timeout_nothing_waits_for_company():
    model = _Model()
    options = _options(batch_timeout_micros=0)

    async def scenario(batcher):
        for value in range(3):
            await batcher.run(model.run, 's', _x(value))

    _batched(options, scenario)
    assert model.sizes == [1, 1, 1]


def test_a_batch_grows_while_all_threads_are_busy():
    model = _Model()

    async def scenario(batcher):
        model.hold()
        first = batcher.run(model.run, 's', _x(0))
        await asyncio.to_thread(model.started.wait)
        others = []
        for value in range(1, 4):
            others.append(batcher.run(model.run, 's', _x(value)))
            await asyncio.sleep(0.01)
        model.may_run.set()
        return await asyncio.gather(first, *others)

    answers = _batched(_options(batch_timeout_micros=0), scenario)
    assert model.sizes == [1, 3]
    assert [answer['y'].tolist() for answer in answers] == [[0], [2], [4], [6]]


def test_as_many_batches_run_at_once_as_there_are_threads():
    model = _Model()

    async def scenario(batcher):
        model.hold()
        asked = [batcher.run(model.run, 's', _x(*[value] * 8)) for value in range(3)]
        while len(model.sizes) < 2:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.2)  # in which the third one does not begin
        running = len(model.sizes)
        model.may_run.set()
        await asyncio.gather(*asked)
        return running

    assert _batched(_options(num_batch_threads=2), scenario) == 2
    assert model.sizes == [8, 8, 8]


def test_a_bad_request_does_not_fail_its_neighbours():
    model = _Model()
    answers = _ask_all(_options(), model, [_x(1), _x(-5), _x(2), _x(-7)])
    assert answers[0]['y'].tolist() == [2]
    assert answers[2]['y'].tolist() == [4]
    assert [(error.code, str(error)) for error in answers[1::2]] == [
        ('INVALID_ARGUMENT', '-5.0 is negative'),
        ('INVALID_ARGUMENT', '-7.0 is negative'),
    ]
    assert model.sizes == [4, 1, 1, 1, 1]


def test_a_batch_that_took_too_long_is_not_run_again():
    runs = []

    def run(signature_name, inputs):
        runs.append(len(inputs['x']))
        raise ServingError('DEADLINE_EXCEEDED', 'too late')

    async def scenario(batcher):
        asked = [batcher.run(run, 's', _x(each)) for each in range(3)]
        return await asyncio.gather(*asked, return_exceptions=True)

    assert [each.code for each in _batched(_options(), scenario)] == ['DEADLINE_EXCEEDED'] * 3
    assert runs == [3]


def test_what_cannot_be_merged_runs_apart():
    model, other = _Model(), _Model()
    inputs = [
        _x(1),
        {'x': np.array([2], np.float64)},
        {'x': np.ones([1, 2], np.float32)},
        {'x': np.ones([1, 3], np.float32)},
        {'x': np.array([b'a', b'bc'], object)},
    ]

    async def scenario(batcher):
        asked = [batcher.run(model.run, 's', each) for each in inputs]
        asked.append(batcher.run(model.run, 'another signature', _x(6)))
        asked.append(batcher.run(other.run, 's', _x(7)))
        return await asyncio.gather(*asked)

    answers = _batched(_options(max_enqueued_batches=8), scenario)
    assert [answer['y'].tolist() for answer in answers] == [
        *([2], [4], [[2, 2]], [[2, 2, 2]], [b'aa', b'bcbc'], [12], [14])
    ]
    assert [answer['y'].dtype for answer in answers[:2]] == [np.float32, np.float64]
    assert model.sizes == [1, 1, 1, 1, 2, 1]
    assert other.sizes == [1]


def test_batches_are_padded_to_the_allowed_sizes():
    model = _Model()
    options = _options(allowed_batch_sizes=(2, 4, 8))
    metrics = Metrics()
    answers = _ask_all(options, model, [_x(1, 2), _x(3), _x(4), _x(5)], metrics)
    assert model.sizes == [8]
    assert [answer['y'].tolist() for answer in answers] == [[2, 4], [6], [8], [10]]
    assert b'padding_size_sum{execution_batch_size="8"} 3.0' in metrics.page()
    assert b'processed_batch_size_sum 8.0' in metrics.page()
    assert b'input_batch_size_sum 5.0' in metrics.page()
    assert b'queuing_latency_count{thread_pool_name=""} 4.0' in metrics.page()


def test_padding_is_a_copy_of_a_row_that_was_asked():
    model = _Model()
    options = _options(allowed_batch_sizes=(8,))
    seen = []

    def run(signature_name, inputs):
        seen.append(inputs['x'].tolist())
        return model.run(signature_name, inputs)

    async def scenario(batcher):
        return await batcher.run(run, 's', {'x': np.array([[7, 8]], np.int32)})

    assert _batched(options, scenario)['y'].tolist() == [[14, 16]]
    assert seen == [[[7, 8]] * 8]


def test_an_empty_request_is_answered_without_rows():
    model = _Model()
    (answer,) = _ask_all(_options(allowed_batch_sizes=(8,)), model, [_x()])
    assert answer['y'].shape == (0,)
    assert model.sizes == [0]


@pytest.mark.parametrize(
    ('inputs', 'said'),
    [
        ({}, 'Batching Run() must have at least one input tensor'),
        (
            {'x': np.float32(1).reshape([])},
            'Batching Run() input tensors must have at least one dimension',
        ),
        (
            {'x': np.ones(2), 'z': np.ones(3)},
            'Batching Run() input tensors must have equal 0th-dimension size',
        ),
        ({'x': np.ones(9)}, 'Task size 9 is larger than maximum input batch size 8'),
    ],
)
def test_what_cannot_be_batched_is_refused_as_the_real_server_does(inputs, said):
    async def scenario(batcher):
        with pytest.raises(ServingError) as caught:
            batcher.run(_Model().run, 's', inputs)
        assert (caught.value.code, str(caught.value)) == ('INVALID_ARGUMENT', said)

    _batched(_options(), scenario)


def test_outputs_that_cannot_be_split_are_refused_as_the_real_server_does():
    async def scenario(batcher):
        scalar = batcher.run(lambda _, inputs: {'y': inputs['x'].sum()}, 's', _x(1))
        halved = batcher.run(lambda _, inputs: {'y': inputs['x'][::2]}, 's', _x(1, 2))
        return await asyncio.gather(scalar, halved, return_exceptions=True)

    scalar, halved = _batched(_options(), scenario)
    assert scalar.code == halved.code == 'FAILED_PRECONDITION'
    assert str(scalar) == 'Batched output tensor has 0 dimensions'
    assert '0th dimension does not equal the sum of the 0th dimension' in str(halved)


def test_a_full_queue_refuses_and_takes_again_when_there_is_room():
    model = _Model()
    options = _options(max_batch_size=2, max_enqueued_batches=2)

    async def scenario(batcher):
        model.hold()
        running = batcher.run(model.run, 's', _x(0, 0))
        waiting = [batcher.run(model.run, 's', _x(value)) for value in range(4)]
        with pytest.raises(ServingError) as caught:
            batcher.run(model.run, 's', _x(5))
        assert caught.value.code == 'UNAVAILABLE'
        assert str(caught.value) == (
            'The batch scheduling queue to which this task was submitted is full; currently 2 '
            'batches enqueued and max_enqueued_batches is 2'
        )
        # Each signature has a queue of its own.
        other = batcher.run(model.run, 'other', _x(6))
        model.may_run.set()
        await asyncio.gather(running, *waiting, other)
        return await batcher.run(model.run, 's', _x(7))

    assert _batched(options, scenario)['y'].tolist() == [14]


def test_large_requests_are_split_where_that_is_wanted():
    model = _Model()
    options = _options(
        max_batch_size=20, max_execution_batch_size=4, enable_large_batch_splitting=True
    )
    answers = _ask_all(options, model, [_x(1), _x(*range(9)), _x(*range(10, 13))])
    # 1 and 3 of 9; 4 of 9; 2 of 9; 3 more would have been 5.
    assert model.sizes == [4, 4, 2, 3]
    assert [answer['y'].tolist() for answer in answers] == [
        *([2], [2 * value for value in range(9)], [20, 22, 24])
    ]


def test_a_split_request_needs_room_for_all_of_it():
    model = _Model()
    options = _options(
        max_batch_size=20,
        max_execution_batch_size=4,
        max_enqueued_batches=2,
        enable_large_batch_splitting=True,
    )

    async def scenario(batcher):
        with pytest.raises(ServingError) as caught:
            batcher.run(model.run, 's', _x(*range(9)))
        assert caught.value.code == 'UNAVAILABLE'
        return await batcher.run(model.run, 's', _x(*range(8)))

    assert len(_batched(options, scenario)['y']) == 8


def test_a_part_that_fails_fails_its_request_alone():
    model = _Model()
    options = _options(
        max_batch_size=20, max_execution_batch_size=4, enable_large_batch_splitting=True
    )
    bad, good = _ask_all(options, model, [_x(*range(5), -1), _x(3)])
    assert str(bad) == '-1.0 is negative'
    assert good['y'].tolist() == [6]


def test_what_comes_together_is_merged_also_without_a_wait():
    model = _Model()
    options = _options(batch_timeout_micros=0)
    outputs = _ask_all(options, model, [_x(value) for value in range(5)])
    assert [each['y'].item() for each in outputs] == [0, 2, 4, 6, 8]
    assert model.sizes == [5]


def test_what_comes_turn_after_turn_is_merged_also_without_a_wait():
    model = _Model()

    async def scenario(batcher):
        asked = []
        for value in range(5):
            asked.append(batcher.run(model.run, 's', _x(value)))
            for _ in range(2):  # to receive the next request, and to read it
                await asyncio.sleep(0)
        await asyncio.gather(*asked)

    _batched(_options(batch_timeout_micros=0), scenario)
    assert model.sizes == [5]


def test_who_gave_up_is_left_out():
    model = _Model()

    async def scenario(batcher):
        model.hold()
        running = batcher.run(model.run, 's', _x(*[0] * 8))
        gone, there = batcher.run(model.run, 's', _x(1)), batcher.run(model.run, 's', _x(2))
        alone = batcher.run(model.run, 'other', _x(3))
        gone.cancel()
        alone.cancel()
        running.cancel()
        model.may_run.set()
        return await there

    assert _batched(_options(), scenario)['y'].tolist() == [4]
    assert model.sizes == [8, 1]


def test_models_are_let_go():
    async def scenario(batcher):
        model = _Model()
        await batcher.run(model.run, 's', _x(1))
        alive = weakref.ref(model)
        del model
        gc.collect()
        return alive()

    assert _batched(_options(), scenario) is None


@hypothesis.settings(deadline=None, max_examples=50)
@hypothesis.given(
    requests=st.lists(
        st.tuples(st.lists(st.integers(-1, 50), max_size=10), st.sampled_from('ab'), st.booleans()),
        max_size=30,
    ),
    threads=st.integers(1, 3),
    timeout=st.sampled_from([0, 1000]),
    allowed=st.sampled_from([(), (8,), (1, 2, 8)]),
    most=st.integers(1, 5),
)
def test_every_request_gets_its_own_answer(requests, threads, timeout, allowed, most):
    """Whatever is asked: what is right is answered as if asked alone, what is wrong is refused."""
    model = _Model()
    options = _options(
        num_batch_threads=threads,
        batch_timeout_micros=timeout,
        allowed_batch_sizes=allowed,
        max_enqueued_batches=most,
    )

    async def ask(batcher, values, signature, wide):
        x = np.array(values, np.float32)
        x = np.stack([x, x], axis=-1) if wide else x
        try:
            answer = await batcher.run(model.run, signature, {'x': x})
        except ServingError as error:
            return error.code
        assert answer[signature].shape == x.shape
        return answer['y'].ravel().tolist()

    async def scenario(batcher):
        return await asyncio.gather(*(ask(batcher, *request) for request in requests))

    for (values, _, wide), answer in zip(requests, _batched(options, scenario), strict=True):
        if len(values) > 8 or min(values, default=0) < 0:
            assert answer in ('INVALID_ARGUMENT', 'UNAVAILABLE')
        elif answer != 'UNAVAILABLE':
            assert answer == [2 * value for value in values for _ in range(1 + wide)]
    assert max(model.sizes, default=0) <= 8
