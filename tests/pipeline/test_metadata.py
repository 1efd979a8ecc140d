import pytest

from pipeline import configs, metadata

_LOGIN = {'METADATA_USER': 'capsnet', 'METADATA_PASSWORD': 'secret'}


def _config(address, tmp_path):
    return configs.from_environment({'METADATA': address, 'VAR': str(tmp_path)})


def test_a_file_when_nothing_is_said(tmp_path):
    config = _config('', tmp_path)
    connection = metadata.connection_config(config, {})
    assert connection.sqlite.filename_uri == config.metadata_path


def test_mysql_with_the_login_of_the_environment(tmp_path):
    connection = metadata.connection_config(_config('mysql://db:3307/runs', tmp_path), _LOGIN)
    mysql = connection.mysql
    assert (mysql.host, mysql.port, mysql.database) == ('db', 3307, 'runs')
    assert (mysql.user, mysql.password) == ('capsnet', 'secret')
    default = metadata.connection_config(_config('mysql://db/runs', tmp_path), _LOGIN)
    assert default.mysql.port == 3306


def test_grpc(tmp_path):
    connection = metadata.connection_config(_config('grpc://metadata:8080', tmp_path), {})
    assert (connection.host, connection.port) == ('metadata', 8080)


def test_mysql_without_a_user_is_refused(tmp_path):
    with pytest.raises(configs.SettingError, match='METADATA_USER is not in the environment'):
        metadata.connection_config(_config('mysql://db/runs', tmp_path), {})
