"""Runs the pipeline on this machine: what the tfx CLI loads with `--engine=local`."""

import os
import sys

# Python puts a script's folder, here the inside of the package `pipeline`, first on the path.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import start_tensorflow  # noqa: E402 (needs the path above)
from pipeline import configs, console, var_folder  # noqa: E402
from pipeline.temporary_folder import temporary_folder  # noqa: E402


def main() -> None:
    """Builds the pipeline that the environment asks for and runs it."""
    start_tensorflow.hide_gpus()
    config = configs.from_environment_or_exit()
    configs.print_notice()
    with console.exit_on_error(config), temporary_folder(config):
        from pipeline import slices
        from pipeline.exclusive_runner import ExclusiveRunner
        from pipeline.pipeline import create_pipeline

        with var_folder.entered(config) as inside:
            pipeline = create_pipeline(inside)
            chosen = slices.chosen(inside)
            lines = console.node_lines(config, nodes=len(pipeline.components), heading=chosen)
            ExclusiveRunner(config, lines).run(pipeline)


if __name__ == '__main__':
    main()
