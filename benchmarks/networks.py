"""What each network is made of, and how fast it is: `python -m benchmarks.networks`.

Parameters without and with the decoder; multiply-adds for an image, counted with direct
convolutions; the memory that a step of training is estimated to take, and the peak of a process
that makes steps; images a second in training and in evaluation, measured in turns. Networks have
the sizes of their defaults, on grey images of 28x28 pixels with ten classes.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

import start_tensorflow
from benchmarks.interleaved import measure, report
from benchmarks.train_step import step_of, training_config
from capsmodel.networks import table

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
    'evaluated_images_per_s': ',.0f',
}


def config_of(name: str) -> NetworkConfig:
    """The settings of a network of NETWORKS for MNIST."""
    return table.NETWORKS[name].config(28, 28, 10, network=name)


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


def _made(name: str) -> Network:
    import keras

    keras.utils.set_random_seed(0)
    return table.create(config_of(name))


def prepare_step(name: str, batch: int) -> Callable[[], object]:
    """Returns a function that makes a step of training on noise."""
    from capsmodel.data import dataset
    from capsmodel.training.optimizer import FusedAdam

    model = _made(name)
    optimizer = FusedAdam(1e-3)
    optimizer.build(model.trainable_variables)
    noise = np.random.default_rng(0).integers(0, 256, (4 * batch, 28, 28), np.uint8)
    labeled = dataset.LabeledImages(noise, np.arange(4 * batch) % 10)
    return step_of(model, optimizer, labeled, training_config(batch))


def prepare_answers(name: str, batch: int) -> Callable[[], object]:
    """Returns a function that asks a network for the scores of noise."""
    import tensorflow as tf

    model = _made(name)
    images = tf.constant(np.random.default_rng(0).integers(0, 256, (batch, 28, 28), np.uint8))
    answer = tf.function(lambda: model.scores(model(images)), autograph=False)
    return lambda: answer().numpy()


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    trained = [name for name in table.NETWORKS if not table.has_members(name)]
    parser.add_argument('--networks', nargs='+', choices=trained, default=trained)
    parser.add_argument('--batch', type=int, default=128, help='images a step')
    parser.add_argument('--turns', type=int, default=5, help='turns that the medians are over')
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    start_tensorflow.load()
    names, batch = list(arguments.networks), arguments.batch
    programs = {f'train {name}': (prepare_step, (name, batch)) for name in names}
    programs |= {f'answer {name}': (prepare_answers, (name, batch)) for name in names}
    timings = measure(programs, arguments.turns, seconds=0.5)
    rows = [
        {
            **facts(name, batch),
            'peak_rss_mb': timings[f'train {name}'].peak_rss_mb,
            'trained_images_per_s': batch / timings[f'train {name}'].wall,
            'evaluated_images_per_s': batch / timings[f'answer {name}'].wall,
        }
        for name in names
    ]
    report(rows, _COLUMNS, arguments.json)


if __name__ == '__main__':
    _main()
