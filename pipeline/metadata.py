"""Where ML Metadata is kept, and how to get there."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Mapping

from ml_metadata.proto import metadata_store_pb2
from tfx.orchestration import metadata

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
        return metadata.sqlite_metadata_connection_config(config.metadata_path)
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
    return metadata.mysql_metadata_connection_config(
        address.hostname,
        address.port or _MYSQL_PORT,
        address.path.strip('/'),
        user,
        environment.get('METADATA_PASSWORD', ''),
    )
