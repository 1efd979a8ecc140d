"""A script that runs the warm-up requests of a SavedModel and checks the answers.

Each request is answered twice: by the model in this process, and over TensorFlow Serving's REST
interface by a server that has loaded the same model. Standard input is the server's output; the
first line with `at http://...` says that it serves, and at which address.

Like any client, it uses only TensorFlow and TensorFlow Serving's messages, and nothing of this
project. The last line of its output is JSON: `{"answered": {signature: requests}}`,
`{"refused": why}`, or `{"unserved": true}` if the server ended before it served.
"""

from __future__ import annotations

import base64
import collections
import json
import os
import re
import sys
import urllib.error
import urllib.request
from typing import Any, TextIO

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

WARMUP = os.path.join('assets.extra', 'tf_serving_warmup_requests')
DEFAULT_SIGNATURE = 'serving_default'
SCORES = 'scores'

# Two processes add numbers in different orders.
_TOLERANCE = 1e-4
# The server is on this machine, even if a proxy is set.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Refused(Exception):
    """The model cannot be served; the message says why."""


class Unserved(Exception):
    """The server ended before it served."""


def ask(model_dir: str, server: TextIO) -> dict[str, int]:
    """Loads the model and runs all warm-up requests; returns the number answered by signature.

    Args:
        model_dir: The SavedModel.
        server: The output of a server that loads the same model.
    """
    model = tf.saved_model.load(model_dir)
    requests = os.path.join(model_dir, WARMUP)
    if not os.path.exists(requests):
        raise Refused(f'it has no warm-up requests ({WARMUP})')
    questions = []
    for record in tf.data.TFRecordDataset(requests).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        name = request.model_spec.signature_name
        if name not in model.signatures:
            raise Refused(f"a warm-up request asks for '{name}', a signature that it does not have")
        signature = model.signatures[name]
        inputs = {key: tf.make_ndarray(proto) for key, proto in request.inputs.items()}
        outputs = signature(**{key: tf.constant(value) for key, value in inputs.items()})
        answers = {key: value.numpy() for key, value in outputs.items()}
        judge(name, inputs, answers)
        questions.append((name, inputs, answers))
    answered = collections.Counter(name for name, _, _ in questions)
    if DEFAULT_SIGNATURE not in model.signatures:
        raise Refused(f"it has no signature '{DEFAULT_SIGNATURE}'")
    for name in model.signatures:
        if not answered[name]:
            raise Refused(f"no warm-up request asks its signature '{name}'")
    url = served_at(server)
    for name, inputs, answers in questions:
        compare(name, answers, ask_over_rest(url, name, inputs))
    return dict(answered)


def judge(name: str, inputs: dict[str, np.ndarray], outputs: dict[str, np.ndarray]) -> None:
    """Raises Refused unless there is one finite answer for each row of the inputs."""
    asked = {len(value) for value in inputs.values()}
    for key, value in outputs.items():
        if value.ndim == 0 or {len(value)} != asked:
            raise Refused(
                f"signature '{name}' answered {max(asked)} inputs with '{key}' of shape "
                f'{value.shape}'
            )
        if value.dtype.kind == 'f' and not np.isfinite(value).all():
            raise Refused(f"signature '{name}' answered with '{key}' that is not finite")
    if SCORES in outputs and not ((outputs[SCORES] >= 0) & (outputs[SCORES] < 1)).all():
        raise Refused(f"signature '{name}' answered with capsule lengths outside [0, 1)")


def served_at(server: TextIO) -> str:
    """Waits until the server prints the model's URL; raises Unserved if the server ends first."""
    for line in server:
        if found := re.search(r'at (http://\S+)', line):
            return found[1]
    raise Unserved


def ask_over_rest(url: str, name: str, inputs: dict[str, np.ndarray]) -> dict[str, Any]:
    """The JSON answer of a server through one signature, by output.

    If the signature has only one output, the key is ''.
    """
    body = {
        'signature_name': name,
        'inputs': {key: _as_json(value) for key, value in inputs.items()},
    }
    try:
        with _opener.open(f'{url}:predict', json.dumps(body).encode()) as response:
            outputs = json.load(response)['outputs']
    except urllib.error.HTTPError as error:
        said = error.read().decode(errors='replace')
        raise Refused(f"over REST, signature '{name}' answered {error.code}: {said}") from None
    return outputs if isinstance(outputs, dict) else {'': outputs}


def _as_json(value: np.ndarray) -> Any:
    if value.dtype == object:
        return [{'b64': base64.b64encode(item).decode('ascii')} for item in value]
    return value.tolist()


def compare(name: str, expected: dict[str, np.ndarray], served: dict[str, Any]) -> None:
    """Raises Refused unless the server's answer is that of the model in this process."""
    if served.keys() == {''}:
        served = dict.fromkeys(expected, served[''])
    if served.keys() != expected.keys():
        raise Refused(
            f"over REST, signature '{name}' answered with {', '.join(served)} instead of "
            f'{", ".join(expected)}'
        )
    for key, value in expected.items():
        is_text = value.dtype == object
        found = np.array(served[key], value.dtype)
        if found.shape != value.shape:
            raise Refused(
                f"over REST, signature '{name}' answered with '{key}' of shape {found.shape} "
                f'instead of {value.shape}'
            )
        if not (_texts(value) == found.tolist() if is_text else _close(found, value)):
            raise Refused(
                f"over REST, signature '{name}' answered with another '{key}' than in this process"
            )


def _texts(value: np.ndarray) -> list[Any]:
    """Nested lists of strings instead of an array of bytes."""
    return np.vectorize(bytes.decode, otypes=[object])(value).tolist()


def _close(found: np.ndarray, value: np.ndarray) -> bool:
    return np.allclose(found, value, rtol=_TOLERANCE, atol=_TOLERANCE)


def main() -> None:
    """Prints the report."""
    try:
        report: dict[str, object] = {'answered': ask(sys.argv[1], sys.stdin)}
    except Unserved:
        report = {'unserved': True}
    except Refused as refused:
        report = {'refused': f'{refused}.'}
    except Exception as error:
        # Any error of TensorFlow over a broken model is a finding about the model.
        (first_line, *_) = [*str(error).strip().splitlines(), 'no reason given']
        report = {'refused': f'{type(error).__name__}: {first_line}'}
    print(json.dumps(report))


if __name__ == '__main__':
    main()
