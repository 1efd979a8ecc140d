"""The names of the classes, which travel to the model inside the schema of the examples.

They are a string domain of the schema that no feature refers to: the label itself is an integer.
"""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2
from tfx.dsl.io import fileio

_DOMAIN = 'class_names'


def put(names: Sequence[str], schema: schema_pb2.Schema) -> None:
    """Puts the names of the classes, in the order of their labels, into a schema; old ones go."""
    others = [domain for domain in schema.string_domain if domain.name != _DOMAIN]
    del schema.string_domain[:]
    schema.string_domain.extend([*others, schema_pb2.StringDomain(name=_DOMAIN, value=names)])


def read(path: str) -> list[str]:
    """The classes' names in the schema (text proto) at `path`; empty if it has none."""
    with fileio.open(path) as file:
        schema = text_format.Parse(file.read(), schema_pb2.Schema())
    return [
        name for domain in schema.string_domain if domain.name == _DOMAIN for name in domain.value
    ]
