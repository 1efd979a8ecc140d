"""A folder of pictures with a sub-folder for each class: what is known of it before it is read.

The sub-folders lie in the folder itself, or in its sub-folders `train`, `eval` and `test` (or other
names of _SPLIT_NAMES). If `eval` or `test` is missing, a tenth of the pictures of `train` takes its
place. A hash of their content says which: so a picture that is added later moves no other, and
equal pictures of `train` stay together.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
import unicodedata
from collections import Counter
from typing import IO, NamedTuple

from components.datasets import picture_headers
from components.datasets.errors import DatasetError
from components.datasets.folder_listing import is_hidden, is_remote, list_folder, printable
from components.datasets.info import ImageDatasetInfo

SPLITS = ('train', 'eval', 'test')
# Names of sub-folders, in any case of letters, and the splits that they are.
_SPLIT_NAMES = {
    'train': 'train', 'training': 'train',
    'eval': 'eval', 'val': 'eval', 'valid': 'eval', 'validation': 'eval',
    'test': 'test', 'testing': 'test',
}  # fmt: skip
# The fraction of `train` that takes the place of a split that has no folder.
_SHARE = 0.1

# Names of pictures. Those that are neither PNG nor JPEG are refused one by one later, by a sentence
# that says what they are.
_PICTURES = (
    '.png', '.jpg', '.jpeg', '.jpe', '.jfif',
    '.gif', '.bmp', '.tif', '.tiff', '.webp', '.heic', '.heif', '.avif',
)  # fmt: skip
_SHOWN = ('.png', '.jpg', '.jpeg')
# The first bytes of a picture whose name does not tell.
_FIRST_BYTES = (b'\x89PNG\r\n\x1a\n', b'\xff\xd8\xff')
_NAMED = 3


class Picture(NamedTuple):
    """A file of the folder."""

    path: str  # below the folder
    label: int
    split: str  # that of its sub-folder; train if there are no splits


@dataclasses.dataclass(frozen=True)
class ImageFolder:
    """What a folder holds.

    Attributes:
        folder: Its path, or its address in a bucket.
        class_names: Sorted.
        pictures: In the order of their paths.
        taken_from_train: Splits that have no sub-folder, for which the content of the pictures of
            train decides.
        others: Paths of files that are no pictures.
        fingerprint: SHA-256 of the paths, sizes and times of the pictures.
    """

    folder: str
    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    taken_from_train: tuple[str, ...]
    others: tuple[str, ...]
    fingerprint: str

    def images(self, split: str) -> int:
        """How many pictures a split has; where the content decides, about how many."""
        given = Counter(picture.split for picture in self.pictures)
        if split in self.taken_from_train:
            return round(given['train'] * _SHARE)
        if split == 'train':
            return round(given['train'] * (1 - _SHARE * len(self.taken_from_train)))
        return given[split]

    def info(self, most: int, least: int) -> ImageDatasetInfo:
        """The facts that the network needs, from the headers of some of the pictures.

        Args:
            most: Pixels that the longer side of the median picture is scaled down to.
            least: The fewest pixels of a side.

        Returns:
            `most` x `most` pixels in colour, of a folder that is not read yet.

        Raises:
            DatasetError: None of the pictures looked at has a header that can be read.
        """
        if not self.pictures:
            return ImageDatasetInfo(most, most, 3, self.class_names)
        paths = [picture.path for picture in self.pictures]
        found = picture_headers.look_at(paths, functools.partial(open_file, self.folder))
        if found is None:
            raise DatasetError(
                f'None of the pictures in {printable(self.folder)} that were looked at is a PNG or '
                f'a JPEG: for example, {printable(paths[0])}'
            )
        scale = min(1.0, most / max(found.height, found.width))
        return ImageDatasetInfo(
            height=max(least, round(found.height * scale)),
            width=max(least, round(found.width * scale)),
            channels=found.channels,
            class_names=self.class_names,
        )


def open_file(folder: str, path: str) -> IO[bytes]:
    """Opens a file of a folder for reading."""
    if not is_remote(folder):
        return open(os.path.join(folder, path), 'rb')
    from apache_beam.io.filesystem import CompressionTypes
    from apache_beam.io.filesystems import FileSystems

    address = f'{folder.rstrip("/")}/{path}'
    return FileSystems.open(address, compression_type=CompressionTypes.UNCOMPRESSED)


def split_of(content: bytes, taken_from_train: tuple[str, ...]) -> str:
    """The split of a picture of train, by a hash of its file.

    Args:
        content: The file.
        taken_from_train: As in ImageFolder.

    Returns:
        One of `taken_from_train`, which get a tenth of all contents each, or 'train'.
    """
    fraction = int.from_bytes(hashlib.sha256(content).digest()[:8], 'big') / 2**64
    tenth = int(fraction / _SHARE)
    return taken_from_train[tenth] if tenth < len(taken_from_train) else 'train'


def read(folder: str) -> ImageFolder:
    """Finds the classes, the splits and the pictures of a folder.

    Raises:
        DatasetError: There are not at least two classes with pictures, or not the same ones in each
            split; a picture has no class; or something cannot be read.
    """
    listing = list_folder(folder)
    is_picture = {file.path: _is_picture(folder, file.path) for file in listing.files}
    files = [file for file in listing.files if is_picture[file.path]]
    others = [*listing.hidden, *(path for path, yes in is_picture.items() if not yes)]
    if not files:
        raise DatasetError(f'IMAGES is {printable(folder)}, in which there are no pictures')
    paths = [file.path.split('/') for file in files]
    splits = _splits(folder, paths)
    classes = _classes(folder, listing.folders, paths, splits)
    labels = {name: label for label, name in enumerate(classes)}
    digest = hashlib.sha256()
    for file in files:
        line = f'{file.path}\0{file.size} {file.modified}\n'
        digest.update(line.encode('utf-8', 'surrogateescape'))
    return ImageFolder(
        folder=folder,
        class_names=tuple(map(printable, classes)),
        pictures=tuple(
            Picture(file.path, labels[names[1 if splits else 0]], splits.get(names[0], 'train'))
            for file, names in zip(files, paths, strict=True)
        ),
        taken_from_train=tuple(
            split for split in SPLITS if split not in (splits.values() or ('train',))
        ),
        others=tuple(sorted(map(printable, others))),
        fingerprint=digest.hexdigest(),
    )


def unread(folder: str) -> ImageFolder:
    """A folder that cannot be read here, as when a pipeline is compiled for a cluster."""
    return ImageFolder(folder, ('0', '1'), (), SPLITS[1:], (), fingerprint='')


def first_picture(folder: str) -> str:
    """Finds a picture to ask a model about; the result is its path, or '' without a picture."""
    for path, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        for name in sorted(name for name in names if not is_hidden(name)):
            file = os.path.join(path, name)
            if name.lower().endswith(_SHOWN) and picture_headers.can_be_decoded(file):
                return file
    return ''


def _is_picture(folder: str, path: str) -> bool:
    """By its name, or else by its first bytes."""
    if path.lower().endswith(_PICTURES):
        return True
    with open_file(folder, path) as file:
        return file.read(8).startswith(_FIRST_BYTES)


def _splits(folder: str, paths: list[list[str]]) -> dict[str, str]:
    """The splits by the names of their sub-folders; empty if these are the classes.

    Args:
        folder: The folder.
        paths: Of the pictures, each as the list of its names.

    Raises:
        DatasetError: Some sub-folders are splits and others are classes, or there is no `train`.
    """
    where = f'IMAGES is {printable(folder)}, which has'
    loose = [names[0] for names in paths if len(names) == 1]
    if len(loose) == len(paths):
        raise DatasetError(f'{where} no sub-folders: it needs one for each class')
    _refuse_loose(folder, loose)
    tops = sorted({names[0] for names in paths})
    splits = {top: _SPLIT_NAMES[top.lower()] for top in tops if top.lower() in _SPLIT_NAMES}
    others = [top for top in tops if top not in splits]
    if others:
        # Pictures of trains, or of tests, may be a class.
        with_pictures = {names[0] for names in paths if len(names) == 2}
        if not with_pictures.issuperset(splits):
            raise DatasetError(
                f'{where} the classes {_named(others)} beside {_named(list(splits))}: put each '
                'class into the sub-folders train, eval and test, or all classes beside each other'
            )
        return {}
    if 'train' not in splits.values():
        raise DatasetError(f'{where} {_named(tops)}, but no sub-folder train to learn from')
    return splits


def _classes(
    folder: str, folders: list[str], paths: list[list[str]], splits: dict[str, str]
) -> list[str]:
    """The names of the classes, sorted.

    Args:
        folder: The folder.
        folders: Paths of all folders below it.
        paths: Of the pictures, each as the list of its names.
        splits: As of `_splits`.

    Raises:
        DatasetError: As `read` says.
    """
    depth = 1 if splits else 0
    where = f'IMAGES is {printable(folder)}, in which'
    _refuse_loose(folder, ['/'.join(names) for names in paths if len(names) == depth + 1])
    found = sorted({names[depth] for names in paths})
    filled = {'/'.join(names[: depth + 1]) for names in paths}
    empty = [
        path
        for path in folders
        if path.count('/') == depth
        and path not in filled
        and (not splits or path.split('/')[0] in splits)
    ]
    _refuse_two_spellings(where, found)
    if empty:
        raise DatasetError(
            f'{where} there are no pictures in {_named(empty)}: fill it or remove it'
        )
    in_splits: dict[str, set[str]] = {}
    for names in paths:
        in_splits.setdefault(splits.get(names[0], 'train'), set()).add(names[depth])
    for split, names_there in in_splits.items():
        for name in found:
            if name not in names_there:
                others = ' and '.join(each for each in in_splits if name in in_splits[each])
                raise DatasetError(
                    f'{where} the class {printable(name)} has pictures in {others}, but none in '
                    f'{split}: it needs some in each'
                )
    if len(found) == 1:
        below = {names[depth + 1] for names in paths if len(names) > depth + 2}
        hint = f'; if the classes are in it, set IMAGES to {printable(folder)}/{found[0]}'
        raise DatasetError(
            f'{where} there is only one class, {printable(found[0])}: there must be at least two'
            + hint * (len(below) > 1 and not splits)
        )
    return found


def _refuse_two_spellings(where: str, names: list[str]) -> None:
    """Raises DatasetError for names that look the same: macOS writes an accent by itself."""
    spelled: dict[str, str] = {}
    for name in names:
        if spelled.setdefault(unicodedata.normalize('NFC', name), name) != name:
            raise DatasetError(
                f'{where} folders of the class {printable(name)} have two names that look the same '
                'and differ in their characters (Unicode NFC and NFD): give them one name'
            )


def _refuse_loose(folder: str, loose: list[str]) -> None:
    """Raises DatasetError for pictures that lie in no class's folder."""
    if loose:
        raise DatasetError(
            f'{_named(loose)} in {printable(folder)} {"has" if len(loose) == 1 else "have"} no '
            'class: put each picture into the sub-folder of its class'
        )


def _named(paths: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f' and {len(paths) - _NAMED:,} more' if len(paths) > _NAMED else ''
    return ', '.join(map(printable, paths[:_NAMED])) + more
