"""What the settings tell the node ModelCard."""

from __future__ import annotations

import json
import shlex
from typing import Any

from capsmodel import settings
from pipeline import configs, make_commands
from pipeline.code_version import code_version
from pipeline.settings import Config, PlaceSettings

# What a model does not depend on: where things are, and how long a node may wait. The name of the
# pipeline is a place as well; but it says which models it is compared with.
_NO_MATTER = {*settings.declared(PlaceSettings), 'infra_check_timeout'} - {'pipeline_name'}


def described(given: Config, chosen: Config) -> str:
    """JSON for the parameter `settings` of ModelCard, the same wherever the folder VAR lies.

    Args:
        given: The settings that were given.
        chosen: Those with nothing left to be chosen.
    """
    without = configs.without_part(chosen) | _NO_MATTER
    return json.dumps(
        {
            'pipeline': given.pipeline_name,
            'settings': {
                variable: configs.text(chosen, name)
                for variable, name in configs.NAMES.items()
                if name not in without
            },
            'command': command(given),
            'code': code_version('Trainer'),
        }
    )


def command(given: Config) -> str:
    """The make command that trains with these settings, given in the project's folder."""
    needed = make_commands.needed(given, _that_matter)
    return ' '.join(['make run', *(f'{name}={shlex.quote(text)}' for name, text in needed.items())])


def _that_matter(config: Config) -> dict[str, Any]:
    return {name: getattr(config, name) for name in configs.DECLARED if name not in _NO_MATTER}
