"""The TFX component that writes the pairs of digits that networks are tested on."""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from tfx import v1 as tfx
from tfx.components.util import examples_utils
from tfx.types import artifact_utils
from tfx.utils import io_utils

from capsmodel.data import features
from study.overlap import pair_files
from study.overlap.pairs import Pairs, check_shift, overlaid

# Images that are paired among themselves, about: what a worker holds at a time.
_GROUP = 500


@tfx.dsl.components.component(use_beam=True)
def OverlappingPairs(  # noqa: N802 (a component is named like a class)
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    derived: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Examples],
    split: tfx.dsl.components.Parameter[str],
    shift: tfx.dsl.components.Parameter[int],
    seed: tfx.dsl.components.Parameter[int] = 1,
    code_version: tfx.dsl.components.Parameter[str] = '',
    beam_pipeline: tfx.dsl.components.BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Lays over each image of a split another one, of another class.

    Args:
        examples: Transform's examples: square images in grey.
        derived: Has one split, of the same name, with a pair for each image: see `pair_files`.
        split: The split to read.
        shift: Each digit is moved by up to this many pixels each way.
        seed: Decides, with the images' ids, the partners and how far the digits are moved.
        code_version: Version of this code; part of the cache key.
        beam_pipeline: What writes them.

    Raises:
        ValueError: `shift` is out of bounds, an image is not a square, or all images have one
            class.
    """
    check_shift(shift)
    derived.splits = [split]
    examples_utils.set_payload_format(derived, examples_utils.get_payload_format(examples))
    examples_utils.set_file_format(derived, examples_utils.get_file_format(examples))
    source = io_utils.all_files_pattern(artifact_utils.get_split_uri([examples], split))
    target = os.path.join(artifact_utils.get_split_uri([derived], split), 'data_tfrecord')
    with beam_pipeline as pipeline:
        read = pipeline | 'Read' >> beam.io.ReadFromTFRecord(source)
        count = read | 'Count' >> beam.combiners.Count.Globally()
        (
            read
            | 'Group' >> beam.Map(_grouped, seed, beam.pvalue.AsSingleton(count))
            | 'EachGroup' >> beam.GroupByKey()
            | 'Pair' >> beam.FlatMap(_paired, shift)
            | 'Write' >> beam.io.WriteToTFRecord(target, file_name_suffix='.gz')
        )


def _grouped(serialized: bytes, seed: int, count: int) -> tuple[int, tuple[bytes, bytes]]:
    """The number of an example's group, and a hash of its id beside the example."""
    identifier = tf.train.Example.FromString(serialized).features.feature[features.ID]
    digest = hashlib.sha256(f'{seed}/'.encode() + identifier.bytes_list.value[0]).digest()
    groups = max(1, count // _GROUP)
    return int.from_bytes(digest[-8:], 'big') % groups, (digest, serialized)


def _paired(group: tuple[int, Iterable[tuple[bytes, bytes]]], shift: int) -> Iterator[bytes]:
    """The serialized pairs of a group, in the order of the hashes."""
    digests, serialized = zip(*sorted(group[1]), strict=True)
    examples = [tf.train.Example.FromString(each).features.feature for each in serialized]
    labels = np.array([each[features.LABEL].int64_list.value[0] for each in examples])
    images = np.stack([_square(each) for each in examples])
    rows = np.stack([np.arange(len(labels)), _partners(labels)], axis=1)
    offsets = np.stack([_offsets(digest, shift) for digest in digests])
    merged, singles = overlaid(tf.constant(images[rows]), tf.constant(offsets))
    ids = [each[features.ID].bytes_list.value[0] for each in examples]
    yield from pair_files.serialized(Pairs(merged.numpy(), singles.numpy(), labels[rows]), ids)


def _square(example: Any) -> np.ndarray:
    """The image of an example's features: uint8 [side, side]."""
    pixels = np.frombuffer(example[features.IMAGE].bytes_list.value[0], np.uint8)
    side = math.isqrt(len(pixels))
    if side**2 != len(pixels):
        identifier = example[features.ID].bytes_list.value[0].decode()
        raise ValueError(
            f'Image {identifier} has {len(pixels)} bytes, which are no square of grey pixels: '
            'set IMAGE_HEIGHT and IMAGE_WIDTH to the same number'
        )
    return pixels.reshape(side, side)


def _partners(labels: np.ndarray) -> np.ndarray:
    """For each place the next one, in a ring, with another label: integers [n]."""
    count = len(labels)
    # Going back through the ring twice, each place takes the next one, or what the next one took.
    found = np.full(count, -1)
    for place in range(2 * count - 1, -1, -1):
        here, after = place % count, (place + 1) % count
        found[here] = after if labels[after] != labels[here] else found[after]
    if (found < 0).any():
        raise ValueError(
            f'A pair needs images of two classes, and {count:,} of the split are of class '
            f'{labels[0]} alone'
        )
    return found


def _offsets(digest: bytes, shift: int) -> np.ndarray:
    """How far the two digits of a pair are moved: int32 [2, 2], from -shift to shift."""
    numbers = np.frombuffer(digest[:8], '>u2').astype(np.int32)
    return (numbers % (2 * shift + 1) - shift).reshape(2, 2)
