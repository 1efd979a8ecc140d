"""The server: `python -m serving.server --model_name=capsnet --model_base_path=DIR`.

It answers TensorFlow Serving's REST interface and takes those of its flags that concern it.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import socket
import sys
import warnings
from typing import Any

from capsmodel import quiet_tensorflow
from serving.errors import ServingError
from serving.processors import processors


def main() -> None:
    """Serves until SIGTERM or SIGINT; exit code 1 and a sentence if that cannot be."""
    arguments = _parser().parse_args()
    # What TensorFlow and what it imports have to say concerns those who build them.
    if not sys.warnoptions:
        warnings.simplefilter('ignore')
    try:
        asyncio.run(_serve(arguments))
    except ServingError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


async def _serve(arguments: argparse.Namespace) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    if not arguments.model_base_path and not arguments.model_config_file:
        raise _invalid('Say what to serve: give --model_base_path or --model_config_file.')
    if arguments.batching_parameters_file and not arguments.enable_batching:
        raise _invalid('--batching_parameters_file needs --enable_batching beside it.')
    with _bind(arguments.host, arguments.rest_api_port) as listener:
        # It takes seconds: now signals and flags are seen to.
        quiet_tensorflow.load()
        from serving import app

        await app.serve(arguments, listener, stop)


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


def _invalid(message: str) -> ServingError:
    return ServingError('INVALID_ARGUMENT', message)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='python -m serving.server',
        description="TensorFlow Serving's REST interface for SavedModels.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add('--host', default='127.0.0.1', help='address to listen at, 0.0.0.0 for every one')
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
    add('--demo', **_BOOL, help='show the page for drawing digits at /demo/')
    return parser


if __name__ == '__main__':
    main()
