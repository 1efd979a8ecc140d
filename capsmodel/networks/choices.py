"""Settings that take one of a few names."""

from collections.abc import Sequence

GRADIENT_MODES = ('all', 'last')
PRIMARY_ALGORITHMS = ('auto', 'conv2d', 'winograd')
PRECISIONS = ('float32', 'mixed_bfloat16')
ROUTING_ALGORITHMS = ('matmul', 'fused')


def check_choice(what: str, value: object, choices: Sequence[str]) -> None:
    """Raises ValueError, which names what is allowed, unless `value` is one of `choices`."""
    if value not in choices:
        named = [repr(choice) for choice in choices]
        allowed = ' or '.join(named) if len(named) == 2 else f'one of {", ".join(named)}'
        raise ValueError(f'{what} must be {allowed}, not {value!r}')
