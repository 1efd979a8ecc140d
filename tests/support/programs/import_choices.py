"""Reads the names that settings may have, and says which large libraries that has loaded."""

import sys

import capsmodel.training.choices

import capsmodel.networks.choices

assert capsmodel.networks.choices.ROUTINGS
assert capsmodel.training.choices.STRATEGIES
print([name for name in ('tensorflow', 'keras', 'numpy', 'tfx') if name in sys.modules])
