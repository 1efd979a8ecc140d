"""A SavedModel in memory: a session of its own, as in TensorFlow Serving.

A `tf.compat.v1.Session` runs the graph, of TensorFlow 1 and 2 alike, as in the real server. So both
servers load the same models, while `tf.saved_model.load` also loads exports that no session can run
(https://github.com/keras-team/keras/issues/20096). A session owns its variables and tables; closing
it frees them.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, rewriter_config_pb2
from tensorflow.python.client import pywrap_tf_session
from tensorflow.python.util import deprecation
from tensorflow_serving.apis import input_pb2, prediction_log_pb2

from serving.errors import ServingError, invalid
from serving.models.shapes import Tensors, check_inputs, check_outputs, has_fixed_size
from serving.processors import processors

DEFAULT_SIGNATURE = 'serving_default'
WARMUP = os.path.join('assets.extra', 'tf_serving_warmup_requests')
# The page that the pipeline puts beside a model, and the most bytes of it that are kept.
CARD = os.path.join('assets.extra', 'model_card.html')
_MOST_CARD_BYTES = 8 << 20
MAX_WARMUP_RECORDS = 1000  # WarmupConsts::kMaxNumRecords of the real server
COSTLY_AT_ONCE = max(1, processors() // 2)  # costly requests that should run at the same time

# Threads that wait for work must not spin: on few cores they would slow down those that work.
_CONFIG = config_pb2.ConfigProto()
_CONFIG.experimental.disable_thread_spinning = True
# A long operation, such as decoding a large picture, occupies a thread. Costly requests have a few
# threads of their own, so that other threads are free for light requests. The pools have no names,
# because TensorFlow lets the threads of named pools spin.
_LIGHT, _COSTLY = range(2)
_CONFIG.session_inter_op_thread_pool.add()
_CONFIG.session_inter_op_thread_pool.add(num_threads=COSTLY_AT_ONCE)
# TensorFlow optimizes a signature's graph before its first answer. That takes most of the time of
# loading, and answers are no faster after a second round, or after the passes of the TFG optimizer.
_CONFIG.graph_options.rewrite_options.meta_optimizer_iterations = (
    rewriter_config_pb2.RewriterConfig.ONE
)
_CONFIG.graph_options.rewrite_options.disable_tfg_optimizer = True


class _Signature(NamedTuple):
    """A signature's tensors by its keys, in the form in which a session is asked for them."""

    inputs: dict[str, Any]
    outputs: dict[str, Any]


class LoadedModel:
    """A SavedModel that has answered its warm-up requests. Any thread may call its methods.

    Args:
        directory: The SavedModel's folder, which holds saved_model.pb.
        seconds: The most seconds that a request may run; None for no limit.
        tags: The tags of the graph to load.
        warm_up: Whether to run the warm-up requests.

    Attributes:
        signature_defs: The signatures by name, without those that name initializers instead of
            outputs.
        card: The model's card, a page in HTML; empty if it has none.

    Raises:
        ServingError: The model cannot be loaded, or a warm-up request fails.
    """

    def __init__(
        self,
        directory: str,
        seconds: float | None = None,
        tags: Collection[str] = (tf.saved_model.SERVING,),
        warm_up: bool = True,
    ) -> None:
        self._seconds = seconds
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=_CONFIG)
        self._prepared: dict[str, _Signature] = {}
        try:
            self.signature_defs = self._load(directory, tags)
            for name, inputs in _warmup_requests(directory) if warm_up else ():
                self._warm_up(name, inputs)
            self.card = _card(directory)
        except BaseException:
            self.close()
            raise

    def check(self, signature_name: str, inputs: Mapping[str, np.ndarray]) -> None:
        """Checks inputs, as `run` does, for requests that will be merged.

        Raises:
            ServingError: There is no such signature, it has other inputs, or it declares other
                shapes for them.
        """
        signature = self._signature(signature_name)
        if inputs.keys() != signature.inputs.keys():
            raise _other_inputs(inputs, signature.inputs.keys())
        check_inputs(signature_name, signature, inputs)

    def can_merge(self, signature_name: str) -> bool:
        """Whether requests to a signature may be merged: not if its number of rows is fixed.

        Raises:
            ServingError: There is no such signature.
        """
        return not has_fixed_size(self._signature(signature_name))

    def run(
        self, signature_name: str, inputs: Tensors, is_costly: bool = False
    ) -> dict[str, np.ndarray]:
        """Answers one request.

        If it takes too long, TensorFlow ends it after the current operation.

        Args:
            signature_name: One of `signature_defs`.
            inputs: Arrays by the signature's keys; strings are object arrays of bytes.
            is_costly: Whether to run it in the threads for costly requests.

        Returns:
            Arrays by the signature's keys; strings are object arrays of bytes.

        Raises:
            ServingError: The inputs do not pass `check`; or the graph fails, takes too long, or
                does not return one answer for each row.
        """
        self.check(signature_name, inputs)
        try:
            prepared = self._prepared_for(signature_name)
            # Not Session.run: it costs 0.15 ms of Python a call; this costs 0.02.
            values = self._session._call_tf_sessionrun(
                _run_options(_COSTLY if is_costly else _LIGHT, self._seconds),
                {tensor: inputs[key] for key, tensor in prepared.inputs.items()},
                list(prepared.outputs.values()),
                [],
                None,
            )
        except tf.errors.OpError as error:
            raise ServingError.of_tensorflow(error) from error
        outputs = {
            # TensorFlow returns a string of rank 0 as bytes.
            key: np.array(value, object) if isinstance(value, bytes) else np.asarray(value)
            for key, value in zip(prepared.outputs, values, strict=True)
        }
        check_outputs(signature_name, self.signature_defs[signature_name], inputs, outputs)
        return outputs

    def _warm_up(self, signature_name: str, inputs: Tensors) -> None:
        try:
            self.run(signature_name, inputs)
        except ServingError as error:
            # The first run takes longest, so a timeout here is no error.
            if error.code != 'DEADLINE_EXCEEDED':
                raise

    def close(self) -> None:
        """Frees the model's memory; call it when no request runs any more."""
        self._prepared.clear()
        self._session.close()

    def _signature(self, name: str) -> meta_graph_pb2.SignatureDef:
        if name not in self.signature_defs:
            raise ServingError('FAILED_PRECONDITION', f'Serving signature key "{name}" not found.')
        return self.signature_defs[name]

    def _load(
        self, directory: str, tags: Collection[str]
    ) -> dict[str, meta_graph_pb2.SignatureDef]:
        try:
            # TensorFlow calls its loader for sessions deprecated; the real server loads models so.
            with deprecation.silence(), self._session.graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, list(tags), directory)
                self._session._extend_graph()  # what `run` calls does not
        except tf.errors.OpError as error:
            raise ServingError.of_tensorflow(error) from error
        except Exception as error:
            # A folder may hold anything, and each part of TensorFlow raises its own exceptions.
            said = ' '.join(str(error).split()) or type(error).__name__
            raise invalid(f'The SavedModel cannot be loaded: {said}') from error
        return {
            name: signature
            for name, signature in meta_graph.signature_def.items()
            if not name.startswith('__saved_model_')
        }

    def _prepared_for(self, signature_name: str) -> _Signature:
        if signature_name not in self._prepared:
            signature = self.signature_defs[signature_name]
            try:
                self._prepared[signature_name] = _Signature(
                    self._tensors(signature.inputs), self._tensors(signature.outputs)
                )
            except (KeyError, ValueError) as error:
                said = f'Signature "{signature_name}" cannot run: {error.args[0]}'
                raise invalid(said) from error
        return self._prepared[signature_name]

    def _tensors(self, infos: Mapping[str, meta_graph_pb2.TensorInfo]) -> dict[str, Any]:
        graph = self._session.graph
        return {
            key: graph.get_tensor_by_name(info.name)._as_tf_output() for key, info in infos.items()
        }


