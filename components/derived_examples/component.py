"""The TFX component that makes new sets of images from transformed examples."""

import json
import os

import apache_beam as beam
from tfx import v1 as tfx
from tfx.components.util import examples_utils
from tfx.types import artifact_utils
from tfx.utils import io_utils

from components.derived_examples.derive import Derive

_COMPRESSION = 'gzip'


@tfx.dsl.components.component(use_beam=True)
def DerivedExamples(  # noqa: N802 (a component is named like a class)
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    derived_examples: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Examples],
    splits: tfx.dsl.components.Parameter[str],
    function: tfx.dsl.components.Parameter[str],
    custom_config: tfx.dsl.components.Parameter[str],
    code_version: tfx.dsl.components.Parameter[str] = '',
    beam_pipeline: tfx.dsl.components.BeamComponentParameter[beam.Pipeline] = None,
) -> None:
    """Writes each image of some splits again, as a function changes it.

    Args:
        examples: Examples as Transform writes them.
        derived_examples: It has the same splits as `splits`, with the same labels and ids.
        splits: JSON, a list of the names of the splits to read.
        function: Dotted path of the function, see `derive.Derive`.
        custom_config: JSON, an object with `image_height` and `image_width`, the size of the images
            that are read, and what else the function needs. The function gets it whole.
        code_version: Version of this code and of the function's; part of the cache key.
        beam_pipeline: Made by TFX.

    Raises:
        ValueError: The examples do not have a split, or an image cannot be used.
    """
    names, settings = json.loads(splits), json.loads(custom_config)
    missing = [name for name in names if name not in examples.splits]
    if missing:
        raise ValueError(
            f'There is no split {" and ".join(missing)} to derive images from: the examples have '
            f'{", ".join(examples.splits)}.'
        )
    derived_examples.splits = names
    examples_utils.set_payload_format(derived_examples, examples_utils.get_payload_format(examples))
    examples_utils.set_file_format(derived_examples, examples_utils.get_file_format(examples))
    with beam_pipeline as pipeline:
        for name in names:
            source, target = (
                artifact_utils.get_split_uri([artifact], name)
                for artifact in (examples, derived_examples)
            )
            _ = (
                pipeline
                | f'Read[{name}]'
                >> beam.io.ReadFromTFRecord(
                    io_utils.all_files_pattern(source), compression_type=_COMPRESSION
                )
                | f'Spread[{name}]' >> beam.Reshuffle()
                | f'Derive[{name}]' >> beam.ParDo(Derive(function, settings))
                | f'Write[{name}]'
                >> beam.io.WriteToTFRecord(
                    os.path.join(target, 'derived_examples'),
                    file_name_suffix='.gz',
                    compression_type=_COMPRESSION,
                )
            )
