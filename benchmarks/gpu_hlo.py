"""Runs the programs of `benchmarks.cost --hlo DIR` on a GPU: ours against the textbook's.

`python -m benchmarks.gpu_hlo DIR` needs neither TensorFlow nor other packages of this project, only
a JAX with CUDA (`pip install 'jax[cuda12]'`). Without a GPU it runs on the CPU. This checks the
outputs but says nothing about the speed on a GPU; run it with `--part routing`, since XLA takes
minutes for the convolutions of a step.

A program's share of the roofline (Williams, Waterman, Patterson 2009) is the time that its
arithmetic or its bytes accessed, whichever takes longer, would take at the device's peak rates,
divided by the time that the program takes. XLA's counts ignore caches, and the arithmetic of cuDNN
and cuBLAS.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import time
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from benchmarks.interleaved import report

if TYPE_CHECKING:
    import jax

_SECONDS_A_TURN = 0.1


class Peak(NamedTuple):
    """The peak rates of a device.

    Attributes:
        tflops: 10^12 float32 operations a second, without tensor cores.
        gb_per_s: 10^9 bytes of its memory a second.
    """

    tflops: float
    gb_per_s: float


# From NVIDIA's data sheets, by a part of JAX's `device_kind`; more specific names come first.
PEAKS = {
    'H200': Peak(67, 4800),
    'H100 PCIe': Peak(51, 2000),
    'H100': Peak(67, 3350),
    'A100-SXM4-80GB': Peak(19.5, 2039),
    'A100 80GB PCIe': Peak(19.5, 1935),
    'A100': Peak(19.5, 1555),
    'L40S': Peak(91.6, 864),
    'L4': Peak(30.3, 300),
    'T4': Peak(8.1, 320),
    'V100': Peak(15.7, 900),
}

_COLUMNS = {
    'part': '',
    'gradient_mode': '',
    'name': '',
    'ms': '.3f',
    'ratio_to_textbook': '.2f',
    'gflop': '.2f',
    'mb_accessed': ',.0f',
    'roofline_share': '.3f',
    'largest_difference': '.1e',
}


def draw(inputs: list[dict[str, Any]]) -> list[np.ndarray]:
    """Draws values as `benchmarks.programs.Input` describes them, equal for equal names."""
    values = []
    for given in inputs:
        rng = np.random.default_rng(zlib.crc32(given['name'].encode()))
        low, high, dtype = given['low'], given['high'], np.dtype(given['dtype'])
        if np.issubdtype(dtype, np.integer):
            drawn = rng.integers(low, high, given['shape'], endpoint=True)
        else:
            drawn = rng.uniform(low, high, given['shape'])
        values.append(np.asarray(drawn, dtype))
    return values


def largest_difference(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest difference of two results, relative to the largest value of its output.

    It is NaN if one of the values is not finite.
    """
    differences = [
        np.max(np.abs(actual[name] - expected[name])) / (np.max(np.abs(expected[name])) or 1)
        for name in expected
    ]
    return float(np.max(differences))


def known_peak(device_kind: str) -> Peak | None:
    """The peak rates of a device, or None if PEAKS does not have it."""
    return next((peak for name, peak in PEAKS.items() if name in device_kind), None)


class _Program:
    """A compiled program with its inputs on the device."""

    def __init__(self, folder: str, entry: dict[str, Any]):
        import jax

        from benchmarks.stablehlo import as_function, signature

        inputs, outputs = (signature(entry[key]) for key in ('inputs', 'outputs'))
        with open(os.path.join(folder, f'{entry["stem"]}.stablehlo'), 'rb') as file:
            call = as_function(file.read(), inputs, outputs)
        self.entry = entry
        self._inputs = jax.device_put(draw(entry['inputs']), jax.devices()[0])
        self._compiled = jax.jit(call, keep_unused=True).lower(*self._inputs).compile()
        cost = self._compiled.cost_analysis()
        # Older versions of JAX return a list with one entry for each device.
        self.cost = cost[0] if isinstance(cost, list) else cost

    def outputs(self) -> dict[str, np.ndarray]:
        results = [np.asarray(value, np.float64) for value in self._compiled(*self._inputs)]
        names = [output['name'] for output in self.entry['outputs']]
        return dict(zip(names, results, strict=True))

    def seconds(self, calls: int) -> float:
        """The seconds of a call, over the given number of calls without gaps."""
        start = time.perf_counter()
        results: list[jax.Array] = []
        for _ in range(calls):
            results = self._compiled(*self._inputs)
        # A device runs one call after another, so the last one ends last.
        for result in results:
            result.block_until_ready()
        return (time.perf_counter() - start) / calls


