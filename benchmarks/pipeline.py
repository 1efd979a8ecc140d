"""The time of each node in a run of the pipeline, and in a second run that is cached.

`python -m benchmarks.pipeline --preset quick` starts what `make run` starts, with a new folder for
everything that a run writes; `--var FOLDER` keeps it. The dataset must exist (`make data`). A
node's time is the one between its start and its end in ML Metadata. Other settings come from the
environment, as in `make run`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any

from benchmarks.interleaved import report
from pipeline import configs

_COLUMNS = {'name': '', 'cold_s': '.1f', 'cached_s': '.1f'}


def measure_runs(config: configs.Config, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Runs the pipeline twice.

    Args:
        config: The settings; their folder `var` holds only the dataset.
        environment: The same settings as environment variables.

    Returns:
        Seconds in the first run and in the second one, of each node, of the run in all, and of what
        a run does beside its nodes. The kind of these rows is 'node', 'run' and 'rest'.

    Raises:
        SystemExit: A run fails.
    """
    from pipeline import results

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    runner = os.path.join(root, 'pipeline', 'local_runner.py')
    run = []
    nodes = []
    for _ in range(2):
        start = time.monotonic()
        if subprocess.call([sys.executable, runner], env=environment, stdout=sys.stderr):
            raise SystemExit('The run has failed: see what it says above')
        run.append(time.monotonic() - start)
        nodes.append(results.node_seconds(config))
    rows: list[dict[str, Any]] = [
        {'name': name, 'kind': 'node', 'cold_s': seconds, 'cached_s': nodes[1][name]}
        for name, seconds in nodes[0].items()
    ]
    rest = [seconds - sum(of.values()) for seconds, of in zip(run, nodes, strict=True)]
    for name, kind, (cold, cached) in (
        ('beside the nodes', 'rest', rest),
        ('in all', 'run', run),
    ):
        rows.append({'name': name, 'kind': kind, 'cold_s': cold, 'cached_s': cached})
    return [{**row, 'preset': config.preset} for row in rows]


def _main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--preset', default='quick', choices=list(configs.PRESETS))
    parser.add_argument('--data_dir', default='var/data', help="TFDS's folder")
    parser.add_argument('--var', help='an empty folder for what the runs write, which is kept')
    parser.add_argument('--json', help='a file for the rows')
    arguments = parser.parse_args()
    if arguments.var and not (os.path.isdir(arguments.var) and not os.listdir(arguments.var)):
        parser.error(f'--var must be an empty folder: {arguments.var}')
    if not os.path.isdir(arguments.data_dir):
        parser.error(f'there is no folder {arguments.data_dir}: `make data` prepares it')
    with tempfile.TemporaryDirectory(prefix='capsnet-') as temporary:
        var = os.path.abspath(arguments.var or temporary)
        os.symlink(os.path.abspath(arguments.data_dir), os.path.join(var, 'data'))
        environment = {
            'TF_CPP_MIN_LOG_LEVEL': '3',
            **os.environ,
            'PATH': f'{os.path.dirname(sys.executable)}:{os.environ.get("PATH", os.defpath)}',
            'PYTHONWARNINGS': 'ignore',
            'KERAS_HOME': os.path.join(var, 'cache', 'keras'),
            'PRESET': arguments.preset,
            'VAR': var,
        }
        try:
            config = configs.from_environment(environment)
        except configs.SettingError as error:
            parser.error(f'Wrong setting: {error}')
        rows = measure_runs(config, environment)
    report(rows, _COLUMNS, arguments.json)


if __name__ == '__main__':
    _main()
