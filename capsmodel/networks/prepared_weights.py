"""Tensors that an exported model computes from its weights once, when it is loaded.

The weights of an exported model are constants, and some forms of a layer need them in another
layout, or transformed. If the SavedModel held such a tensor, it would be several times as large. So
it holds the computation, which its initializer runs after the weights are restored:
TensorFlow Serving, `tf.saved_model.load` and sessions run it, as they fill lookup tables.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable

import tensorflow as tf

from capsmodel.networks.network import Network


def prepare_weights(network: Network) -> dict[str, PreparedWeights]:
    """What `network.answer` takes, to be an attribute of the module that is exported."""
    return {name: PreparedWeights(make) for name, make in network.weights_to_prepare().items()}


class PreparedWeights(tf.saved_model.experimental.TrackableResource):
    """One such tensor, to be an attribute of the module that is exported.

    Later changes of the weights do not change it. It stays in memory when the model is dropped: the
    same model may have been loaded twice, and they share it. A session frees it in its end.

    Args:
        prepare: Computes the tensor; its shape must be known. The variables that it reads must be
            attributes of the exported module, too.
    """

    def __init__(self, prepare: Callable[[], tf.Tensor]) -> None:
        super().__init__()
        self._prepare = prepare
        # Resources of one name are one resource, also those of two models in a process.
        self._name = f'prepared_weights_{uuid.uuid4()}'
        value = prepare()
        self._dtype, self._shape = value.dtype, value.shape
        self._assign(value)

    def __call__(self) -> tf.Tensor:
        """The tensor."""
        value = tf.raw_ops.ReadVariableOp(resource=self.resource_handle, dtype=self._dtype)
        value.set_shape(self._shape)
        return value

    def _assign(self, value: tf.Tensor) -> None:
        tf.raw_ops.AssignVariableOp(resource=self.resource_handle, value=value)

    def _create_resource(self) -> tf.Tensor:
        return tf.raw_ops.VarHandleOp(dtype=self._dtype, shape=self._shape, shared_name=self._name)

    def _initialize(self) -> None:
        self._assign(self._prepare())
