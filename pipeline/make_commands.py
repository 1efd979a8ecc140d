"""The make commands that messages name, with the settings that they need to work when pasted.

`python -m pipeline.make_commands show TARGET [NAME=VALUE ...]` prints such a command for the
Makefile, `... check TARGET` fails where there is nothing for a target to show, and
`... known NAME ...` fails where a variable on make's command line is no setting.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from components.datasets import image_folder
from pipeline import configs
from pipeline.settings import Config

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Where the commands will be pasted.
_STARTED_IN = os.getcwd()
# A digit that comes with the project.
SAMPLE_IMAGE = 'docs/seven.png'

# Variables that have a meaning for the commands, and no place on a command line.
_EXPORTED = ('KFP_TOKEN', 'METADATA_USER', 'METADATA_PASSWORD')

# What each target depends on. All others train, and depend on every setting.
_DEPENDS_ON: dict[str, Callable[[Config], Any]] = {
    'data': lambda config: (
        config.images,
        config.dataset,
        config.dataset_version,
        config.data_dir,
    ),
    'tensorboard': lambda config: config.tensorboard_dir,
    'lineage': lambda config: (config.pipeline_name, config.metadata, config.metadata_path),
    'prune': lambda config: (
        config.pipeline_name,
        config.pipeline_root,
        config.metadata,
        config.metadata_path,
    ),
    **dict.fromkeys(
        ('serve', 'serve-docker', 'predict', 'rollback', 'promote', 'notebook', 'card', 'drift'),
        lambda config: (config.pipeline_name, config.serving_model_dir),
    ),
}


def make_command(target: str, config: Config, **variables: str) -> str:
    """The command that runs a target of the Makefile with what `config` says.

    Args:
        target: Such as `serve`.
        config: The settings. Those that make no difference to the target are left out.
        **variables: Further ones of make's, such as `IMAGE`. A setting among them is not left out.

    Returns:
        A line for a shell, wherever the settings came from and whatever else the environment holds
        that led to `config`.
    """
    needed_ones = needed(config, _DEPENDS_ON.get(target, lambda config: config), variables)
    assignments = [
        f'{name}={shlex.quote(value.replace("$", "$$"))}'  # make expands a lone $
        for name, value in {**needed_ones, **variables}.items()
    ]
    return ' '.join([*_make(), target, *assignments])


def needed(
    config: Config, depends_on: Callable[[Config], Any], variables: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The fewest settings, by their names in capitals, that come to what `config` says.

    Args:
        config: The settings.
        depends_on: What must be the same.
        variables: Further ones of make's; a setting among them is kept.
    """
    variables = variables or {}
    wanted = depends_on(config)
    without = configs.without_part(config)
    settings = {
        variable: _text(config, name)
        for variable, name in configs.NAMES.items()
        if name not in without
    }
    # The preset comes last: what follows from it is left out rather than it.
    for name in reversed([name for name in settings if name not in variables]):
        others = {key: value for key, value in settings.items() if key != name}
        try:
            is_needed = depends_on(_config_of_make({**others, **variables})) != wanted
        except configs.SettingError:
            is_needed = True
        if not is_needed:
            settings = others
    return settings


def next_steps(config: Config) -> list[str]:
    """The commands that a person wants after a run."""
    sample = image_folder.first_picture(config.images) if config.images else SAMPLE_IMAGE
    return [
        make_command('serve', config),
        *([make_command('predict', config, IMAGE=sample)] if sample else []),
        make_command('tensorboard', config),
    ]


def what_is_missing(
    target: str, config: Config, environment: Mapping[str, str] = os.environ
) -> str | None:
    """Says that `target` has nothing to show, and which commands of its kind have.

    Args:
        target: One that needs a pushed model, or `tensorboard`.
        config: The settings.
        environment: Has what is no setting: PORT and IMAGE.

    Returns:
        Lines for a person; None if there is what the target needs.
    """
    names = _trained(config) if target == 'tensorboard' else _pushed(config)
    if target == 'tensorboard':
        is_there = '://' in config.pipeline_root or os.path.isdir(config.pipeline_root)
        what = f'Nothing is trained in {config.pipeline_root}'
    else:
        is_there = config.pipeline_name in names
        what = f'No model is pushed to {config.serving_model_dir}'
    if is_there:
        return None
    lines = [f'{what}.']
    if names:
        lines.append(f'There is in {config.var}:')
    for name in names:
        lines += _commands(target, name, config, environment)
    lines.append(f'To train one: {make_command("run", config)}')
    return '\n'.join(lines)


