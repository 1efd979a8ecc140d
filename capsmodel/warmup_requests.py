"""The requests that servers ask a model before they send it those of clients."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from capsmodel.data import features
from capsmodel.networks.network import Network


def write(
    model: Network,
    signatures: Mapping[str, tf.types.experimental.ConcreteFunction],
    directory: str,
    images: np.ndarray,
) -> None:
    """Writes for each signature a request with a single image, and one with all of them.

    Args:
        model: The network.
        signatures: The signatures of its SavedModel by name.
        directory: The SavedModel, in whose assets.extra TensorFlow Serving finds the requests.
        images: uint8 [n, height, width] or, in colour, [n, height, width, 3], at least one.
    """
    pngs = [tf.io.encode_png(image.reshape(*image.shape[:2], -1)).numpy() for image in images]
    examples = []
    for png in pngs:
        example = tf.train.Example()
        example.features.feature[features.IMAGE].bytes_list.value.append(png)
        examples.append(example.SerializeToString())
    outputs = model(images)
    labels = tf.argmax(model.scores(outputs), axis=-1)
    inputs = {
        'image_bytes': np.array(pngs, dtype=object),
        'pixels': images,
        'examples': np.array(examples, dtype=object),
        'label': labels.numpy(),
    }
    if model.capsule_dim:
        capsules = model.capsules(outputs)
        inputs['capsule'] = tf.gather(capsules, labels, axis=1, batch_dims=1).numpy()
    folder = os.path.join(directory, 'assets.extra')
    tf.io.gfile.makedirs(folder)
    with tf.io.TFRecordWriter(os.path.join(folder, 'tf_serving_warmup_requests')) as writer:
        for name, function in signatures.items():
            for count in (1, len(images)):
                request = predict_pb2.PredictRequest()
                request.model_spec.signature_name = name
                for argument in function.structured_input_signature[0]:
                    request.inputs[argument.name].CopyFrom(
                        tf.make_tensor_proto(inputs[argument.name][:count])
                    )
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())
