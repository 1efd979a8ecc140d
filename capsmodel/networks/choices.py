"""The settings of a network that take one of a few names.

This module imports no TensorFlow: whoever checks settings reads the names here in no time.
"""

from collections.abc import Collection
from typing import NamedTuple

GRADIENT_MODES = ('all', 'last')
INITIAL_VALUES = ('default', 'authors')
PRECISIONS = ('float32', 'mixed_bfloat16')
PRIMARY_ALGORITHMS = ('auto', 'conv2d', 'winograd')
STEMS = ('auto', 'none', '1', '2', '3')


class Routing(NamedTuple):
    """A way to route capsules to those of the next layer.

    Attributes:
        function: Dotted path of a function with the arguments and the result of
            `capsmodel.networks.routing.routing_by_agreement`.
        exported_as: The routing with the same results that exported models use in its place;
            empty: they use this one.
        stores_predictions: Whether it stores all predictions u_hat, parents * dim numbers for each
            child of each image. The memory estimate of evaluations counts them.
    """

    function: str
    exported_as: str = ''
    stores_predictions: bool = True


# To add a routing, write its function and give it an entry here.
ROUTINGS = {
    'auto': Routing(
        'capsmodel.networks.native_routing.fastest_routing', 'matmul', stores_predictions=False
    ),
    # Servers have no operations of this project.
    'native': Routing(
        'capsmodel.networks.native_routing.native_routing', 'matmul', stores_predictions=False
    ),
    'matmul': Routing('capsmodel.networks.routing.routing_by_agreement', stores_predictions=False),
    # Servers may have no XLA, or no GPU.
    'fused': Routing(
        'capsmodel.networks.fused_routing.fused_routing', 'matmul', stores_predictions=False
    ),
    'reference': Routing('capsmodel.networks.reference_routing.reference_routing', 'matmul'),
}


def exported_routing(name: str) -> str:
    """The routing that an exported model uses if it was trained with the given one."""
    return ROUTINGS[name].exported_as or name


def is_by_agreement(name: str) -> bool:
    """Whether a routing gives the capsules of Procedure 1 of Sabour, Frosst, Hinton 2017."""
    return exported_routing(name) == 'matmul'


def check_choice(what: str, value: object, choices: Collection[str]) -> None:
    """Raises ValueError, which names the allowed values, unless `value` is one of `choices`."""
    if value not in choices:
        named = [repr(choice) for choice in choices]
        allowed = ' or '.join(named) if len(named) == 2 else f'one of {", ".join(named)}'
        raise ValueError(f'{what} must be {allowed}, not {value!r}')


def check_routing_options(iterations: int, gradient: str) -> None:
    """Raises ValueError unless `iterations` >= 1 and `gradient` is one of GRADIENT_MODES."""
    if not isinstance(iterations, int) or isinstance(iterations, bool) or iterations < 1:
        raise ValueError(
            f'routing iterations must be a whole number of at least 1, not {iterations!r}'
        )
    check_choice('the routing gradient', gradient, GRADIENT_MODES)
