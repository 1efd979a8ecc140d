"""Compiles the check for drift for Kubeflow Pipelines v2 (`make kubeflow`).

It is a pipeline of one task, DriftCheck, to be started by a recurring run.
"""

# Without postponed annotations: kfp reads those of its components.
import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Mapping

from kfp import compiler, dsl

from kubeflow.cluster import Cluster, load
from kubeflow.runner import (
    DRIFT_CHECK,
    PLACES,
    fixed_environment,
    give_platform,
    give_resources,
    kebab_case,
)
from pipeline import configs

COMPILED = 'build/kubeflow/drift.yaml'


def compile_drift_check(
    output: str | os.PathLike, cluster: Cluster, environment: Mapping[str, str] = os.environ
) -> None:
    """Writes the check for drift as a file for Kubeflow Pipelines.

    A run has two parameters, the folder of the request log and the folder with the versions of the
    model. Empty ones are where `make serve` and the pipeline have them in the volume.

    Args:
        output: The YAML file to write. The same settings give the same bytes.
        cluster: Where the task runs, and what it gets.
        environment: The settings of the pipeline, which are fixed in the file.

    Raises:
        SettingError: A setting cannot be used.
    """
    given = {
        name: value
        for name, value in configs.given(environment).items()
        if configs.NAMES[name] not in PLACES
    }
    config = configs.from_environment(given)
    # What has moved has failed; a second attempt would find nothing new to compare.
    resources = dataclasses.replace(cluster.resources(DRIFT_CHECK), retries=0)
    fixed = fixed_environment(config, cluster, given)

    @dsl.container_component
    def drift_check(requests: str, models: str) -> dsl.ContainerSpec:
        return dsl.ContainerSpec(
            image=cluster.image,
            command=['python', '-m', 'pipeline.drift'],
            args=[f'--requests={requests}', f'--models={models}'],
        )

    @dsl.pipeline(name=f'{kebab_case(config.pipeline_name)}-drift')
    def pipeline(requests: str = '', models: str = '') -> None:
        task = drift_check(requests=requests, models=models)
        task.set_display_name(DRIFT_CHECK)
        task.set_caching_options(False)
        for name, value in fixed.items():
            task.set_env_variable(name, value)
        give_resources(task, resources)
        give_platform(task, cluster, resources)

    path = pathlib.Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'{os.getpid()}-{path.name}')
    compiler.Compiler().compile(pipeline, str(unfinished))
    os.replace(unfinished, path)


def main() -> None:
    """Compiles as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cluster', help='settings that differ from those in cluster.yaml')
    parser.add_argument('--output', default=COMPILED)
    arguments = parser.parse_args()
    try:
        compile_drift_check(arguments.output, load(arguments.cluster))
    except configs.SettingError as error:
        sys.exit(f'Wrong setting: {error}')
    print(f'Compiled to {arguments.output}')


if __name__ == '__main__':
    main()
