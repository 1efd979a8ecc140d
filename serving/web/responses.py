"""Which request a path means, and the answers that need no tensors: status, metadata, errors."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import Literal, Protocol, cast

from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2

from serving.requests.json_text import invalid

Kind = Literal['predict', 'classify', 'regress', 'status', 'metadata']

_VERSION = '(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?'
_PATHS = {
    'POST': re.compile(
        f'/v1/models/(?P<model>[^/:]+){_VERSION}:(?P<kind>predict|classify|regress)',
        re.IGNORECASE | re.ASCII,
    ),
    'GET': re.compile(
        f'/v1/models(?:/(?P<model>[^/:]+))?{_VERSION}(?:/(?P<kind>metadata))?',
        re.IGNORECASE | re.ASCII,
    ),
}
_MAX_VERSION = 2**63 - 1

# MessageToDict writes fields that are not set under two names, before and since protobuf 5.26.
_WITH_DEFAULTS = {
    name: True
    for name in inspect.signature(json_format.MessageToDict).parameters
    if name in ('including_default_value_fields', 'always_print_fields_with_no_presence')
}


@dataclasses.dataclass(frozen=True)
class Route:
    """What is asked of which model.

    Attributes:
        kind: What is asked.
        model: The model's name.
        version: Of the model, where the path has one.
        label: Of a version, where the path has one.
    """

    kind: Kind
    model: str
    version: int | None = None
    label: str | None = None


class VersionStatus(Protocol):
    """How a version of a model is."""

    @property
    def version(self) -> int: ...
    @property
    def state(self) -> str: ...
    @property
    def error_code(self) -> str: ...
    @property
    def error_message(self) -> str: ...


def parse_path(http_method: str, raw_path: str) -> Route:
    """Reads a path.

    Args:
        http_method: In capitals.
        raw_path: As it came, URL-encoded. A query is part of it, as in the real server.

    Raises:
        ServingError: The interface has no such path.
    """
    pattern = _PATHS.get(http_method)
    match = pattern.fullmatch(raw_path) if pattern else None
    if not match:
        raise invalid(f'Malformed request: {http_method} {raw_path}')
    model, version, label, kind = match.group('model', 'version', 'label', 'kind')
    # 20 digits suffice to be too big; Python refuses to convert more than 4,300.
    number = int(version.lstrip('0')[:20] or '0') if version else None
    if number is not None and number > _MAX_VERSION:
        raise invalid(f'Failed to convert version: {version} to numeric.')
    # The real server matches paths in any case and then knows the verbs in small letters alone.
    if http_method == 'GET':
        kind = 'metadata' if kind == 'metadata' else 'status'
    elif kind not in ('predict', 'classify', 'regress'):
        raise invalid(f'Malformed request: {http_method} {raw_path}')
    if not model:
        raise invalid('Missing model name in request.')
    return Route(
        kind=cast(Kind, kind),
        model=urllib.parse.unquote(model),
        version=number,
        label=urllib.parse.unquote(label) if label else None,
    )


def error_json(message: str) -> bytes:
    """The body of an answer that is an error."""
    return json.dumps({'error': message}).encode()


def status_json(versions: Iterable[VersionStatus]) -> bytes:
    """The body of the answer to a status request, versions in the order given."""
    statuses = [
        {
            'version': str(version.version),
            'state': version.state,
            'status': {
                'error_code': version.error_code,
                'error_message': version.error_message,
            },
        }
        for version in versions
    ]
    return json.dumps({'model_version_status': statuses}, indent=1).encode()


def metadata_json(
    name: str, version: int, signature_defs: Mapping[str, meta_graph_pb2.SignatureDef]
) -> bytes:
    """The body of the answer to a metadata request."""
    signatures = {
        key: json_format.MessageToDict(
            signature, preserving_proto_field_name=True, **_WITH_DEFAULTS
        )
        for key, signature in sorted(signature_defs.items())
    }
    answer = {
        'model_spec': {'name': name, 'signature_name': '', 'version': str(version)},
        'metadata': {'signature_def': {'signature_def': signatures}},
    }
    return json.dumps(answer, indent=1).encode()
