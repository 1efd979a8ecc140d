"""Asks a pushed version, loaded by TensorFlow, about pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tensorflow as tf

from components.drift.errors import CannotJudge

# The model reads 16,777,216 pixels at once, 64 pictures of 512 x 512.
_BATCH = 64
_BATCH_BYTES = 1 << 24
# What `explain` answers and nothing here needs.
_LEFT_OUT = ('capsules', 'reconstruction', 'class_names', 'framing')


class AskedModel:
    """A version of a model, which answers by its signature `explain`."""

    def __init__(self, path: str) -> None:
        """Loads a version.

        Args:
            path: The folder of the version.

        Raises:
            CannotJudge: It cannot be loaded, or it has no `explain` that answers with the framed
                image.
        """
        try:
            self._loaded = tf.saved_model.load(path)
        except (OSError, ValueError, tf.errors.OpError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CannotJudge(f'{path} cannot be loaded: {reason}') from error
        explain = self._loaded.signatures.get('explain')
        if explain is None or 'image' not in explain.structured_outputs:
            raise CannotJudge(
                f'{path} does not answer what its network is given, since an earlier version of '
                'this project pushed it. Push a new version to compare what it is asked.'
            )
        self._explain = explain

    def answers(self, pictures: Iterable[bytes]) -> Iterator[dict[str, Any] | None]:
        """What `explain` answers for each picture; None for one that the model refuses.

        Args:
            pictures: Contents of PNG or JPEG files. Only a batch of them is in memory at a time.
        """
        batch: list[bytes] = []
        for picture in pictures:
            batch.append(picture)
            if len(batch) == _BATCH or sum(map(len, batch)) > _BATCH_BYTES:
                yield from self._of_batch(batch)
                batch = []
        if batch:
            yield from self._of_batch(batch)

    def _of_batch(self, pictures: Sequence[bytes]) -> list[dict[str, Any] | None]:
        try:
            outputs = self._explain(image_bytes=tf.constant([*pictures], tf.string))
        except tf.errors.InvalidArgumentError:
            # One of them is refused, or they are too large together.
            if len(pictures) == 1:
                return [None]
            return [answer for picture in pictures for answer in self._of_batch([picture])]
        arrays = {name: output.numpy() for name, output in outputs.items() if name not in _LEFT_OUT}
        return [
            {name: array[index] for name, array in arrays.items()} for index in range(len(pictures))
        ]
