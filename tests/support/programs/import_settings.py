"""Reads all settings, and says which large libraries that has loaded."""

import sys

import capsmodel.networks.settings
import capsmodel.training.settings
import pipeline.configs

assert capsmodel.networks.settings.ROUTINGS
assert capsmodel.training.settings.STRATEGIES
assert pipeline.configs.from_preset('quick')
print([name for name in ('tensorflow', 'keras', 'tfx') if name in sys.modules])
