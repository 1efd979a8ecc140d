"""The environment for processes that tests start."""

import os

from pipeline import configs

# What a make that runs the tests hands on to the programs below it.
_OF_MAKE = {'MAKEFLAGS', 'MAKELEVEL', 'MFLAGS', 'MAKEOVERRIDES'}


def without_settings():
    """The variables of this process but for the project's settings and those of a make above."""
    settings = {*configs.NAMES, *(configs.PREFIX + name for name in configs.NAMES)}
    return {n: text for n, text in os.environ.items() if n not in settings | _OF_MAKE}
