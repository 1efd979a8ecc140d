"""The server: `python -m serving.server --model_name=capsnet --model_base_path=DIR`.

It has TensorFlow Serving's REST interface, and its flags as far as they apply.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import socket
import sys
import warnings
from collections.abc import Callable
from importlib import metadata
from typing import Any

import start_tensorflow
from serving.errors import ServingError, invalid
from serving.processors import processors
from serving.stopping import Stopping


def main() -> None:
    """Serves until SIGTERM or SIGINT; if that fails, prints why and exits with code 1."""
    arguments = build_parser().parse_args()
    # The warnings of TensorFlow and of its dependencies are for their developers.
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
        # Only now, since it takes seconds: wrong flags are reported at once.
        start_tensorflow.load()
        from serving import app

        await app.serve(arguments, listener, stopping)


def _bind(host: str, port: int) -> socket.socket:
    """A bound socket that does not listen yet."""
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


# As in the real server: --flag, --flag=true or --flag=false.
_BOOL: dict[str, Any] = {'type': _bool, 'nargs': '?', 'const': True, 'default': False}


class _ShowVersion(argparse.Action):
    """Prints the versions as the real server does; like it, takes --version=false as well."""

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


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog='python -m serving.server',
        description="TensorFlow Serving's REST interface for SavedModels.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        '--version', action=_ShowVersion, **_BOOL, help='print the versions and exit'
    )
    _add_addresses(parser.add_argument_group('where to listen, and for whom').add_argument)
    _add_models(parser.add_argument_group('models').add_argument)
    _add_requests(parser.add_argument_group('requests').add_argument)
    _add_limits(parser.add_argument_group('limits').add_argument)
    return parser


def _add_addresses(add: Callable[..., Any]) -> None:
    add('--host', default='127.0.0.1', help='address to listen on; 0.0.0.0 for all addresses')
    add('--rest_api_port', type=_port, default=8501, help='port to listen on; 0 for a free one')
    add(
        '--allowed_hosts',
        default='',
        help='more names, separated by commas, by which clients may address the server and whose '
        'web pages may use it; a server that only this machine can reach always allows localhost '
        'and --host',
    )
    add(
        '--rest_api_enable_cors_support',
        **_BOOL,
        help='let the web pages of all sites use the server and read its answers',
    )
    add('--demo', **_BOOL, help='show the page for drawing digits at /demo/')


def _add_models(add: Callable[..., Any]) -> None:
    add('--model_name', default='default', help='name of the model')
    add('--model_base_path', help="folder of the model's versions, which are folders with numbers")
    add(
        '--model_config_file',
        help='file with a ModelServerConfig as text, for several models, labels or versions',
    )
    add(
        '--model_config_file_poll_wait_seconds',
        type=float,
        default=0,
        help='seconds between two looks at that file, 0 to read it once',
    )
    add(
        '--file_system_poll_wait_seconds',
        type=float,
        default=1,
        help='seconds between two looks for new versions, 0 to look once',
    )
    add(
        '--allow_version_labels_for_unavailable_models',
        **_BOOL,
        help='let a new label stand for a version that is not loaded yet',
    )
    add(
        '--saved_model_tags',
        default='serve',
        help='tags, separated by commas, of the graph to load from a SavedModel',
    )
    add(
        '--enable_model_warmup',
        **{**_BOOL, 'default': True},
        help='run the warm-up requests of a version before it is served',
    )
    add(
        '--max_load_seconds',
        type=_seconds,
        default=120,
        help='seconds after which a version that is still loading counts as failed',
    )


def _add_requests(add: Callable[..., Any]) -> None:
    add('--enable_batching', **_BOOL, help='merge requests that come at the same time')
    add('--batching_parameters_file', help='file with BatchingParameters as text')
    add(
        '--monitoring_config_file',
        help='file with a MonitoringConfig as text: metrics for Prometheus',
    )
    add(
        '--rest_api_num_threads',
        type=_positive,
        default=4 * processors(),
        help='requests that run at the same time',
    )


def _add_limits(add: Callable[..., Any]) -> None:
    add(
        '--rest_api_timeout_in_ms',
        type=int,
        default=30000,
        help='milliseconds after which the server gives a request up, 0 for never',
    )
    add('--max_body_mb', type=_positive, default=32, help='size of the largest request, in MB')
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
        help='requests that may wait or run; more are answered with 503',
    )
    add(
        '--max_connections',
        type=_positive,
        default=2048,
        help='connections at a time; for each new one, the server closes the one that has been '
        'idle longest',
    )
    add(
        '--shutdown_seconds',
        type=_seconds,
        default=60,
        help='seconds after SIGTERM at which the server ends even if requests still run',
    )


if __name__ == '__main__':
    main()
