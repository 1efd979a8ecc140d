"""The versions of a model: the numbered folders of its base path that hold a SavedModel."""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Collection

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig

_MAX_VERSION = 2**63 - 1
_SAVED_MODEL_FILES = ('saved_model.pb', 'saved_model.pbtxt')


def find_versions(base_path: str) -> dict[int, str]:
    """Number and folder of each version; a folder without a graph is no version yet.

    Raises:
        OSError: The base path cannot be read.
    """
    with os.scandir(base_path) as entries:
        # In the order of their names: of 01 and 1 the last counts, as in the real server.
        found = sorted((entry.name, entry.path) for entry in entries if _is_version(entry))
    # Raises an error if the folder has just gone, because then its versions seem to have no files.
    os.stat(base_path)
    return {int(name): path for name, path in found}


def aspired_versions(model: ModelConfig, broken: Collection[int] = ()) -> dict[int, str]:
    """The versions that the model's version policy asks for; the newest by default.

    Args:
        model: The model.
        broken: Versions that do not load. If the policy asks for the newest versions, the next
            older one is added for each of these, to serve in its place.

    Raises:
        OSError: The base path cannot be read.
    """
    versions = find_versions(model.base_path)
    policy = model.model_version_policy
    kind = policy.WhichOneof('policy_choice')
    if kind == 'all':
        return versions
    if kind == 'specific':
        numbers = set(policy.specific.versions)
    else:
        wanted, numbers = max(policy.latest.num_versions, 1), set()
        for number in sorted(versions, reverse=True):
            if len(numbers.difference(broken)) < wanted:
                numbers.add(number)
    return {number: path for number, path in versions.items() if number in numbers}


def _is_version(entry: os.DirEntry[str]) -> bool:
    if not re.fullmatch('[0-9]+', entry.name) or int(entry.name) > _MAX_VERSION:
        return False
    return any(os.path.exists(os.path.join(entry.path, file)) for file in _SAVED_MODEL_FILES)


def files_of(path: str) -> frozenset[tuple[str, int, int, bool]]:
    """The files below a folder: path, size, time of the last change, whether it is regular."""
    found = set()
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                status = os.stat(file)
                is_regular = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)
                found.add((file, status.st_size, status.st_mtime_ns, is_regular))
    return frozenset(found)
