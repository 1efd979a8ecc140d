"""Which versions of which models are served: loaded when they appear, unloaded when they go.

Versions are the numbered folders of a model's base path, and the model's version policy says which
of them are aspired to: the newest one (the default), several, all, or some by number. One thread
decides what is loaded and unloaded, as TensorFlow Serving's FileSystemStoragePathSource,
AspiredVersionsManager and AvailabilityPreservingPolicy do, with these differences:

- A folder without a saved_model.pb is no version yet.
- A version that failed to load is tried again when its files have changed, not five times more.
- Where the newest versions are asked for and one of them fails to load, the next older one is
  served in its place, also at the start. One that is asked for by its number has no other.
- A base path that cannot be read keeps its own model as it is, not all models.
- A version that is not loaded in time counts as failed, until it is loaded. Others are loaded
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
        config: The models, as `read_model_config` or `single_model_config` return them.
        poll_seconds: How often to look for versions; 0 looks once, and once more whenever the
            configuration changes; negative never looks.
        allow_labels_for_unavailable: Whether a label that is not in use may be given to a version
            that is not available.
        load: What loads a version, given its folder.
        load_seconds: In which a version must be loaded.

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
        load: Callable[[str], LoadedModel] = LoadedModel,
        load_seconds: float = math.inf,
    ) -> None:
        self._config = config
        self._allow_labels_for_unavailable = allow_labels_for_unavailable
        self._labels: dict[str, dict[str, int]] = {}
        self._reconciler = Reconciler(poll_seconds, load, load_seconds)
        # Guards all that is read here.
        self._changed = self._reconciler.changed
        self._versions = self._reconciler.versions
        self._serving = self._reconciler.serving
        self.on_load = self._reconciler.on_load
        self.on_unload = self._reconciler.on_unload
        self.on_error = self._reconciler.on_error

    def start(self, wait_for_first: bool) -> None:
        """Begins to load.

        Args:
            wait_for_first: Whether to return only when each model has a version available.

        Raises:
            ServingError: A label of the configuration is not allowed, or a model that was waited
                for cannot be served. The manager is closed then.
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
        """Ends the thread, once what is being loaded is loaded or late; frees models not leased."""
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
