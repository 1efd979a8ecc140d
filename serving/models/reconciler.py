"""Loads and unloads versions, step by step, until the loaded ones are the aspired ones.

One thread looks for versions and decides which to load and unload. Work that may get stuck, that is
reading from a disk and loading, has threads of its own.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable, Collection

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.errors import ServingError
from serving.models.lifecycle import (
    AVAILABLE,
    END,
    LOADING,
    START,
    Servable,
    Step,
    Version,
    late_at,
    next_load,
    next_step,
)
from serving.models.model import LoadedModel
from serving.models.tasks import Task
from serving.models.versions import aspired_versions, files_of

# After this time the other models no longer wait for a base path.
LOOK_SECONDS = 5.0

# The folders of a model's aspired versions, and the versions that are still broken.
_Look = tuple[dict[int, str], list[Version]]


class Reconciler:
    """The versions of all models, and the only thread that changes them.

    Args:
        poll_seconds: Seconds between two looks for versions; 0 looks once, and again when the
            configuration changes; a negative number never looks.
        load: Loads a version from its folder.
        load_seconds: The time in which a version must be loaded.

    Attributes:
        changed: Guards the other attributes; notified when they change.
        versions: All versions that were found, by model and number.
        serving: The available versions by model and number; the newest by model and None.
        on_load: Called with name and version once a version is available. All callbacks run in the
            thread, which waits for them.
        on_unload: Called with name and version once a version is unloaded.
        on_error: Called with name, version and error once a version has failed to load.
    """

    def __init__(
        self, poll_seconds: float, load: Callable[[str], LoadedModel], load_seconds: float
    ) -> None:
        self.on_load: list[Callable[[str, int], None]] = []
        self.on_unload: list[Callable[[str, int], None]] = []
        self.on_error: list[Callable[[str, int, ServingError], None]] = []
        self.changed = threading.Condition(threading.Lock())
        self.versions: dict[str, dict[int, Version]] = {}
        self.serving: dict[tuple[str, int | None], Version] = {}
        self._config = ModelServerConfig()
        self._poll_seconds = poll_seconds
        self._load_model = load
        self._load_seconds = load_seconds
        self._lateness = ServingError(
            'DEADLINE_EXCEEDED',
            f'It was not loaded within {load_seconds:g} seconds (--max_load_seconds).',
        )
        self._next_poll = math.inf if poll_seconds < 0 else 0.0
        # Whether all aspired versions are known.
        self._polled = False
        # Whether a version has failed since the last look at the base paths.
        self._failed = False
        self._closing = False
        # The looks at base paths that did not end in time, by model.
        self._looking: dict[str, Task[_Look]] = {}
        self._thread = threading.Thread(target=self._manage, name='models', daemon=True)

    def start(self) -> None:
        """Starts to look for versions."""
        self._thread.start()

    def close(self) -> None:
        """Ends the thread when versions that load are loaded or late; nothing is served then."""
        with self.changed:
            self._closing = True
            self.changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        for version in [v for versions in self.versions.values() for v in versions.values()]:
            if version.loading and version.state == LOADING:
                seconds = late_at(version, self._load_seconds) - time.monotonic()
                if version.loading.wait(None if seconds == math.inf else max(seconds, 0.0)):
                    self._finish(version)
        with self.changed:
            self.serving.clear()

    def aspire_to(self, config: ModelServerConfig) -> None:
        """Changes to another configuration; call it with `changed` held."""
        self._config = config
        if self._poll_seconds >= 0:
            self._next_poll = 0.0
        self.changed.notify_all()

    def is_settled(self, model: str) -> bool:
        """Whether a model is served or cannot be served; call it with `changed` held."""
        if self._closing or (model, None) in self.serving:
            return True
        states = {version.state for version in self.versions.get(model, {}).values()}
        return self._polled and states <= {END}

    def is_unreadable(self, model: str) -> bool:
        """Whether a look at the base path of a model is stuck."""
        return model in self._looking

    # The following methods run in the thread. It may read versions without the lock, because no
    # other thread changes them.

    def _manage(self) -> None:
        while work := self._next_work():
            work()

    def _next_work(self) -> Callable[[], None] | None:
        """Waits for something to do; None when the manager closes."""
        with self.changed:
            while not self._closing:
                now = time.monotonic()
                if self._next_poll <= now:
                    return self._poll
                known = [list(versions.values()) for versions in self.versions.values()]
                loading = [v for versions in known for v in versions if v.loading]
                for version in loading:
                    if version.loading and version.loading.is_finished:
                        return functools.partial(self._finish, version)
                    if late_at(version, self._load_seconds) <= now:
                        return functools.partial(self._fail, version, self._lateness)
                may_load_at = next_load(loading)
                for versions in known:
                    if step := next_step(versions, may_load_at <= now):
                        return functools.partial(self._take, step)
                times = [self._next_poll, *(late_at(v, self._load_seconds) for v in loading)]
                if may_load_at > now:
                    times.append(may_load_at)
                wait = min(times) - now
                self.changed.wait(None if wait == math.inf else wait)
        return None

    def _take(self, step: Step) -> None:
        version = step.version
        if step.state == LOADING:
            version.loading = Task(functools.partial(self._load, version), self._wake)
            self._set_state(version, LOADING)
        elif step.state == END:
            self._free(version)
        else:
            self._set_state(version, step.state)

    def _wake(self) -> None:
        with self.changed:
            self.changed.notify_all()

    def _poll(self) -> None:
        with self.changed:
            config = self._config
            self._next_poll = time.monotonic() + (self._poll_seconds or math.inf)
            # A failed version is not tried again only because another one has failed.
            after_failure, self._failed = self._failed, False
        models = config.model_config_list.config
        gone = self.versions.keys() - {model.name for model in models}
        found: dict[str, _Look] = {name: ({}, []) for name in gone}
        looks: dict[str, Task[_Look]] = {}
        for model in models:
            stuck = self._looking.get(model.name)
            if stuck and not stuck.is_finished:
                continue
            failed = [v for v in self.versions.get(model.name, {}).values() if v.error_message]
            looks[model.name] = Task(functools.partial(_look, model, failed, after_failure))
        end = time.monotonic() + LOOK_SECONDS
        for name, look in looks.items():
            if look.wait(max(0.0, end - time.monotonic())):
                self._looking.pop(name, None)
                with contextlib.suppress(OSError):
                    found[name] = look.result()
            else:
                self._looking[name] = look
        with self.changed:
            for name, (folders, broken) in found.items():
                self._aspire(name, folders, broken)
            self._polled = True
            self.changed.notify_all()

    def _aspire(self, name: str, folders: dict[int, str], broken: Collection[Version]) -> None:
        versions = self.versions.setdefault(name, {})
        for number, path in folders.items():
            version = versions.get(number)
            if version is None or (version.state == END and version not in broken):
                versions[number] = Version(name, number, path)
            else:
                version.aspired = True
        for number, version in versions.items():
            if number not in folders:
                version.aspired = False
                if version.state == START:
                    version.state = END

    def _load(self, version: Version) -> LoadedModel:
        """Runs in a thread of its own."""
        version.files = files_of(version.path)
        for file, _, _, is_regular in version.files:
            if not is_regular:  # reading a pipe may take for ever
                raise ServingError('FAILED_PRECONDITION', f'{file} is no regular file.')
        return self._load_model(version.path)

    def _finish(self, version: Version) -> None:
        """Serves a version that has been loaded, or notes why it failed."""
        loading, version.loading = version.loading, None
        assert loading
        try:
            model = loading.result()
        except Exception as error:  # a folder may hold anything
            if not isinstance(error, ServingError):
                error = ServingError('INTERNAL', f'{type(error).__name__}: {error}')
            self._fail(version, error)
            return
        if version.state == END:  # it is late
            if not version.aspired:
                model.close()
                return
            with self.changed:  # an older version may be served in its place: look again
                self._next_poll = 0.0
        version.error_code, version.error_message = 'OK', ''
        version.servable = Servable(version.name, version.number, model)
        self._set_state(version, AVAILABLE)
        for loaded in self.on_load:
            loaded(version.name, version.number)

    def _fail(self, version: Version, error: ServingError) -> None:
        version.error_code, version.error_message = error.code, error.message
        with self.changed:  # look for an older version to serve in its place
            self._next_poll, self._polled, self._failed = 0.0, False, True
        self._set_state(version, END)
        for failed in self.on_error:
            failed(version.name, version.number, error)

    def _free(self, version: Version) -> None:
        servable, version.servable = version.servable, None
        assert servable
        servable.model.close()
        self._set_state(version, END)
        if version.aspired:  # its folder has come back in the meantime
            with self.changed:
                self._next_poll = 0.0
        for unloaded in self.on_unload:
            unloaded(version.name, version.number)

    def _set_state(self, version: Version, state: str) -> None:
        with self.changed:
            version.state = state
            for key in [key for key in self.serving if key[0] == version.name]:
                del self.serving[key]
            versions = self.versions[version.name].values()
            available = [v for v in versions if v.state == AVAILABLE]
            for other in sorted(available, key=lambda v: v.number):
                self.serving[other.name, other.number] = other
                self.serving[other.name, None] = other
            self.changed.notify_all()


def _look(model: ModelConfig, failed: Collection[Version], after_failure: bool) -> _Look:
    """The aspired versions of a model, and the failed versions that would fail again."""
    broken = [
        version
        for version in failed
        if (version.loading and not version.loading.is_finished)
        or after_failure
        or (version.aspired and version.files == files_of(version.path))
    ]
    return aspired_versions(model, {version.number for version in broken}), broken
