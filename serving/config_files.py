"""The configuration files: models.config, batching.config, monitoring.config, request_log.config.

They are protocol buffers as text: TensorFlow Serving's own files, but for the last, which has its
message alone. tensorflow-serving-api has the messages for models.config and request_log.config;
config.proto has those of the other two.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator
from typing import TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow_serving.config.logging_config_pb2 import LoggingConfig
from tensorflow_serving.config.model_server_config_pb2 import (
    MODEL_TYPE_UNSPECIFIED,
    TENSORFLOW,
    ModelServerConfig,
)

from serving.config.config_pb2 import BatchingParameters, MonitoringConfig
from serving.errors import ServingError, invalid
from serving.processors import processors

METRICS_PATH = '/monitoring/prometheus/metrics'
_PLATFORM = 'tensorflow'
# The only way in which this server collects requests.
_COLLECTOR = 'tfrecord'
# A URL as TensorFlow's file systems understand it; nothing in it is encoded.
_URL = re.compile(r'([a-zA-Z][0-9a-zA-Z.+-]*)://([^/]*)(.*)', re.DOTALL)

_Message = TypeVar('_Message', bound=Message)


@dataclasses.dataclass(frozen=True)
class BatchingOptions:
    """How requests are merged; the defaults are the real server's.

    Attributes:
        max_batch_size: The most examples in a request and, without splitting, in a batch.
        batch_timeout_micros: The most microseconds that a request waits for others.
        max_enqueued_batches: Batches that may wait for a thread.
        num_batch_threads: Batches that run at the same time.
        allowed_batch_sizes: Sizes to which batches are padded, increasing; empty for no padding.
        thread_pool_name: The name of the threads.
        enable_large_batch_splitting: Whether a request may be spread over several batches.
        max_execution_batch_size: The most examples in a batch, with splitting.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = processors()
    allowed_batch_sizes: tuple[int, ...] = ()
    thread_pool_name: str = ''
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 1000


def single_model_config(name: str, base_path: str) -> ModelServerConfig:
    """The configuration that serves the newest version of one model.

    Args:
        name: The model's name.
        base_path: The folder of its versions, which may be relative or a file:// URL.

    Raises:
        ServingError: `base_path` is a URL of another kind.
    """
    config = ModelServerConfig()
    folder = _local_path(base_path, '--model_base_path')
    config.model_config_list.config.add(
        name=name, base_path=os.path.abspath(folder), model_platform=_PLATFORM
    )
    return config


def read_model_config(path: str) -> ModelServerConfig:
    """Reads models.config.

    Raises:
        ServingError: The file cannot be read, or the real server would refuse it.
    """
    config = _parse(path, ModelServerConfig())
    if not config.HasField('model_config_list'):
        raise _wrong(path, 'has no model_config_list: it says no model to serve')
    names = set()
    for model in config.model_config_list.config:
        if not model.name:
            raise _wrong(path, 'has a model without a name')
        if model.name in names:
            raise _wrong(path, f'lists the model {model.name} more than once')
        names.add(model.name)
        model.base_path = _local_path(model.base_path, path)
        if not os.path.isabs(model.base_path):
            raise _wrong(
                path,
                f"needs an absolute path as base_path of the model {model.name}, not '"
                f"{model.base_path}'",
            )
        # model_type is the old name of model_platform; the real server wants exactly one of them.
        platform = (model.model_platform, model.model_type)
        if platform not in ((_PLATFORM, MODEL_TYPE_UNSPECIFIED), ('', TENSORFLOW)):
            raise _wrong(path, f'needs model_platform: "{_PLATFORM}" for the model {model.name}')
    return config


def write_model_config(path: str, config: ModelServerConfig) -> None:
    """Writes models.config, and keeps the comments at its top.

    Raises:
        ServingError: It cannot be written.
    """
    lines = (_read(path) or b'').splitlines(keepends=True)
    comments = itertools.takewhile(lambda line: line.startswith((b'#', b'\n')), lines)
    _replace(path, b''.join(comments) + text_format.MessageToString(config).encode())


@contextlib.contextmanager
def restored_on_failure(path: str) -> Iterator[Callable[[], None]]:
    """Restores a file, or removes it if it was missing, when an error leaves the context.

    Yields a function that restores it at once.
    """
    before = _read(path)

    def restore() -> None:
        if before is None:
            with contextlib.suppress(FileNotFoundError):
                os.remove(path)
        elif before != _read(path):
            _replace(path, before)

    try:
        yield restore
    except BaseException:
        restore()
        raise


def _read(path: str) -> bytes | None:
    return pathlib.Path(path).read_bytes() if os.path.exists(path) else None


def _replace(path: str, content: bytes) -> None:
    unfinished = f'{path}.{os.getpid()}.unfinished'  # no other process has this name
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        pathlib.Path(unfinished).write_bytes(content)
        if os.path.exists(path):
            shutil.copymode(path, unfinished)
        os.replace(unfinished, path)
    except OSError as error:
        raise ServingError('UNKNOWN', f'Cannot write {path}: {error.strerror}.') from error


