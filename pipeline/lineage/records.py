"""How artifacts, executions and trees of them are printed."""

from __future__ import annotations

import datetime
import json
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ml_metadata.proto import metadata_store_pb2

from pipeline import code_version, configs, var_folder
from pipeline.lineage.graph import Execution, Graph, Record, text
from pipeline.settings import Config

# Of the text that is wrapped, which stands to the right of the tree's lines.
_WIDTH = 72
# What an artifact and a node have besides their path and their time.
_SHOWN = {
    metadata_store_pb2.Artifact: (
        'dataset',
        'dataset_version',
        'fingerprint',
        'undecodable_images',
        'blessed',
    ),
    metadata_store_pb2.Execution: (
        'custom_config',
        'images',
        'schema_file',
        'timeout',
        'input_config',
    ),
}
_NOT_SETTINGS = ('checkpoint_root', 'code_version')


def when(graph: Graph, execution: metadata_store_pb2.Execution) -> list[str]:
    """Lines with node, time, duration and version of the code of an execution."""
    start = execution.create_time_since_epoch / 1000
    seconds = execution.last_update_time_since_epoch / 1000 - start
    at = datetime.datetime.fromtimestamp(start).isoformat(' ', 'seconds')
    node = graph.node(execution.id)
    said = f'by {node} at {at}'
    if execution.last_known_state == Execution.COMPLETE:
        said += f', took {seconds:.1f} s'
    # It is in properties of different depth, quoted once or twice.
    recorded = re.search(r'code_version\W+([0-9a-f]{16})\b', str(execution.custom_properties))
    own = text(execution, 'code_version') or (recorded[1] if recorded else '')
    if not own:
        return [said]
    is_known = node in code_version.STARTS_WITH
    is_changed = is_known and own != code_version.code_version(node)
    return [said, f'code {own}{" (changed since)" if is_changed else ""}']


def settings(record: Record) -> str:
    """NAME=VALUE for what made an artifact or was made with it; settings of make's in capitals."""
    found = {}
    for name in _SHOWN[type(record)]:
        if name in record.custom_properties:
            value = record.custom_properties[name]
            found[name] = getattr(value, value.WhichOneof('value'))
            if name in ('custom_config', 'input_config'):
                found[name] = json.loads(found[name])
            elif name == 'blessed':
                found[name] = bool(found[name])
    return ' '.join(_assignments(found))


def _assignments(values: Mapping[str, Any]) -> list[str]:
    """NAME=VALUE for each value, those in mappings too."""
    found = []
    for name, value in values.items():
        if name == 'input_config':
            found += [f'{each["name"]}={each["pattern"]}' for each in value.get('splits', [])]
        elif name == 'members':
            # The networks of the members, which are mappings, are left out.
            members = [member for member in value if not isinstance(member, Mapping)]
            found += [f'member={folder} ({fingerprint})' for folder, fingerprint in members]
        elif isinstance(value, Mapping):
            found += _assignments(value)
        elif name not in _NOT_SETTINGS and value not in ('', []):
            shown = name.upper() if name.upper() in configs.NAMES else name
            found.append(f'{shown}={_value(value)}')
    return found


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return ','.join(map(str, value)) if isinstance(value, list) else str(value)


def path(artifact: metadata_store_pb2.Artifact, config: Config) -> str:
    """Where an artifact lies, as it is recorded: a version in the folder of pushed models."""
    recorded = text(artifact, 'pushed_destination') or artifact.uri
    where = var_folder.located(recorded, config)
    is_there = '://' in where or os.path.exists(where)
    return recorded if is_there else f'{recorded} (removed)'


def wrapped(what: str, edge: str) -> list[str]:
    """The lines of a text under an artifact, without any for an empty text."""
    return textwrap.wrap(
        what,
        _WIDTH,
        initial_indent=edge,
        subsequent_indent=edge,
        break_long_words=False,
        break_on_hyphens=False,
    )


def tree(branches: Sequence[Sequence[str]]) -> list[str]:
    """The lines of all branches, with what connects them."""
    lines = []
    for number, branch in enumerate(branches):
        is_last = number == len(branches) - 1
        first, *others = branch
        lines.append(f'{"└─" if is_last else "├─"} {first}')
        lines += [f'{" " if is_last else "│"}  {line}' for line in others]
    return lines
