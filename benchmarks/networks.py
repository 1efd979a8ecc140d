"""What each network is made of, and how fast it is: `python -m benchmarks.networks`.

Parameters without and with the decoder; multiply-adds for an image, counted with direct
convolutions; the memory that a step of training is estimated to take, and the peak of a process
that makes steps; images a second in training and in the answers of exported models, measured in
turns. Networks have the sizes of their defaults, on grey images of 28x28 pixels with ten classes.

`share_of_floor` is the time that the multiply-adds of a step would take at the rate at which this
machine multiplies large float32 matrices, divided by the time that the step takes. A step has three
times those of an answer: forward, and for the gradients of inputs and of weights. It can be above
1, since an algorithm such as Winograd's needs fewer.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import start_tensorflow
from benchmarks.interleaved import measure, report
from benchmarks.train_step import MATRIX, prepare_product, step_of, training_config
from capsmodel.networks import table
from capsmodel.networks.choices import ROUTINGS
from capsmodel.settings import declared

if TYPE_CHECKING:
    from capsmodel.networks.network import Network
    from capsmodel.networks.settings import NetworkConfig

# The algorithms that multiply as the equations say; they count where a network has such a setting.
_DIRECT = {'primary_algorithm': 'conv2d', 'routing_algorithm': 'reference'}

_COLUMNS = {
    'name': '',
    'parameters': ',',
    'with_decoder': ',',
    'million_multiply_adds': ',.1f',
    'estimated_step_mb': ',.0f',
    'peak_rss_mb': ',.0f',
    'trained_images_per_s': ',.0f',
    'answered_images_per_s': ',.0f',
    'share_of_floor': '.2f',
}


def config_of(name: str, routing_algorithm: str = 'auto') -> NetworkConfig:
    """The settings of a network of NETWORKS for MNIST.

    Args:
        name: The network.
        routing_algorithm: Its ROUTING_ALGORITHM, if it has this setting.
    """
    config = table.NETWORKS[name].config
    has_setting = 'routing_algorithm' in declared(config)
    setting: dict[str, Any] = {'routing_algorithm': routing_algorithm} if has_setting else {}
    return config(28, 28, 10, network=name, **setting)


def multiply_adds(config: NetworkConfig) -> int:
    """Multiplications, each with an addition, of an answer with its reconstruction, for an image.

    Sums over products alone count: convolutions, matrix products and einsum; nothing that is done
    once for each number.
    """
    import tensorflow as tf

    known = {field.name for field in dataclasses.fields(config)}
    changes: dict[str, Any] = {k: v for k, v in _DIRECT.items() if k in known}
    model = table.create(dataclasses.replace(config, **changes))
    spec = tf.TensorSpec([1, *config.image_shape], tf.uint8)

    def answer(images: tf.Tensor) -> Any:
        outputs = model(images)
        scores = model.scores(outputs)
        if not config.has_decoder:
            return scores
        return model.reconstruct(model.capsules(outputs), tf.argmax(scores, axis=-1))

    graph = tf.function(answer, autograph=False).get_concrete_function(spec).graph
    return sum(map(products, graph.get_operations()))


def products(operation: Any) -> int:
    """The multiplications of a TensorFlow operation that are summed up; 0 of most operations."""
    kind = operation.type
    if kind not in ('Conv2D', 'DepthwiseConv2dNative', 'MatMul', 'BatchMatMulV2', 'Einsum'):
        return 0
    # The number of images may be unknown in the graph: there is one.
    first, second = ([size or 1 for size in x.shape] for x in operation.inputs)
    results = math.prod(size or 1 for size in operation.outputs[0].shape)
    if kind == 'Conv2D':
        return results * math.prod(second[:3])
    if kind == 'DepthwiseConv2dNative':
        return results * math.prod(second[:2])
    if kind == 'MatMul':
        return results * first[0 if operation.get_attr('transpose_a') else 1]
    if kind == 'BatchMatMulV2':
        return results * first[-2 if operation.get_attr('adj_x') else -1]
    inputs = operation.get_attr('equation').decode().partition('->')[0].split(',')
    sizes: dict[str, int] = {}
    for indices, shape in zip(inputs, (first, second), strict=True):
        sizes |= dict(zip(indices, shape, strict=True))
    return math.prod(sizes.values())


def facts(name: str, batch: int) -> dict[str, Any]:
    """What a network is made of, as a row."""
    config = config_of(name)
    model = table.create(config)
    decoder = model.decoder.count_params() if model.decoder else 0
    parameters = sum(math.prod(each.shape) for each in model.trainable_variables)
    return {
        'name': name,
        'parameters': parameters - decoder,
        'with_decoder': parameters if decoder else None,
        'million_multiply_adds': multiply_adds(config) / 1e6,
        'estimated_step_mb': model.bytes_to_train(batch) / 2**20,
    }


def _made(name: str, routing_algorithm: str) -> Network:
    import keras

    keras.utils.set_random_seed(0)
    return table.create(config_of(name, routing_algorithm))


def prepare_step(name: str, batch: int, routing_algorithm: str) -> Callable[[], object]:
    """Returns a function that makes a step of training on noise."""
    from capsmodel.data import dataset
    from capsmodel.training.optimizer import FusedAdam

    model = _made(name, routing_algorithm)
    optimizer = FusedAdam(1e-3)
    optimizer.build(model.trainable_variables)
    noise = np.random.default_rng(0).integers(0, 256, (4 * batch, 28, 28), np.uint8)
    labeled = dataset.LabeledImages(noise, np.arange(4 * batch) % 10)
    return step_of(model, optimizer, labeled, training_config(batch))


def prepare_answers(name: str, batch: int, routing_algorithm: str) -> Callable[[], object]:
    """Returns a function that asks a network for the scores of noise, as an exported model does."""
    import tensorflow as tf

    model = _made(name, routing_algorithm)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (batch, 28, 28), np.uint8))
    weights = {each: make() for each, make in model.weights_to_prepare().items()}
    prepared = {each: partial(tf.identity, value) for each, value in weights.items()}
    answer = tf.function(lambda: model.scores(model.answer(images, prepared)), autograph=False)
    return lambda: answer().numpy()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    trained = [name for name in table.NETWORKS if not table.has_members(name)]
    parser.add_argument('--networks', nargs='+', choices=trained, default=trained)
    parser.add_argument('--batch', type=int, default=128, help='images a step')
    parser.add_argument(
        '--routing_algorithm',
        choices=ROUTINGS,
        default='auto',
        help='ROUTING_ALGORITHM of those that have it; their answers have one of their own',
    )
    parser.add_argument('--turns', type=int, default=5, help='turns that the medians are over')
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    start_tensorflow.load()
    names, batch = list(arguments.networks), arguments.batch
    of_each = (batch, arguments.routing_algorithm)
    programs: dict[str, Any] = {f'train {name}': (prepare_step, (name, *of_each)) for name in names}
    programs |= {f'answer {name}': (prepare_answers, (name, *of_each)) for name in names}
    timings = measure({**programs, 'sgemm': (prepare_product, ())}, arguments.turns, seconds=0.5)
    flops = 2 * MATRIX**3 / timings['sgemm'].wall
    rows = []
    for name in names:
        row = facts(name, batch)
        trained = batch / timings[f'train {name}'].wall
        row['peak_rss_mb'] = timings[f'train {name}'].peak_rss_mb
        row['trained_images_per_s'] = trained
        row['answered_images_per_s'] = batch / timings[f'answer {name}'].wall
        row['share_of_floor'] = trained * 3 * 2e6 * row['million_multiply_adds'] / flops
        rows.append(row)
    report(rows, _COLUMNS, arguments.json)


if __name__ == '__main__':
    _main()