@functools.cache
def _run_options(pool: int, seconds: float | None) -> Any:
    """How a session runs a request; a server has few of these, and keeps them."""
    options = config_pb2.RunOptions(inter_op_thread_pool=pool)
    if seconds is not None:
        options.timeout_in_ms = max(1, round(seconds * 1000))
    return pywrap_tf_session.TF_NewBufferFromString(options.SerializeToString())


def _card(directory: str) -> bytes:
    """The model's card; a model is served whatever its card is."""
    path = os.path.join(directory, CARD)
    try:
        if os.path.getsize(path) <= _MOST_CARD_BYTES:
            with open(path, 'rb') as file:
                return file.read()
    except OSError:
        pass
    return b''


def _warmup_requests(directory: str) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Signature and inputs of each warm-up request."""
    path = os.path.join(directory, WARMUP)
    if not os.path.exists(path):
        return
    records = tf.data.TFRecordDataset(path).as_numpy_iterator()
    try:
        for count, record in enumerate(records, 1):
            if count > MAX_WARMUP_RECORDS:
                raise invalid(
                    f'Number of warmup records exceeds the maximum ({MAX_WARMUP_RECORDS}) at '
                    f'{path}',
                )
            yield from _requests(prediction_log_pb2.PredictionLog.FromString(record))
    except tf.errors.DataLossError as error:
        said = ServingError.of_tensorflow(error).message
        raise ServingError(
            'DATA_LOSS', f'{said}. Please verify your warmup data is in TFRecord format.'
        ) from error
    except message.DecodeError as error:
        raise invalid(f'Failed to parse warmup record from {path}') from error


def _requests(
    log: prediction_log_pb2.PredictionLog,
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    kind = log.WhichOneof('log_type')
    if kind == 'predict_log':
        request = log.predict_log.request
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        yield request.model_spec.signature_name or DEFAULT_SIGNATURE, inputs
    elif kind in ('classify_log', 'regress_log'):
        request = getattr(log, kind).request
        yield request.model_spec.signature_name or DEFAULT_SIGNATURE, _examples(request.input)
    elif kind == 'multi_inference_log':
        request = log.multi_inference_log.request
        for task in request.tasks:
            yield task.model_spec.signature_name or DEFAULT_SIGNATURE, _examples(request.input)
    elif kind is not None:
        raise ServingError('UNIMPLEMENTED', f'Unsupported log_type for warmup: {kind}')


def _examples(request_input: input_pb2.Input) -> dict[str, np.ndarray]:
    """The input of a signature for classify or regress: serialized tf.Examples."""
    kind = request_input.WhichOneof('kind')
    examples = getattr(request_input, kind).examples if kind else []
    # If both have a feature, the example's counts, because it comes later in the message.
    context = request_input.example_list_with_context.context.SerializeToString()
    serialized = [context + example.SerializeToString() for example in examples]
    return {'inputs': np.array(serialized, dtype=object)}


def _other_inputs(inputs: Mapping[str, np.ndarray], expected: Collection[str]) -> ServingError:
    extra = ','.join(sorted(inputs.keys() - set(expected)))
    missing = ','.join(sorted(set(expected) - inputs.keys()))
    return invalid(
        f'input size does not match signature: {len(inputs)}!={len(expected)}. '
        f'Sent extra: {{{extra}}}. Missing but required: {{{missing}}}.',
    )
