"""The answers that describe a model: the states of its versions, and its signatures."""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Iterable, Mapping

from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2

# protobuf 5.26 renamed the argument that makes MessageToDict write fields that are not set.
_WITH_DEFAULTS = {
    name: True
    for name in inspect.signature(json_format.MessageToDict).parameters
    if name in ('including_default_value_fields', 'always_print_fields_with_no_presence')
}


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """A version's state, one of those in lifecycle.py, and why it failed to load, if it did."""

    version: int
    state: str
    error_code: str = 'OK'
    error_message: str = ''


def status_json(versions: Iterable[VersionStatus]) -> bytes:
    """The body of the answer to a status request, with the versions in the given order."""
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
