"""Where ML Metadata is kept, and how to get there."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

from pipeline.configs import Config, SettingError

_MYSQL_PORT = 3306
_ADDRESSES = 'mysql://HOST:PORT/DATABASE or grpc://HOST:PORT'


def connection_config(
    config: Config, environment: Mapping[str, str] = os.environ
) -> metadata_store_pb2.ConnectionConfig | metadata_store_pb2.MetadataStoreClientConfig:
    """What ML Metadata's client needs to reach the store that `config.metadata` names.

    Args:
        config: The settings.
        environment: Has METADATA_USER and METADATA_PASSWORD for MySQL: they are no settings,
            which can be printed.

    Raises:
        SettingError: The address cannot be read, or MySQL's user is missing.
    """
    if not config.metadata:
        return metadata.sqlite_metadata_connection_config(config.metadata_path)
    address = urllib.parse.urlsplit(config.metadata)
    try:
        host, port = address.hostname, address.port
    except ValueError:
        host = port = None
    if address.username or address.password:
        raise SettingError(
            'METADATA holds a user or a password: they belong in METADATA_USER and '
            'METADATA_PASSWORD, which nothing prints'
        )
    database = address.path.strip('/')
    if address.scheme == 'mysql' and host and database:
        user = environment.get('METADATA_USER')
        if not user:
            raise SettingError(
                f'METADATA is {config.metadata}, but METADATA_USER is not in the environment, nor '
                'perhaps METADATA_PASSWORD'
            )
        return metadata.mysql_metadata_connection_config(
            host, port or _MYSQL_PORT, database, user, environment.get('METADATA_PASSWORD', '')
        )
    if address.scheme == 'grpc' and host and port and not database:
        return metadata_store_pb2.MetadataStoreClientConfig(host=host, port=port)
    raise SettingError(f"METADATA is '{config.metadata}': it must be {_ADDRESSES}, or empty")
