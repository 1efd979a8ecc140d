"""Whether ML Metadata can be used, and what to do where it cannot."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import re
import secrets
import socket
import sqlite3
import traceback
from collections.abc import Iterator

import ml_metadata as mlmd

from components import locks
from pipeline import metadata
from pipeline.metadata_error import MetadataError
from pipeline.settings import Config

_CONNECT_SECONDS = 10.0
# What SQLite says, in its own words or in ML Metadata's, and what that means.
_REASONS = {
    'disk is full': 'the disk is full: free some space, and run again',
    'disk I/O error': 'the disk is full or fails: free some space, and run again',
    'readonly database': 'it cannot be written: give yourself the right to write it and its folder',
    'unable to open': 'it cannot be opened: give yourself the right to read and write it and its '
    'folder',
    'database is locked': 'another process keeps it locked: end that one, and run again',
    'greater than library version': 'a newer version of ML Metadata has written it: run with the '
    'line of TFX that did (TFX_LINE)',
}
# Where SQLite's header has the application_id, by which the file is known again.
_MARK = slice(68, 72)
# TFX's own module of ML Metadata, which is not imported here: that takes seconds.
_CONNECTION_OF_TFX = os.path.join('tfx', 'orchestration', 'metadata.py')
_DAMAGED = ('malformed', 'not a database', 'subset of tables')


def check(config: Config) -> None:
    """Makes sure that ML Metadata can be read and written, and that its file is whole.

    A file that is not there is made beside its place and renamed, so that an empty one has lost
    what it held.

    Raises:
        MetadataError: It cannot be used.
        SettingError: METADATA is no address.
    """
    with explained_errors(config):
        if config.metadata:
            _check_server(config)
        else:
            _check_file(config)


@contextlib.contextmanager
def explained_errors(config: Config) -> Iterator[None]:
    """Raises MetadataError instead of the errors of ML Metadata's client and of SQLite."""
    try:
        yield
    except MetadataError:
        raise
    except Exception as error:
        cause = _of_metadata(error)
        if cause is None:
            raise
        raise MetadataError(_explanation(config, str(cause))) from error


class FileWatch:
    """Notices that ML Metadata's file is removed, emptied or replaced while a run uses it.

    ML Metadata would make a new store there and say nothing.
    """

    def __init__(self, config: Config):
        """Watches the file that `check` has found whole; none where METADATA names a server."""
        self._config = config
        self._mark = self._read_mark()

    def look(self) -> None:
        """Looks at the file; raises MetadataError. No transaction may be going on."""
        if self._read_mark() != self._mark:
            raise MetadataError(
                _lost(self._config, 'was removed, emptied or overwritten during the run')
            )

    def _read_mark(self) -> bytes:
        if self._config.metadata:
            return b''
        try:
            with open(self._config.metadata_path, 'rb') as file:
                return file.read(_MARK.stop)[_MARK]
        except OSError:
            return b''


def _of_metadata(error: BaseException) -> BaseException | None:
    """The error of ML Metadata that has led to `error`; None if none has."""
    if _is_of_metadata(error):
        return error
    earlier = error.__cause__ or error.__context__
    while earlier is not None:
        # What TFX asks for in vain is no fault of the store.
        if _is_of_metadata(earlier) and not isinstance(
            earlier, (mlmd.errors.NotFoundError, mlmd.errors.AlreadyExistsError)
        ):
            return earlier
        earlier = earlier.__cause__ or earlier.__context__
    return None


def _is_of_metadata(error: BaseException) -> bool:
    if isinstance(error, (mlmd.errors.StatusError, sqlite3.Error)):
        return True
    # To connect, it raises RuntimeError, and TFX another one.
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return False
    raised_in = frames[-1].filename
    return raised_in.startswith(os.path.join(os.path.dirname(mlmd.__file__), '')) or (
        raised_in.endswith(_CONNECTION_OF_TFX)
    )


