"""Counts the programs that `benchmarks.cost` wrote, and converts them so that any JAX loads them.

Run `python -m benchmarks.hlo_cost DIR` in an interpreter with the packages of
requirements/bench.txt. Their JAX is pinned, because this module uses private parts of it. It writes
`cost.json` and, beside each program, its portable form.

It counts a module after XLA has optimized it: for this CPU, and for an H100. XLA compiles for an
H100 without having one, but cannot try kernels out then. The training step is counted for the CPU
only, because on a GPU its convolutions become calls of cuDNN, which XLA does not count.
"""

from __future__ import annotations

import argparse
import glob
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax._src.interpreters import mlir as jax_mlir
from jax.experimental import topologies
from jaxlib import xla_client
from jaxlib.mlir import ir

from benchmarks.stablehlo import as_function, signature

CPU = 'CPU'
H100 = 'H100'
COMPILERS = (CPU, H100)

# NVIDIA's figures for the H100 SXM5 with 80 GB ("NVIDIA H100 Tensor Core GPU Architecture", 2022),
# in the form of xla/stream_executor/device_description.proto.
_H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 7 }
runtime_version { major: 12 minor: 8 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  fpus_per_core: 128
  clock_rate_ghz: 1.98
  memory_bandwidth: 3352320000000
  device_memory_size: 84929347584
  l2_cache_size: 52428800
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
}
"""


def portable(hlo: bytes) -> bytes:
    """A program as a portable artifact of StableHLO.

    Args:
        hlo: A serialized HloModuleProto.

    Raises:
        ValueError: The program has a loop, of which XLA would count one iteration.
    """
    computation = xla_client._xla.XlaComputation(hlo)
    text = xla_client._xla.mlir.xla_computation_to_mlir_module(computation)
    with jax_mlir.make_ir_context():
        module = ir.Module.parse(text)
        _make_portable(module)
        return xla_client._xla.mlir.serialize_portable_artifact(str(module), '1.0.0')


def _make_portable(module: ir.Module) -> None:
    """Removes what only XLA understands: attributes, such as shared buffers, and copies."""
    for attribute in list(module.operation.attributes):
        if attribute.name.startswith('mhlo.'):
            del module.operation.attributes[attribute.name]
    copies = []

    def visit(operation: Any) -> ir.WalkResult:
        if operation.operation.name == 'stablehlo.while':
            raise ValueError('it has a loop, of which XLA counts one iteration: unroll it')
        if operation.operation.name == 'mhlo.copy':
            copies.append(operation.operation)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    for copy in copies:
        copy.result.replace_all_uses_with(copy.operands[0])
        copy.erase()


def cost(
    program: Callable[..., Any], inputs: Sequence[jax.ShapeDtypeStruct], compiler: str
) -> dict[str, Any]:
    """The cost of a program after XLA has optimized it for a CPU or an H100.

    Returns:
        `gflop`; `mb_accessed`, the sum of the sizes that all instructions read and write, in MB
        (10^6 bytes); `memory_mb`, the memory for inputs, outputs and intermediate results.
    """
    device = jax.devices('cpu')[0] if compiler == CPU else _h100()
    sharding = jax.sharding.SingleDeviceSharding(device)
    placed = [jax.ShapeDtypeStruct(of.shape, of.dtype, sharding=sharding) for of in inputs]
    lowered = jax.jit(program, keep_unused=True).lower(*placed)
    with tempfile.TemporaryDirectory() as dump:
        options = {'xla_dump_to': dump, 'xla_dump_hlo_as_text': True}
        if compiler == H100:
            options['xla_gpu_autotune_level'] = 0
        compiled = lowered.compile(compiler_options=options)
        # An executable for a device that does not exist does not return its module.
        (path,) = glob.glob(os.path.join(dump, '*after_optimizations.txt'))
        with open(path, encoding='utf-8') as file:
            module = xla_client._xla.hlo_module_from_text(file.read())
    counted = xla_client._xla.hlo_module_cost_analysis(jax.devices('cpu')[0].client, module)
    memory = compiled.memory_analysis()
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes + memory.temp_size_in_bytes
    return {
        'gflop': counted['flops'] / 1e9,
        'mb_accessed': counted['bytes accessed'] / 1e6,
        'memory_mb': held / 1e6,
    }


def _h100() -> jax.Device:
    topology = topologies.get_topology_desc(platform='cuda', topology='1x1x1', target_config=_H100)
    return topology.devices[0]


def _convert(path: str) -> bytes:
    """Writes the program of `path`.hlo in its portable form beside it, and returns that form."""
    with open(f'{path}.hlo', 'rb') as file:
        try:
            artifact = portable(file.read())
        except ValueError as error:
            sys.exit(f'{path}.hlo cannot be counted or converted: {error}')
    with open(f'{path}.stablehlo', 'wb') as file:
        file.write(artifact)
    return artifact


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='the folder of `python -m benchmarks.cost --hlo`')
    parser.add_argument('--compilers', nargs='+', choices=COMPILERS, default=COMPILERS)
    parser.add_argument('--portable', action='store_true', help='convert, and count nothing')
    arguments = parser.parse_args()
    folder = arguments.folder
    if arguments.portable:
        for path in glob.glob(os.path.join(folder, '*.hlo')):
            _convert(path.removesuffix('.hlo'))
            os.remove(path)
        return
    # No GPU is needed, so JAX need not check CUDA.
    os.environ['JAX_SKIP_CUDA_CONSTRAINTS_CHECK'] = '1'
    logging.getLogger('jax_plugins').setLevel(logging.ERROR)
    jax.config.update('jax_enable_x64', True)  # labels are int64
    with open(os.path.join(folder, 'index.json'), encoding='utf-8') as file:
        index = json.load(file)
    rows = []
    for entry in index:
        artifact = _convert(os.path.join(folder, entry['stem']))
        inputs = signature(entry['inputs'])
        program = as_function(artifact, inputs, signature(entry['outputs']))
        for compiler in arguments.compilers:
            if (entry['part'], compiler) == ('step', H100):
                continue
            fields = {key: entry[key] for key in ('part', 'name', 'gradient_mode', 'batch')}
            rows.append({**fields, 'compiler': compiler, **cost(program, inputs, compiler)})
    with open(os.path.join(folder, 'cost.json'), 'w', encoding='utf-8') as file:
        json.dump(rows, file, indent=1)


if __name__ == '__main__':
    _main()
