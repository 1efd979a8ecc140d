"""What a cluster gives the tasks: reads cluster.yaml."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic.dataclasses import dataclass

from capsmodel.settings import STRICT, refusal
from pipeline.configs import SettingError

DEFAULTS = pathlib.Path(__file__).with_name('cluster.yaml')


@dataclass(frozen=True, kw_only=True, config=STRICT)
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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cluster:
    """The settings of cluster.yaml, which explains them.

    `nodes` has by the ids of nodes all that their tasks get; `defaults` is what the others' get.
    """

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
    defaults: Resources
    nodes: dict[str, Resources]

    def resources(self, node_id: str) -> Resources:
        """What the task of a node gets."""
        return self.nodes.get(node_id, self.defaults)


def load(path: str | os.PathLike | None = None) -> Cluster:
    """Reads the settings: those of DEFAULTS with what `path` changes in them.

    Mappings are merged, so that a file may change one value of one node. Null takes a value out.

    Raises:
        SettingError: The file cannot be read, or has a setting that does not exist, or one of
            another type than the default.
    """
    settings = _read(DEFAULTS)
    if path:
        settings = _overlaid(settings, _read(path))
    defaults, nodes = settings['defaults'], settings['nodes']
    if isinstance(defaults, dict) and isinstance(nodes, dict):
        settings['nodes'] = {
            node: _overlaid(defaults, changes) if isinstance(changes, dict) else changes
            for node, changes in nodes.items()
        }
    try:
        return Cluster(**settings)
    except ValidationError as error:
        raise SettingError(f'{path or DEFAULTS}: {refusal(error, str)}') from None


def _read(path: str | os.PathLike) -> dict[str, Any]:
    try:
        settings = yaml.safe_load(pathlib.Path(path).read_text(encoding='utf-8')) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise SettingError(f'{path} cannot be read: {error}') from error
    if not isinstance(settings, dict) or not all(isinstance(name, str) for name in settings):
        raise SettingError(f'{path} must have a setting a line, as {DEFAULTS} has')
    return settings


def _overlaid(mapping: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(mapping)
    for name, value in changes.items():
        both = isinstance(value, dict) and isinstance(result.get(name), dict)
        result[name] = _overlaid(result[name], value) if both else value
        if value is None:
            del result[name]
    return result
