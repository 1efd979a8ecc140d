"""Lists the files of a folder, on this machine or in a bucket that Apache Beam can read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, NamedTuple

from components.datasets.errors import DatasetError, first_line

# What systems and programs leave in folders of pictures, besides names that begin with a dot.
_LEFT_BY_SYSTEMS = ('__MACOSX', '@eaDir', 'Thumbs.db', 'desktop.ini')


class ListedFile(NamedTuple):
    """A file, with what tells whether it has changed."""

    path: str  # below the folder, with '/' between the names
    size: int  # in bytes
    modified: int  # in nanoseconds since 1970


class Listing(NamedTuple):
    """What a folder holds. Hidden folders, and those that systems leave, are not looked into."""

    files: list[ListedFile]  # in the order of their paths
    folders: list[str]  # likewise; paths of all folders below, also of empty ones
    hidden: list[str]  # paths of hidden files, and of those that systems leave


def is_remote(folder: str) -> bool:
    """Whether a folder lies in a bucket, such as gs://bucket/pictures."""
    return '://' in folder


def list_folder(folder: str) -> Listing:
    """Lists all files below a folder, and follows symbolic links.

    Raises:
        DatasetError: There is no such folder, or it, a folder or a file in it cannot be read.
    """
    if is_remote(folder):
        return _list_remote(folder)
    if not os.path.isdir(folder):
        what = 'is no folder' if os.path.exists(folder) else 'does not exist'
        raise DatasetError(f'IMAGES is {folder}, which {what}')
    found = Listing([], [], [])
    try:
        for entry, path in _walk(folder, '', ()):
            if entry.is_dir():
                if not is_hidden(entry.name):
                    found.folders.append(path)
            elif is_hidden(entry.name):
                found.hidden.append(path)
            elif not os.access(entry.path, os.R_OK):
                reason = 'cannot be read' if os.path.exists(entry.path) else 'is a broken link'
                raise DatasetError(f'{printable(entry.path)} {reason}: mend or remove it')
            else:
                status = entry.stat()
                found.files.append(ListedFile(path, status.st_size, status.st_mtime_ns))
    except OSError as error:
        name = printable(str(error.filename or folder))
        raise DatasetError(f'{name} cannot be read: {error.strerror}') from error
    return _in_order(found)


def _walk(
    folder: str, path: str, around: tuple[tuple[int, int], ...]
) -> Iterator[tuple[os.DirEntry, str]]:
    """Each entry below a folder with its path; a link to a folder around it ends there."""
    status = os.stat(folder)
    identity = (status.st_dev, status.st_ino)
    if identity in around:
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            below = f'{path}{entry.name}'
            yield entry, below
            if entry.is_dir() and not is_hidden(entry.name):
                yield from _walk(entry.path, f'{below}/', (*around, identity))


def _list_remote(folder: str) -> Listing:
    from apache_beam.io.filesystems import FileSystems
    from apache_beam.options.pipeline_options import PipelineOptions

    root = folder.rstrip('/') + '/'
    FileSystems.set_options(PipelineOptions([]))  # S3's asks for some
    try:
        (matched,) = FileSystems.match([f'{root}**'])
    except Exception as error:  # of the bucket's library, which may raise anything
        raise DatasetError(
            f'IMAGES is {folder}, which cannot be listed: {_reason(error)}'
        ) from error
    found = Listing([], [], [])
    folders: set[str] = set()
    for each in matched.metadata_list:
        path = each.path.removeprefix(root)
        names = path.split('/')
        if not names[-1]:  # a bucket's place holder for an empty folder
            continue
        if any(map(is_hidden, names)):
            found.hidden.append(path)
            continue
        seconds = each.last_updated_in_seconds or 0
        found.files.append(ListedFile(path, each.size_in_bytes, round(seconds * 1e9)))
        folders.update('/'.join(names[:length]) for length in range(1, len(names)))
    if not matched.metadata_list:
        raise DatasetError(f'IMAGES is {folder}, in which there are no files')
    found.folders.extend(folders)
    return _in_order(found)


def _in_order(found: Listing) -> Listing:
    return Listing(sorted(found.files), sorted(found.folders), sorted(found.hidden))


def _reason(error: Exception) -> str:
    """The first line of what a file system says; Beam's errors hold those of each pattern."""
    details: Any = getattr(error, 'exception_details', None)
    return _reason(next(iter(details.values()))) if details else first_line(error)


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is left out: hidden, or left by a system."""
    return name.startswith('.') or name in _LEFT_BY_SYSTEMS


def printable(text: str) -> str:
    r"""Escapes what no terminal shows, or is no UTF-8: a line break becomes \n."""
    return ''.join(
        each if each.isprintable() else each.encode('unicode_escape').decode() for each in text
    )
