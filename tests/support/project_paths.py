"""Where the project and the data of its tests are."""

import pathlib

ROOT = pathlib.Path(__file__).parents[2]
DATA = ROOT / 'tests' / 'data'
# What tests start in processes of their own.
PROGRAMS = ROOT / 'tests' / 'support' / 'programs'
# In PYTHONPATH, it has each process record what it imports.
RECORDER = ROOT / 'tests' / 'support' / 'recorder'
