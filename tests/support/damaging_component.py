"""Nodes that do to ML Metadata's file what happens to files in the middle of a run."""

import os

from tfx import v1 as tfx


@tfx.dsl.components.component
def Damage(  # noqa: N802 (TFX names a component after its function)
    path: tfx.dsl.components.Parameter[str], how: tfx.dsl.components.Parameter[str]
):
    """Removes or empties the file, or fills it with what is no database."""
    if how == 'removed':
        os.remove(path)
    elif how == 'emptied':
        os.truncate(path, 0)
    elif how == 'garbage':
        with open(path, 'r+b') as file:
            file.seek(100)  # behind the header
            file.write(b'garbage ' * (os.path.getsize(path) // 8))


@tfx.dsl.components.component
def Afterwards():  # noqa: N802
    """Does nothing."""
