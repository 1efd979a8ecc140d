"""A MariaDB server of its own for a test, from Debian's package mariadb-server."""

import contextlib
import os
import shutil
import socket
import subprocess
import time

import pytest

DATABASE = 'capsnet_metadata'
USER = 'capsnet'
PASSWORD = 'in tests only'

_SECONDS = 60


@contextlib.contextmanager
def mariadb_server(folder):
    """Runs a server with an empty database and a user; gives its port on 127.0.0.1.

    The test is skipped where there is no MariaDB.
    """
    path = f'{os.environ["PATH"]}:/usr/sbin'
    install, server = (shutil.which(name, path=path) for name in ('mariadb-install-db', 'mariadbd'))
    if not (install and server):
        pytest.skip('MariaDB is not installed: apt-get install mariadb-server')
    data, script = folder / 'data', folder / 'init.sql'
    script.write_text(
        f'CREATE DATABASE {DATABASE};\n'
        f"CREATE USER '{USER}'@'%' IDENTIFIED BY '{PASSWORD}';\n"
        f"GRANT ALL ON {DATABASE}.* TO '{USER}'@'%';\n"
    )
    user = ['--user=root'] if os.getuid() == 0 else []
    subprocess.run(
        [install, '--no-defaults', f'--datadir={data}', '--skip-test-db', *user],
        check=True,
        capture_output=True,
    )
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    log = folder / 'server.log'
    with (
        open(log, 'wb') as output,
        subprocess.Popen(
            [
                *(server, '--no-defaults', f'--datadir={data}', f'--init-file={script}', *user),
                *(f'--port={port}', '--bind-address=127.0.0.1', f'--socket={folder}/socket'),
                f'--pid-file={folder}/pid',
                '--loose-innodb-snapshot-isolation=OFF',  # as in kubeflow/manifests/base/mysql.yaml
            ],
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            _wait_for(port, process, log)
            yield port
        finally:
            process.terminate()
            process.wait(_SECONDS)


def _wait_for(port, process, log):
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(('127.0.0.1', port), 1):
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())
