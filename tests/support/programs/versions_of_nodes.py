"""Prints the version of the code of each node, and again after an edit of each file named."""

import sys

from edited_files import before_and_after_each_edit

from pipeline.code_version import STARTS_WITH, code_version

for _ in before_and_after_each_edit(sys.argv[1:]):
    print(*(f'{node}={code_version(node)}' for node in STARTS_WITH))
