"""The programs that TensorFlow hands to XLA, for `benchmarks.cost` to count.

`textbook` is the network with the reference routing and TensorFlow's convolution; `ours` is the
network that the pipeline trains, as it runs on a CPU with `routing_algorithm='matmul'` and
`primary_algorithm='winograd'`, since XLA does not know operations of this project; `ours-gpu` is
the same as it runs with a GPU; `fused` is `ours-gpu` with `routing_algorithm='fused'`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

from benchmarks.train_step import mnist_config, textbook, training_config

if TYPE_CHECKING:
    import tensorflow as tf

    from capsmodel.networks.network import Network
    from capsmodel.networks.settings import CapsNetConfig, NetworkConfig
    from capsmodel.training.settings import TrainingConfig

GRADIENT_MODES = ('all', 'last')
IMPLEMENTATIONS = ('textbook', 'ours', 'ours-gpu', 'fused')


@dataclasses.dataclass(frozen=True)
class Output:
    """A value that a program returns.

    Attributes:
        name: The same in all implementations of a part.
        shape: Its size along each axis.
        dtype: Its numpy type.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Input(Output):
    """A value that a program takes: numbers drawn uniformly between two bounds.

    Attributes:
        low: The lower bound.
        high: The upper bound, included for integers.
    """

    low: float
    high: float


@dataclasses.dataclass(frozen=True)
class Program:
    """One program in a folder, as `index.json` lists it.

    Attributes:
        part: 'routing', forward and backward; 'step', a training step with Adam's update; or
            'evaluation', the answers to a batch and their losses.
        name: One of IMPLEMENTATIONS.
        gradient_mode: One of GRADIENT_MODES, or empty.
        batch: The number of images.
        inputs: The program's inputs in order.
        outputs: The program's outputs in order.
    """

    part: str
    name: str
    gradient_mode: str
    batch: int
    inputs: list[Input]
    outputs: list[Output]

    @property
    def stem(self) -> str:
        """The name of its files without their endings."""
        return f'{self.part}-{self.name}-{self.gradient_mode}'


def write_programs(
    folder: str, batch: int, config: CapsNetConfig | None = None
) -> list[dict[str, Any]]:
    """Writes all programs as serialized HLO modules, and `index.json`, which it also returns.

    Args:
        folder: Where to write; it must exist.
        batch: The number of images that a program takes.
        config: The network; by default the paper's.
    """
    config = dataclasses.replace(config or mnist_config(), routing_algorithm='matmul')
    index = []
    for part in (_routing, _step):
        for name in IMPLEMENTATIONS:
            for mode in GRADIENT_MODES:
                mode_config = dataclasses.replace(config, routing_gradient=mode)
                if name == 'textbook':
                    mode_config = textbook(mode_config)
                elif name == 'ours':
                    mode_config = dataclasses.replace(mode_config, primary_algorithm='winograd')
                elif name == 'fused':
                    mode_config = dataclasses.replace(mode_config, routing_algorithm='fused')
                on_gpu = name in ('ours-gpu', 'fused')
                with seeming_gpu() if on_gpu else contextlib.nullcontext():
                    program, hlo = part(name, mode_config, batch)
                with open(os.path.join(folder, f'{program.stem}.hlo'), 'wb') as file:
                    file.write(hlo)
                index.append({'stem': program.stem, **dataclasses.asdict(program)})
    with open(os.path.join(folder, 'index.json'), 'w', encoding='utf-8') as file:
        json.dump(index, file, indent=1)
    return index


@contextlib.contextmanager
def seeming_gpu() -> Iterator[None]:
    """Inside, `capsmodel` makes the same choices as on a machine with a GPU."""
    import tensorflow as tf

    listed = tf.config.list_logical_devices

    def with_gpu(device_type: str | None = None) -> list[Any]:
        gpu = tf.config.LogicalDevice('/device:GPU:0', 'GPU')
        return [*listed(device_type), *([gpu] if device_type in (None, 'GPU') else [])]

    with mock.patch.object(tf.config, 'list_logical_devices', with_gpu):
        yield


