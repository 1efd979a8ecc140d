"""Whether a version can be served, found out by loading it."""

from __future__ import annotations

import start_tensorflow
from serving.errors import ServingError


def load_error(folder: str) -> str:
    """Why a server could not serve a version; empty if it could.

    The version is loaded and answers its warm-up requests, as in our server: less would overlook
    some damage. The first time takes seconds, since TensorFlow is imported then.
    """
    start_tensorflow.hide_gpus()
    start_tensorflow.load()
    import tensorflow as tf

    from serving.models.model import LoadedModel

    # It says what is deprecated, which is the real server's way of running models.
    tf.get_logger().setLevel('ERROR')
    try:
        LoadedModel(folder).close()
    except ServingError as error:
        return error.message
    except Exception as error:  # A folder may hold anything.
        return f'{type(error).__name__}: {error}'
    return ''
