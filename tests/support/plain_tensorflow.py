"""What a SavedModel answers in a process that has TensorFlow and nothing of this project."""

import subprocess
import sys

import numpy as np
from project_paths import PROGRAMS


def answers(model, questions, folder):
    """Outputs by signature and name.

    Args:
        model: The SavedModel's folder.
        questions: Inputs by signature and name, arrays.
        folder: An existing one for the files between the processes.
    """
    asked, answered = folder / 'questions.npz', folder / 'answers.npz'
    np.savez(
        asked,
        **{
            f'{signature}/{name}': value
            for signature, inputs in questions.items()
            for name, value in inputs.items()
        },
    )
    done = subprocess.run(
        [sys.executable, '-I', PROGRAMS / 'ask_saved_model.py', model, asked, answered],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(answered, allow_pickle=True) as archive:
        for key, value in archive.items():
            signature, name = key.split('/')
            found.setdefault(signature, {})[name] = value
    return found
