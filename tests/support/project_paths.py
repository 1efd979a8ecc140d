"""Where the project and the data of its tests are."""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]
DATA = ROOT / 'tests' / 'data'
