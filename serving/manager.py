"""Which versions of which models are served: loaded when they appear, unloaded when they go.

Versions are the numbered folders of a model's base path, and the model's version policy says which
of them are aspired to: the newest one (the default), several, all, or some by number. One thread
looks for them, loads and unloads, as TensorFlow Serving's FileSystemStoragePathSource,
AspiredVersionsManager and AvailabilityPreservingPolicy do, with these differences:

- A folder without a saved_model.pb is no version yet.
- A version that failed to load is tried again when its files have changed, not five times more.
- Where the newest versions are asked for and one of them fails to load, the next older one is
  served in its place, also at the start. One that is asked for by its number has no other.
- A base path that cannot be read keeps its own model as it is, not all models.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import math
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.errors import ServingError
from serving.model import LoadedModel
from serving.versions import aspired_versions

START, LOADING, AVAILABLE, UNLOADING, END = 'START', 'LOADING', 'AVAILABLE', 'UNLOADING', 'END'


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """Where a version is in its life: START, LOADING, AVAILABLE, UNLOADING, END."""

    version: int
    state: str
    error_code: str = 'OK'
    error_message: str = ''


@dataclasses.dataclass(frozen=True)
class Servable:
    """A version that answers requests."""

    name: str
    version: int
    model: LoadedModel


@dataclasses.dataclass(eq=False)
class _Version:
    """A version that was seen. The manager's thread changes it, and requests count their leases."""

    name: str
    number: int
    path: str
    aspired: bool = True
    state: str = START
    servable: Servable | None = None
    leases: int = 0
    # Why it failed to load, and what its files were then.
    error_code: str = 'OK'
    error_message: str = ''
    files: object = None

    def status(self) -> VersionStatus:
        return VersionStatus(self.number, self.state, self.error_code, self.error_message)


