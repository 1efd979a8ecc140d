"""FLOPs, bytes and memory of the training step and of routing, as XLA counts them; needs no GPU.

`python -m benchmarks.cost` lets TensorFlow write what it hands to XLA, and JAX, in an interpreter
of its own, compile and count it: for this CPU and, without one at hand, for an H100. `--hlo DIR`
keeps the programs in a folder, for `python -m benchmarks.gpu_hlo DIR` on a machine with a GPU.

Rows are `textbook`; `ours`, as it runs on a CPU; `ours-gpu`, as it runs where there is a GPU; and
`fused`, the same with `routing_algorithm='fused'`.
Nothing is counted inside of loops, so a program with a loop is refused.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

import start_tensorflow
from benchmarks.interleaved import report
from benchmarks.train_step import mnist_config, training_config

if TYPE_CHECKING:
    import tensorflow as tf

    from capsmodel.networks.settings import NetworkConfig

GRADIENT_MODES = ('all', 'last')
COMPILERS = ('CPU', 'H100')
IMPLEMENTATIONS = ('textbook', 'ours', 'ours-gpu', 'fused')

_JAX_PYTHON = '.venv-bench/bin/python'

_COLUMNS = {
    'part': '',
    'gradient_mode': '',
    'compiler': '',
    'name': '',
    'gflop': '.2f',
    'mb_accessed': ',.0f',
    'ratio_to_textbook': '.2f',
    'memory_mb': ',.0f',
}


@dataclasses.dataclass(frozen=True)
class Output:
    """What a program returns.

    Attributes:
        name: The same in all implementations of a part.
        shape: Its size along each axis.
        dtype: As numpy names it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Input(Output):
    """What a program is given: numbers drawn evenly between two bounds.

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
        part: 'routing', forward and backward, or 'step', one of training with Adam's update.
        name: One of IMPLEMENTATIONS.
        gradient_mode: One of GRADIENT_MODES.
        batch: Images.
        inputs: In the program's order.
        outputs: In the program's order.
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
    folder: str, batch: int, config: NetworkConfig | None = None
) -> list[dict[str, Any]]:
    """Writes all programs as serialized HLO modules, and `index.json`, which it returns.

    Args:
        folder: Where to; it must be there.
        batch: Images a program takes.
        config: The network; by default the paper's.
    """
    config = config or mnist_config()
    index = []
    for part in (_routing, _step):
        for name in IMPLEMENTATIONS:
            for mode in GRADIENT_MODES:
                mode_config = dataclasses.replace(
                    config,
                    routing_gradient=mode,
                    routing_algorithm='fused' if name == 'fused' else 'matmul',
                )
                on_gpu = name in ('ours-gpu', 'fused')
                with _seeming_gpu() if on_gpu else contextlib.nullcontext():
                    program, hlo = part(name, mode_config, batch)
                with open(os.path.join(folder, f'{program.stem}.hlo'), 'wb') as file:
                    file.write(hlo)
                index.append({'stem': program.stem, **dataclasses.asdict(program)})
    with open(os.path.join(folder, 'index.json'), 'w', encoding='utf-8') as file:
        json.dump(index, file, indent=1)
    return index


@contextlib.contextmanager
def _seeming_gpu() -> Iterator[None]:
    """Lets `capsmodel` choose what it would choose where there is a GPU."""
    import tensorflow as tf

    listed = tf.config.list_logical_devices

    def with_gpu(device_type: str | None = None) -> list[Any]:
        gpu = tf.config.LogicalDevice('/device:GPU:0', 'GPU')
        return [*listed(device_type), *([gpu] if device_type in (None, 'GPU') else [])]

    with mock.patch.object(tf.config, 'list_logical_devices', with_gpu):
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps what XLA has to say about itself from the terminal, unless something goes wrong."""
    terminal = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except BaseException:
            said.seek(0)
            os.write(terminal, said.read())
            raise
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)


