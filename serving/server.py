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
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

import start_tensorflow
from serving.errors import ServingError, invalid
from serving.processors import processors
from serving.stopping import Stopping


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM or SIGINT; if that fails, prints why and exits with code 1."""
    options = build_parser().parse_args(arguments)
    # The warnings of TensorFlow and of its dependencies are for their developers.
    if not sys.warnoptions:
        warnings.simplefilter('ignore')
    try:
        with Stopping() as stopping:
            asyncio.run(_serve(options, stopping))
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


# By group: name, type, default and meaning.
_FLAGS: dict[str, list[tuple[str, Callable[[str], Any], Any, str]]] = {
    'where to listen, and for whom': [
        ('--host', str, '127.0.0.1', 'address to listen on; 0.0.0.0 for all addresses'),
        ('--rest_api_port', _port, 8501, 'port to listen on; 0 for a free one'),
        (
            '--allowed_hosts',
            str,
            '',
            'more names, separated by commas, by which clients may address the server and whose '
            'web pages may use it; a server that only this machine can reach always allows '
            'localhost and --host',
        ),
        ('--rest_api_enable_cors_support', _bool, False, 'let the pages of all sites use it'),
        ('--demo', _bool, False, 'show the page for drawing digits at /demo/'),
    ],
    'models': [
        ('--model_name', str, 'default', 'name of the model'),
        ('--model_base_path', str, None, "folder of the model's versions, named by numbers"),
        ('--model_config_file', str, None, 'ModelServerConfig as text, for several models'),
        (
            '--model_config_file_poll_wait_seconds',
            float,
            0,
            'seconds between two looks at that file; 0 to read it once',
        ),
        (
            '--file_system_poll_wait_seconds',
            float,
            1,
            'seconds between two looks for new versions; 0 to look once',
        ),
        (
            '--allow_version_labels_for_unavailable_models',
            _bool,
            False,
            'let a new label stand for a version that is not loaded yet',
        ),
        ('--saved_model_tags', str, 'serve', "tags of a SavedModel's graph, separated by commas"),
        ('--enable_model_warmup', _bool, True, 'run the warm-up requests of new versions'),
        ('--max_load_seconds', _seconds, 120, 'seconds after which a slow load counts as failed'),
    ],
    'requests': [
        ('--enable_batching', _bool, False, 'merge requests that come at the same time'),
        ('--batching_parameters_file', str, None, 'BatchingParameters as text'),
        ('--monitoring_config_file', str, None, 'MonitoringConfig as text: metrics for Prometheus'),
        (
            '--request_log_config_file',
            str,
            None,
            'LoggingConfig as text: keep a sample of requests and answers in files',
        ),
        ('--request_log_images', _bool, True, 'keep the pictures of that sample, too'),
        ('--request_log_max_mb', _positive, 1024, 'size of its files together, in MB'),
        ('--rest_api_num_threads', _positive, 4 * processors(), 'requests that run at a time'),
    ],
    'limits': [
        ('--rest_api_timeout_in_ms', int, 30000, 'milliseconds for a request; 0 for no limit'),
        ('--max_body_mb', _positive, 32, 'size of the largest request, in MB'),
        ('--max_instances', _positive, 1000, 'instances or examples of a request'),
        (
            '--max_pending_requests',
            _positive,
            1024,
            'requests that may wait or run; more are answered with 503',
        ),
        (
            '--max_connections',
            _positive,
            2048,
            'connections at a time; each new one closes the one that has been idle longest',
        ),
        (
            '--shutdown_seconds',
            _seconds,
            60,
            'seconds after SIGTERM at which the server ends even if requests still run',
        ),
    ],
}


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = argparse.ArgumentParser(
        prog='python -m serving.server',
        usage='%(prog)s [--FLAG=VALUE ...]',
        description="TensorFlow Serving's REST interface for SavedModels.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    # As in the real server: --flag, --flag=true or --flag=false.
    switch: dict[str, Any] = {'type': _bool, 'nargs': '?', 'const': True}
    parser.add_argument(
        '--version', action=_ShowVersion, **switch, default=False, help='print the versions'
    )
    for title, flags in _FLAGS.items():
        group = parser.add_argument_group(title)
        for name, kind, default, meaning in flags:
            form = switch if kind is _bool else {'type': kind}
            group.add_argument(name, default=default, help=meaning, **form)
    return parser


if __name__ == '__main__':
    main()