def _routing(name: str, config: CapsNetConfig, batch: int) -> tuple[Program, bytes]:
    """A program that computes v and the gradients of u and W from u, W and the gradient of v."""
    import tensorflow as tf

    from capsmodel.networks.capsnet import CapsNet

    digit_caps = CapsNet(config).digit_caps
    children, parents, child_dim, dim = digit_caps.kernel.shape

    def forward_and_backward(
        u: tf.Tensor, kernel: tf.Tensor, dv: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch((u, kernel))
            v = digit_caps.route(u, kernel)
        return v, *tape.gradient(v, (u, kernel), dv)

    # Short capsules, and a W for which the coupling coefficients are far from equal.
    inputs = [
        Input('u', (batch, children, child_dim), 'float32', -0.5, 0.5),
        Input('kernel', (children, parents, child_dim, dim), 'float32', -0.2, 0.2),
        Input('dv', (batch, parents, dim), 'float32', -1, 1),
    ]
    specs = [tf.TensorSpec(input_.shape, input_.dtype) for input_ in inputs]
    function = tf.function(forward_and_backward, jit_compile=True)
    hlo = function.experimental_get_compiler_ir(*specs)(stage='hlo_serialized')
    u, kernel, dv = inputs
    outputs = [
        Output('v', dv.shape, dv.dtype),
        Output('gradient of u', u.shape, u.dtype),
        Output('gradient of kernel', kernel.shape, kernel.dtype),
    ]
    return Program('routing', name, config.routing_gradient, batch, inputs, outputs), hlo


def _step(name: str, config: CapsNetConfig, batch: int) -> tuple[Program, bytes]:
    """The step of capsmodel/training/steps.py without its input pipeline."""
    model, optimizer = _built(config)
    program, hlo = step_program(name, model, optimizer, training_config(batch))
    return dataclasses.replace(program, gradient_mode=config.routing_gradient), hlo


def _built(config: NetworkConfig) -> tuple[Network, Any]:
    """A network with its first weights, and the optimizer of its training."""
    from capsmodel.networks import table
    from capsmodel.training.optimizer import FusedAdam

    model = table.create(config)
    optimizer = FusedAdam(0.001)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def step_program(
    name: str, model: Network, optimizer: Any, config: TrainingConfig, steps: int = 1
) -> tuple[Program, bytes]:
    """The training step of a network, as a function of a batch and of all variables.

    Args:
        name: Of the program.
        model: The network.
        optimizer: Its optimizer, built for the network's trainable variables.
        config: How to train; its batch size is the program's.
        steps: The steps of the whole training.

    Returns:
        The program and its serialized HLO module. Its last outputs are the new values of the
        variables that change, by the names that they have among the inputs.
    """
    import tensorflow as tf

    from capsmodel.training.steps import make_train_step

    strategy = tf.distribute.get_strategy()
    step = make_train_step(model, optimizer, config, strategy, steps=steps)

    def step_of_batch(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return step.python_function(iter([(images, labels)]))

    inputs = _batch_inputs(model.config, config.batch_size)
    concrete, ir = _compiled(step_of_batch, inputs)
    inputs += _captured(concrete, model, optimizer)
    updated = updated_inputs(ir(stage='hlo'))
    outputs = [
        *_outputs(concrete),
        *(Output(inputs[i].name, inputs[i].shape, inputs[i].dtype) for i in updated),
    ]
    program = Program('step', name, '', config.batch_size, inputs, outputs)
    return program, ir(stage='hlo_serialized')


def evaluation_program(name: str, model: Network, batch: int) -> tuple[Program, bytes]:
    """The evaluation of a batch by a network, as a function of the batch and of its variables."""
    from capsmodel.training.steps import example_metrics

    inputs = _batch_inputs(model.config, batch)

    def evaluate(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return example_metrics(model, images, labels)

    concrete, ir = _compiled(evaluate, inputs)
    inputs += _captured(concrete, model)
    program = Program('evaluation', name, '', batch, inputs, _outputs(concrete))
    return program, ir(stage='hlo_serialized')


def _batch_inputs(config: NetworkConfig, batch: int) -> list[Input]:
    return [
        Input('images', (batch, *config.image_shape), 'uint8', 0, 255),
        Input('labels', (batch,), 'int64', 0, config.num_classes - 1),
    ]


def _compiled(function: Callable[..., Any], inputs: list[Input]) -> tuple[Any, Any]:
    """A function's graph, and what returns its module in a form that is asked for."""
    import tensorflow as tf

    specs = [tf.TensorSpec(input_.shape, input_.dtype) for input_ in inputs]
    compiled = tf.function(function, jit_compile=True, autograph=False)
    return compiled.get_concrete_function(*specs), compiled.experimental_get_compiler_ir(*specs)


def _captured(concrete: Any, model: Network, optimizer: Any = None) -> list[Input]:
    """The variables that a graph uses, in the order in which its module takes them."""
    variables = named_variables(model, optimizer)
    inputs = {id(v.value.handle): _variable_input(v, name) for name, v in variables.items()}
    return [inputs[id(handle)] for handle in concrete.captured_inputs]


def named_variables(model: Network, optimizer: Any = None) -> dict[str, Any]:
    """The Keras variables of a network, and of its optimizer, by their names in programs."""
    variables = {f'weight {number}': v for number, v in enumerate(model.variables)}
    if optimizer is not None:
        variables |= {f'optimizer {number}': v for number, v in enumerate(optimizer.variables)}
    return variables


def _outputs(concrete: Any) -> list[Output]:
    results = sorted(concrete.structured_outputs.items())
    return [Output(name, tuple(value.shape), value.dtype.name) for name, value in results]


def _variable_input(variable: Any, name: str) -> Input:
    """A variable as in the middle of a training, where Adam's update is a smooth function."""
    bounds = {'velocity': (1e-4, 2e-4), 'momentum': (0, 0), 'iteration': (1000, 1000)}
    bounds['learning_rate'] = (0.001, 0.001)
    for ending, (low, high) in bounds.items():
        if variable.path.endswith(ending):
            return Input(name, tuple(variable.shape), variable.dtype, low, high)
    return Input(name, tuple(variable.shape), variable.dtype, -0.08, 0.08)


def updated_inputs(hlo: str) -> list[int]:
    """The inputs that a module updates: its last outputs are their new values, in this order.

    Args:
        hlo: The module's text. Its first line says `input_output_alias={ {4}: (2, {}, may-alias),
            ... }` where output 4 takes the place of input 2.
    """
    header = hlo.split('\n', 1)[0]
    pairs = re.findall(r'\{(\d+)\}: \((\d+), \{\}, m\w+-alias\)', header)
    return [int(number) for _, number in sorted(pairs, key=lambda pair: int(pair[0]))]
