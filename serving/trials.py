"""Finds out which versions of a model a server can serve, before models.config names them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.config_files import write_model_config
from serving.errors import ServingError
from serving.models.loadable import load_error
from serving.running_server import Server


class Refused(Exception):
    """It cannot be done; the message says why. models.config is as it was before."""


@dataclasses.dataclass(frozen=True)
class Trials:
    """Finds out which versions of a model can be served."""

    path: str
    config: ModelServerConfig
    model_name: str
    versions: Mapping[int, str]  # their folders
    server: Server
    available: set[int]  # the versions that the server serves; empty if none runs

    def first_that_loads(self, numbers: Iterable[int]) -> tuple[int | None, dict[int, str]]:
        """The first of some versions that can be served, and the errors of those before it."""
        errors: dict[int, str] = {}
        for number in numbers:
            if not (error := self._error(number)):
                return number, errors
            errors[number] = error
        return None, errors

    def _error(self, number: int) -> str:
        """Why a version cannot be served; '' if it can."""
        if number in self.available:
            return ''
        if not self.available or self.server.has_failed(number):
            error = load_error(self.versions[number])
            if error or not self.available:
                return error
        both = ModelServerConfig.FromString(self.config.SerializeToString())
        policy = find(both, self.model_name, self.path).model_version_policy
        policy.specific.versions[:] = sorted({*self.available, number})
        write_model_config(self.path, both)
        try:
            error = self.server.wait(number, lambda answering: number in answering)
        except ServingError:
            # TensorFlow Serving tries a version that does not load for minutes.
            if error := load_error(self.versions[number]):
                return error
            raise
        if not error:
            self.available.add(number)
        return error


def find(config: ModelServerConfig, name: str, path: str) -> ModelConfig:
    """The entry of a model; raises Refused if it is missing."""
    models = {model.name: model for model in config.model_config_list.config}
    if name not in models:
        raise Refused(f'{path} has no model {name}, only {", ".join(models) or "none at all"}.')
    return models[name]
