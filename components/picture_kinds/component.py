"""The TFX component that adds pictures as people take them to the test images."""

import json
import os
from collections.abc import Sequence

import numpy as np
from tfx import v1 as tfx
from tfx.components.util import examples_utils
from tfx.types import artifact_utils
from tfx.utils import import_utils, io_utils

from components.picture_kinds import drawn_examples, previews

_SPLIT = 'test'
# ExampleGen's name for the file of a split that is not sharded.
_FILE = 'data_tfrecord-00000-of-00001.gz'


@tfx.dsl.components.component
def PictureKinds(  # noqa: N802 (a component is named like a class)
    examples: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Examples],
    test_examples: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Examples],
    framing: tfx.dsl.components.Parameter[str],
    custom_config: tfx.dsl.components.Parameter[str],
    summary_dir: tfx.dsl.components.Parameter[str],
    most_pictures: tfx.dsl.components.Parameter[int] = drawn_examples.MOST_PICTURES,
    code_version: tfx.dsl.components.Parameter[str] = '',
) -> None:
    """Writes the test images, and some of them drawn again as pictures of several kinds.

    Args:
        examples: The raw examples; the component reads the split `test`.
        test_examples: Its only split, `test`, has what `drawn_examples.write` writes.
        framing: Dotted path of the function that brings pictures to the network's form. It gets a
            list of encoded pictures and the object in `custom_config`, and returns uint8
            [n, height, width], light strokes on black.
        custom_config: JSON.
        summary_dir: Folder for TensorBoard's file with pictures of each kind before and after
            framing. Earlier files there are removed.
        most_pictures: How many pictures there are at most.
        code_version: Version of this code; part of the cache key.
    """
    module, _, name = framing.rpartition('.')
    function = import_utils.import_func_from_module(module, name)
    settings = json.loads(custom_config)

    def frame(encoded: Sequence[bytes]) -> np.ndarray:
        return function(encoded, settings)

    test_examples.splits = [_SPLIT]
    examples_utils.set_payload_format(test_examples, examples_utils.get_payload_format(examples))
    examples_utils.set_file_format(test_examples, examples_utils.get_file_format(examples))
    source = io_utils.all_files_pattern(artifact_utils.get_split_uri([examples], _SPLIT))
    folder = artifact_utils.get_split_uri([test_examples], _SPLIT)
    shown = drawn_examples.write(source, os.path.join(folder, _FILE), frame, most_pictures)
    previews.write(shown, frame, summary_dir)
