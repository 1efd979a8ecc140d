"""The paths of the REST interface."""

from __future__ import annotations

import dataclasses
import re
import urllib.parse
from typing import Literal, cast

from serving.errors import invalid

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


@dataclasses.dataclass(frozen=True)
class Route:
    """A request's path, taken apart.

    Attributes:
        kind: What the request asks for.
        model: The model's name.
        version: The version's number, if the path has one.
        label: The version's label, if the path has one.
    """

    kind: Kind
    model: str
    version: int | None = None
    label: str | None = None


def parse_path(http_method: str, raw_path: str) -> Route:
    """Reads a path.

    Args:
        http_method: In capitals.
        raw_path: URL-encoded, as the client sent it. As in the real server, a query is part of it.

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
    # The real server matches paths in any case, but then knows the verbs in small letters only.
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
