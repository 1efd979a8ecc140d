"""The life of the server: it loads models, answers requests, and finishes those that run."""

from __future__ import annotations

import argparse
import asyncio
import concurrent.futures
import contextlib
import functools
import os
import socket
import urllib.parse

from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.config_files import (
    BatchingOptions,
    read_batching_parameters,
    read_model_config,
    read_monitoring_config,
    read_request_log_config,
    single_model_config,
)
from serving.console import complain, say
from serving.errors import ServingError
from serving.metrics import Metrics
from serving.models.manager import ModelManager
from serving.models.model import LoadedModel
from serving.request_log.files import RequestLogOptions
from serving.request_log.log import RequestLog
from serving.requests.batching import Batcher
from serving.stopping import Stopping, close
from serving.web.origins import Origins, host_names, is_loopback
from serving.web.rest import Limits, RestService

_DEMO = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'demo')


async def serve(arguments: argparse.Namespace, listener: socket.socket, stopping: Stopping) -> None:
    """Serves until told to stop.

    Args:
        arguments: The flags of serving/server.py.
        listener: Where to listen once the models are loaded.
        stopping: Says when to stop.

    Raises:
        ServingError: A configuration file is wrong, or a model cannot be served.
    """
    path = arguments.model_config_file
    if path:
        config = read_model_config(path)
    else:
        config = single_model_config(arguments.model_name, arguments.model_base_path)
    batching = _batching_options(arguments)
    metrics_path = None
    if arguments.monitoring_config_file:
        metrics_path = read_monitoring_config(arguments.monitoring_config_file)
    log_options = _request_log_options(arguments)
    limits = _limits(arguments)
    manager = _model_manager(arguments, config, limits)
    await asyncio.to_thread(manager.start, wait_for_first=True)
    with contextlib.ExitStack() as stack:
        stack.callback(manager.close)
        request_log = None
        if log_options:
            request_log = RequestLog(log_options)
            stack.callback(request_log.close)
        metrics = Metrics(request_log)
        service = RestService(
            manager,
            _names(config),
            _threads(stack, arguments.rest_api_num_threads, 'rest'),
            Batcher(batching, _threads(stack, batching.num_batch_threads, 'batch'), metrics)
            if batching
            else None,
            metrics,
            metrics_path,
            _DEMO if arguments.demo else None,
            limits,
            _origins(arguments, listener),
            request_log,
        )
        stack.callback(service.close)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        async with service.listening(listener):
            stopping.finish_by(
                lambda: loop.call_soon_threadsafe(stop.set), arguments.shutdown_seconds
            )
            _announce(manager, config, listener)
            seconds = arguments.model_config_file_poll_wait_seconds
            following = None
            if path and seconds > 0:
                following = asyncio.create_task(_follow(path, seconds, manager, service, config))
            await stop.wait()
            if following:
                following.cancel()
        close(stack.pop_all())


def _batching_options(arguments: argparse.Namespace) -> BatchingOptions | None:
    if arguments.batching_parameters_file:
        return read_batching_parameters(arguments.batching_parameters_file)
    return BatchingOptions() if arguments.enable_batching else None


def _request_log_options(arguments: argparse.Namespace) -> RequestLogOptions | None:
    """What to keep; None for nothing."""
    if not arguments.request_log_config_file:
        return None
    rate, prefix = read_request_log_config(arguments.request_log_config_file)
    if not rate:
        return None
    return RequestLogOptions(
        rate, prefix, arguments.request_log_images, arguments.request_log_max_mb << 20
    )


def _model_manager(
    arguments: argparse.Namespace, config: ModelServerConfig, limits: Limits
) -> ModelManager:
    load = functools.partial(
        LoadedModel,
        seconds=limits.timeout,
        tags=tuple(filter(None, arguments.saved_model_tags.split(','))) or ('serve',),
        warm_up=arguments.enable_model_warmup,
    )
    return ModelManager(
        config,
        arguments.file_system_poll_wait_seconds,
        arguments.allow_version_labels_for_unavailable_models,
        load,
        arguments.max_load_seconds,
    )


def _limits(arguments: argparse.Namespace) -> Limits:
    timeout = arguments.rest_api_timeout_in_ms
    return Limits(
        timeout=timeout / 1000 if timeout > 0 else None,
        body_bytes=arguments.max_body_mb << 20,
        instances=arguments.max_instances,
        pending=arguments.max_pending_requests,
        connections=arguments.max_connections,
        shutdown_seconds=arguments.shutdown_seconds,
    )


def _origins(arguments: argparse.Namespace, listener: socket.socket) -> Origins:
    return Origins(
        is_local=is_loopback(listener.getsockname()[0]),
        host=arguments.host,
        allowed_hosts=host_names(arguments.allowed_hosts),
        any_page=arguments.rest_api_enable_cors_support,
    )


def _threads(
    stack: contextlib.ExitStack, count: int, name: str
) -> concurrent.futures.ThreadPoolExecutor:
    """Threads that end with `stack`."""
    return stack.enter_context(concurrent.futures.ThreadPoolExecutor(count, name))


def _announce(manager: ModelManager, config: ModelServerConfig, listener: socket.socket) -> None:
    """Prints the versions that are served, and from then on each change."""
    for name in _names(config):
        statuses = manager.status(name)
        versions = [str(status.version) for status in statuses if status.state == 'AVAILABLE']
        for status in statuses:
            if status.error_message:
                error = ServingError(status.error_code, status.error_message)
                _complain_of_version(name, status.version, error)
        word = 'version' if len(versions) == 1 else 'versions'
        url = f'{_base_url(listener)}/v1/models/{urllib.parse.quote(name, safe="")}'
        say(f'Serving {name}, {word} {", ".join(versions)}, at {url}')
    manager.on_load.append(lambda name, version: say(f'Loaded {name}, version {version}.'))
    manager.on_unload.append(lambda name, version: say(f'Unloaded {name}, version {version}.'))
    manager.on_error.append(_complain_of_version)


def _complain_of_version(name: str, version: int, error: ServingError) -> None:
    complain(f'{name}, version {version}, cannot be served: {error}')


async def _follow(
    path: str,
    seconds: float,
    manager: ModelManager,
    service: RestService,
    config: ModelServerConfig,
) -> None:
    """Reads models.config again and again, and applies its changes."""

    def apply() -> ModelServerConfig:
        changed = read_model_config(path)
        if changed != config:
            manager.set_config(changed)
        return changed

    complaint = ''
    while True:
        await asyncio.sleep(seconds)
        try:
            config = await asyncio.to_thread(apply)
        except ServingError as error:
            # The next try may succeed, for example once the version for a label is loaded.
            if complaint != str(error):
                complaint = str(error)
                complain(complaint)
        else:
            complaint = ''
            service.model_names = _names(config)


def _names(config: ModelServerConfig) -> list[str]:
    return [model.name for model in config.model_config_list.config]


def _base_url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    # Not every system lets clients connect to the address that stands for all addresses.
    host = {'0.0.0.0': '127.0.0.1', '::': '::1'}.get(host, host)
    return f'http://[{host}]:{port}' if ':' in host else f'http://{host}:{port}'
