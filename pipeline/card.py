"""Shows the model card of a pushed version.

`python -m pipeline.card` prints the path of the newest version's card and opens it, if there is a
browser with a window; `--version N` takes another version, and `--latest` the card that was
written last, whose model may have been rejected.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import webbrowser

from pipeline import configs
from pipeline.make_commands import make_command, what_is_missing
from pipeline.settings import Config

# As the components write it: see components/model_card/files.py and components/pusher.py, which
# need TFX.
_PAGE = 'model_card.html'
_OF_VERSION = os.path.join('assets.extra', _PAGE)
_OF_RUNS = os.path.join('ModelCard', 'card')


class NoCard(Exception):
    """There is no such card; the message says why, and what to do."""


def of_version(config: Config, version: str = '') -> str:
    """The path of a pushed version's card.

    Args:
        config: The settings.
        version: Its number; empty: the newest version.

    Raises:
        NoCard: There is no such version, or it has no card.
    """
    if missing := what_is_missing('card', config):
        raise NoCard(missing)
    versions = _numbers(config.serving_model_dir)
    if version and version not in versions:
        raise NoCard(
            f'There is no version {version} in {config.serving_model_dir}, only '
            f'{", ".join(versions)}'
        )
    version = version or versions[-1]
    path = os.path.join(config.serving_model_dir, version, _OF_VERSION)
    if not os.path.exists(path):
        raise NoCard(
            f'Version {version} has no model card: it was pushed without one. The next model that '
            'is pushed has one'
        )
    return path


def of_last_run(config: Config) -> str:
    """The path of the card that was written last, whether its model was pushed or not.

    Raises:
        NoCard: No run has written one, or it is in a bucket.
    """
    folder = os.path.join(config.pipeline_root, _OF_RUNS)
    if '://' in folder:
        raise NoCard(f'The model cards of runs are in {folder}, where no browser reads them')
    for number in reversed(_numbers(folder)):
        path = os.path.join(folder, number, _PAGE)
        if os.path.exists(path):
            return path
    raise NoCard(
        f'No run of {config.pipeline_name} has come to its model card. To train a model: '
        f'{make_command("run", config)}'
    )


def _numbers(folder: str) -> list[str]:
    """The sub-folders with a number for a name, the smallest first."""
    if not os.path.isdir(folder):
        return []
    return sorted((name for name in os.listdir(folder) if name.isdecimal()), key=int)


def _open(path: str) -> None:
    """Opens a file in a browser where there is a screen."""
    if sys.platform == 'darwin' or os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'):
        webbrowser.open(pathlib.Path(path).absolute().as_uri())


def main() -> None:
    """Shows the card that the Makefile asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--version', default='', help='a version; the newest one by default')
    parser.add_argument('--latest', action='store_true', help='the card that was written last')
    arguments = parser.parse_args()
    if arguments.version and arguments.latest:
        sys.exit('Name VERSION or LATEST: one is a pushed model, the other the card written last')
    config = configs.from_environment_or_exit()
    try:
        path = of_last_run(config) if arguments.latest else of_version(config, arguments.version)
    except NoCard as error:
        sys.exit(str(error))
    print(path, flush=True)
    _open(path)


if __name__ == '__main__':
    main()
