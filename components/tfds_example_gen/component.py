"""The TFX component that reads an image-classification dataset of TFDS."""

from collections.abc import Mapping
from typing import Any

from tfx import types
from tfx.dsl.components.base import base_beam_component, executor_spec
from tfx.types import component_spec

from components import image_examples
from components.datasets import tfds_dataset
from components.tfds_example_gen import executor


class TfdsExampleGenSpec(types.ComponentSpec):
    """Parameters and output of TfdsExampleGen."""

    PARAMETERS = {
        'dataset': component_spec.ExecutionParameter(type=str),
        'dataset_version': component_spec.ExecutionParameter(type=str, optional=True),
        'data_dir': component_spec.ExecutionParameter(type=str),
        **image_examples.PARAMETERS,
    }
    INPUTS: dict[str, component_spec.ChannelParameter] = {}
    OUTPUTS = image_examples.OUTPUTS


class TfdsExampleGen(base_beam_component.BaseBeamComponent):
    """Reads a dataset that TFDS has prepared, and writes one tf.Example for each image.

    An example has `image` (bytes, encoded as TFDS stores it), `label` (int64), `id` (bytes, from
    TFDS) and what `image_check` finds out about the image. The `examples` artifact has the split
    names, the span, the dataset's version x.y.z as x * 1,000,000 + y * 1,000 + z, and the custom
    properties `dataset`, `dataset_version`, `fingerprint` and `undecodable_images`, the number of
    images that were left out. Its folder `undecodable` lists these, in a folder for each split;
    each line has an id and the problem.
    """

    SPEC_CLASS = TfdsExampleGenSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(executor.Executor)

    def __init__(
        self,
        dataset: str,
        data_dir: str,
        splits: Mapping[str, str],
        version: str | None = None,
        span: int = 0,
        fingerprint: str | None = None,
        image_check: str = '',
        custom_config: Mapping[str, Any] | None = None,
        max_bad_images: float = 0.0,
        code_version: str = '',
    ):
        """Describes the reading of one dataset.

        Args:
            dataset: TFDS's name of the dataset, e.g. 'mnist', 'mnist:3.0.1' or 'emnist/letters'.
            data_dir: TFDS's folder of datasets.
            splits: The slices of TFDS by the names of the splits to write, e.g.
                {'train': 'train[:55000]', 'eval': 'train[55000:]'}.
            version: The dataset's version, e.g. '3.0.1'; TFDS's newest if None.
            span: The span of the artifact.
            fingerprint: The prepared dataset's `tfds_dataset.fingerprint`, which makes the data
                part of the cache key; the run is refused if the data differ from it. By default it
                is computed now; if the dataset is not prepared yet, it is '' and not compared.
            image_check: Dotted path of the function that finds images which cannot be decoded, and
                facts about the others, see `checked_images.check`. By default no image is checked.
            custom_config: More arguments for `image_check`; anything that JSON can hold.
            max_bad_images: The largest fraction of the images of all splits that is left out if
                they cannot be decoded. If there are more, the run is refused.
            code_version: Version of this code; part of the cache key.

        Raises:
            DatasetError: TFDS has no such dataset, or two versions are given.
        """
        dataset, version = tfds_dataset.name_and_version(dataset, version)
        if fingerprint is None:
            builder = tfds_dataset.load_builder(dataset, data_dir, version)
            prepared = tfds_dataset.is_prepared(builder)
            fingerprint = tfds_dataset.fingerprint(builder) if prepared else ''
        super().__init__(
            TfdsExampleGenSpec(
                dataset=dataset,
                dataset_version=version,
                data_dir=data_dir,
                span=span,
                fingerprint=fingerprint,
                image_check=image_check,
                max_bad_images=max_bad_images,
                code_version=code_version,
                **image_examples.formats(splits, custom_config),
            )
        )
