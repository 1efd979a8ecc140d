"""A small network of each kind in NETWORKS, with which a step takes milliseconds."""

from typing import Any

from capsmodel.networks.settings import NetworkConfig
from capsmodel.networks.table import NETWORKS
from capsmodel.settings import declared

# Of an ensemble.
MEMBERS = ('capsnet', 'mlp')


def small(name: str, size: int = 28, classes: int = 10, **changes: Any) -> NetworkConfig:
    """The network of the preset `tiny` for square grey images of `size` pixels a side."""
    entry = NETWORKS[name]
    preset = {k: v for k, v in entry.presets.get('tiny', {}).items() if k in declared(entry.config)}
    if 'members' in declared(entry.config):
        preset['members'] = tuple(small(each, size, classes, **changes) for each in MEMBERS)
    return entry.config(size, size, classes, **{'network': name, **preset, **changes})
