"""The errors of the interface: TensorFlow's canonical codes and their HTTP statuses."""

from __future__ import annotations

import json
import re
import typing

if typing.TYPE_CHECKING:
    import tensorflow as tf

# In the order of the codes' numbers, 0 to 16 (tensorflow/core/protobuf/error_codes.proto); the
# statuses are those of ToHTTPStatusCode in tensorflow_serving/model_servers/http_server.cc.
HTTP_STATUS = {
    'OK': 200,
    'CANCELLED': 499,
    'UNKNOWN': 500,
    'INVALID_ARGUMENT': 400,
    'DEADLINE_EXCEEDED': 504,
    'NOT_FOUND': 404,
    'ALREADY_EXISTS': 409,
    'PERMISSION_DENIED': 403,
    'RESOURCE_EXHAUSTED': 429,
    'FAILED_PRECONDITION': 400,
    'ABORTED': 409,
    'OUT_OF_RANGE': 400,
    'UNIMPLEMENTED': 501,
    'INTERNAL': 500,
    'UNAVAILABLE': 503,
    'DATA_LOSS': 500,
    'UNAUTHENTICATED': 401,
}
_CODES = tuple(HTTP_STATUS)
# A message may quote the client, who may have sent a name of megabytes.
_MAX_CHARACTERS = 4000

# TensorFlow puts an operation's place in the graph before and after the message.
_PLACE = re.compile(r'\A(?:\{\{function_node [^}]*\}\} *)+|\n\t \[\[\{\{.*', re.DOTALL)


class ServingError(Exception):
    """A request that cannot be answered, or a model that cannot be served.

    Attributes:
        code: One of the keys of `HTTP_STATUS`.
        message: A sentence for the client.
    """

    def __init__(self, code: str, message: str):
        super().__init__(code, message[:_MAX_CHARACTERS])
        self.code = code
        self.message = message[:_MAX_CHARACTERS]

    def __str__(self) -> str:
        return self.message

    @property
    def http_status(self) -> int:
        """The status of the HTTP response."""
        return HTTP_STATUS[self.code]

    @classmethod
    def of_tensorflow(cls, error: tf.errors.OpError) -> ServingError:
        """The error of an operation of a model, without its place in the graph."""
        return cls(_CODES[error.error_code], _PLACE.sub('', error.message))


def invalid(message: str) -> ServingError:
    """The error of a request, a flag or a file that is wrong in itself."""
    return ServingError('INVALID_ARGUMENT', message)


def error_json(message: str) -> bytes:
    """The body of an HTTP response that reports an error."""
    return json.dumps({'error': message}).encode()
