"""Makes the pipeline known to the tfx CLI, which is what `make run` does first.

LOCAL_HOME, in the environment, is the folder of the CLI.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

from components import locks
from pipeline import configs
from pipeline.settings import Config

_RUNNER = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'local_runner.py')


def register(config: Config, home: str) -> int:
    """Issues `tfx pipeline create`, or `update` where another project's folder is registered.

    One process at a time: the CLI removes and writes its files in place.

    Args:
        config: The settings.
        home: The folder of the CLI.

    Returns:
        The exit code of the command; 0 if none was needed.
    """
    folder = os.path.join(home, config.pipeline_name)
    waiting = 'Waiting for another process to register its pipeline ...'
    with locks.held(os.path.join(config.lock_dir, 'tfx'), waiting):
        if _registered_runner(folder) == _RUNNER:
            return 0
        action = 'update' if os.path.isdir(folder) else 'create'
        command = ['tfx', 'pipeline', action, '--engine=local', f'--pipeline_path={_RUNNER}']
        print(*command, flush=True)
        return subprocess.call([sys.executable, '-m', 'start_tensorflow', *command])


def _registered_runner(folder: str) -> str | None:
    try:
        with open(os.path.join(folder, 'pipeline_args.json')) as file:
            return json.load(file)['pipeline_dsl_path']
    except (OSError, ValueError, LookupError, TypeError):
        return None  # it is not there, or a kill has left half of it


def main() -> None:
    """Registers the pipeline that the environment asks for."""
    config = configs.from_environment_or_exit()
    try:
        sys.exit(register(config, os.environ['LOCAL_HOME']))
    except OSError as error:
        sys.exit(f'{error.filename} cannot be written: {error.strerror}')


if __name__ == '__main__':
    main()
