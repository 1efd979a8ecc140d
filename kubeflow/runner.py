"""Compiles the pipeline for Kubeflow Pipelines v2 (`make kubeflow`).

Each node of TFX's intermediate representation becomes one task, a container that runs
`python -m pipeline.run_node`; the edges become the order of the tasks. What goes from node to node
is TFX's affair: artifacts in the pipeline's root, records of them in ML Metadata.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import os
import pathlib
import re
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

from kfp import compiler, dsl, kubernetes

from components.datasets import image_folder
from components.datasets.errors import DatasetError
from kubeflow.cluster import Cluster, Resources, load
from pipeline import configs
from pipeline.run_node import FIXED, PREPARE_DATASET, compiled
from pipeline.settings import Config

COMPILED = 'build/kubeflow/capsnet.yaml'

# Settings that say where things are on the cluster: cluster.yaml has them.
PLACES = ('var', 'pipeline_root', 'metadata')
# All others are parameters of a run.
PARAMETERS = tuple(name for name in configs.NAMES.values() if name not in (*FIXED, *PLACES))

# The task of the pipeline in kubeflow/drift.py.
DRIFT_CHECK = 'DriftCheck'
# Nodes that TUNER and WARM_START add, and that one.
_OPTIONAL_NODES = ('Tuner', 'WarmStartResolver', DRIFT_CHECK)


def compile_pipeline(
    output: str | os.PathLike, cluster: Cluster, environment: Mapping[str, str] = os.environ
) -> None:
    """Writes the pipeline that the settings ask for as a file for Kubeflow Pipelines.

    Args:
        output: The YAML file to write. The same settings give the same bytes.
        cluster: Where the tasks run, and what they get.
        environment: The settings of the pipeline. Those in FIXED are fixed in the file; the others
            are what the parameters of a run are where the run does not say otherwise.

    Raises:
        SettingError: A setting cannot be used.
        DatasetError: TFDS has no such dataset, or the dataset has no images with classes.
    """
    given = {
        name: value
        for name, value in configs.given(environment).items()
        if configs.NAMES[name] not in PLACES
    }
    config = configs.from_environment(given)
    check_folders(given)
    with tempfile.TemporaryDirectory() as folder:
        here = dataclasses.replace(config, var=folder, pipeline_root=folder)
        # The nodes do not depend on the pictures and the members, which lie where the tasks run.
        images = image_folder.unread(config.images) if config.images else None
        ir = compiled(here, 'none', images, members_are_here=False)
        nodes = [each.pipeline_node for each in ir.nodes]
    upstream = {
        PREPARE_DATASET: [],
        **{node.node_info.id: list(node.upstream_nodes) or [PREPARE_DATASET] for node in nodes},
    }
    _check_nodes(cluster, upstream)
    fixed = fixed_environment(config, cluster, given)

    def pipeline(*values: Any) -> None:
        tasks: dict[str, dsl.PipelineTask] = {}
        for node_id, before in upstream.items():
            resources = cluster.resources(node_id)
            component = _component(node_id, cluster.gpu_image if resources.gpus else cluster.image)
            task = component(
                run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
                **dict(zip(PARAMETERS, values, strict=True)),
            )
            task.set_display_name(node_id)
            # TFX's own cache knows what a node's results depend on.
            task.set_caching_options(False)
            for name, value in fixed.items():
                task.set_env_variable(name, value)
            give_resources(task, resources)
            give_platform(task, cluster, resources)
            tasks[node_id] = task.after(*[tasks[each] for each in before])

    defaults = {name: given.get(name.upper(), '') for name in PARAMETERS}
    _declare(pipeline, {**defaults, 'preset': config.preset})
    path = pathlib.Path(output)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f'{os.getpid()}-{path.name}')
    compiler.Compiler().compile(
        dsl.pipeline(name=kebab_case(config.pipeline_name))(pipeline), str(unfinished)
    )
    os.replace(unfinished, path)


def check_folders(given: Mapping[str, str]) -> None:
    """Raises SettingError if IMAGES or MEMBERS names a folder that depends on where make is."""
    for name in ('IMAGES', 'MEMBERS'):
        for path in filter(None, map(str.strip, given.get(name, '').split(','))):
            if not path.startswith('/') and '://' not in path:
                raise configs.SettingError(
                    f"{name} is '{given[name]}': on a cluster, it must name the whole path on a "
                    f'volume, such as /var/capsnet/{path}, or in a bucket'
                )


def _check_nodes(cluster: Cluster, nodes: Mapping[str, Any]) -> None:
    unknown = sorted(cluster.nodes.keys() - {*nodes, *_OPTIONAL_NODES})
    if unknown:
        raise configs.SettingError(
            f'There are resources for {", ".join(unknown)}, but the nodes are {", ".join(nodes)}'
        )


def fixed_environment(config: Config, cluster: Cluster, given: Mapping[str, str]) -> dict[str, str]:
    """The environment of every task: all that no run changes, and the preset if it names none."""
    fixed = {
        'PRESET': config.preset,
        'NETWORK': config.network,
        'IMAGES': config.images,
        'DATASET': config.dataset,
        'DATASET_VERSION': config.dataset_version,
        'FRAMING': config.framing,
        'PIPELINE_NAME': given.get('PIPELINE_NAME', ''),
        'TUNER': 'yes' if config.tuner else 'no',
        'WARM_START': 'yes' if config.warm_start else 'no',
        'VAR': cluster.var,
        'PIPELINE_ROOT': cluster.pipeline_root,
        'METADATA': cluster.metadata,
        **cluster.environment,
    }
    return {name: value for name, value in fixed.items() if value}


def _component(node_id: str, image: str) -> Any:
    """The component of a node: a container that takes the run's id and its parameters."""

    def component(run_id: Any, *values: Any) -> dsl.ContainerSpec:
        settings = [
            f'{name.upper()}={value}' for name, value in zip(PARAMETERS, values, strict=True)
        ]
        return dsl.ContainerSpec(
            image=image,
            command=['python', '-m', 'pipeline.run_node'],
            args=['--node', node_id, '--run_id', run_id, *settings],
        )

    component.__name__ = _snake_case(node_id)
    _declare(component, dict.fromkeys(('run_id', *PARAMETERS), inspect.Parameter.empty))
    return dsl.container_component(component)


