"""Reads the settings of network and training, and says which large libraries that has loaded."""

import sys

import capsmodel.networks.settings
import capsmodel.training.settings

assert capsmodel.networks.settings.ROUTINGS
assert capsmodel.training.settings.STRATEGIES
print([name for name in ('tensorflow', 'keras', 'tfx') if name in sys.modules])