def _commands(target: str, name: str, config: Config, environment: Mapping[str, str]) -> list[str]:
    """Lines with what runs a target for another pipeline; it takes a server to predict."""
    variables = {'PIPELINE_NAME': name}
    if 'PIPELINE_ROOT' in configs.given(environment):
        variables['PIPELINE_ROOT'] = ''  # or that of the environment would be used
    try:
        of_name = _config_of_make({'VAR': config.var, **variables})
    except configs.SettingError:
        return []  # no run has made this folder
    if environment.get('PORT'):
        variables['PORT'] = environment['PORT']
    if target != 'predict':
        return [f'  {make_command(target, of_name, **variables)}']
    image = environment.get('IMAGE') or SAMPLE_IMAGE
    return [
        f'  {make_command("serve", of_name, **variables)}',
        f'  {make_command("predict", of_name, **variables, IMAGE=image)}',
    ]


def _pushed(config: Config) -> list[str]:
    """Names of pipelines with a pushed version in VAR."""
    folder = os.path.dirname(config.serving_model_dir)
    return [
        name
        for name in _subfolders(folder)
        if any(map(str.isdecimal, _subfolders(os.path.join(folder, name))))
    ]


def _trained(config: Config) -> list[str]:
    """Names of pipelines with a training in VAR."""
    folder = os.path.join(config.var, 'pipeline_root')
    return [
        name
        for name in _subfolders(folder)
        if os.path.isdir(
            dataclasses.replace(config, pipeline_root=os.path.join(folder, name)).tensorboard_dir
        )
    ]


def _subfolders(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _config_of_make(settings: Mapping[str, str]) -> Config:
    """What make comes to with these settings, in whichever folder this process is."""
    with_default = {'VAR': os.path.join(_ROOT, 'var'), **settings}
    return configs.from_environment(
        {
            name: ','.join(map(_absolute, _folders(name, value))) or value
            for name, value in with_default.items()
        }
    )


def _absolute(folder: str) -> str:
    return os.path.join(_ROOT, folder) if folder and '://' not in folder else folder


def _text(config: Config, name: str) -> str:
    text = configs.text(config, name)
    folders = [
        os.path.relpath(path, _ROOT) if path.startswith(f'{_ROOT}/') else path
        for path in _folders(name.upper(), text)
    ]
    return ','.join(folders) or text


def _folders(variable: str, text: str) -> list[str]:
    """The folders that a setting names; none if it is about something else."""
    if variable == 'MEMBERS':
        return text.split(',')
    return [text] if variable in ('VAR', 'IMAGES') else []


def _make() -> list[str]:
    if os.path.realpath(_STARTED_IN) == os.path.realpath(_ROOT):
        return ['make']
    return ['make', '-C', shlex.quote(_ROOT)]


def _refusals(names: Sequence[str], others: Sequence[str]) -> Iterator[str]:
    """A sentence for each variable on make's command line that is no setting."""
    for name in names:
        if name in _EXPORTED:
            yield (
                f'{name} does not belong on a command line, which others on this machine can see: '
                f'use `export {name}=...`'
            )
        elif name.removeprefix(configs.PREFIX) not in configs.NAMES:
            refusal = configs.no_such_setting(name, others)
            yield (
                refusal
                if 'did you mean' in refusal
                else f'{refusal} Export what another program reads: `export {name}=...`'
            )


def main() -> None:
    """Runs the command that the Makefile asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)
    show = commands.add_parser('show', help='print the command that runs a target')
    show.add_argument('target')
    show.add_argument('variables', nargs='*', metavar='NAME=VALUE')
    check = commands.add_parser('check', help='fail if a target has nothing to show')
    check.add_argument('target')
    known = commands.add_parser('known', help='fail if one of the names is not that of a setting')
    known.add_argument('names', nargs='+', metavar='NAME')
    known.add_argument('--others', nargs='*', default=[], help="the target's own variables")
    arguments = parser.parse_args()
    if arguments.command == 'known':
        sys.exit('\n'.join(_refusals(arguments.names, arguments.others)) or None)
    config = configs.from_environment_or_exit()
    if arguments.command == 'check':
        sys.exit(what_is_missing(arguments.target, config))
    variables = dict(text.split('=', 1) for text in arguments.variables)
    print(make_command(arguments.target, config, **variables))


if __name__ == '__main__':
    main()
