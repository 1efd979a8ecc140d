"""A version of the code that a component runs, for its cache key.

TFX names a component's code by its dotted path: an edit to it does not change the key, and a cached
result of the old code would be used. So the version is one of the component's settings.
"""

from __future__ import annotations

import hashlib
import importlib.util
import pathlib

# What decides which pictures can be decoded: TfdsExampleGen runs it, and Transform.
IMAGE_CHECK = (
    'capsmodel.data.image_files',
    'capsmodel.data.image_reading',
    'capsmodel.data.images',
)
# What Transform runs: an edit elsewhere in the package leaves it cached.
TRANSFORM = ('capsmodel.data.features', *IMAGE_CHECK, 'capsmodel.data.preprocessing')


def code_version(*modules: str) -> str:
    """A hash of source files.

    Args:
        *modules: Dotted names; a package stands for the modules in its folder.

    Returns:
        16 hexadecimal digits.

    Raises:
        ModuleNotFoundError: There is no such module.
    """
    digest = hashlib.sha256()
    for module in modules:
        specification = importlib.util.find_spec(module)
        if specification is None or specification.origin is None:
            raise ModuleNotFoundError(f'There is no module {module}')
        origin = pathlib.Path(specification.origin)
        files = sorted(origin.parent.glob('*.py')) if origin.stem == '__init__' else [origin]
        for file in files:
            content = hashlib.sha256(file.read_bytes()).hexdigest()
            digest.update(f'{module} {file.name} {content}\n'.encode())
    return digest.hexdigest()[:16]
