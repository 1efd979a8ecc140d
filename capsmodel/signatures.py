"""The signatures of the exported model, and how it is written."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_transform as tft

from capsmodel import guard, model_facts, warmup_requests
from capsmodel.data import features, images
from capsmodel.data.preprocessing import raw_pixels
from capsmodel.networks import memory
from capsmodel.networks.losses import reconstruction_loss
from capsmodel.networks.network import Network
from capsmodel.networks.prepared_weights import prepare_weights

# The largest number that `decode` takes, and -1 times the smallest. The network's own capsules are
# shorter than 1, and above about 1e30 the decoder's sums are not finite.
_LARGEST_COMPONENT = 1e6

# The outputs of every signature that names the class of an image.
_CLASSIFIED = ('label', 'class_name', 'scores', 'known')


def export(
    model: Network,
    transform_output: tft.TFTransformOutput,
    directory: str,
    warmup_images: np.ndarray,
    guard_thresholds: np.ndarray,
    class_names: Sequence[str],
    framing: str,
) -> None:
    """Writes the network and the Transform graph as one SavedModel.

    ServingModule describes its signatures; without a decoder it has no `decode`. It contains
    warm-up requests for TensorFlow Serving and the model's facts. A model that is at `directory`
    already is replaced, but only once the new one is completely written.

    Args:
        model: The network.
        transform_output: The output of Transform.
        directory: Where to write.
        warmup_images: uint8 [n, height, width], at least one.
        guard_thresholds: See ServingModule.
        class_names: See ServingModule.
        framing: See ServingModule.

    Raises:
        ValueError: There are no warm-up images, or not as many names as classes.
    """
    if not len(warmup_images):
        raise ValueError('Warm-up requests need at least one image, but there are no images.')
    module = ServingModule(model, transform_output, guard_thresholds, class_names, framing)
    directory = directory.rstrip('/')
    unfinished = f'{directory}.unfinished'
    _remove(unfinished)
    try:
        signatures = module.signatures()
        without_gradients = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, unfinished, signatures, without_gradients)
        warmup_requests.write(model, signatures, unfinished, warmup_images)
        model_facts.write(unfinished, class_names, model.config)
        model_facts.write_network(unfinished, model.config.exported, framing)
        _remove(directory)
        tf.io.gfile.rename(unfinished, directory)
    finally:
        _remove(unfinished)


class ServingModule(tf.Module):
    """The functions behind the signatures, each with a signature's name, inputs and outputs.

    In their descriptions, `classes`, `dim`, `height` and `width` are the network's; `label` int64
    [n] is the class with the highest score, and `class_name` string [n] its name; `scores` float32
    [n, classes] are in [0, 1], of capsules their lengths; `known` bool [n] says whether the image
    is one of the classes, as far as the guard sees.
    `reconstruction` float32 [n, height, width], 0 to 1, is made from the capsule of `label`, and
    `reconstruction_error` float32 [n] is the sum over the pixels, 0 to 1, of its squared difference
    from the image. n may be 0. Pictures go through the Transform graph. As a signature, each
    function raises InvalidArgumentError if an input has another shape or an output is NaN or
    infinite.

    Args:
        model: The network; as `Network.exported` it needs TensorFlow alone.
        transform_output: The output of Transform.
        guard_thresholds: What `guard.thresholds` returns for this network.
        class_names: The name of each class.
        framing: How the Transform graph frames a picture, see `framing.frame`.

    Raises:
        ValueError: There are not as many names as classes.
    """

    def __init__(
        self,
        model: Network,
        transform_output: tft.TFTransformOutput,
        guard_thresholds: np.ndarray,
        class_names: Sequence[str],
        framing: str,
    ) -> None:
        super().__init__()
        model = model.exported()
        if len(class_names) != model.config.num_classes:
            count = model.config.num_classes
            raise ValueError(f'There are {len(class_names)} names of classes, but {count} classes.')
        self._guard_thresholds = guard_thresholds
        self._class_names = [*class_names]
        self._framing = framing
        # The lambda hides the network from tf.Module. Otherwise tf.saved_model.save would write
        # each Keras variable as a copy of a tf.Variable, and a Session, with which TensorFlow
        # Serving loads models, would restore only the copies (keras-team/keras issue 20096).
        self._network = lambda: model
        self._variables = [variable.value for variable in model.variables]
        self._prepared = prepare_weights(model)
        self._outputs_spec = model.outputs_spec()
        # It has no variables, and saving it as a Keras layer would trace it once more.
        transform = transform_output.transform_features_layer()
        self._transform = lambda: transform
        # Clients send pictures only, without labels and ids.
        self._image_spec = transform_output.raw_feature_spec()[features.IMAGE]

    @property
    def model(self) -> Network:
        """The network."""
        return self._network()

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures of this network by name."""
        config = self.model.config
        image_bytes = tf.TensorSpec([None], tf.string, 'image_bytes')
        pixels = tf.TensorSpec([None, *config.image_shape], tf.uint8, 'pixels')
        examples = tf.TensorSpec([None], tf.string, 'examples')
        capsule = tf.TensorSpec([None, self.model.capsule_dim], tf.float32, 'capsule')
        label = tf.TensorSpec([None], tf.int64, 'label')
        signatures = {
            'serving_default': _signature(self.serving_default, image_bytes),
            'pixels': _signature(self.pixels, pixels),
            'examples': _signature(self.examples, examples),
            'explain': _signature(self.explain, image_bytes),
        }
        if config.has_decoder:
            signatures['decode'] = _signature(self.decode, capsule, label)
        return signatures

    def serving_default(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """string [n], PNG or JPEG of any size -> `label`, `class_name`, `scores`, `known`."""
        return self.pixels(self._transformed(image_bytes))

    def pixels(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """uint8 [n, height, width], `image` of `explain` -> as `serving_default`."""
        answer = self._explained(pixels)
        return {name: answer[name] for name in _CLASSIFIED}

    def examples(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """string [n], serialized raw tf.Examples of which only IMAGE is read.

        -> as `serving_default`, and with a decoder `reconstruction_error`.
        """
        parsed = tf.io.parse_example(examples, {features.IMAGE: self._image_spec})
        answer = self._explained(self._transformed(parsed[features.IMAGE]))
        names = (*_CLASSIFIED, 'reconstruction_error')
        return {name: answer[name] for name in names if name in answer}

    def explain(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """string [n], PNG or JPEG -> as `serving_default`, and more about each picture.

        `class_names` string [n, classes] are the names that `scores` belong to. `image` uint8 [n,
        height, width] is what the network was given; `framing` string [n] says whether the STROKES
        were brought to it or the WHOLE picture. A network with capsules has `capsules`, float32 [n,
        classes, dim]. With a decoder, `reconstruction` and `reconstruction_error` come as well.
        """
        count = tf.shape(image_bytes)[0]
        return {
            **self._explained(self._transformed(image_bytes)),
            'class_names': tf.tile([self._class_names], [count, 1]),
            'framing': tf.fill([count], self._framing),
        }

    def decode(self, capsule: tf.Tensor, label: tf.Tensor) -> dict[str, tf.Tensor]:
        """float32 [n, dim], int64 [n] -> `reconstruction` float32 [n, height, width], 0 to 1.

        Decodes each capsule as a capsule of the class `label`. It raises InvalidArgumentError if a
        label is not a class, if there are not as many labels as capsules, or if a capsule has a
        number beyond +-1e6 or NaN.
        """
        classes = self.model.config.num_classes
        no_class = tf.boolean_mask(label, (label < 0) | (label >= classes))
        # Not ~(|x| <= largest): TensorFlow optimizes that to |x| > largest, which is false for NaN.
        is_wrong = tf.math.is_nan(capsule) | (tf.abs(capsule) > _LARGEST_COMPONENT)
        wrong = tf.boolean_mask(capsule, is_wrong)
        counts = [tf.shape(capsule)[0], 'capsules,', tf.shape(label)[0], 'labels']
        checks = [
            tf.debugging.Assert(
                tf.shape(capsule)[0] == tf.shape(label)[0],
                ['Each capsule needs one label, but there are', *counts],
            ),
            tf.debugging.Assert(
                tf.size(no_class) == 0,
                [f'A label must be from 0 to {classes - 1}, not', no_class],
            ),
            tf.debugging.Assert(
                tf.size(wrong) == 0,
                [
                    f'The numbers of a capsule must be from -{_LARGEST_COMPONENT:g} to '
                    f'{_LARGEST_COMPONENT:g}, not',
                    wrong,
                ],
            ),
        ]
        with tf.control_dependencies(checks):
            label = tf.identity(label)
        # Only the capsule of the label is used, so all classes may have the same one.
        capsules = tf.repeat(capsule[:, tf.newaxis], classes, axis=1)
        return {'reconstruction': self.model.reconstruct(capsules, label)}

    # A tf.function, like the next two, so that it is traced and saved once. AutoGraph, which has
    # nothing to convert, would take five seconds.
    @tf.function(autograph=False)
    def _explained(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        """uint8 [n, height, width] -> the outputs of `explain` that differ among images."""
        outputs = self._outputs(pixels)
        scores = self.model.scores(outputs)
        label = tf.argmax(scores, axis=-1)
        answer = {
            'label': label,
            'class_name': tf.gather(tf.constant(self._class_names), label),
            'scores': scores,
            'image': pixels,
        }
        if self.model.capsule_dim:
            answer['capsules'] = self.model.capsules(outputs)
        if self.model.config.has_decoder:
            answer['reconstruction'] = self.model.reconstruct(answer['capsules'], label)
            answer['reconstruction_error'] = reconstruction_loss(pixels, answer['reconstruction'])
        measured = guard.measures(pixels, answer['scores'], answer.get('reconstruction'))
        answer['known'] = guard.is_known(pixels, measured, self._guard_thresholds)
        return answer

    @tf.function(autograph=False)
    def _outputs(self, pixels: tf.Tensor) -> Any:
        """The network's outputs, for a few images at a time to bound the memory.

        The Evaluator asks for 1,000 images at once, and a server for as many as a client sends.
        """
        most = memory.images_at_once_when_exported(self.model)
        count = tf.maximum(1, -(-tf.shape(pixels)[0] // most))  # without images, one empty piece

        def with_next(number: tf.Tensor, pieces: list[tf.TensorArray]) -> Any:
            piece = pixels[number * most : (number + 1) * most]
            outputs = tf.nest.flatten(self.model.answer(piece, self._prepared))
            return number + 1, [p.write(number, x) for p, x in zip(pieces, outputs, strict=True)]

        specs = tf.nest.flatten(self._outputs_spec)
        pieces = [
            tf.TensorArray(s.dtype, count, element_shape=s.shape, infer_shape=False) for s in specs
        ]
        _, pieces = tf.while_loop(
            lambda number, _: number < count, with_next, (0, pieces), parallel_iterations=1
        )
        parts = [tf.ensure_shape(p.concat(), s.shape) for p, s in zip(pieces, specs, strict=True)]
        return tf.nest.pack_sequence_as(self._outputs_spec, parts)

    @tf.function(autograph=False)
    def _transformed(self, image_bytes: tf.Tensor) -> tf.Tensor:
        image_bytes = images.limit_pixels(image_bytes)
        shape = [tf.shape(image_bytes)[0], *self._image_spec.shape]
        raw = {features.IMAGE: tf.reshape(image_bytes, shape)}
        config = self.model.config
        with _without_optimizers():
            image = self._transform()(raw)[features.IMAGE]
        return raw_pixels(image, config.uncropped_shape, config.crop)


@contextlib.contextmanager
def _without_optimizers() -> Iterator[None]:
    """Functions that are traced inside are not optimized by TensorFlow when they run.

    Otherwise, TensorFlow would optimize the Transform graph before a session's first answer. This
    would double the time to the first answer and gain nothing: the time is spent on decoding.
    """
    key = 'disable_meta_optimizer'
    before = tf.config.optimizer.get_experimental_options().get(key, False)
    tf.config.optimizer.set_experimental_options({key: True})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({key: before})


def _signature(
    answer: Callable[..., dict[str, tf.Tensor]], *inputs: tf.TensorSpec
) -> tf.types.experimental.ConcreteFunction:
    """A signature that raises unless inputs have the declared shapes and outputs are finite.

    The graph itself checks this, since TensorFlow Serving does not: it runs the graph in a session,
    which takes inputs of any shape.
    """

    @tf.function(input_signature=inputs, autograph=False)
    def checked(*values: tf.Tensor) -> dict[str, tf.Tensor]:
        pairs = zip(values, inputs, strict=True)
        outputs = answer(*(tf.ensure_shape(value, spec.shape) for value, spec in pairs))
        for name, value in outputs.items():
            if value.dtype.is_floating:
                message = f'The network has no finite number for {name}'
                outputs[name] = tf.debugging.check_numerics(value, message)
        return outputs

    return checked.get_concrete_function()


def _remove(directory: str) -> None:
    if tf.io.gfile.exists(directory):
        tf.io.gfile.rmtree(directory)
