"""Compares what a pushed model is asked with its training data (`make drift`).

The exit code is 0 if nothing moved, 1 if something did, and 2 if there is too little to judge.
"""

from __future__ import annotations

import argparse
import os
import sys

import start_tensorflow
from pipeline import configs, metadata_check, var_folder
from pipeline.lineage.graph import LineageError
from pipeline.lineage.versions import raw_examples
from pipeline.make_commands import make_command, what_is_missing
from pipeline.metadata_error import MetadataError
from pipeline.settings import Config

_MOVED, _CANNOT_JUDGE = 1, 2
# The split that neither the weights nor the test accuracy come from.
_SPLIT = 'eval'


def main() -> None:
    """Makes a check and ends with its exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--requests', default='', help='folder of the request log')
    parser.add_argument('--models', default='', help='folder with the versions of the model')
    arguments = parser.parse_args()
    try:
        config = configs.from_environment()
    except configs.SettingError as error:
        _refuse(f'Wrong setting: {error}')
    models = arguments.models or config.serving_model_dir
    requests = arguments.requests or config.request_log_dir
    if not arguments.models and (missing := what_is_missing('drift', config)):
        _refuse(missing)
    if not os.path.isdir(requests):
        serve = make_command('serve', config, LOG_REQUESTS='1')
        _refuse(f'No request was kept in {requests}. To keep what is asked: {serve}')
    sys.exit(_check(config, requests, models))


def folder(config: Config) -> str:
    """Where reports are written, and how far the log was read."""
    return os.path.join(config.var, 'drift', config.pipeline_name)


def _check(config: Config, requests: str, models: str) -> int:
    start_tensorflow.hide_gpus()
    start_tensorflow.load()
    with start_tensorflow.without_noise():
        # Not at the top: TensorFlow and TFDV take ten seconds, and a refusal needs neither.
        from components.drift import check, report
        from components.drift.errors import CannotJudge

        def examples(version: str) -> str:
            try:
                return pattern(config, version)
            except (LineageError, MetadataError, configs.SettingError) as error:
                raise CannotJudge(str(error)) from error

        places = check.Places(requests, models, folder(config))
        try:
            found = check.check(config.pipeline_name, places, examples)
        except CannotJudge as error:
            _refuse(str(error))
        except OSError as error:
            _refuse(f'The check cannot be made: {error}')
    print(*report.lines(found), sep='\n')
    print(f'Report: {os.path.join(folder(config), check.REPORT)}', flush=True)
    return _MOVED if found.moved else 0


def pattern(config: Config, version: str) -> str:
    """The files of the pictures that a version is compared with.

    Args:
        config: The settings.
        version: The number of a pushed version.

    Raises:
        LineageError: ML Metadata does not know what the version was made of.
        MetadataError: ML Metadata cannot be used.
        SettingError: METADATA lacks a user.
    """
    with metadata_check.explained_errors(config):
        recorded = raw_examples(config, version)
    return os.path.join(var_folder.located(recorded, config), f'Split-{_SPLIT}', '*')


def _refuse(sentence: str) -> None:
    print(sentence, file=sys.stderr)
    sys.exit(_CANNOT_JUDGE)


if __name__ == '__main__':
    main()
