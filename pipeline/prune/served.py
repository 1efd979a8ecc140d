"""Which versions are served."""

from __future__ import annotations

import glob
import http.client
import json
import os
import urllib.request
from collections.abc import Iterator, Set

from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from pipeline.prune.errors import PruneError
from pipeline.settings import Config

_SECONDS = 10.0


def versions(config: Config, there: Set[str], url: str) -> set[str]:
    """The versions that servers have or would load, and for each the one before it.

    `make rollback` goes back to the version before the one that is served.

    Args:
        config: The settings.
        there: The numbers of all versions on the disk.
        url: The address of a server that may be running.

    Raises:
        PruneError: A models.config cannot be read.
    """
    served = {max(there, key=int)} if there else set()
    for path in _files(config):
        for model in _read(path).model_config_list.config:
            folder = model.base_path.removeprefix('file://')
            if os.path.realpath(folder) == os.path.realpath(config.serving_model_dir):
                served |= _named(model, there)
    served |= _loaded(config, url)
    return served | {before for each in served for before in _before(each, there)}


def _before(version: str, there: Set[str]) -> list[str]:
    return [max(older, key=int)] if (older := {v for v in there if int(v) < int(version)}) else []


def _files(config: Config) -> Iterator[str]:
    """What `make serve`, `make rollback` and `make promote` have written, for any name."""
    folder = os.path.join(glob.escape(config.var), 'serving_config')
    yield from sorted(glob.glob(os.path.join(folder, '*', 'models.config')))


def _read(path: str) -> ModelServerConfig:
    try:
        with open(path) as file:
            return text_format.Parse(file.read(), ModelServerConfig())
    except (OSError, ValueError, text_format.ParseError) as error:
        why = getattr(error, 'strerror', None) or str(error).strip()
        raise PruneError(
            f'{path} says which versions are served, and cannot be read: {why}. Nothing is '
            'removed: mend that file, or remove it'
        ) from error


def _named(model: ModelConfig, there: Set[str]) -> set[str]:
    """The versions that a model's entry names, by its policy and its labels."""
    policy = model.model_version_policy
    named = {str(number) for number in model.version_labels.values()}
    kind = policy.WhichOneof('policy_choice')
    if kind == 'all':
        return named | set(there)
    if kind == 'specific':
        return named | {str(number) for number in policy.specific.versions}
    newest = sorted(there, key=int, reverse=True)
    return named | set(newest[: max(1, policy.latest.num_versions)])


def _loaded(config: Config, url: str) -> set[str]:
    """The versions that a running server has not unloaded; none if no server answers."""
    # Asked directly, even if a proxy is set for everything else.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f'{url}/v1/models/{config.pipeline_name}', timeout=_SECONDS) as response:
            answer = json.load(response)
        return {
            str(int(each['version']))
            for each in answer['model_version_status']
            if each['state'] != 'END'
        }
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError):
        return set()
