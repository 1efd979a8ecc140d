"""Runs a benchmark as people do."""

import json
import pathlib
import subprocess
import sys
from typing import Any

from project_paths import ROOT


def run(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs `python -m benchmarks.NAME` in a process of its own."""
    command = [sys.executable, '-W', 'ignore', '-m', f'benchmarks.{name}', *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def rows_of(folder: pathlib.Path, name: str, *options: str) -> list[dict[str, Any]]:
    """The rows of a benchmark that must succeed; they pass through a file in `folder`."""
    rows = folder / 'rows.json'
    done = run(name, *options, '--json', str(rows))
    assert done.returncode == 0, done.stderr
    return json.loads(rows.read_text())
