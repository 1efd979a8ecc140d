"""Runs an empty pipeline whose connection to ML Metadata has a secret in it: VAR."""

import logging
import sys

from pipeline import configs, console

config = configs.from_preset('tiny', var=sys.argv[1])
console.open_log(config, 'log')

from tfx.orchestration import metadata, pipeline  # noqa: E402 (the log comes first)
from tfx.orchestration.local.local_dag_runner import LocalDagRunner  # noqa: E402

connection = metadata.sqlite_metadata_connection_config(config.metadata_path + '-secret')
LocalDagRunner().run(pipeline.Pipeline('empty', config.pipeline_root, connection))
logging.info('The end.')
