"""Trains on MNIST with the programs of `benchmarks.training_program`, on a GPU without TensorFlow.

`python -m benchmarks.gpu_training FOLDER NAME --seeds 1 2 --out RESULTS` needs only a JAX with
CUDA. The step, with its update of the weights, and the evaluation are the pipeline's own, as
TensorFlow hands them to XLA. JAX draws the order of the images, their random changes and the first
weights: from the same distributions as the pipeline, but other numbers. XLA rounds the factors of
products to TensorFloat-32 on GPUs that have it.

The last 5,000 training images are evaluated after each epoch; with `--all` the network learns from
them, too. Only `--test` looks at the test images, once, after the last epoch. RESULTS gets
NAME.json and, with `--test`, the scores of the test images by seed as NAME.npz.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.stablehlo import as_function, signature


def _shift(image: jax.Array, offset: jax.Array) -> jax.Array:
    """Moves an image [h, w] by whole pixels, int32 [2], and fills the gaps with zeros."""
    for axis in (0, 1):
        source = jnp.arange(image.shape[axis]) - offset[axis]
        moved = jnp.take(image, jnp.clip(source, 0, image.shape[axis] - 1), axis=axis)
        inside = (source >= 0) & (source < image.shape[axis])
        image = jnp.where(jnp.expand_dims(inside, 1 - axis), moved, 0)
    return image


def _rotate_and_scale(image: jax.Array, degrees: jax.Array, factor: jax.Array) -> jax.Array:
    """Turns and enlarges an image [h, w] about its centre, by bilinear interpolation."""
    centre = (jnp.asarray(image.shape, jnp.float32) - 1) / 2
    rows, columns = jnp.meshgrid(*(jnp.arange(size) for size in image.shape), indexing='ij')
    y, x = rows - centre[0], columns - centre[1]
    angle = degrees * (math.pi / 180)
    cos, sin = jnp.cos(angle) / factor, jnp.sin(angle) / factor
    places = [centre[0] + cos * y - sin * x, centre[1] + sin * y + cos * x]
    turned = jax.scipy.ndimage.map_coordinates(
        image.astype(jnp.float32), places, order=1, mode='constant'
    )
    return jnp.round(jnp.clip(turned, 0, 255)).astype(image.dtype)


def augmented(images: jax.Array, key: jax.Array, amounts: dict[str, float]) -> jax.Array:
    """Changes images as `capsmodel.data.augmentation` does, which needs TensorFlow.

    Args:
        images: uint8 [n, height, width].
        key: Of JAX's random numbers.
        amounts: Of the parts rotate, scale and shift.
    """
    keys = jax.random.split(key, 3)
    count = len(images)

    def uniform(number: int, part: str) -> jax.Array:
        most = amounts.get(part, 0.0)
        return jax.random.uniform(keys[number], [count], jnp.float32, -most, most)

    if amounts.keys() & {'rotate', 'scale'}:
        turns, factors = uniform(0, 'rotate'), 1 + uniform(1, 'scale')
        images = jax.vmap(_rotate_and_scale)(images, turns, factors)
    if 'shift' in amounts:
        most = int(amounts['shift'])
        offsets = jax.random.randint(keys[2], [count, 2], -most, most + 1)
        images = jax.vmap(_shift)(images, offsets)
    return images


class Training:
    """A training that `benchmarks.training_program` wrote.

    Args:
        folder: The folder of trainings.
        name: Of the training.
        uses_all: Whether to learn from the images of the evaluation, too.

    Raises:
        OSError: The folder has no such training.
    """

    def __init__(self, folder: str, name: str, uses_all: bool = False) -> None:
        path = os.path.join(folder, name)
        with open(os.path.join(path, 'index.json'), encoding='utf-8') as file:
            self.index = json.load(file)
        self.settings = self.index['training']
        self._amounts = self.index['augmentation']
        with np.load(os.path.join(path, 'values.npz')) as values:
            self._samples = dict(values)
        self._rates = jnp.asarray(self._samples.pop('rates'))
        with np.load(os.path.join(folder, 'mnist.npz')) as mnist:
            arrays = {name: jax.device_put(mnist[name]) for name in mnist.files}
        images, labels = arrays['train_images'], arrays['train_labels']
        first = len(images) - self.index['evaluation_images']
        count = len(images) if uses_all else first
        self._learned = images[:count], labels[:count]
        self._evaluated = images[first:], labels[first:]
        self._tested = arrays['test_images'], arrays['test_labels']
        self._batch_size = self.settings['batch_size']
        self._steps_per_epoch = count // self._batch_size
        self._step, self._evaluation = (
            self._program(path, part) for part in ('step', 'evaluation')
        )
        self._run_epoch = jax.jit(self._epoch, donate_argnums=(0, 1))
        self._run_evaluation = jax.jit(self._scores_and_loss)

    def _program(self, path: str, part: str) -> Callable[..., dict[str, jax.Array]]:
        """A program as a function of arrays by name; it takes those that it needs."""
        entry = self.index['programs'][part]
        with open(os.path.join(path, f'{part}.stablehlo'), 'rb') as file:
            call = as_function(file.read(), signature(entry['inputs']), signature(entry['outputs']))
        inputs, outputs = ([value['name'] for value in entry[k]] for k in ('inputs', 'outputs'))

        def run(values: dict[str, jax.Array]) -> dict[str, jax.Array]:
            return dict(zip(outputs, call(*(values[name] for name in inputs)), strict=True))

        return run

    def first_values(self, seed: int) -> dict[str, jax.Array]:
        """First values of all variables, each drawn from the values that its network had first."""
        rng = np.random.default_rng(seed)
        images_and_labels = 2
        return {
            given['name']: jnp.asarray(
                rng.choice(self._samples[given['name']], given['shape']), given['dtype']
            )
            for given in self.index['programs']['step']['inputs'][images_and_labels:]
        }

    def _epoch(
        self, values: dict[str, Any], averages: dict[str, Any], epoch: Any, key: Any
    ) -> tuple[dict[str, Any], dict[str, Any], Any]:
        """Makes the steps of an epoch; returns the variables, the averages and the mean loss."""
        images, labels = self._learned
        order = jax.random.permutation(jax.random.fold_in(key, epoch), len(images))
        decay = self.settings['ema_decay']
        all_steps = self.settings['epochs'] * self._steps_per_epoch

        def step(state: Any, number: Any) -> Any:
            values, averages = state
            rows = jax.lax.dynamic_slice_in_dim(order, number * self._batch_size, self._batch_size)
            done = epoch * self._steps_per_epoch + number
            # With `uses_all` there are more steps than rates.
            rate = self._rates[done * len(self._rates) // all_steps]
            changes = jax.random.fold_in(jax.random.fold_in(key, 1), done)
            given = {
                **values,
                self.index['learning_rate']: rate,
                'images': augmented(images[rows], changes, self._amounts),
                'labels': labels[rows],
            }
            results = self._step(given)
            values = {name: results.get(name, value) for name, value in values.items()}
            averages = {k: decay * v + (1 - decay) * values[k] for k, v in averages.items()}
            return (values, averages), results['loss']

        numbers = jnp.arange(self._steps_per_epoch)
        (values, averages), losses = jax.lax.scan(step, (values, averages), numbers)
        return values, averages, jnp.mean(losses)

    def _scores_and_loss(self, values: dict[str, Any], images: Any, labels: Any) -> Any:
        """The scores of images, [n, classes], and their mean classification loss."""
        size = self.index['programs']['evaluation']['batch']

        def evaluate(_: Any, batch: Any) -> Any:
            results = self._evaluation({**values, 'images': batch[0], 'labels': batch[1]})
            return None, (results['scores'], results[self.index['loss']])

        batches = tuple(x.reshape([-1, size, *x.shape[1:]]) for x in (images, labels))
        _, (scores, losses) = jax.lax.scan(evaluate, None, batches)
        return scores.reshape([len(labels), -1]), jnp.mean(losses)

    def run(self, seed: int, is_tested: bool = False) -> dict[str, Any]:
        """Trains.

        Args:
            seed: Decides all random numbers.
            is_tested: Whether to look at the test images in the end.

        Returns:
            Numbers by name; `loss_error_eval_loss`, the mean loss, the error in percent and the
            loss of the evaluation after each epoch; and, if tested, `scores`, float32 [n, classes].
        """
        values = self.first_values(seed)
        averaged = self.index['trainable'] if self.settings['ema_decay'] else []
        averages = {name: jnp.array(values[name]) for name in averaged}
        key = jax.random.key(seed)
        history: list[tuple[float, float, float]] = []
        ends = [time.perf_counter()]
        for epoch in range(self.settings['epochs']):
            values, averages, loss = self._run_epoch(values, averages, epoch, key)
            error, eval_loss, _ = self._judged({**values, **averages}, self._evaluated)
            history.append((float(loss), error, eval_loss))
            ends.append(time.perf_counter())
        result = {
            'seed': seed,
            'epochs': len(history),
            'steps': len(history) * self._steps_per_epoch,
            'seconds': ends[-1] - ends[0],
            # Without the first epoch, in which XLA compiles.
            'seconds_of_an_epoch': (ends[-1] - ends[1]) / max(1, len(history) - 1),
            'eval_error_percent': history[-1][1],
            'eval_loss': history[-1][2],
            'loss_error_eval_loss': history,
        }
        if is_tested:
            error, _, scores = self._judged({**values, **averages}, self._tested)
            result |= {'test_error_percent': error, 'scores': scores}
        return result

    def _judged(self, values: dict[str, Any], data: Any) -> tuple[float, float, np.ndarray]:
        """The error in percent, the mean loss and the scores of some images."""
        scores, loss = self._run_evaluation(values, *data)
        wrong = np.argmax(scores, axis=-1) != np.asarray(data[1])
        return 100 * float(np.mean(wrong)), float(loss), np.asarray(scores)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='the folder of `python -m benchmarks.training_program`')
    parser.add_argument('name', help='of the training')
    parser.add_argument('--seeds', type=int, nargs='+', default=[1])
    parser.add_argument('--all', action='store_true', help='learn from all 60,000 images')
    parser.add_argument('--test', action='store_true', help='look at the test images in the end')
    parser.add_argument('--out', default='.', help='a folder for the results')
    arguments = parser.parse_args()
    jax.config.update('jax_enable_x64', True)  # labels are int64
    try:
        training = Training(arguments.folder, arguments.name, arguments.all)
    except OSError as error:
        parser.error(str(error))
    results, scores = [], {}
    for seed in arguments.seeds:
        result = training.run(seed, arguments.test)
        if arguments.test:
            scores[str(seed)] = result.pop('scores')
        results.append(result)
        numbers = {k: v for k, v in result.items() if not isinstance(v, list)}
        print(arguments.name, *(f'{k} {v:.6g}' for k, v in numbers.items()), flush=True)
        written = {
            'settings': training.index['assignments'],
            'all': arguments.all,
            'device': jax.devices()[0].device_kind,
            'trainings': results,
        }
        path = os.path.join(arguments.out, arguments.name)
        with open(f'{path}.json', 'w', encoding='utf-8') as file:
            json.dump(written, file, indent=1)
        if scores:
            np.savez_compressed(f'{path}.npz', **scores)


if __name__ == '__main__':
    _main()
