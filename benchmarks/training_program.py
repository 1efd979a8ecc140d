"""Writes a training on MNIST as programs that `benchmarks.gpu_training` runs without TensorFlow.

`python -m benchmarks.training_program FOLDER NAME NETWORK=capsnet EPOCHS=12 ...` takes settings of
the network and of the training. It writes into FOLDER/NAME the pipeline's training step and its
evaluation as StableHLO, the learning rate of each step, and samples of the first weights. MNIST
goes into FOLDER. `make data setup-bench` makes what this needs.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

import start_tensorflow
from benchmarks.programs import evaluation_program, named_variables, seeming_gpu, step_program
from benchmarks.train_step import read_mnist
from capsmodel.data import augmentation_parts
from capsmodel.networks import table
from capsmodel.settings import declared, refusal
from capsmodel.training.settings import TrainingConfig

if TYPE_CHECKING:
    from capsmodel.networks.settings import NetworkConfig

_JAX_PYTHON = '.venv-bench/bin/python'
_EVALUATION_IMAGES = 5000  # the last training images, as EVAL_SPLIT is by default
_EVAL_BATCH_SIZE = 500
# The most values of a variable that its first values are drawn from.
_SAMPLES = 65536


def configs(assignments: Sequence[str]) -> tuple[NetworkConfig, TrainingConfig]:
    """The network for MNIST and the training that settings describe.

    Args:
        assignments: Settings, such as 'EPOCHS=12'; the others have their defaults.

    Raises:
        ValueError: A setting is unknown, or its value cannot be used.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        name, is_value, value = assignment.partition('=')
        if not is_value:
            raise ValueError(f"'{assignment}' must be NAME=VALUE, such as EPOCHS=12")
        values[name.lower()] = value
    network = values.pop('network', 'capsnet')
    if network not in table.NETWORKS:
        raise ValueError(f'NETWORK is {network!r}: it must be one of {", ".join(table.NETWORKS)}')
    config = table.NETWORKS[network].config
    # Operations in C++ are for CPUs, and XLA does not know them.
    algorithms = {'routing_algorithm': 'matmul', 'primary_algorithm': 'conv2d'}
    of_network: dict[str, Any] = {k: v for k, v in algorithms.items() if k in declared(config)}
    of_network |= {k: values.pop(k) for k in declared(config).keys() & values.keys()}
    try:
        return config(28, 28, 10, network=network, **of_network), TrainingConfig(**values)
    except ValidationError as error:
        raise ValueError(refusal(error)) from None


def amounts(augmentation: str) -> dict[str, float]:
    """The amounts of AUGMENTATION by part.

    Raises:
        ValueError: It has a part that `benchmarks.gpu_training` cannot do.
    """
    parsed = augmentation_parts.parse(augmentation)
    unknown = parsed.keys() - {'rotate', 'scale', 'shift'}
    if unknown:
        raise ValueError(
            f'AUGMENTATION has {", ".join(sorted(unknown))}: such a training can have rotate, '
            'scale and shift only'
        )
    return parsed


def write(folder: str, name: str, assignments: Sequence[str]) -> None:
    """Writes a training.

    Args:
        folder: Has a subfolder for each training, and MNIST as `mnist.npz` if it was written.
        name: Of the training.
        assignments: See `configs`.

    Raises:
        ValueError: See `configs` and `amounts`.
        subprocess.CalledProcessError: The programs cannot be converted.
    """
    import keras

    from capsmodel.training.optimizer import FusedAdam
    from capsmodel.training.schedules import Schedule

    config, training = configs(assignments)
    keras.utils.set_random_seed(training.seed)
    model = table.create(config)
    optimizer = FusedAdam(training.learning_rate)
    optimizer.build(model.trainable_variables)
    steps_per_epoch = (60000 - _EVALUATION_IMAGES) // training.batch_size
    steps = training.epochs * steps_per_epoch
    with seeming_gpu():
        programs = {
            'step': step_program(name, model, optimizer, training, steps),
            'evaluation': evaluation_program(name, model, _EVAL_BATCH_SIZE),
        }
    variables = named_variables(model, optimizer)
    trainable = {id(variable) for variable in model.trainable_variables}
    index = {
        'assignments': list(assignments),
        'loss': model.loss_name,
        'training': dataclasses.asdict(training),
        'augmentation': amounts(training.augmentation),
        'evaluation_images': _EVALUATION_IMAGES,
        'trainable': [key for key, value in variables.items() if id(value) in trainable],
        'learning_rate': next(k for k, v in variables.items() if v.path.endswith('learning_rate')),
        'programs': {part: dataclasses.asdict(program) for part, (program, _) in programs.items()},
    }
    path = os.path.join(folder, name)
    os.makedirs(path, exist_ok=True)
    for part, (_, hlo) in programs.items():
        with open(os.path.join(path, f'{part}.hlo'), 'wb') as file:
            file.write(hlo)
    rates = Schedule(training, steps_per_epoch)(np.arange(steps))
    samples = {key: _samples(np.asarray(value)) for key, value in variables.items()}
    np.savez(os.path.join(path, 'values.npz'), rates=np.asarray(rates), **samples)
    with open(os.path.join(path, 'index.json'), 'w', encoding='utf-8') as file:
        json.dump(index, file, indent=1)
    command = [os.path.abspath(_JAX_PYTHON), '-m', 'benchmarks.hlo_cost', '--portable', path]
    subprocess.run(command, check=True)


def _samples(values: np.ndarray) -> np.ndarray:
    """Some of a variable's first values, each of which was drawn like the others."""
    different = np.unique(values)
    rng = np.random.default_rng(0)
    return rng.choice(different, _SAMPLES) if different.size > _SAMPLES else different


def write_mnist(folder: str, data_dir: str) -> None:
    """Writes the images and labels of MNIST into a folder, if they are not there."""
    path = os.path.join(folder, 'mnist.npz')
    if os.path.exists(path):
        return
    arrays: dict[str, Any] = {}
    for split in ('train', 'test'):
        arrays[f'{split}_images'], arrays[f'{split}_labels'] = read_mnist(split, data_dir)
    os.makedirs(folder, exist_ok=True)
    with open(f'{path}.part', 'wb') as file:
        np.savez_compressed(file, **arrays)
    os.replace(f'{path}.part', path)


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder')
    parser.add_argument('name', help='of the training')
    parser.add_argument('settings', nargs='*', help='such as EPOCHS=12')
    parser.add_argument('--data_dir', default='var/data', help="TFDS's folder")
    arguments = parser.parse_args()
    start_tensorflow.load()
    try:
        write_mnist(arguments.folder, arguments.data_dir)
        write(arguments.folder, arguments.name, arguments.settings)
    except ValueError as error:
        parser.error(str(error))
    except subprocess.CalledProcessError:
        sys.exit('The programs cannot be converted; the reason stands above.')


if __name__ == '__main__':
    _main()
