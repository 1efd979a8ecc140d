"""Prints the names of the nodes of the pipeline that the environment asks for."""

from pipeline import configs, run_node

for node in run_node.compiled(configs.from_environment(), 'run').nodes:
    print(node.pipeline_node.node_info.id)
