"""What a training process is asked to do: a file that each worker reads."""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BeforeValidator, ValidationError
from pydantic.dataclasses import dataclass

from capsmodel.networks.settings import NetworkConfig
from capsmodel.networks.table import config_of
from capsmodel.settings import STRICT, declared, refusal
from capsmodel.training.errors import TrainingError
from capsmodel.training.settings import ProcessSettings, TrainingConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TrainingRequest(ProcessSettings):
    """What to train, and how. Made of its JSON form as well: `TrainingRequest(**values)`.

    Attributes:
        network: The network.
        training: How to train it.
        train_files: Patterns of the transformed examples to learn from.
        eval_files: Patterns of those that pick the best epoch.
        log_dir: Folder for TensorBoard; empty: no log.
        checkpoint_root: Folder in which each training has one for its checkpoints.
        class_names: The name of each class, for the log; empty: their numbers.
        weights_from: Folders of exported networks whose weights, one network after the other, are
            those to start from; empty: random ones.
        code_version: Of the code that trains: a checkpoint of another one is not used.
    """

    network: Annotated[NetworkConfig, BeforeValidator(config_of)]
    training: TrainingConfig
    train_files: list[str]
    eval_files: list[str]
    log_dir: str
    class_names: list[str] = dataclasses.field(default_factory=list)
    checkpoint_root: str
    weights_from: list[str]
    code_version: str

    def with_values(self, values: Mapping[str, Any]) -> TrainingRequest:
        """The same request with other values of the settings of network and training so named."""
        changed: dict[str, Any] = {
            part: dataclasses.replace(
                config, **{name: values[name] for name in declared(type(config)) if name in values}
            )
            for part, config in (('network', self.network), ('training', self.training))
        }
        return dataclasses.replace(self, **changed)

    def with_absolute_paths(self) -> TrainingRequest:
        """The same request for processes that have another working directory."""
        return dataclasses.replace(
            self,
            train_files=[_absolute(path) for path in self.train_files],
            eval_files=[_absolute(path) for path in self.eval_files],
            log_dir=_absolute(self.log_dir),
            checkpoint_root=_absolute(self.checkpoint_root),
            weights_from=[_absolute(path) for path in self.weights_from],
        )

    def write(self, path: str | os.PathLike) -> None:
        """Writes the request as JSON."""
        unfinished = f'{os.fspath(path)}.{uuid.uuid4().hex}'
        with open(unfinished, 'w', encoding='utf-8') as file:
            json.dump(dataclasses.asdict(self), file)
        os.replace(unfinished, path)

    @classmethod
    def read(cls, path: str | os.PathLike) -> TrainingRequest:
        """Reads what `write` wrote.

        Raises:
            TrainingError: It is not there, or not a request.
        """
        try:
            with open(path, encoding='utf-8') as file:
                return cls(**json.load(file))
        except ValidationError as error:
            raise TrainingError(f'The request {path} cannot be used: {refusal(error)}') from error
        except (OSError, ValueError, TypeError) as error:
            raise TrainingError(f'The request {path} cannot be read: {error}') from error


def _absolute(path: str) -> str:
    return path if not path or '://' in path else os.path.abspath(path)