def _explanation(config: Config, said: str) -> str:
    """What is wrong and what to do, by what SQLite or a server has said."""
    in_query = re.search(r'executing query: (.*?) query:', said)
    first = in_query[1] if in_query else (said.strip().splitlines() or ['no reason given'])[0]
    if config.metadata:
        return (
            f'ML Metadata cannot be used at {config.metadata}: {first}. Check METADATA, '
            'METADATA_USER and METADATA_PASSWORD, and whether that server runs'
        )
    path = config.metadata_path
    for words, reason in _REASONS.items():
        if words in said:
            return f"ML Metadata's file {path} cannot be used: {reason}. Nothing in it is lost"
    if any(words in said for words in _DAMAGED):
        return _lost(config, f'is damaged ({first})')
    return f"ML Metadata's file {path} cannot be used: {first}"


def _lost(config: Config, what: str) -> str:
    path = config.metadata_path
    return (
        f"ML Metadata's file {path} {what}. Put a copy of it there if you have one. Or remove it: "
        'the next run makes a new one and starts from the beginning. Its model is then compared '
        'with none before, since the records of blessed models are lost, and so is the cache. '
        f'Pushed models stay in {os.path.dirname(config.serving_model_dir)}'
    )


def _check_server(config: Config) -> None:
    connection = metadata.connection_config(config)
    server = getattr(connection, 'mysql', connection)
    try:
        # ML Metadata waits for minutes, and does not say why MySQL cannot be reached.
        socket.create_connection((server.host, server.port), _CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise MetadataError(_explanation(config, reason)) from error
    mlmd.MetadataStore(connection).get_context_types()


def _check_file(config: Config) -> None:
    path = config.metadata_path
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with locks.held(os.path.join(config.lock_dir, 'metadata')):
            if not os.path.exists(path):
                _make(config)
            if os.path.getsize(path) == 0:
                raise MetadataError(_lost(config, 'is empty: something has removed what it held'))
            _check_database(config)
    except OSError as error:
        reason = 'disk is full' if error.errno == errno.ENOSPC else error.strerror
        raise MetadataError(_explanation(config, str(reason))) from error


def _check_database(config: Config) -> None:
    # Not while ML Metadata has the file open, or its locks would be lost: it has an SQLite of its
    # own, and those of a process are one.
    with contextlib.closing(sqlite3.connect(config.metadata_path, timeout=60)) as connection:
        (result,) = connection.execute('PRAGMA quick_check(1)').fetchone()
        if result != 'ok':
            raise MetadataError(_lost(config, f'is damaged ({result.strip().splitlines()[-1]})'))
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'MLMDEnv'").fetchone():
            raise MetadataError(_lost(config, 'is a database of something else'))
        # Changes nothing, and is written all the same.
        connection.execute('UPDATE MLMDEnv SET schema_version = schema_version')
        if connection.execute('PRAGMA application_id').fetchone() == (0,):
            connection.execute(f'PRAGMA application_id = {secrets.randbelow(2**31 - 1) + 1}')
        connection.commit()
    mlmd.MetadataStore(metadata.connection_config(config)).get_context_types()


def _make(config: Config) -> None:
    path = config.metadata_path
    unfinished = f'{path}.unfinished'
    with contextlib.suppress(FileNotFoundError):
        os.remove(unfinished)
    connection = metadata.connection_config(config)
    connection.sqlite.filename_uri = unfinished
    mlmd.MetadataStore(connection)
    with contextlib.closing(sqlite3.connect(unfinished)) as database, database:
        # Executions have numbers, and their results lie in folders of that name: none twice.
        highest = _highest_execution(config)
        database.execute('INSERT INTO sqlite_sequence VALUES (?, ?)', ('Execution', highest))
    os.rename(unfinished, path)
    if os.path.isdir(config.pipeline_root):
        print(
            f'{path} was not there: the new one knows no blessed model to compare with', flush=True
        )


def _highest_execution(config: Config) -> int:
    """The highest number of an execution whose results an earlier file's runs have left."""
    roots = [
        glob.escape(config.pipeline_root),
        os.path.join(glob.escape(config.var), 'pipeline_root', '*'),
    ]
    results = [path for root in roots for path in glob.glob(os.path.join(root, '*', '*', '*'))]
    names = map(os.path.basename, results)
    return max((int(name) for name in names if name.isdecimal()), default=0)
