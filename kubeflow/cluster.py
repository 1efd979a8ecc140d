"""What a cluster gives the tasks: reads cluster.yaml."""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from capsmodel.settings import STRICT, refusal
from pipeline import configs
from pipeline.configs import SettingError

DEFAULTS = pathlib.Path(__file__).with_name('cluster.yaml')

# What METADATA's login is called in the environment.
_LOGIN = ('METADATA_USER', 'METADATA_PASSWORD')
_UNITS = {
    **{unit: 1000**power for power, unit in enumerate(('', 'K', 'M', 'G', 'T', 'P', 'E'))},
    **{f'{unit}i': 1024**power for power, unit in enumerate('KMGTPE', start=1)},
}


def _like(pattern: str, must: str) -> AfterValidator:
    """Refuses text that is not like the pattern, with a sentence."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f'must be {must}')
        return text

    return AfterValidator(check)


_Cores = Annotated[
    str,
    _like(r'[0-9]*\.?[0-9]+|[0-9]+m|', "a number of cores, such as '2', '0.5' or 500m"),
]
# Kubernetes knows fractions, kfp does not.
_Memory = Annotated[
    str,
    _like(
        rf'[1-9][0-9]*({"|".join(_UNITS)})|',
        'a whole number with one of the units K, M, G, T, P, E, Ki, Mi, Gi, Ti, Pi and Ei, such as '
        '1536Mi',
    ),
]
_Word = Annotated[str, _like('[!-~]+', 'a name without spaces, and not empty')]
_Folder = Annotated[str, _like(r'/[^\0:]*', "an absolute path without ':'")]
_Variable = Annotated[
    str, _like('[A-Za-z_][A-Za-z0-9_]*', 'the name of an environment variable, of letters and _')
]
_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Toleration:
    """A taint that a machine may have, by the names that Kubernetes has for its parts."""

    key: str = ''
    operator: Literal['', 'Exists', 'Equal'] = ''
    value: str = ''
    effect: Literal['', 'NoSchedule', 'PreferNoSchedule', 'NoExecute'] = ''
    tolerationSeconds: int | None = None  # noqa: N815


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Resources:
    """What one task gets; cluster.yaml says what each is and in which unit."""

    cpu: _Cores
    cpu_limit: _Cores
    memory: _Memory
    memory_limit: _Memory
    gpus: _Count
    gpu_type: _Word
    node_selector: dict[str, str]
    tolerations: list[Toleration]
    retries: _Count
    retry_wait: _Count
    retry_factor: Annotated[float, Field(ge=1)]
    # kfp would make one hour of more.
    retry_wait_limit: Annotated[int, Field(ge=0, le=3600)]
    timeout: Annotated[int, Field(ge=1)]

    @field_validator('cpu', 'memory')
    @classmethod
    def _given(cls, value: str) -> str:
        if not value:
            raise ValueError('must not be empty: Kubernetes chooses a machine by it')
        return value

    @field_validator('cpu_limit', 'memory_limit')
    @classmethod
    def _not_less(cls, limit: str, info: ValidationInfo) -> str:
        name = str(info.field_name).removesuffix('_limit')
        kept = info.data.get(name)
        if limit and kept and _number(limit) < _number(kept):
            raise ValueError(f'must be at least {name}, which is {kept}')
        return limit


def _number(quantity: str) -> float:
    """Of cores, or of bytes."""
    number = quantity.rstrip('KMGTPEim')
    unit = quantity.removeprefix(number)
    return float(number) * (0.001 if unit == 'm' else _UNITS[unit])


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Cluster:
    """The settings of cluster.yaml, which explains them.

    `nodes` has by the ids of nodes all that their tasks get; `defaults` is what the others' get.
    """

    image: _Word
    gpu_image: _Word
    image_pull_policy: Literal['', 'Always', 'IfNotPresent', 'Never']
    image_pull_secrets: list[_Word]
    var: _Folder
    volumes: dict[_Word, _Folder]
    pipeline_root: str
    metadata: str
    secrets: dict[_Word, dict[_Word, _Variable]]
    secret_files: dict[_Word, _Folder]
    environment: dict[_Variable, str]
    defaults: Resources
    nodes: dict[str, Resources]

    def resources(self, node_id: str) -> Resources:
        """What the task of a node gets."""
        return self.nodes.get(node_id, self.defaults)


def load(path: str | os.PathLike | None = None) -> Cluster:
    """Reads the settings: those of DEFAULTS with what `path` changes in them.

    Mappings are merged, so that a file may change one value of one node. Null takes a value out.

    Raises:
        SettingError: The file cannot be read, or has a setting that does not exist, or one that
            cannot be used, or that does not belong there.
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
        cluster = Cluster(**settings)
        _check(cluster)
    except ValidationError as error:
        raise SettingError(f'{path or DEFAULTS}: {refusal(error, str)}') from None
    except SettingError as error:
        raise SettingError(f'{path or DEFAULTS}: {error}') from None
    return cluster


def _check(cluster: Cluster) -> None:
    """Raises SettingError for settings that do not go together, or do not belong in this file."""
    root = cluster.pipeline_root
    folders = {'var': cluster.var} | ({'pipeline_root': root} if root and '://' not in root else {})
    volumes = [pathlib.PurePosixPath(os.path.normpath(each)) for each in cluster.volumes.values()]
    for name, folder in folders.items():
        path = pathlib.PurePosixPath(os.path.normpath(folder))
        if not any(path.is_relative_to(volume) for volume in volumes):
            raise SettingError(
                f"{name} is '{folder}': it must be in a folder of `volumes`, which are "
                f'{", ".join(map(str, volumes)) or "none"}, or it is gone with its task'
            )
    # Not by a type of the field: its refusal would repeat a password in the address.
    configs.from_environment(
        {'VAR': cluster.var, 'PIPELINE_ROOT': root, 'METADATA': cluster.metadata}
    )
    configs.given(cluster.environment)  # refuses what is nearly the name of a setting
    for name in cluster.environment:
        if name in _LOGIN:
            raise SettingError(
                f'environment.{name} would be in the compiled file: put it into a Secret, and name '
                'its key in `secrets`'
            )
        if name.removeprefix(configs.PREFIX) in configs.NAMES:
            raise SettingError(
                f'environment.{name} is a setting of the pipeline: give it to `make kubeflow`, or '
                'if it is VAR, PIPELINE_ROOT or METADATA, on its own line of this file'
            )


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
