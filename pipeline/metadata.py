"""Where ML Metadata is kept, and how to get there.

TFX, which takes seconds to import, is not needed to read it.
"""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping

from ml_metadata.proto import metadata_store_pb2

from pipeline.configs import SettingError
from pipeline.settings import Config

_MYSQL_PORT = 3306


def connection_config(
    config: Config, environment: Mapping[str, str] = os.environ
) -> metadata_store_pb2.ConnectionConfig | metadata_store_pb2.MetadataStoreClientConfig:
    """What ML Metadata's client needs to reach the store that `config.metadata` names.

    Args:
        config: The settings.
        environment: Has METADATA_USER and METADATA_PASSWORD for MySQL: they are no settings,
            which can be printed.

    Raises:
        SettingError: MySQL's user is missing.
    """
    if not config.metadata:
        os.makedirs(os.path.dirname(config.metadata_path), exist_ok=True)
        return metadata_store_pb2.ConnectionConfig(
            sqlite=metadata_store_pb2.SqliteMetadataSourceConfig(
                filename_uri=config.metadata_path,
                connection_mode=metadata_store_pb2.SqliteMetadataSourceConfig.READWRITE_OPENCREATE,
            )
        )
    address = urllib.parse.urlsplit(config.metadata)
    if address.scheme == 'grpc':
        return metadata_store_pb2.MetadataStoreClientConfig(
            host=address.hostname, port=address.port
        )
    user = environment.get('METADATA_USER')
    if not user:
        raise SettingError(
            f'METADATA is {config.metadata}, but METADATA_USER is not in the environment, nor '
            'perhaps METADATA_PASSWORD'
        )
    return metadata_store_pb2.ConnectionConfig(
        mysql=metadata_store_pb2.MySQLDatabaseConfig(
            host=address.hostname,
            port=address.port or _MYSQL_PORT,
            database=address.path.strip('/'),
            user=user,
            password=environment.get('METADATA_PASSWORD', ''),
        )
    )
