"""Checks Kubernetes resources, YAML on standard input: run by .venv-kubeflow-lint's Python.

It prints a line a mistake, and ends with 1 when there is one. Kubernetes' own kinds are checked by
its schemas, of the oldest and the newest version that manifests are meant for; the others by the
models of the packages of those who made them: what does not come back from a model as it was put in
is a field that the model does not know.
"""

import json
import sys
import types
from collections.abc import Iterator
from typing import Any

import kserve.models
import kubeflow.training.models
import kubernetes.client
import kubernetes.client.models
import kubernetes_validate
import yaml

_VERSIONS = ('1.30', kubernetes_validate.latest_version())
_MODELS = {
    'serving.kserve.io/v1beta1': {'InferenceService': (kserve.models, 'V1beta1InferenceService')},
    'kubeflow.org/v1': {'TFJob': (kubeflow.training.models, 'KubeflowOrgV1TFJob')},
}


def mistakes(resource: dict[str, Any]) -> Iterator[str]:
    """What is wrong with a resource."""
    known = _MODELS.get(resource['apiVersion'])
    if known is None:
        for version in _VERSIONS:
            yield from _mistakes_by_schema(resource, version)
    elif resource['kind'] not in known:
        yield f'{resource["apiVersion"]} has no kind {resource["kind"]} that can be checked'
    else:
        yield from _mistakes_by_model(resource, *known[resource['kind']])


def _mistakes_by_schema(resource: dict[str, Any], version: str) -> Iterator[str]:
    try:
        kubernetes_validate.validate(resource, version, strict=True)
    except kubernetes_validate.ValidationError as error:
        yield f'Kubernetes {version}: {".".join(map(str, error.path))}: {error.message}'
    except kubernetes_validate.SchemaNotFoundError as error:
        yield error.message


def _mistakes_by_model(
    resource: dict[str, Any], models: types.ModuleType, model: str
) -> Iterator[str]:
    # Kubernetes' client finds the classes of fields by name in this module.
    for name, member in vars(models).items():
        if isinstance(member, type) and not hasattr(kubernetes.client.models, name):
            setattr(kubernetes.client.models, name, member)
    client = kubernetes.client.ApiClient()
    response = types.SimpleNamespace(data=json.dumps(resource))
    try:
        read = client.deserialize(response, model)
    except (ValueError, TypeError) as error:
        yield f'{model}: {error}'
        return
    yield from _differences(resource, client.sanitize_for_serialization(read), model)


def _differences(given: Any, read: Any, path: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(read, dict):
        for name, value in given.items():
            if name in read:
                yield from _differences(value, read[name], f'{path}.{name}')
            else:
                yield f'{path} has no field {name}'
    elif isinstance(given, list) and isinstance(read, list):
        for index, (value, back) in enumerate(zip(given, read, strict=True)):
            yield from _differences(value, back, f'{path}.{index}')
    elif type(given) is not type(read) or given != read:
        yield f'{path} cannot be {given!r}'


if __name__ == '__main__':
    found = [
        f'{resource["kind"]} {resource["metadata"]["name"]}: {mistake}'
        for resource in yaml.safe_load_all(sys.stdin)
        for mistake in mistakes(resource)
    ]
    print(*found, sep='\n')
    sys.exit(bool(found))
