"""Prints the version of the code that runs with some modules, which the arguments name."""

import sys

from pipeline.code_version import version_of

print(version_of(*sys.argv[1:]))
