"""The server: `python -m serving.server --model_name=capsnet --model_base_path=DIR`.

It answers TensorFlow Serving's REST interface and takes those of its flags that concern it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import socket
import sys
import warnings
from importlib import metadata
from typing import Any

import start_tensorflow
from serving.errors import ServingError, invalid
from serving.processors import processors
from serving.stopping import Stopping


def main() -> None:
    """Serves until SIGTERM or SIGINT; exit code 1 and a sentence if that cannot be."""
    arguments = _parser().parse_args()
    # What TensorFlow and what it imports have to say concerns those who build them.
    if not sys.warnoptions:
        warnings.simplefilter('ignore')
    try:
        with Stopping() as stopping:
            asyncio.run(_serve(arguments, stopping))
    except ServingError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


async def _serve(arguments: argparse.Namespace, stopping: Stopping) -> None:
    if not arguments.model_base_path and not arguments.model_config_file:
        raise invalid('Say what to serve: give --model_base_path or --model_config_file.')
    if arguments.batching_parameters_file and not arguments.enable_batching:
        raise invalid('--batching_parameters_file needs --enable_batching beside it.')
    with _bind(arguments.host, arguments.rest_api_port) as listener:
        # It takes seconds: now flags are seen to.
        start_tensorflow.load()
        from serving import app

        await app.serve(arguments, listener, stopping)


def _bind(host: str, port: int) -> socket.socket:
    """A socket that does not listen yet."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise ServingError(
            'UNAVAILABLE',
            f'Port {port} of {host} cannot be listened at: {error.strerror}. Choose another one '
            'with --rest_api_port, or an address of this machine with --host.',
        ) from None
    return listener


def _positive(value: str) -> int:
    if not value.isdigit() or not int(value):
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, not '{value}'")
    return int(value)


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not '{value}'")
    return seconds


def _port(value: str) -> int:
    if not value.isdigit() or int(value) > 65535:
        raise argparse.ArgumentTypeError(f"must be from 0 to 65535, not '{value}'")
    return int(value)


def _bool(value: str) -> bool:
    values = {'true': True, '1': True, 'false': False, '0': False}
    if value.lower() not in values:
        raise argparse.ArgumentTypeError(f"must be true or false, not '{value}'")
    return values[value.lower()]


# As the real server takes them: --flag, --flag=true or --flag=false.
_BOOL: dict[str, Any] = {'type': _bool, 'nargs': '?', 'const': True, 'default': False}


class _ShowVersion(argparse.Action):
    """Tells the versions as the real server does, which takes --version=false as well."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        if values:
            own = 'of a checkout'
            with contextlib.suppress(metadata.PackageNotFoundError):
                own = metadata.version('capsnet-tfx')
            print(f'TensorFlow ModelServer: capsnet-tfx {own}')
            print(f'TensorFlow Library: {metadata.version("tensorflow")}')
            parser.exit()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m serving.server',
        description="TensorFlow Serving's REST interface for SavedModels.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add('--host', default='127.0.0.1', help='address to listen at, 0.0.0.0 for every one')
    add(
        '--allowed_hosts',
        default='',
        help='further names, with commas between, by which the server may be asked, and whose web '
        'pages may ask it; while it listens on this machine only, it knows localhost and --host',
    )
    add('--rest_api_port', type=_port, default=8501, help='0 for one that is free')
    add('--model_name', default='default', help='name of the one model')
    add('--model_base_path', help='folder with its versions, in folders named by numbers')
    add('--model_config_file', help='ModelServerConfig as text: several models, labels, versions')
    add(
        '--model_config_file_poll_wait_seconds',
        type=float,
        default=0,
        help='seconds until that file is looked at again, 0 for never',
    )
    add(
        '--file_system_poll_wait_seconds',
        type=float,
        default=1,
        help='seconds until new versions are looked for again, 0 for never',
    )
    add(
        '--allow_version_labels_for_unavailable_models',
        **_BOOL,
        help='let a new label stand for a version that is not loaded yet',
    )
    add(
        '--saved_model_tags',
        default='serve',
        help='tags, with commas between, of the graph to load from a SavedModel',
    )
    add(
        '--enable_model_warmup',
        **{**_BOOL, 'default': True},
        help='ask a version its warm-up requests before it serves',
    )
    add(
        '--max_load_seconds',
        type=_seconds,
        default=120,
        help='seconds after which a version that is being loaded counts as failed',
    )
    add('--enable_batching', **_BOOL, help='merge requests that come at the same time')
    add('--batching_parameters_file', help='BatchingParameters as text')
    add('--monitoring_config_file', help='MonitoringConfig as text: metrics for Prometheus')
    add(
        '--rest_api_timeout_in_ms',
        type=int,
        default=30000,
        help='milliseconds after which a request is given up, 0 for never',
    )
    add(
        '--rest_api_num_threads',
        type=_positive,
        default=4 * processors(),
        help='requests that run at the same time',
    )
    add(
        '--rest_api_enable_cors_support',
        **_BOOL,
        help='let the web pages of all sites ask the server and read its answers',
    )
    add('--max_body_mb', type=_positive, default=32, help='the largest request, in MB')
    add(
        '--max_instances',
        type=_positive,
        default=1000,
        help='instances or examples that one request may have',
    )
    add(
        '--max_pending_requests',
        type=_positive,
        default=1024,
        help='requests that may wait or run, the next one is answered with 503',
    )
    add(
        '--max_connections',
        type=_positive,
        default=2048,
        help='connections at a time, for the next one the one that has been idle longest is closed',
    )
    add(
        '--shutdown_seconds',
        type=_seconds,
        default=60,
        help='seconds after SIGTERM at which the server ends, whatever still runs',
    )
    add('--version', action=_ShowVersion, **_BOOL, help='tell the versions and exit')
    add('--demo', **_BOOL, help='show the page for drawing digits at /demo/')
    return parser


if __name__ == '__main__':
    main()
