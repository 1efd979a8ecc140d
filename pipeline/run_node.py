"""Runs one node of the pipeline in this process: what a container of Kubeflow Pipelines starts.

`python -m pipeline.run_node --node Trainer --run_id RUN PRESET=paper EPOCHS=3` compiles the
pipeline from the settings in the environment and after the options, and launches that node of it as
part of the run RUN. The nodes of a run share ML Metadata and the folders that the settings name,
nothing else.

The exit code is 0 when the node's results are there. You can start it again after any failure:
finished results stay, half-finished work is repeated, and a refusal stays a refusal.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import start_tensorflow
from capsmodel.training.errors import Diverged
from components.gate import GateRefused
from pipeline import configs, console, var_folder
from pipeline.console import NodeFailed
from pipeline.presets import of_preset
from pipeline.settings import Config

if TYPE_CHECKING:
    from ml_metadata.proto import metadata_store_pb2

    from components.datasets.image_folder import ImageFolder

# The node before all of TFX's own: the code of `make data`.
PREPARE_DATASET = 'PrepareDataset'

# Settings that belong to the compiled pipeline: the nodes and their order follow from them, or the
# name under which results are kept.
FIXED = (
    'network', 'images', 'dataset', 'dataset_version', 'framing', 'warm_start', 'tuner',
    'pipeline_name',
)  # fmt: skip

# Of an execution in ML Metadata: why its node would come to the same end another time.
REFUSAL = 'refusal'


def run(config: Config, node_id: str, run_id: str) -> None:
    """Runs a node of the pipeline that `config` asks for.

    Args:
        config: The settings, the same for all nodes of a run.
        node_id: One of the pipeline's, such as Trainer.
        run_id: Names the run that the node is part of.

    Raises:
        NodeFailed: There is no such node, or it raised an error, or it has no results.
        GateRefused: A gate said no, now or when the node was started before in this run.
    """
    with var_folder.entered(config) as inside:
        _launch(inside, node_id, run_id)


def _launch(config: Config, node_id: str, run_id: str) -> None:
    from tfx.orchestration.local import runner_utils
    from tfx.orchestration.metadata import Metadata
    from tfx.orchestration.portable import launcher

    from pipeline import metadata

    ir = compiled(config, run_id)
    nodes = {each.pipeline_node.node_info.id: each.pipeline_node for each in ir.nodes}
    if node_id not in nodes:
        raise NodeFailed(
            f'The pipeline has no node {node_id}: with these settings it has {", ".join(nodes)}'
        )
    deployment = runner_utils.extract_local_deployment_config(ir)
    connection = Metadata(metadata.connection_config(config))
    node_launcher = launcher.Launcher(
        pipeline_node=nodes[node_id],
        mlmd_connection=connection,
        pipeline_info=ir.pipeline_info,
        pipeline_runtime_spec=ir.runtime_spec,
        executor_spec=runner_utils.extract_executor_spec(deployment, node_id),
        custom_driver_spec=runner_utils.extract_custom_driver_spec(deployment, node_id),
    )
    earlier = _execution(connection, nodes[node_id])
    if earlier is not None:
        if REFUSAL in earlier.custom_properties:
            raise GateRefused(earlier.custom_properties[REFUSAL].string_value)
        if _has_succeeded(earlier):
            return
        _remove_half_written(ir, nodes[node_id], earlier.id)
    try:
        node_launcher.launch()
    except (GateRefused, Diverged) as error:
        _remember_refusal(connection, nodes[node_id], str(error))
        raise
    except Exception as error:
        raise NodeFailed.of(node_id, error) from error
    # The launcher returns, too, when the inputs of a node are not there.
    execution = _execution(connection, nodes[node_id])
    if execution is None or not _has_succeeded(execution):
        raise NodeFailed(f'{node_id} has no results: {_reason(execution)}')


def compiled(
    config: Config, run_id: str, folder: ImageFolder | None = None, members_are_here: bool = True
) -> Any:
    """The intermediate representation, a Pipeline proto of TFX, of one run of the pipeline.

    Args:
        config: The settings.
        run_id: Names the run.
        folder: What is in the folder IMAGES; by default it is looked at now.
        members_are_here: False: the nodes are not to be run, and MEMBERS is not looked at.
    """
    from tfx.dsl.compiler import compiler, constants
    from tfx.orchestration.portable import runtime_parameter_utils

    from pipeline.pipeline import create_pipeline

    pipeline = create_pipeline(config, folder=folder, members_are_here=members_are_here)
    ir = compiler.Compiler().compile(pipeline)
    runtime_parameter_utils.substitute_runtime_parameter(
        ir, {constants.PIPELINE_RUN_ID_PARAMETER_NAME: run_id}
    )
    return ir


def _execution(connection: Any, node: Any) -> metadata_store_pb2.Execution | None:
    """The last execution of a node in its run; None before the first."""
    from tfx.orchestration.portable.mlmd import context_lib, execution_lib

    with connection as handle:
        contexts = context_lib.prepare_contexts(handle, node.contexts)
        executions = execution_lib.get_executions_associated_with_all_contexts(handle, contexts)
    return max(executions, key=lambda execution: execution.id, default=None)


def _has_succeeded(execution: metadata_store_pb2.Execution) -> bool:
    from tfx.orchestration.portable.mlmd import execution_lib

    return execution_lib.is_execution_successful(execution)


def _remove_half_written(ir: Any, node: Any, execution_id: int) -> None:
    """Removes what an attempt wrote that was killed: the next one gets the same folders.

    TensorBoard's log stays, which a training goes on with.
    """
    from tfx.dsl.io import fileio
    from tfx.orchestration.portable import outputs_utils
    from tfx.types import standard_artifacts

    resolver = outputs_utils.OutputsResolver(node, ir.pipeline_info, ir.runtime_spec)
    folders = [
        artifact.uri
        for artifacts in resolver.generate_output_artifacts(execution_id).values()
        for artifact in artifacts
        if artifact.type_name != standard_artifacts.ModelRun.TYPE_NAME
    ]
    for folder in [*folders, os.path.dirname(resolver.get_executor_output_uri(execution_id))]:
        if fileio.exists(folder):
            fileio.rmtree(folder)


def _remember_refusal(connection: Any, node: Any, sentence: str) -> None:
    """Kubeflow Pipelines tries a failed task again, whatever it failed of."""
    execution = _execution(connection, node)
    if execution is not None:
        execution.custom_properties[REFUSAL].string_value = sentence
        with connection as handle:
            handle.store.put_executions([execution])


def _reason(execution: metadata_store_pb2.Execution | None) -> str:
    from tfx.orchestration.portable.mlmd import execution_lib

    if execution is None:
        return 'it was skipped'
    result = execution_lib.get_execution_result(execution, ignore_parse_errors=True)
    return result.result_message.strip().splitlines()[-1] if result else 'ML Metadata has no reason'


def main() -> None:
    """Runs the node that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--node', required=True, help=f'id of the node, or {PREPARE_DATASET}')
    parser.add_argument(
        '--run_id', required=True, help='name of the run, the same for all its nodes'
    )
    parser.add_argument(
        'settings', nargs='*', metavar='NAME=VALUE', help='settings; they win over the environment'
    )
    arguments = parser.parse_args()
    start_tensorflow.hide_gpus()
    try:
        fixed, assigned = configs.given(os.environ), assignments(arguments.settings)
        check_preset(assigned.get('PRESET', ''), fixed, 'the pipeline')
        config = configs.from_environment({**fixed, **assigned})
        if not re.fullmatch(r'[\w.:-]+', arguments.run_id):
            raise configs.SettingError(
                f"--run_id is '{arguments.run_id}': it must be of letters, digits, '_', '.', ':' "
                "and '-'"
            )
    except configs.SettingError as error:
        sys.exit(f'Wrong setting: {error}')
    with (
        console.exit_on_error(config, f'{arguments.run_id}-{arguments.node}'),
        _timed(arguments.node),
    ):
        if arguments.node == PREPARE_DATASET:
            from components.datasets.prepare import prepare
            from pipeline import slices

            if not config.images:
                prepare(
                    config.dataset,
                    config.data_dir,
                    config.dataset_version or None,
                    os.environ.get('IDX_DIR'),
                )
            var_folder.relocate(config)
            if chosen := slices.chosen(config):
                print(chosen)
        else:
            from pipeline import metadata_check

            with metadata_check.explained_errors(config):
                run(config, arguments.node, arguments.run_id)


