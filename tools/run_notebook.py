"""Runs a notebook and puts into it what comes out: `make notebook`, or

.venv-docs/bin/python tools/run_notebook.py docs/tutorial.ipynb

The cells run in the Python of .venv, with TensorFlow. What Jupyter needs besides is found behind
the packages of .venv, in .venv-docs, so that no version of theirs takes the place of one of TFX's.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import sysconfig
import tempfile

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

_PYTHON = pathlib.Path(__file__).parents[1] / '.venv' / 'bin' / 'python'
_KERNEL = """
import sys
sys.path.append({packages!r})
from ipykernel.kernelapp import launch_new_instance
launch_new_instance()
"""
_CELL_SECONDS = 300


def run(source: pathlib.Path, target: pathlib.Path) -> None:
    """Runs a notebook in its own folder.

    Args:
        source: The notebook.
        target: Is written, with the outputs.

    Raises:
        CellExecutionError: A cell fails; nothing is written.
    """
    notebook = nbformat.read(source, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        _write_kernel(pathlib.Path(folder, 'kernels', 'venv'))
        os.environ['JUPYTER_PATH'] = folder
        NotebookClient(
            notebook,
            kernel_name='venv',
            timeout=_CELL_SECONDS,
            resources={'metadata': {'path': str(source.parent)}},
            record_timing=False,
        ).execute()
    # As it was, so that only outputs change; an editor chooses its own kernel.
    notebook.metadata = nbformat.read(source, as_version=4).metadata
    unfinished = target.with_name(f'{target.name}.unfinished')
    nbformat.write(notebook, unfinished)
    os.replace(unfinished, target)


def _write_kernel(folder: pathlib.Path) -> None:
    """Describes to Jupyter how a process for the cells is started."""
    program = _KERNEL.format(packages=sysconfig.get_path('purelib'))
    description = {
        'argv': [str(_PYTHON), '-c', program, '-f', '{connection_file}', '--log-level=ERROR'],
        'display_name': 'CapsNet on TFX',
        'language': 'python',
    }
    folder.mkdir(parents=True)
    (folder / 'kernel.json').write_text(json.dumps(description))


def main() -> None:
    parser = argparse.ArgumentParser(description='Run a notebook.')
    parser.add_argument('notebook', type=pathlib.Path)
    parser.add_argument('--output', type=pathlib.Path, help='default: the notebook itself')
    arguments = parser.parse_args()
    notebook = arguments.notebook.absolute()
    try:
        run(notebook, (arguments.output or notebook).absolute())
    except CellExecutionError as error:
        sys.exit(f'A cell of {arguments.notebook} failed: {error.ename}: {error.evalue}')


if __name__ == '__main__':
    main()