def _routing(name: str, config: NetworkConfig, batch: int) -> tuple[Program, bytes]:
    """From u, W and the gradient of v: v and the gradients of u and W."""
    import tensorflow as tf

    from benchmarks.textbook import predictions, routing_of_predictions
    from capsmodel.networks.capsnet import CapsNet

    digit_caps = CapsNet(config).digit_caps
    children, parents, child_dim, dim = digit_caps.kernel.shape
    options = (config.routing_iterations, config.routing_gradient)

    def route(u: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        if name == 'textbook':
            return routing_of_predictions(predictions(u, kernel), *options)[0]
        return digit_caps.route(u, kernel)

    def forward_and_backward(
        u: tf.Tensor, kernel: tf.Tensor, dv: tf.Tensor
    ) -> tuple[tf.Tensor, ...]:
        with tf.GradientTape() as tape:
            tape.watch((u, kernel))
            v = route(u, kernel)
        return v, *tape.gradient(v, (u, kernel), dv)

    # Capsules that are not long, and a W that makes coupling coefficients far from equal.
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
    return Program('routing', name, options[1], batch, inputs, outputs), hlo


def _step(name: str, config: NetworkConfig, batch: int) -> tuple[Program, bytes]:
    """The step of capsmodel/training/loop.py; the input pipeline is no part of it."""
    import tensorflow as tf

    from benchmarks.textbook import TextbookCapsNet
    from capsmodel.networks import capsnet
    from capsmodel.training import loop
    from capsmodel.training.optimizer import FusedAdam

    model = (TextbookCapsNet if name == 'textbook' else capsnet.CapsNet)(config)
    optimizer = FusedAdam(0.001)
    optimizer.build(model.trainable_variables)
    strategy = tf.distribute.get_strategy()
    step = loop.make_step(model, optimizer, training_config(batch), strategy)

    def step_of_batch(images: tf.Tensor, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        return step.python_function(iter([(images, labels)]))

    inputs = [
        Input('images', (batch, config.image_height, config.image_width), 'uint8', 0, 255),
        Input('labels', (batch,), 'int64', 0, config.num_classes - 1),
    ]
    specs = [tf.TensorSpec(input_.shape, input_.dtype) for input_ in inputs]
    function = tf.function(step_of_batch, jit_compile=True, autograph=False)
    concrete = function.get_concrete_function(*specs)
    variables = {
        id(variable.value.handle): _variable_input(variable, name)
        for name, variable in (
            *((f'weight {number}', v) for number, v in enumerate(model.variables)),
            *((f'optimizer {number}', v) for number, v in enumerate(optimizer.variables)),
        )
    }
    inputs += [variables[id(handle)] for handle in concrete.captured_inputs]
    ir = function.experimental_get_compiler_ir(*specs)
    updated = updated_inputs(ir(stage='hlo'))
    results = sorted(concrete.structured_outputs.items())
    outputs = [
        *(Output(name, tuple(value.shape), value.dtype.name) for name, value in results),
        *(Output(inputs[i].name, inputs[i].shape, inputs[i].dtype) for i in updated),
    ]
    program = Program('step', name, config.routing_gradient, batch, inputs, outputs)
    return program, ir(stage='hlo_serialized')


def _variable_input(variable: Any, name: str) -> Input:
    """A variable some way into training, where Adam's update is a smooth function of gradients."""
    bounds = {'velocity': (1e-4, 2e-4), 'momentum': (0, 0), 'iteration': (1000, 1000)}
    bounds['learning_rate'] = (0.001, 0.001)
    for ending, (low, high) in bounds.items():
        if variable.path.endswith(ending):
            return Input(name, tuple(variable.shape), variable.dtype, low, high)
    return Input(name, tuple(variable.shape), variable.dtype, -0.08, 0.08)


def updated_inputs(hlo: str) -> list[int]:
    """Which inputs the last outputs of a module are the new values of, in the outputs' order.

    Args:
        hlo: The module's text. Its first line says `input_output_alias={ {4}: (2, {}, may-alias),
            ... }` where output 4 takes the place of input 2.
    """
    header = hlo.split('\n', 1)[0]
    pairs = re.findall(r'\{(\d+)\}: \((\d+), \{\}, m\w+-alias\)', header)
    return [int(number) for _, number in sorted(pairs, key=lambda pair: int(pair[0]))]


def _counted(folder: str, python: str, compilers: list[str]) -> list[dict[str, Any]]:
    """What benchmarks/hlo_cost.py says of the programs in a folder."""
    path = os.path.join(folder, 'cost.json')
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [os.path.abspath(python), '-m', 'benchmarks.hlo_cost', os.path.abspath(folder)]
    command += ['--compilers', *compilers]
    # JAX prints there what it does not check.
    if subprocess.run(command, cwd=root, check=False, stdout=subprocess.DEVNULL).returncode:
        sys.exit('The programs could not be counted: see what is said above.')
    with open(path, encoding='utf-8') as file:
        return json.load(file)


def with_ratios(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same rows with `ratio_to_textbook`, that of the bytes accessed."""
    keys = ('part', 'gradient_mode', 'compiler')
    textbook = {
        tuple(row[key] for key in keys): row['mb_accessed']
        for row in rows
        if row['name'] == 'textbook'
    }
    return [
        {**row, 'ratio_to_textbook': row['mb_accessed'] / textbook[tuple(row[key] for key in keys)]}
        for row in rows
    ]


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--batch', type=int, default=128, help='images a step')
    parser.add_argument(
        '--jax_python',
        default=_JAX_PYTHON,
        help='an interpreter with the packages of requirements/bench.txt; `make bench` sets it up',
    )
    parser.add_argument(
        '--compilers',
        nargs='+',
        choices=COMPILERS,
        default=COMPILERS,
        help='what XLA optimizes for; for an H100 and a batch of few images it takes very long',
    )
    parser.add_argument('--hlo', help='a new folder where the programs are kept')
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    if not os.access(arguments.jax_python, os.X_OK):
        sys.exit(f'There is no {arguments.jax_python}: `make setup-bench` makes it.')
    if arguments.hlo and os.path.exists(arguments.hlo):
        sys.exit(f'{arguments.hlo} is there already: name a new folder.')
    start_tensorflow.load()
    with tempfile.TemporaryDirectory() as temporary:
        folder = f'{arguments.hlo}.unfinished' if arguments.hlo else temporary
        os.makedirs(folder, exist_ok=True)
        with _quiet():
            write_programs(folder, arguments.batch)
        rows = with_ratios(_counted(folder, arguments.jax_python, arguments.compilers))
        if arguments.hlo:
            os.rename(folder, arguments.hlo)
    report(rows, _COLUMNS, arguments.json)


if __name__ == '__main__':
    _main()
