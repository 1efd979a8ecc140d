"""What a cluster gives the tasks: reads cluster.yaml."""

from __future__ import annotations

import copy
import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

from pipeline.configs import SettingError

DEFAULTS = pathlib.Path(__file__).with_name('cluster.yaml')


@dataclasses.dataclass(frozen=True)
class Resources:
    """What one task gets; cluster.yaml says what each is and in which unit."""

    cpu: str
    cpu_limit: str
    memory: str
    memory_limit: str
    gpus: int
    gpu_type: str
    node_selector: dict[str, str]
    tolerations: list[dict[str, Any]]
    retries: int
    retry_wait: int
    retry_factor: float
    retry_wait_limit: int
    timeout: int


@dataclasses.dataclass(frozen=True)
class Cluster:
    """The settings of cluster.yaml, which explains them."""

    image: str
    gpu_image: str
    image_pull_policy: str
    image_pull_secrets: list[str]
    var: str
    volumes: dict[str, str]
    pipeline_root: str
    metadata: str
    secrets: dict[str, dict[str, str]]
    secret_files: dict[str, str]
    environment: dict[str, str]
    defaults: dict[str, Any]
    nodes: dict[str, dict[str, Any]]

    def resources(self, node_id: str) -> Resources:
        """What the task of a node gets."""
        return Resources(**{**self.defaults, **self.nodes.get(node_id, {})})


def load(path: str | os.PathLike | None = None) -> Cluster:
    """Reads the settings: those of DEFAULTS with what `path` changes in them.

    Mappings are merged, so that a file may change one value of one node.

    Raises:
        SettingError: The file cannot be read, or has a setting that there is not, or one of
            another type than the default.
    """
    settings = _read(DEFAULTS)
    if path:
        settings = _merged(settings, _read(path), str(path), '')
    for node, changes in settings['nodes'].items():
        where = f'{path or DEFAULTS}'
        _merged(settings['defaults'], changes, where, f'nodes.{node}.')
    return Cluster(**settings)


def _read(path: str | os.PathLike) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(pathlib.Path(path).read_text(encoding='utf-8')) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f'{path} cannot be read: {error}') from error
    if not isinstance(settings, dict):
        raise SettingError(f'{path} must have a setting a line, as {DEFAULTS} has')
    return settings


# Whose keys are the user's own, and of which type the values are. Null takes one out.
_OPEN = {
    'volumes': str,
    'secrets': dict,
    'secret_files': str,
    'environment': str,
    'nodes': dict,
    'node_selector': str,
}


def _merged(
    settings: Mapping[str, Any], changes: Mapping[str, Any], where: str, prefix: str
) -> dict[str, Any]:
    merged = copy.deepcopy(dict(settings))
    value: Any
    for name, value in changes.items():
        if name not in settings:
            raise SettingError(
                f"{where}: there is no setting '{prefix}{name}'; there are "
                f'{", ".join(sorted(settings))}'
            )
        default: Any = settings[name]
        wanted: Any = (int, float) if isinstance(default, float | int) else type(default)
        kind = _OPEN.get(name)
        if (
            not isinstance(value, wanted)
            or isinstance(value, bool)
            or (kind and not all(isinstance(each, kind | None) for each in value.values()))
        ):
            raise SettingError(
                f"{where}: '{prefix}{name}' is {value!r}: it must be of the form of "
                f'{default!r}, the default'
            )
        if kind:
            merged[name] = _overlaid(default, value)
        elif isinstance(default, dict):
            merged[name] = _merged(default, value, where, f'{prefix}{name}.')
        else:
            merged[name] = value
    return merged


def _overlaid(mapping: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = {
        name: value for name, value in mapping.items() if changes.get(name, value) is not None
    }
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        if value is not None:
            result[name] = _overlaid(result[name], value) if both else value
    return result