def _group_rows(
    folder: str, entries: list[dict[str, Any]], peak: Peak | None, turns: int
) -> list[dict[str, Any]]:
    """The rows of one part in one gradient mode; the textbook's is the first."""
    programs = {entry['name']: _Program(folder, entry) for entry in entries}
    expected = programs['textbook'].outputs()
    differences = {
        name: largest_difference(program.outputs(), expected) for name, program in programs.items()
    }
    calls = {
        name: max(1, round(_SECONDS_A_TURN / program.seconds(1)))
        for name, program in programs.items()
    }
    turns_of: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(turns):
        for name, program in programs.items():
            turns_of[name].append(program.seconds(calls[name]))
    seconds = {name: statistics.median(values) for name, values in turns_of.items()}
    rows = []
    for name, program in programs.items():
        flops, accessed = program.cost['flops'], program.cost['bytes accessed']
        row = {
            **{key: program.entry[key] for key in ('part', 'gradient_mode', 'name', 'batch')},
            'ms': 1000 * seconds[name],
            'ratio_to_textbook': seconds['textbook'] / seconds[name],
            'gflop': flops / 1e9,
            'mb_accessed': accessed / 1e6,
            'largest_difference': differences[name],
        }
        if peak:
            least = max(flops / (1e12 * peak.tflops), accessed / (1e9 * peak.gb_per_s))
            row['roofline_share'] = least / seconds[name]
        rows.append(row)
    return rows


def _read_index(folder: str) -> list[dict[str, Any]]:
    try:
        with open(os.path.join(folder, 'index.json'), encoding='utf-8') as file:
            index = json.load(file)
        for entry in index:
            os.stat(os.path.join(folder, f'{entry["stem"]}.stablehlo'))
        return index
    except (OSError, ValueError) as error:
        sys.exit(f'{folder} holds no programs of `python -m benchmarks.cost --hlo`: {error}')


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='the folder of `python -m benchmarks.cost --hlo`')
    parser.add_argument(
        '--part', choices=['routing', 'step'], help='what to measure; both by default'
    )
    parser.add_argument(
        '--without',
        nargs='+',
        default=[],
        choices=['ours', 'ours-gpu', 'fused'],
        help='forms to leave out, such as one that XLA compiles for minutes',
    )
    parser.add_argument('--turns', type=int, default=10, help='turns that the medians are over')
    parser.add_argument('--peak_tflops', type=float, help='float32 TFLOP/s of an unknown device')
    parser.add_argument('--peak_gb_per_s', type=float, help='memory bandwidth of an unknown device')
    parser.add_argument(
        '--tolerance',
        type=float,
        default=0.01,
        help="largest difference from textbook, relative to an output's largest value; the default "
        'allows for products on tensor cores, which round to TensorFloat-32',
    )
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    if bool(arguments.peak_tflops) != bool(arguments.peak_gb_per_s):
        parser.error('--peak_tflops and --peak_gb_per_s go together')
    index = _read_index(arguments.folder)

    import jax

    # A stack trace for each kind of device that is not there.
    logging.getLogger('jax._src.xla_bridge').setLevel(logging.CRITICAL)

    jax.config.update('jax_enable_x64', True)  # labels are int64
    device = jax.devices()[0]
    peak = known_peak(device.device_kind)
    if arguments.peak_tflops:
        peak = Peak(arguments.peak_tflops, arguments.peak_gb_per_s)
    print(f'{device.device_kind}, JAX {jax.__version__}')
    if device.platform == 'cpu':
        print('JAX finds no GPU: outputs are checked, times say nothing.')
    groups: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for entry in index:
        if arguments.part in (None, entry['part']) and entry['name'] not in arguments.without:
            groups.setdefault((entry['part'], entry['gradient_mode']), []).append(entry)
    rows = [
        {'device': device.device_kind, **row}
        for entries in groups.values()
        for row in _group_rows(arguments.folder, entries, peak, arguments.turns)
    ]
    report(rows, _COLUMNS, arguments.json)
    wrong = [row for row in rows if not row['largest_difference'] <= arguments.tolerance]
    if wrong:
        names = ', '.join(f'{row["part"]} {row["name"]} {row["gradient_mode"]}' for row in wrong)
        sys.exit(f"Outputs differ from the textbook's by more than {arguments.tolerance}: {names}")


if __name__ == '__main__':
    _main()
