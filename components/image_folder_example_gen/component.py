"""The TFX component that reads a folder of pictures with a sub-folder for each class."""

from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec

from components import image_examples
from components.datasets import image_folder
from components.image_folder_example_gen import executor


class ImageFolderExampleGenSpec(types.ComponentSpec):
    """Parameters and output of ImageFolderExampleGen."""

    PARAMETERS = {
        'folder': component_spec.ExecutionParameter(type=str),
        **image_examples.PARAMETERS,
    }
    INPUTS: dict[str, component_spec.ChannelParameter] = {}
    OUTPUTS = image_examples.OUTPUTS


class ImageFolderExampleGen(base_beam_component.BaseBeamComponent):
    """Reads the pictures of a folder, and writes one tf.Example for each.

    `components.datasets.image_folder` says what such a folder looks like, and which pictures go to
    the splits train, eval and test. An example has `image` (bytes, the file as it is), `label`
    (int64, the place of the class in the sorted names), `id` (bytes, the path below the folder) and
    what `image_check` finds out about the image. The `examples` artifact has the split names, the
    span, and the custom properties `dataset`, `fingerprint` and `undecodable_images`, the number of
    pictures that were left out. Its folder `undecodable` lists these, in a folder for each split;
    each line has an id and the problem.
    """

    SPEC_CLASS = ImageFolderExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        folder: str,
        fingerprint: str | None = None,
        span: int = 0,
        image_check: str = '',
        custom_config: Mapping[str, Any] | None = None,
        max_bad_images: float = 0.0,
        code_version: str = '',
    ):
        """Describes the reading of one folder.

        Args:
            folder: Its path, or its address in a bucket, such as gs://bucket/pictures.
            fingerprint: The folder's `image_folder.read(folder).fingerprint`, which makes the files
                part of the cache key; the run is refused if they differ from it. By default it is
                computed now; if it is '', it is not compared.
            span: The span of the artifact.
            image_check: Dotted path of the function that finds images which cannot be decoded, and
                facts about the others, see `checked_images.check`. By default no image is checked.
            custom_config: More arguments for `image_check`; anything that JSON can hold.
            max_bad_images: The largest fraction of the images of all splits that is left out if
                they cannot be decoded. If there are more, the run is refused.
            code_version: Version of this code; part of the cache key.

        Raises:
            DatasetError: The folder cannot be used.
        """
        if fingerprint is None:
            fingerprint = image_folder.read(folder).fingerprint
        super().__init__(
            ImageFolderExampleGenSpec(
                folder=folder,
                fingerprint=fingerprint,
                span=span,
                image_check=image_check,
                max_bad_images=max_bad_images,
                code_version=code_version,
                # TFX wants patterns; the executor does without.
                **image_examples.formats(dict.fromkeys(image_folder.SPLITS, '*'), custom_config),
            )
        )
