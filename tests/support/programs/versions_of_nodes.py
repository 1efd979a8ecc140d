"""Prints the version of the code of each node."""

from pipeline.code_version import STARTS_WITH, code_version

for node in STARTS_WITH:
    print(node, code_version(node))
