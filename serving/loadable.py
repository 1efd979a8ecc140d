"""Which version a server can load, found out by loading it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from capsmodel import devices, quiet_tensorflow
from serving.errors import ServingError


def first_that_loads(
    numbers: Iterable[int], folders: Mapping[int, str], available: Collection[int]
) -> tuple[int | None, dict[int, str]]:
    """The first version that loads.

    Args:
        numbers: The versions, in the order in which they are tried.
        folders: The folder of each.
        available: Those that a running server has loaded: nobody knows better.

    Returns:
        The version, None if none loads; and why those before it do not.
    """
    errors: dict[int, str] = {}
    for number in numbers:
        error = '' if number in available else _error(folders[number])
        if not error:
            return number, errors
        errors[number] = error
    return None, errors


def _error(folder: str) -> str:
    """Why a server could not serve a version; empty if it could.

    The version is loaded and answers its warm-up requests, as in our server: less would overlook
    some damage. The first time takes seconds, since TensorFlow is imported then.
    """
    devices.hide_gpus()
    quiet_tensorflow.load()
    import tensorflow as tf

    from serving.model import LoadedModel

    # It says what is deprecated, which is the real server's way of running models.
    tf.get_logger().setLevel('ERROR')
    try:
        LoadedModel(folder).close()
    except ServingError as error:
        return error.message
    except Exception as error:  # A folder may hold anything.
        return f'{type(error).__name__}: {error}'
    return ''
