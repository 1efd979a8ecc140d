"""The step on Beam that changes the image of each example."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx.utils import import_utils

from components import image_examples

# Image, label, id and settings to an image.
Function = Callable[[np.ndarray, int, str, Mapping[str, Any]], np.ndarray]


@beam.typehints.with_input_types(bytes)
@beam.typehints.with_output_types(bytes)
class Derive(beam.DoFn):
    """Serialized tf.Examples to as many with other images; labels and ids stay.

    Args:
        function: Dotted path of a function that gets an image, uint8 [image_height, image_width],
            its label, an int, its id, a str, and `settings`. It returns an image, uint8 with as
            many axes, all of one size. What is random in it is a function of the id and of the
            settings, so that the same examples always give the same images.
        settings: What the function gets; `image_height` and `image_width` are the size of the
            images that are read.
    """

    def __init__(self, function: str, settings: Mapping[str, Any]) -> None:
        self._path = function
        self._settings = dict(settings)
        self._function: Function | None = None

    def setup(self) -> None:
        module, _, name = self._path.rpartition('.')
        self._function = import_utils.import_func_from_module(module, name)

    def process(self, serialized: bytes) -> Iterator[bytes]:
        """Yields the example with its new image.

        Raises:
            ValueError: The image has another size, or the function returns no image.
        """
        assert self._function is not None
        feature = tf.train.Example.FromString(serialized).features.feature
        identifier = feature['id'].bytes_list.value[0]
        label = feature['label'].int64_list.value[0]
        pixels = np.frombuffer(feature['image'].bytes_list.value[0], np.uint8)
        height, width = (self._settings[f'image_{side}'] for side in ('height', 'width'))
        if pixels.size != height * width:
            raise ValueError(
                f'The image of {identifier.decode()} has {pixels.size:,} bytes, but a grey image '
                f'of {height}x{width} pixels has {height * width:,}: name its size in the settings '
                'image_height and image_width.'
            )
        image = self._function(
            pixels.reshape(height, width), label, identifier.decode(), self._settings
        )
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 2:
            raise ValueError(
                f'{self._path} returned no grey image of uint8 for {identifier.decode()}.'
            )
        yield image_examples.serialized(image.tobytes(), label, identifier)
