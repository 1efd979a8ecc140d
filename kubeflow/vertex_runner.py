"""Compiles the pipeline for Vertex AI: what the tfx CLI loads with `--engine=vertex`.

The tasks find the folder VAR where Vertex AI mounts buckets, /gcs/BUCKET/..., and CLUSTER may name
a file with other images and GPUs, as for `make kubeflow`.
"""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Any

# Python puts a script's folder first on the path; the project's packages are beside that folder.
sys.path[0] = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

import start_tensorflow  # noqa: E402 (needs the path above)
from kubeflow import cluster  # noqa: E402
from pipeline import configs, console  # noqa: E402
from pipeline.settings import Config  # noqa: E402

if TYPE_CHECKING:
    from tfx import v1 as tfx


def latest_blessed_model(node_id: str, **candidate: Any) -> tfx.dsl.Resolver:
    """The node that finds the model that was blessed last, by the one strategy that Vertex AI has.

    Args:
        node_id: The node's.
        **candidate: Not used: the strategy knows no model to be left aside.
    """
    from tfx import v1 as tfx

    del candidate
    return tfx.dsl.Resolver(
        strategy_class=tfx.dsl.experimental.LatestBlessedModelStrategy,
        model=tfx.dsl.Channel(type=tfx.types.standard_artifacts.Model),
        model_blessing=tfx.dsl.Channel(type=tfx.types.standard_artifacts.ModelBlessing),
    ).with_id(node_id)


def main() -> None:
    """Compiles the pipeline that the environment asks for."""
    start_tensorflow.hide_gpus()
    config = configs.from_environment_or_exit()
    configs.print_notice()
    try:
        _check(config)
        settings = cluster.load(os.environ.get('CLUSTER'))
    except configs.SettingError as error:
        sys.exit(f'Wrong setting: {error}')
    with console.exit_on_error(config):
        from kfp.pipeline_spec import pipeline_spec_pb2
        from tfx.orchestration.kubeflow.v2 import kubeflow_v2_dag_runner, pipeline_builder

        from pipeline.pipeline import create_pipeline

        # It has no strategy that could leave out statistics that were refused.
        pipeline = create_pipeline(config, latest_blessed_model, earlier_statistics=None)
        images = {pipeline_builder.DEFAULT_IMAGE_PATH_KEY: settings.image}
        for component in pipeline.components:
            resources = settings.resources(component.id)
            if resources.gpus:
                images[component.id] = settings.gpu_image
                spec = pipeline_spec_pb2.PipelineDeploymentConfig.PipelineContainerSpec.ResourceSpec
                component.with_platform_config(
                    spec(
                        accelerator=spec.AcceleratorConfig(
                            type=resources.gpu_type, count=resources.gpus
                        )
                    )
                )
        kubeflow_v2_dag_runner.KubeflowV2DagRunner(
            kubeflow_v2_dag_runner.KubeflowV2DagRunnerConfig(
                default_image=images, use_pipeline_spec_2_1=True
            )
        ).run(pipeline)


def _check(config: Config) -> None:
    """Raises SettingError for what Vertex AI would refuse, or find nothing in."""
    if not config.pipeline_root.startswith('gs://'):
        raise configs.SettingError(
            f"PIPELINE_ROOT is '{config.pipeline_root}': on Vertex AI it must be gs://BUCKET/FOLDER"
        )
    if config.images and not config.images.startswith('gs://'):
        raise configs.SettingError(
            f"IMAGES is '{config.images}': on Vertex AI it must be gs://BUCKET/FOLDER"
        )
    if not re.fullmatch('[a-z0-9][a-z0-9-]{0,127}', config.pipeline_name):
        raise configs.SettingError(
            f"PIPELINE_NAME is '{config.pipeline_name}': on Vertex AI it must be of lower case "
            "letters, digits and '-'"
        )


if __name__ == '__main__':
    main()
