"""The settings of an ensemble, and all that makes one."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from pydantic import BeforeValidator
from pydantic.dataclasses import dataclass

from capsmodel.networks.settings import NetworkConfig
from capsmodel.settings import STRICT, Paths, Settings, setting


def _config_of(values: Any) -> Any:
    # The table needs this module.
    from capsmodel.networks.table import config_of

    return config_of(values)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EnsembleSettings(Settings):
    """What `ensemble` has."""

    members: Paths = setting(
        (),
        'at least two pushed models, whose scores an ensemble averages: the folder of a version, '
        'or of all versions of a model, of which it takes the newest',
    )


@dataclass(frozen=True, config=STRICT)
class EnsembleConfig(NetworkConfig):
    """All that makes an Ensemble: NetworkConfig, and the networks of its members.

    Attributes:
        members: What makes the network of each member.

    Raises:
        pydantic.ValidationError: A member has other classes, or images of another shape. It is a
            ValueError.
    """

    network: str = setting('ensemble', 'its name in the table', choices=('ensemble',))
    members: tuple[Annotated[NetworkConfig, BeforeValidator(_config_of)], ...] = setting(
        (), 'the networks of its members'
    )

    @property
    def is_trained(self) -> bool:
        return False

    @property
    def exported(self) -> EnsembleConfig:
        return dataclasses.replace(self, members=tuple(each.exported for each in self.members))

    def __post_init__(self) -> None:
        super().__post_init__()
        sees = (self.image_shape, self.num_classes)
        for each in self.members:
            if (each.image_shape, each.num_classes) != sees:
                raise ValueError(
                    f'a member sees images of shape {each.image_shape} in {each.num_classes} '
                    f'classes, and the ensemble {sees[0]} in {sees[1]}'
                )
