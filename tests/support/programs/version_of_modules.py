"""Prints the version of the code that runs with some modules, and with the first of them.

    version_of_modules.py MODULE,MODULE [FILE ...]

It does so again after an edit of each file.
"""

import sys

from edited_files import before_and_after_each_edit

from pipeline.code_version import version_of

modules = sys.argv[1].split(',')
for _ in before_and_after_each_edit(sys.argv[2:]):
    print(version_of(*modules), version_of(modules[0]))