def _declare(function: Callable, parameters: Mapping[str, Any]) -> None:
    """Gives a function the signature from which kfp reads the parameters, all of them strings.

    Args:
        function: Takes them by position.
        parameters: Names and defaults.
    """
    function.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            inspect.Parameter(
                name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=str
            )
            for name, default in parameters.items()
        ]
    )


def give_resources(task: dsl.PipelineTask, resources: Resources) -> None:
    """Gives a task cores, memory, GPUs and retries."""
    task.set_cpu_request(resources.cpu)
    if resources.cpu_limit:
        task.set_cpu_limit(resources.cpu_limit)
    task.set_memory_request(resources.memory)
    if resources.memory_limit:
        task.set_memory_limit(resources.memory_limit)
    if resources.gpus:
        task.set_accelerator_type(resources.gpu_type)
        task.set_accelerator_limit(resources.gpus)
    if resources.retries:
        task.set_retry(
            resources.retries,
            backoff_duration=f'{resources.retry_wait}s',
            backoff_factor=resources.retry_factor,
            backoff_max_duration=f'{resources.retry_wait_limit}s',
        )


def give_platform(task: dsl.PipelineTask, cluster: Cluster, resources: Resources) -> None:
    """Gives a task what belongs to Kubernetes: volumes, Secrets, which machines, the time limit."""
    for claim, path in cluster.volumes.items():
        kubernetes.mount_pvc(task, pvc_name=claim, mount_path=path)
    for secret, keys in cluster.secrets.items():
        kubernetes.use_secret_as_env(task, secret_name=secret, secret_key_to_env=keys)
    for secret, path in cluster.secret_files.items():
        kubernetes.use_secret_as_volume(task, secret_name=secret, mount_path=path)
    for label, value in resources.node_selector.items():
        kubernetes.add_node_selector(task, label_key=label, label_value=value)
    # The kfp-kubernetes that goes with TFX 1.16 has no functions for these fields of
    # KubernetesExecutorConfig; they come last, since it does not read them either.
    later = {
        'tolerations': [
            {
                name: str(value)
                for name, value in dataclasses.asdict(each).items()
                if value not in ('', None)
            }
            for each in resources.tolerations
        ],
        'activeDeadlineSeconds': str(resources.timeout),
        'imagePullPolicy': cluster.image_pull_policy,
        'imagePullSecret': [{'secretName': name} for name in cluster.image_pull_secrets],
    }
    task.platform_config.setdefault('kubernetes', {}).update(
        {name: value for name, value in later.items() if value}
    )


def _snake_case(node_id: str) -> str:
    return re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', node_id).lower()


def kebab_case(name: str) -> str:
    """A name as Kubeflow Pipelines takes it for a pipeline."""
    return re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')


def main() -> None:
    """Compiles as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--cluster', help='settings that differ from those in cluster.yaml')
    parser.add_argument('--output', default=COMPILED)
    arguments = parser.parse_args()
    configs.print_notice()
    try:
        given = configs.given(os.environ)
        for name in ('PIPELINE_ROOT', 'METADATA'):
            if name in given:
                raise configs.SettingError(f'{name} on a cluster is a setting of cluster.yaml')
        compile_pipeline(arguments.output, load(arguments.cluster))
    except (configs.SettingError, DatasetError) as error:
        sys.exit(f'Wrong setting: {error}')
    print(f'Compiled to {arguments.output}')


if __name__ == '__main__':
    main()