def assignments(texts: list[str]) -> Mapping[str, str]:
    """Settings as given after the options, by name; an empty one leaves the environment's."""
    settings = {}
    for text in texts:
        name, equals, value = text.partition('=')
        if not equals:
            raise configs.SettingError(f"'{text}' is not NAME=VALUE")
        if name not in configs.NAMES:
            raise configs.SettingError(configs.no_such_setting(name))
        if value:
            settings[name] = value
    return settings


def check_preset(preset: str, fixed: Mapping[str, str], compiled_to: str) -> None:
    """Raises SettingError if the preset of a run sets what the compiled pipeline has otherwise.

    Args:
        preset: The run's; '' if it asks for none.
        fixed: The settings of the compiled pipeline by their names in capitals, with its own PRESET
            if that is known. What is not in it is not compared: with IMAGES, there is no DATASET.
        compiled_to: What the message calls the pipeline.
    """
    if preset == fixed.get('PRESET'):
        return
    for name, value in of_preset(preset, fixed.get('NETWORK', '')).items():
        variable, asked = name.upper(), configs.as_text(value)
        has = fixed.get(variable, asked)
        if name in FIXED and asked != has:
            raise configs.SettingError(
                f'PRESET is {preset}, which sets {variable}={asked}, but {compiled_to} was '
                f'compiled with {variable}={has}: it cannot be changed for one run, so compile '
                f'again with `make kubeflow PRESET={preset}`'
            )


@contextlib.contextmanager
def _timed(node_id: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    print(f'{node_id:18} {console.duration(time.monotonic() - started)}', flush=True)


if __name__ == '__main__':
    main()
