"""Routing by agreement as an operation of this project's own, in C++: for CPUs, in training.

`native_routing.cc` has it. Exported models have `routing_by_agreement`, which needs nothing but
TensorFlow.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from capsmodel.networks.choices import check_routing_options
from capsmodel.networks.native_library import operations, why_not
from capsmodel.networks.routing import at_least_float32, routing_by_agreement


def fastest_routing(
    u: tf.Tensor,
    kernel: tf.Tensor,
    iterations: int,
    gradient: str = 'all',
    none_of_the_above: bool = False,
    bias: tf.Tensor | None = None,
) -> tf.Tensor:
    """`native_routing` on a CPU where it can be loaded, else `routing_by_agreement`.

    docs/performance.md has the times of the latter on a GPU.
    """
    on_gpu = bool(tf.config.list_logical_devices('GPU'))
    function = routing_by_agreement if on_gpu or why_not() else native_routing
    return function(u, kernel, iterations, gradient, none_of_the_above, bias)


def native_routing(
    u: tf.Tensor,
    kernel: tf.Tensor,
    iterations: int,
    gradient: str = 'all',
    none_of_the_above: bool = False,
    bias: tf.Tensor | None = None,
) -> tf.Tensor:
    """`routing_by_agreement` in C++. Arguments are the same, and results differ in rounding only.

    It keeps the predictions of a few images in the first cache and makes them again in each pass
    over the children. Results do not depend on the number of threads. There is no kernel for
    float64: where `u` is float64, this is `routing_by_agreement`. XLA does not know it.

    Raises:
        ValueError: `iterations` or `gradient` is not as in `routing_by_agreement`.
        RuntimeError: The operation is not compiled, see `native_library.why_not`.
    """
    check_routing_options(iterations, gradient)
    u = at_least_float32(u)
    if u.dtype == tf.float64:
        return routing_by_agreement(u, kernel, iterations, gradient, none_of_the_above, bias)
    w = tf.cast(kernel, u.dtype)
    u = tf.ensure_shape(u, [None, w.shape[0], w.shape[2]])
    if bias is None:
        _, parents, _, dim = w.shape
        bias = tf.zeros([parents, dim])
    bias = tf.cast(bias, u.dtype)
    v, _ = operations().capsnet_routing(
        u, w, bias, iterations=iterations, gradient=gradient, none_of_the_above=none_of_the_above
    )
    return v


@tf.RegisterGradient('CapsnetRouting')
def _gradient(operation: Any, dv: tf.Tensor, _: Any) -> Any:
    u, w, _ = operation.inputs
    names = ('iterations', 'gradient', 'none_of_the_above', 'instructions')
    attributes = {name: operation.get_attr(name) for name in names}
    return operations().capsnet_routing_grad(u, w, operation.outputs[1], dv, **attributes)
