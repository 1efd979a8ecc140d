"""What is said of a file of ML Metadata that cannot be used."""

import contextlib
import os
import socket
import sqlite3
import subprocess

import ml_metadata as mlmd
import pytest
from ml_metadata.proto import metadata_store_pb2
from troubles import assert_printed

from pipeline import configs, metadata, metadata_check
from pipeline.metadata_error import MetadataError


@pytest.fixture
def config(tmp_path):
    """Settings with a whole file."""
    config = configs.from_preset('tiny', var=str(tmp_path))
    metadata_check.check(config)
    return config


def _overwrite(path, start, size):
    with open(path, 'r+b') as file:
        file.seek(start)
        file.write(os.urandom(size))


def _execute(path, statement):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


def _other_database(path):
    os.remove(path)
    _execute(path, 'CREATE TABLE a (b)')


@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        (lambda path: os.truncate(path, 0), 'is empty'),
        (lambda path: os.truncate(path, 1), 'is a database of something else'),
        (lambda path: os.truncate(path, 100), 'is damaged'),
        (lambda path: os.truncate(path, os.path.getsize(path) // 2), 'is damaged'),
        (lambda path: _overwrite(path, 0, 5000), 'is damaged'),
        (lambda path: _overwrite(path, 20000, 40000), 'is damaged'),
        (_other_database, 'is a database of something else'),
    ],
)
def test_what_is_lost_by_a_damaged_file_is_said(config, damage, said):
    damage(config.metadata_path)
    damaged = os.path.getsize(config.metadata_path)
    with pytest.raises(MetadataError) as caught:
        metadata_check.check(config)
    sentence = str(caught.value)
    assert f"ML Metadata's file {config.metadata_path} {said}" in sentence
    assert f'Pushed models stay in {config.var}/serving_model' in sentence
    assert '\n' not in sentence
    if said == 'is damaged':
        assert_printed('no records', sentence)
    # Nothing takes its place until a person has removed it.
    assert os.path.getsize(config.metadata_path) == damaged
    os.remove(config.metadata_path)
    metadata_check.check(config)


def test_a_whole_file_is_not_changed_and_a_new_one_is_announced(config, capfd):
    _execute(config.metadata_path, "INSERT INTO Type (name, type_kind) VALUES ('mine', 1)")
    with open(config.metadata_path, 'rb') as file:
        before = file.read()
    metadata_check.check(config)
    with open(config.metadata_path, 'rb') as file:
        # SQLite counts its writes in the header.
        assert file.read()[100:] == before[100:]
    assert capfd.readouterr().out == ''
    os.makedirs(config.pipeline_root)
    os.remove(config.metadata_path)
    metadata_check.check(config)
    assert 'was not there: the new one knows no blessed model' in capfd.readouterr().out
    assert os.listdir(os.path.dirname(config.metadata_path)) == ['metadata.db']


def test_a_new_file_gives_no_execution_a_number_that_has_results(config):
    os.makedirs(os.path.join(config.pipeline_root, 'Trainer', 'model', '17'))
    other = os.path.join(config.var, 'pipeline_root', 'other')
    os.makedirs(os.path.join(other, 'ImportSchemaGen', 'schema', '30'))
    os.remove(config.metadata_path)
    metadata_check.check(config)
    store = mlmd.MetadataStore(metadata.connection_config(config))
    kind = store.put_execution_type(metadata_store_pb2.ExecutionType(name='node'))
    execution = metadata_store_pb2.Execution(type_id=kind)
    assert store.put_executions([execution, execution]) == [31, 32]


def test_a_file_of_a_newer_version_is_not_given_up(config):
    _execute(config.metadata_path, 'UPDATE MLMDEnv SET schema_version = 99')
    with pytest.raises(MetadataError, match=r'newer version of ML Metadata.*Nothing in it is'):
        metadata_check.check(config)


@pytest.mark.parametrize('is_new', [True, False])
def test_a_full_disk_and_one_that_cannot_be_written_are_named(config, is_new):
    folder = os.path.dirname(config.metadata_path)
    if is_new:
        os.remove(config.metadata_path)
    with open(config.metadata_path, 'rb') if not is_new else contextlib.nullcontext() as file:
        whole = file.read() if file else b''
    command = ['mount', '-t', 'tmpfs', '-o', f'size={len(whole) // 4096 * 4 + 4}k', 'tmpfs', folder]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip('no file system can be mounted here')
    try:
        if not is_new:
            with open(config.metadata_path, 'wb') as file:
                file.write(whole)
        with (
            contextlib.suppress(OSError),
            open(os.path.join(folder, 'full'), 'wb', buffering=0) as f,
        ):
            while f.write(b'\0' * 4096):
                pass
        with pytest.raises(MetadataError, match='the disk is full'):
            metadata_check.check(config)
        subprocess.run(['mount', '-o', 'remount,ro', folder], check=True)
        with pytest.raises(MetadataError, match='Read-only file' if is_new else 'be written: give'):
            metadata_check.check(config)
    finally:
        subprocess.run(['umount', folder], check=True)


@pytest.mark.parametrize('address', ['mysql://127.0.0.1:{}/runs', 'grpc://127.0.0.1:{}'])
def test_a_server_that_cannot_be_reached_is_named(tmp_path, monkeypatch, address):
    monkeypatch.setenv('METADATA_USER', 'capsnet')
    with socket.create_server(('127.0.0.1', 0)) as server:
        address = address.format(server.getsockname()[1])
    config = configs.from_preset('tiny', var=str(tmp_path), metadata=address)
    with pytest.raises(MetadataError, match=f'at {address}: Connection refused. Check METADATA'):
        metadata_check.check(config)