class ModelManager:
    """Loads, leases and unloads the versions of models.

    Args:
        config: The models, as `read_model_config` or `single_model_config` return them.
        poll_seconds: How often to look for versions; 0 looks once, and once more whenever the
            configuration changes; negative never looks.
        allow_labels_for_unavailable: Whether a label that is not in use may be given to a version
            that is not available.

    Attributes:
        on_load: Called with name and version once a version is available. All callbacks run in the
            manager's thread, which waits for them.
        on_unload: Called with name and version once a version is unloaded.
        on_error: Called with name, version and error once a version has failed to load.
    """

    def __init__(
        self,
        config: ModelServerConfig,
        poll_seconds: float,
        allow_labels_for_unavailable: bool = False,
        run_seconds: float | None = None,
    ) -> None:
        self.on_load: list[Callable[[str, int], None]] = []
        self.on_unload: list[Callable[[str, int], None]] = []
        self.on_error: list[Callable[[str, int, ServingError], None]] = []
        self._config = config
        self._poll_seconds = poll_seconds
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._run_seconds = run_seconds
        # Guards all that follows; notified of whatever the manager's thread or `start` waits for.
        self._changed = threading.Condition(threading.Lock())
        self._versions: dict[str, dict[int, _Version]] = {}
        # The available versions by name and number; by name and None the newest of each model.
        self._serving: dict[tuple[str, int | None], _Version] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._next_poll = math.inf if poll_seconds < 0 else 0.0
        # Whether all versions that are to be loaded are known.
        self._polled = False
        # Whether one has failed since base paths were looked at.
        self._failed = False
        self._closing = False
        self._thread = threading.Thread(target=self._manage, name='models', daemon=True)

    def start(self, wait_for_first: bool) -> None:
        """Begins to load.

        Args:
            wait_for_first: Whether to return only when each model has a version available.

        Raises:
            ServingError: A label of the configuration is not allowed, or a model that was waited
                for cannot be served. The manager is closed then.
        """
        self.set_config(self._config)
        self._thread.start()
        if not wait_for_first:
            return
        models = self._config.model_config_list.config
        with self._changed:
            self._changed.wait_for(lambda: all(self._settled(model.name) for model in models))
            failures = [self._failure(m) for m in models if (m.name, None) not in self._serving]
        if failures:
            self.close()
            raise failures[0]

    def close(self) -> None:
        """Ends the thread, once what it is loading is loaded, and frees the models not leased."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()
        with self._changed:
            self._serving.clear()
            idle = [v for vs in self._versions.values() for v in vs.values() if not v.leases]
        for version in idle:
            if version.servable:
                version.servable.model.close()

    @contextlib.contextmanager
    def servable(
        self, model: str, version: int | None = None, label: str | None = None
    ) -> Iterator[Servable]:
        """Leases a version: until the context ends it stays loaded.

        Args:
            model: Its name.
            version: Its number; the newest available one without version and label.
            label: What the configuration calls it.

        Raises:
            ServingError: There is no such label (INVALID_ARGUMENT), or no such version is available
                (NOT_FOUND).
        """
        with self._changed:
            if label is not None:
                version = self._labels.get(model, {}).get(label)
                if version is None:
                    raise ServingError(
                        'INVALID_ARGUMENT', f'Unrecognized servable version label: {label}'
                    )
            leased = self._serving.get((model, version))
            if leased is None:
                asked = f'Latest({model})' if version is None else f'Specific({model}, {version})'
                raise ServingError('NOT_FOUND', f'Servable not found for request: {asked}')
            leased.leases += 1
            servable = leased.servable
        assert servable, 'a version is available only with its model'
        try:
            yield servable
        finally:
            with self._changed:
                leased.leases -= 1
                if leased.state == UNLOADING and not leased.leases:
                    self._changed.notify_all()

    def status(
        self, model: str, version: int | None = None, label: str | None = None
    ) -> list[VersionStatus]:
        """The versions of a model, those that are no more included, the newest first.

        Args:
            model: Its name.
            version: The only one to tell of.
            label: Has no effect, as with the real server.

        Raises:
            ServingError: There is none (NOT_FOUND).
        """
        with self._changed:
            versions = self._versions.get(model, {})
            if version is None:
                if not versions:
                    raise ServingError('NOT_FOUND', f'Could not find any versions of model {model}')
                return [versions[number].status() for number in sorted(versions, reverse=True)]
            if version not in versions:
                raise ServingError(
                    'NOT_FOUND', f'Could not find version {version} of model {model}'
                )
            return [versions[version].status()]

    def set_config(self, config: ModelServerConfig) -> None:
        """Serves other models, versions or labels from now on; returns before they are loaded.

        Labels come first, as in the real server: one that is to move to a version not yet available
        has the whole configuration refused.

        Raises:
            ServingError: A label is for a version that is not available (FAILED_PRECONDITION);
                nothing has changed then.
        """
        with self._changed:
            labels: dict[str, dict[str, int]] = {}
            for model in config.model_config_list.config:
                labels[model.name] = dict(model.version_labels)
                for label, version in model.version_labels.items():
                    self._check_label(model.name, label, version)
            self._labels = labels
            self._config = config
            if self._poll_seconds >= 0:
                self._next_poll = 0.0
            self._changed.notify_all()

    def _check_label(self, model: str, label: str, version: int) -> None:
        if (model, version) in self._serving:
            return
        labelled = self._labels.get(model, {}).get(label, version)
        if not self._allow_labels_for_unavailable or labelled != version:
            raise ServingError(
                'FAILED_PRECONDITION',
                f'Request to assign label to version {version} of model {model}, which is not '
                'currently available for inference',
            )

    def _settled(self, model: str) -> bool:
        if self._closing or (model, None) in self._serving:
            return True
        states = {version.state for version in self._versions.get(model, {}).values()}
        return self._polled and states <= {END}

    def _failure(self, model: ModelConfig) -> ServingError:
        """Why a model has no version to serve."""
        versions = self._versions.get(model.name, {}).values()
        failed = [version for version in versions if version.error_message]
        if failed:
            newest = max(failed, key=lambda v: v.number)
            older = sorted((v.number for v in failed if v is not newest), reverse=True)
            beside = f', nor can {", ".join(map(str, older))}' if older else ''
            return ServingError(
                newest.error_code,
                f'Version {newest.number} of {model.name} cannot be served{beside}: '
                f'{newest.error_message}',
            )
        pinned = model.model_version_policy.specific.versions
        if os.path.isdir(model.base_path) and pinned:
            what = f'does not hold the version that is asked for: {", ".join(map(str, pinned))}'
        elif os.path.isdir(model.base_path):
            what = 'holds no version: no folder named by a number, with a saved_model.pb in it'
        else:
            what = 'is not there'
        return ServingError('NOT_FOUND', f'{model.name}: {model.base_path} {what}.')

    # What follows runs in the manager's thread, which alone changes versions, and so may read them
    # without the lock.

    def _manage(self) -> None:
        while work := self._next_work():
            work()

    def _next_work(self) -> Callable[[], None] | None:
        """Waits for something to do; None when the manager closes."""
        with self._changed:
            while not self._closing:
                wait = self._next_poll - time.monotonic()
                if wait <= 0:
                    return self._poll
                for versions in self._versions.values():
                    if work := self._next_step(versions.values()):
                        return work
                self._changed.wait(None if wait == math.inf else wait)
        return None

    def _next_step(self, versions: Collection[_Version]) -> Callable[[], None] | None:
        """What brings a model nearer to its aspired versions, but leaves it one that answers."""
        surplus = [v for v in versions if v.state == AVAILABLE and not v.aspired]
        aspired = [v for v in versions if v.aspired]
        for version in versions:
            if version.state == UNLOADING and not version.leases:
                return functools.partial(self._free, version)
        replaced = not aspired or any(v.state == AVAILABLE for v in aspired)
        if surplus and (replaced or len(surplus) > 1):
            oldest = min(surplus, key=lambda v: v.number)
            return functools.partial(self._set_state, oldest, UNLOADING)
        waiting = [v for v in aspired if v.state == START]
        if waiting:
            return functools.partial(self._load, max(waiting, key=lambda v: v.number))
        return None

    def _poll(self) -> None:
        with self._changed:
            config = self._config
            self._next_poll = time.monotonic() + (self._poll_seconds or math.inf)
            # What has failed before is not tried again because another one has failed.
            after_failure, self._failed = self._failed, False
        still_broken = {
            version
            for versions in self._versions.values()
            for version in versions.values()
            if version.error_message
            and (after_failure or (version.aspired and version.files == _files(version.path)))
        }
        aspired: dict[str, dict[int, str]] = {name: {} for name in self._versions}
        for model in config.model_config_list.config:
            broken = {version.number for version in still_broken if version.name == model.name}
            try:
                aspired[model.name] = aspired_versions(model, broken)
            except OSError:
                aspired.pop(model.name, None)
        with self._changed:
            for name, folders in aspired.items():
                self._aspire(name, folders, still_broken)
            self._polled = True
            self._changed.notify_all()

    def _aspire(
        self, name: str, folders: dict[int, str], still_broken: Collection[_Version]
    ) -> None:
        versions = self._versions.setdefault(name, {})
        for number, path in folders.items():
            version = versions.get(number)
            if version is None or (version.state == END and version not in still_broken):
                versions[number] = _Version(name, number, path)
            else:
                version.aspired = True
        for number, version in versions.items():
            if number not in folders:
                version.aspired = False
                if version.state == START:
                    version.state = END

    def _load(self, version: _Version) -> None:
        self._set_state(version, LOADING)
        files = _files(version.path)
        try:
            model = LoadedModel(version.path, self._run_seconds)
        except Exception as error:  # The thread outlives whatever a folder holds.
            if not isinstance(error, ServingError):
                error = ServingError('INTERNAL', f'{type(error).__name__}: {error}')
            version.error_code, version.error_message = error.code, error.message
            version.files = files
            with self._changed:  # There may be another one to serve in its place.
                self._next_poll, self._polled, self._failed = 0.0, False, True
            self._set_state(version, END)
            for failed in self.on_error:
                failed(version.name, version.number, error)
        else:
            version.servable = Servable(version.name, version.number, model)
            self._set_state(version, AVAILABLE)
            for loaded in self.on_load:
                loaded(version.name, version.number)

    def _free(self, version: _Version) -> None:
        servable, version.servable = version.servable, None
        assert servable
        servable.model.close()
        self._set_state(version, END)
        if version.aspired:  # It has come back in the meantime.
            with self._changed:
                self._next_poll = 0.0
        for unloaded in self.on_unload:
            unloaded(version.name, version.number)

    def _set_state(self, version: _Version, state: str) -> None:
        with self._changed:
            version.state = state
            for key in [key for key in self._serving if key[0] == version.name]:
                del self._serving[key]
            versions = self._versions[version.name].values()
            available = [v for v in versions if v.state == AVAILABLE]
            for other in sorted(available, key=lambda v: v.number):
                self._serving[other.name, other.number] = other
                self._serving[other.name, None] = other
            self._changed.notify_all()


def _files(path: str) -> object:
    """Changes when a file below `path` does."""
    found = set()
    for folder, _, names in os.walk(path):
        for name in names:
            file = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                stat = os.stat(file)
                found.add((file, stat.st_size, stat.st_mtime_ns))
    return found
