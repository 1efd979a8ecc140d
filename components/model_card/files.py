"""The files of a model card."""

from __future__ import annotations

import os

from tfx.dsl.io import fileio

# Of the folder of a card: for people, and for programs.
PAGE = 'model_card.html'
FACTS = 'model_card.json'
NAMES = (PAGE, FACTS)


def write(folder: str, page: str, facts: str) -> None:
    """Writes both files, each beside its place first, then renamed.

    Args:
        folder: Is made if it is missing.
        page: HTML.
        facts: JSON.
    """
    fileio.makedirs(folder)
    for name, text in ((FACTS, facts), (PAGE, page)):
        path = os.path.join(folder, name)
        with fileio.open(f'{path}.unfinished', 'wb') as file:
            file.write(text.encode())
        fileio.rename(f'{path}.unfinished', path, overwrite=True)
