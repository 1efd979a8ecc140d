"""The package is declared in pyproject.toml; tools that start setup.py find it so, too."""

import setuptools

setuptools.setup()