def read_batching_parameters(path: str) -> BatchingOptions:
    """Reads batching.config.

    Raises:
        ServingError: The file cannot be read, or its values contradict each other.
    """
    parameters = _parse(path, BatchingParameters())
    if parameters.pad_variable_length_inputs:
        raise _wrong(
            path,
            'asks for pad_variable_length_inputs, which this server does not do: requests of '
            'different shapes run apart. Remove the line',
        )
    given = {
        field.name: getattr(parameters, field.name).value
        for field, _ in parameters.ListFields()
        if field.name != 'allowed_batch_sizes'
    }
    given.setdefault(
        'max_execution_batch_size', given.get('max_batch_size', BatchingOptions.max_batch_size)
    )
    options = BatchingOptions(**given, allowed_batch_sizes=tuple(parameters.allowed_batch_sizes))
    for name in ('max_batch_size', 'max_enqueued_batches', 'num_batch_threads'):
        if getattr(options, name) < 1:
            raise _wrong(path, f'needs a {name} of at least 1, not {getattr(options, name)}')
    if options.batch_timeout_micros < 0:
        raise _wrong(path, 'has a negative batch_timeout_micros')
    largest = options.max_batch_size
    limit = 'max_batch_size'
    if options.enable_large_batch_splitting:
        limit = 'max_execution_batch_size'
        if not 1 <= options.max_execution_batch_size <= largest:
            raise _wrong(
                path,
                f'needs a max_execution_batch_size from 1 to max_batch_size, {largest}, not '
                f'{options.max_execution_batch_size}',
            )
        largest = options.max_execution_batch_size
    sizes = options.allowed_batch_sizes
    if sizes and (sizes[0] < 1 or list(sizes) != sorted(set(sizes)) or sizes[-1] != largest):
        raise _wrong(
            path,
            f'needs allowed_batch_sizes that increase and end with {limit}, {largest}, not '
            f'{", ".join(map(str, sizes))}',
        )
    return options


def read_monitoring_config(path: str) -> str | None:
    """Reads monitoring.config.

    Returns:
        The path of the metrics' page; None if the page is not enabled.

    Raises:
        ServingError: The file cannot be read, or the path does not begin with a slash.
    """
    prometheus = _parse(path, MonitoringConfig()).prometheus_config
    if not prometheus.enable:
        return None
    metrics_path = prometheus.path or METRICS_PATH
    if not metrics_path.startswith('/'):
        raise _wrong(path, f"needs a path that begins with '/', not '{metrics_path}'")
    return metrics_path


def read_request_log_config(path: str) -> tuple[float, str]:
    """Reads request_log.config, a LoggingConfig.

    Returns:
        The fraction of the requests that is kept, and how the paths of the files begin.

    Raises:
        ServingError: The file cannot be read, or asks for what this server cannot do.
    """
    config = _parse(path, LoggingConfig())
    rate = config.sampling_config.sampling_rate
    if not 0 <= rate <= 1:
        raise _wrong(path, f'needs a sampling_rate from 0 to 1, not {rate:g}')
    if config.sampling_config.attributes:
        raise _wrong(path, 'asks for attributes of sampling_config, and this server has none')
    collector = config.log_collector_config
    if collector.type not in ('', _COLLECTOR):
        raise _wrong(path, f'needs "{_COLLECTOR}" as type, not "{collector.type}"')
    prefix = _local_path(collector.filename_prefix, path)
    if not os.path.isabs(prefix) or prefix.endswith('/'):
        raise _wrong(
            path,
            "needs an absolute path as filename_prefix, such as '/var/log/capsnet/requests', not "
            f"'{prefix}'",
        )
    return rate, prefix


def _local_path(base_path: str, where: str) -> str:
    """The folder of a base path, which may be a URL, as in the real server."""
    found = _URL.fullmatch(base_path)
    if not found:
        return base_path
    scheme, host, folder = found.groups()
    if scheme.lower() != 'file' or host not in ('', 'localhost'):
        raise _wrong(
            where,
            f"names '{base_path}', but this server reads only local folders",
        )
    return folder


def _parse(path: str, message: _Message) -> _Message:
    try:
        with open(path, encoding='utf-8') as opened:
            return text_format.Parse(opened.read(), message)
    except OSError as error:
        raise ServingError('NOT_FOUND', f'Cannot read {path}: {error.strerror}.') from error
    except UnicodeDecodeError as error:
        raise _wrong(path, 'is no text in UTF-8') from error
    except text_format.ParseError as error:
        line = error.GetLine()
        if line is None:
            raise invalid(f'{path}: {error}') from error
        # The message is "line:column : what is wrong".
        what = str(error).partition(' : ')[2]
        raise invalid(f'{path}, line {line}: {what}') from error


def _wrong(path: str, what: str) -> ServingError:
    return invalid(f'{path} {what}.')
