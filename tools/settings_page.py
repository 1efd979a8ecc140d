"""Writes docs/settings.md from the declarations of the settings.

.venv/bin/python -m tools.settings_page
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from annotated_types import Ge, Le
from pydantic.fields import FieldInfo

from capsmodel import settings
from capsmodel.networks import table
from capsmodel.networks.ensemble_settings import EnsembleSettings
from capsmodel.networks.settings import (
    CapsNetSettings,
    CnnSettings,
    CommonSettings,
    DecoderSettings,
    MatrixCapsNetSettings,
    RoutingSettings,
)
from capsmodel.training.settings import (
    ProcessSettings,
    TrainerSettings,
    TrainingSettings,
    TunerSettings,
)
from pipeline import configs
from pipeline.presets import MOST_IMAGES, PRESETS
from pipeline.settings import DataSettings, GateSettings, PlaceSettings

PAGE = pathlib.Path(__file__).parents[1] / 'docs' / 'settings.md'

_INTRODUCTION = """\
# Settings

<!-- Written by `python -m tools.settings_page` from the declarations of the settings. -->

You change a setting by its name, on the command line of `make` or in the environment. `make`, the
`tfx` commands and the containers on a cluster read it from there.

```sh
make run EPOCHS=5 ROUTING_ITERATIONS=1     # on the command line
EPOCHS=5 make run                          # in the environment
make settings PRESET=paper                 # lists the settings in force, with their reasons
```

- The command line wins over the environment, and a setting wins over the preset.
- `CAPSNET_EPOCHS` is the same setting as `EPOCHS` and wins over it. Use it if another program has a
  variable of the same name, as CI systems have with `SEED`.
- Yes and no are written `yes` and `no`, several numbers with commas: `DECODER_UNITS=512,1024`.
- A wrong value, or a name that no setting has, is refused: `make run EPOCH=5` says "There is no
  setting EPOCH; did you mean EPOCHS?".

[how-to/setting.md](how-to/setting.md) adds a setting.
"""

_PRESETS = """\
## Presets

`PRESET` names values that the other settings start from. `quick` is the default, and `folder` is
the default with `IMAGES`. A preset that sets `NETWORK` is for that network only; the others are for
every network. The column `default` of the other tables is the value that a setting has if the
preset does not set it: `make settings` shows what is in force.
"""

# What each preset is for.
_PURPOSES = {
    'tiny': 'For tests: the same code with small networks, and the first {images} images to '
    'train, evaluate and test.',
    'quick': 'For `make run`: one pass over all training images.',
    'paper': "For the paper's figures: its network, trained to the end.",
    'folder': 'For `IMAGES`: 2,000 steps, whatever the number of pictures.',
    'cifar10': 'For CIFAR-10, after section 7 of the paper; see '
    '[training.md](training.md#colour-and-larger-images).',
    'svhn': 'For SVHN, after section 7 of the paper; see '
    '[training.md](training.md#colour-and-larger-images).',
    'efficient': 'The recipe of Efficient-CapsNet, as far as there are settings for it.',
}

# Headings of the page, each with the groups of settings below it.
_SECTIONS: dict[str, tuple[type, ...]] = {
    'Data': (DataSettings,),
    'Network': (
        table.NetworkSettings,
        CommonSettings,
        DecoderSettings,
        RoutingSettings,
        CapsNetSettings,
        MatrixCapsNetSettings,
        CnnSettings,
        EnsembleSettings,
    ),
    'Training': (TrainingSettings,),
    'The process that trains': (ProcessSettings, TrainerSettings),
    'Search for settings': (TunerSettings,),
    'Bounds of the gates': (GateSettings,),
    'Places': (PlaceSettings,),
}


def page() -> str:
    """The text of docs/settings.md."""
    parts = [_INTRODUCTION, _PRESETS, *_presets()]
    for heading, groups in _SECTIONS.items():
        rows = [row for group in groups for row in _rows(group)]
        head = ['setting', 'default', 'values', 'what it is, and why']
        parts += [f'## {heading}\n', _table(head, rows)]
    return '\n'.join(parts)


def write(path: pathlib.Path = PAGE) -> None:
    """Writes the page beside `path`, then renames it."""
    beside = path.with_name(f'{path.name}.{os.getpid()}')
    beside.write_text(page(), encoding='utf-8')
    beside.replace(path)


def documented() -> set[str]:
    """The names of the settings that the sections have."""
    return {name for groups in _SECTIONS.values() for group in groups for name in _own(group)}


def _own(group: type) -> list[str]:
    """The settings that a group declares itself, in their order."""
    return [name for name in settings.declared(group) if name in vars(group)['__annotations__']]


def _rows(group: type) -> Iterator[list[str]]:
    for name in _own(group):
        field = settings.declared(group)[name]
        why = field.description or ''
        owners = [network for network in table.NETWORKS if name not in configs.lacking(network)]
        if len(owners) < len(table.NETWORKS):
            why += f'. Only for {" and ".join(f"`{owner}`" for owner in owners)}'
        yield [f'`{name.upper()}`', _code(field.default), _values(field), f'{_capital(why)}.']


def _presets() -> Iterator[str]:
    """A heading and a table for each preset."""
    head = ['setting', 'value']
    for preset, changes in PRESETS.items():
        rows = [[f'`{name.upper()}`', _code(value)] for name, value in changes.items()]
        for network, entry in table.NETWORKS.items():
            rows += [
                [f'`{name.upper()}`', f'{_code(value)} with `NETWORK={network}`']
                for name, value in entry.presets.get(preset, {}).items()
            ]
        images = ' / '.join(f'{most:,}' for most in MOST_IMAGES.get(preset, {}).values())
        yield f'### {preset}\n'
        yield f'{_PURPOSES[preset].format(images=images)}\n'
        yield _table(head, rows)


def _values(field: FieldInfo) -> str:
    """Which values a setting may have."""
    if allowed := settings.choices(field):
        return ', '.join(map(_code, allowed))
    lower = next((bound.ge for bound in field.metadata if isinstance(bound, Ge)), None)
    upper = next((bound.le for bound in field.metadata if isinstance(bound, Le)), None)
    kinds: Mapping[Any, str] = {bool: '`yes`, `no`', int: 'whole number', float: 'number'}
    if isinstance(field.default, tuple):
        is_text = field.annotation == tuple[str, ...]
        return f'{"folders" if is_text else "whole numbers from 1"}, with commas'
    kind = kinds.get(type(field.default), 'text')
    if lower is not None:
        kind += f' from {_number(lower)}'
    return kind + (f' to {_number(upper)}' if upper is not None else '')


def _number(bound: Any) -> str:
    return f'{bound:,}' if isinstance(bound, int) else f'{bound:g}'


def _code(value: Any) -> str:
    text = configs.as_text(value)
    return f'`{text}`' if text else ''


def _capital(text: str) -> str:
    """The text with a capital letter, if it does not begin with a name."""
    first = text.split(maxsplit=1)[0]
    return text if any(character in first for character in '_:') else text[:1].upper() + text[1:]


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ['---'] * len(head), *rows]
    return ''.join(
        f'| {" | ".join(cell.replace("|", chr(92) + "|") for cell in line)} |\n' for line in lines
    )


if __name__ == '__main__':
    write()
