"""The curated schema of the raw examples, completed with what depends on the dataset."""

import hashlib
import os
import pathlib
from collections.abc import Sequence

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import schema_pb2

from capsmodel.data import class_names as names
from capsmodel.data import features
from components.datasets.errors import DatasetError

# The name of the file, also in the artifact that ImportSchemaGen makes of it.
FILE = 'schema.pbtxt'

_CURATED = pathlib.Path(__file__).with_name(FILE)


def write_schema(class_names: Sequence[str], directory: str, own: str | None = None) -> str:
    """Writes the schema for these classes under `directory`; gives the file's path.

    The folder is named after the content, because ImportSchemaGen's cache key sees only the path.

    Args:
        class_names: The name of each label from 0 on.
        directory: Where to write.
        own: A schema (text proto) that is used instead of the curated one. It gets the classes'
            names as well, and the features that the curated one has of pictures, such as
            `brightness`, where it says nothing of them.

    Raises:
        DatasetError: `own` cannot be read as a schema.
    """
    curated = text_format.Parse(_CURATED.read_text(), schema_pb2.Schema())
    try:
        schema = text_format.Parse(pathlib.Path(own or _CURATED).read_text(), schema_pb2.Schema())
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise DatasetError(f'The schema {own} cannot be read: {error}') from error
    for feature in schema.feature:
        if feature.name == features.LABEL and not own:
            feature.int_domain.max = len(class_names) - 1
    named = {feature.name for feature in schema.feature}
    schema.feature.extend(
        feature
        for feature in curated.feature
        if feature.name not in named | {features.IMAGE, features.LABEL, features.ID}
    )
    names.put(class_names, schema)
    content = text_format.MessageToString(schema)
    folder = pathlib.Path(directory) / hashlib.sha256(content.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / FILE
    half_written = folder / f'.{os.getpid()}'
    half_written.write_text(content)
    os.replace(half_written, path)
    return str(path)
