"""Finds out by loading whether a version can be served."""

from __future__ import annotations

import start_tensorflow
from serving.errors import ServingError


def load_error(folder: str) -> str:
    """Why a server could not serve a version; '' if it could.

    The version is loaded and answers its warm-up requests, as in our server, because cheaper checks
    miss some damage. The first call imports TensorFlow, which takes seconds.
    """
    start_tensorflow.hide_gpus()
    start_tensorflow.load()
    from serving.models.model import LoadedModel

    try:
        LoadedModel(folder).close()
    except ServingError as error:
        return error.message
    except Exception as error:  # A folder may hold anything.
        return f'{type(error).__name__}: {error}'
    return ''
