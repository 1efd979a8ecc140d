"""Asks a running server about the versions of a model."""

from __future__ import annotations

import http.client
import json
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Collection
from typing import Any

from serving.errors import ServingError

_POLL_SECONDS = 0.1
_ANSWER_SECONDS = 10.0

# What is raised where no server answers, or something else does.
_NO_ANSWER = (OSError, http.client.HTTPException, ValueError, LookupError, TypeError)

# State and error message of each version.
_Status = dict[int, tuple[str, str]]


class Server:
    """A server that may be running, asked about the versions of one model.

    Args:
        url: The address of its REST interface.
        model: The name of the model.
        timeout: Seconds that the server may take to read models.config again and load a version.
    """

    def __init__(self, url: str, model: str, timeout: float) -> None:
        self.url = url.rstrip('/')
        self._status_url = f'{self.url}/v1/models/{urllib.parse.quote(model, safe="")}'
        self._timeout = timeout
        self._before: _Status = {}
        # Asked directly, even if a proxy is set for everything else.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def available(self) -> list[int]:
        """The versions that answer requests; empty if no server runs, or it lacks the model."""
        self._before = self._status()
        return _available(self._before)

    def has_failed(self, version: int) -> bool:
        """Whether a version had failed to load when `available` was called."""
        return bool(self._before.get(version, ('', ''))[1])

    def wait(self, version: int, reached: Callable[[Collection[int]], bool]) -> str:
        """Waits until `reached` is true for the available versions.

        Returns:
            Why `version` failed to load; '' if it loaded.

        Raises:
            ServingError: It takes too long.
        """
        deadline = time.monotonic() + self._timeout
        while not reached(_available(status := self._status())):
            is_late = time.monotonic() > deadline
            _, error = status.get(version, ('', ''))
            # An old error does not count: the server may be trying again.
            if error and (is_late or status[version] != self._before.get(version)):
                return error
            if is_late:
                raise ServingError(
                    'DEADLINE_EXCEEDED',
                    f'The server at {self.url} did not come to serve version {version} within '
                    f'{self._timeout:g} seconds. Was it started with this --model_config_file, and '
                    'with --model_config_file_poll_wait_seconds?',
                )
            time.sleep(_POLL_SECONDS)
        return ''

    def wait_for_label(self, label: str, version: int) -> None:
        """Waits until a label is that of a version, which is loaded; raises ServingError."""
        deadline = time.monotonic() + self._timeout
        while self._labelled(label) != version:
            if time.monotonic() > deadline:
                raise ServingError(
                    'DEADLINE_EXCEEDED',
                    f'The server at {self.url} did not give version {version} the label {label} '
                    f'within {self._timeout:g} seconds. Was it started with this '
                    '--model_config_file, and with --model_config_file_poll_wait_seconds?',
                )
            time.sleep(_POLL_SECONDS)

    def _labelled(self, label: str) -> int | None:
        try:
            answer = self._asked(f'{self._status_url}/labels/{label}/metadata')
            return int(answer['model_spec']['version'])
        except _NO_ANSWER:
            return None

    def _status(self) -> _Status:
        try:
            answer = self._asked(self._status_url)
            return {
                int(status['version']): (status['state'], status['status']['error_message'])
                for status in answer['model_version_status']
            }
        except _NO_ANSWER:
            return {}

    def _asked(self, url: str) -> Any:
        with self._opener.open(url, timeout=_ANSWER_SECONDS) as response:
            return json.load(response)


def _available(status: _Status) -> list[int]:
    return [version for version, (state, _) in status.items() if state == 'AVAILABLE']
