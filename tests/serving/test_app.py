"""What the server makes of its flags: each value arrives where it counts."""

import asyncio
import inspect
import operator
import socket
import types

import pytest

from serving import app, server


class _Ready(Exception):
    """All is made, and requests would be answered now."""


def _made(monkeypatch, flags):
    """What the server makes the manager, the request log and the service with, by their names."""
    made = {}

    def note(name, result):
        kind = getattr(app, name)

        def make(*arguments, **named):
            given = inspect.signature(kind).bind(*arguments, **named)
            made[name] = types.SimpleNamespace(**given.arguments)
            if result is None:
                raise _Ready
            return result

        monkeypatch.setattr(app, name, make)

    nothing = types.SimpleNamespace(start=lambda wait_for_first: None, close=lambda: None)
    note('ModelManager', nothing)
    note('RequestLog', nothing)
    note('RestService', None)
    with socket.socket() as listener:
        listener.bind(('127.0.0.1', 0))
        with pytest.raises(_Ready):
            asyncio.run(app.serve(server.build_parser().parse_args(flags), listener, None))
    return made


@pytest.mark.parametrize(
    ('flag', 'of', 'path', 'value'),
    [
        ('request_log_images=false', 'RequestLog', 'options.keep_images', False),
        ('request_log_max_mb=7', 'RequestLog', 'options.max_bytes', 7 << 20),
        ('rest_api_timeout_in_ms=7500', 'RestService', 'limits.timeout', 7.5),
        ('rest_api_timeout_in_ms=0', 'RestService', 'limits.timeout', None),
        ('max_body_mb=7', 'RestService', 'limits.body_bytes', 7 << 20),
        ('max_instances=7', 'RestService', 'limits.instances', 7),
        ('max_pending_requests=7', 'RestService', 'limits.pending', 7),
        ('max_connections=7', 'RestService', 'limits.connections', 7),
        ('shutdown_seconds=7.5', 'RestService', 'limits.shutdown_seconds', 7.5),
        ('allowed_hosts=A.test, b.test', 'RestService', 'origins.allowed_hosts',
         {'a.test', 'b.test'}),
        ('rest_api_enable_cors_support', 'RestService', 'origins.any_page', True),
        ('enable_model_warmup=false', 'ModelManager', 'load.keywords',
         {'seconds': 30.0, 'tags': ('serve',), 'warm_up': False}),
        ('max_load_seconds=7.5', 'ModelManager', 'load_seconds', 7.5),
    ],
)  # fmt: skip
def test_a_flag_arrives_where_it_counts(tmp_path, monkeypatch, flag, of, path, value):
    config = tmp_path / 'log.config'
    config.write_text(
        'sampling_config { sampling_rate: 1 } '
        f"log_collector_config {{ filename_prefix: '{tmp_path}/requests' }}"
    )
    always = [f'--model_base_path={tmp_path}', f'--request_log_config_file={config}']
    arrived = operator.attrgetter(path)
    assert arrived(_made(monkeypatch, always)[of]) != value
    monkeypatch.undo()
    assert arrived(_made(monkeypatch, [*always, f'--{flag}'])[of]) == value
