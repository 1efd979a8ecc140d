"""The versions of models: loaded when their folders appear, unloaded when they go.

Versions are the numbered folders of a model's base path. The model's version policy selects the
aspired ones: the newest (the default), several, all, or some by number. One thread decides which
versions are loaded and unloaded, as TensorFlow Serving's FileSystemStoragePathSource,
AspiredVersionsManager and AvailabilityPreservingPolicy do, with these differences:

- A folder without a saved_model.pb is no version yet.
- A version that failed to load is tried again when its files have changed, not five times more.
- If the policy asks for the newest versions and one of them fails to load, the next older one is
  served in its place, also at the start. A version asked for by number has no substitute.
- If a base path cannot be read, its own model stays as it is; other models still change.
- A version that is not loaded in time counts as failed until it is loaded. Others are loaded
  meanwhile, since each has a thread of its own.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator

from tensorflow_serving.config.model_server_config_pb2 import ModelConfig, ModelServerConfig

from serving.errors import ServingError, invalid
from serving.models.descriptions import VersionStatus
from serving.models.lifecycle import UNLOADING, Servable, why_none
from serving.models.model import LoadedModel
from serving.models.reconciler import LOOK_SECONDS, Reconciler


class ModelManager:
    """Loads, leases and unloads the versions of models.

    Args:
        config: The models, from `read_model_config` or `single_model_config`.
        poll_seconds: Seconds between two looks for versions; 0 looks once, and again when the
            configuration changes; a negative number never looks.
        allow_labels_for_unavailable: Whether a label that is not in use may be given to a version
            that is not available.
        load: Loads a version from its folder.
        load_seconds: The time in which a version must be loaded.

    Attributes:
        on_load: Called with name and version once a version is available. All callbacks run in the
            reconciler's thread, which waits for them.
        on_unload: Called with name and version once a version is unloaded.
        on_error: Called with name, version and error once a version has failed to load.
    """

    def __init__(
        self,
        config: ModelServerConfig,
        poll_seconds: float,
        allow_labels_for_unavailable: bool = False,
        load: Callable[[str], LoadedModel] = LoadedModel,
        load_seconds: float = math.inf,
    ) -> None:
        self._config = config
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._labels: dict[str, dict[str, int]] = {}
        self._reconciler = Reconciler(poll_seconds, load, load_seconds)
        # Guards the following attributes.
        self._changed = self._reconciler.changed
        self._versions = self._reconciler.versions
        self._serving = self._reconciler.serving
        self.on_load = self._reconciler.on_load
        self.on_unload = self._reconciler.on_unload
        self.on_error = self._reconciler.on_error

    def start(self, wait_for_first: bool) -> None:
        """Starts to load.

        Args:
            wait_for_first: Whether to wait until each model has an available version.

        Raises:
            ServingError: A label of the configuration is not allowed; or, with `wait_for_first`, a
                model cannot be served. The manager is closed then.
        """
        self.set_config(self._config)
        self._reconciler.start()
        if not wait_for_first:
            return
        models = self._config.model_config_list.config
        with self._changed:
            self._changed.wait_for(
                lambda: all(self._reconciler.is_settled(model.name) for model in models)
            )
            missing = [model for model in models if (model.name, None) not in self._serving]
        if missing:
            self.close()
            raise self._failure(missing[0])

    def close(self) -> None:
        """Ends the thread when versions that load are loaded or late; frees models not leased."""
        self._reconciler.close()
        with self._changed:
            idle = [v for vs in self._versions.values() for v in vs.values() if not v.leases]
        for version in idle:
            if version.servable:
                version.servable.model.close()

    @contextlib.contextmanager
    def servable(
        self, model: str, version: int | None = None, label: str | None = None
    ) -> Iterator[Servable]:
        """Leases a version: it stays loaded until the context ends.

        Args:
            model: The model's name.
            version: The version's number; without number and label, the newest available version.
            label: The version's label in the configuration.

        Raises:
            ServingError: There is no such label (INVALID_ARGUMENT), or the version is not available
                (NOT_FOUND).
        """
        with self._changed:
            if label is not None:
                version = self._labels.get(model, {}).get(label)
                if version is None:
                    raise invalid(f'Unrecognized servable version label: {label}')
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
        """The versions of a model, the newest first, including those that are unloaded.

        Args:
            model: The model's name.
            version: The number of the only version to return; by default all.
            label: Has no effect, as in the real server.

        Raises:
            ServingError: There is no such version (NOT_FOUND).
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
        """Changes to other models, versions or labels; returns before they are loaded.

        Labels come first, as in the real server: if a label moves to a version that is not
        available yet, the whole configuration is refused.

        Raises:
            ServingError: A label is for a version that is not available (FAILED_PRECONDITION).
                Nothing has changed then.
        """
        with self._changed:
            labels: dict[str, dict[str, int]] = {}
            for model in config.model_config_list.config:
                labels[model.name] = dict(model.version_labels)
                for label, version in model.version_labels.items():
                    self._check_label(model.name, label, version)
            self._labels = labels
            self._reconciler.aspire_to(config)

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

    def _failure(self, model: ModelConfig) -> ServingError:
        """Why a model has no version to serve."""
        if self._reconciler.is_unreadable(model.name):
            return ServingError(
                'DEADLINE_EXCEEDED',
                f'{model.name}: {model.base_path} cannot be read within {LOOK_SECONDS:g} seconds.',
            )
        return why_none(model, self._versions.get(model.name, {}).values())
