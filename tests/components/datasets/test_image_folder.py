"""What is known of a folder of pictures before it is read, and what is refused."""

import os
import shutil

import numpy as np
import own_images
import pytest
from apache_beam.io.filesystem import FileMetadata
from apache_beam.io.localfilesystem import LocalFileSystem
from PIL import Image
from troubles import assert_printed

from components.datasets import image_folder
from components.datasets.errors import DatasetError


def write(folder, *paths, size=(30, 20), colour='red'):
    """Writes a picture, of width and height, to each of the paths below a folder."""
    for path in paths:
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size, colour).save(file)


def splits(folder):
    """The path, label and split of each picture."""
    return [tuple(picture) for picture in image_folder.read(str(folder)).pictures]


def refusal(folder):
    with pytest.raises(DatasetError) as refused:
        image_folder.read(str(folder))
    message = str(refused.value)
    assert '\n' not in message
    return message.replace(str(folder), 'FOLDER')


def test_each_sub_folder_is_a_class_and_folders_in_it_belong_to_it(tmp_path):
    write(tmp_path, 'dog/b.png', 'dog/puppies/a.JPG', 'cat/1.jpeg', 'cat/2.png')
    folder = image_folder.read(str(tmp_path))
    assert folder.class_names == ('cat', 'dog')
    assert [tuple(picture) for picture in folder.pictures] == [
        ('cat/1.jpeg', 0, 'train'),
        ('cat/2.png', 0, 'train'),
        ('dog/b.png', 1, 'train'),
        ('dog/puppies/a.JPG', 1, 'train'),
    ]
    assert folder.taken_from_train == ('eval', 'test')


@pytest.mark.parametrize(
    ('names', 'taken'),
    [
        ({'train': 'train', 'Val': 'eval', 'test': 'test'}, ()),
        ({'train': 'train', 'test': 'test'}, ('eval',)),
        ({'TRAIN': 'train', 'validation': 'eval'}, ('test',)),
        ({'train': 'train'}, ('eval', 'test')),
        ({'Training': 'train', 'valid': 'eval', 'Testing': 'test'}, ()),
    ],
)
def test_sub_folders_may_be_splits(tmp_path, names, taken):
    for name in names:
        write(tmp_path, f'{name}/cat/1.png', f'{name}/dog/1.png')
    folder = image_folder.read(str(tmp_path))
    assert folder.class_names == ('cat', 'dog')
    assert {picture.path.split('/')[0]: picture.split for picture in folder.pictures} == names
    assert folder.taken_from_train == taken


def test_trains_may_be_a_class(tmp_path):
    write(tmp_path, 'bus/1.png', 'train/1.png', 'train/old/1.png')
    assert image_folder.read(str(tmp_path)).class_names == ('bus', 'train')


def test_content_chooses_the_split():
    contents = [os.urandom(40) for _ in range(4000)]
    chosen = [image_folder.split_of(content, ('eval', 'test')) for content in contents]
    assert chosen == [image_folder.split_of(content, ('eval', 'test')) for content in contents]
    shares = {split: chosen.count(split) / 4000 for split in image_folder.SPLITS}
    assert shares == pytest.approx({'train': 0.8, 'eval': 0.1, 'test': 0.1}, abs=0.03)
    assert {image_folder.split_of(each, ()) for each in contents} == {'train'}
    without_eval = [image_folder.split_of(content, ('test',)) for content in contents]
    assert without_eval.count('test') / 4000 == pytest.approx(0.1, abs=0.03)
    assert 'eval' not in without_eval


def test_expected_images_of_splits(tmp_path):
    write(tmp_path, *(f'{name}/{number}.png' for name in 'ab' for number in range(50)))
    folder = image_folder.read(str(tmp_path))
    assert [folder.images(split) for split in image_folder.SPLITS] == [80, 10, 10]
    write(tmp_path / 'given', 'train/a/1.png', 'train/b/1.png', 'test/a/1.png', 'test/b/1.png')
    folder = image_folder.read(str(tmp_path / 'given'))
    assert [folder.images(split) for split in image_folder.SPLITS] == [2, 0, 2]


def test_files_that_are_no_pictures_are_told_apart_by_name_and_first_bytes(tmp_path):
    write(tmp_path, 'a/1.png', 'b/2.png')
    shutil.copy(tmp_path / 'a/1.png', tmp_path / 'a/without_a_name')
    for path in ('notes.txt', 'a/Thumbs.db', 'a/.hidden.png', 'b/labels', 'b/3.gif'):
        (tmp_path / path).write_bytes(b'GIF89a')
    (tmp_path / '.ipynb_checkpoints').mkdir()
    (tmp_path / '__MACOSX' / 'a').mkdir(parents=True)
    folder = image_folder.read(str(tmp_path))
    assert folder.others == ('a/.hidden.png', 'a/Thumbs.db', 'b/labels', 'notes.txt')
    # A GIF is a picture, which is refused later with the advice to convert it.
    assert [picture.path for picture in folder.pictures] == [
        'a/1.png', 'a/without_a_name', 'b/2.png', 'b/3.gif',
    ]  # fmt: skip


def test_the_fingerprint_follows_names_sizes_and_times_of_pictures_alone(tmp_path):
    write(tmp_path, 'a/1.png', 'b/1.png')
    before = image_folder.read(str(tmp_path)).fingerprint
    (tmp_path / 'notes.txt').write_text('new')
    moved = shutil.copytree(tmp_path, tmp_path.parent / 'moved')
    assert image_folder.read(str(tmp_path)).fingerprint == before
    assert image_folder.read(str(moved)).fingerprint == before
    found = {before}
    os.utime(moved / 'a/1.png', (1, 1))
    found.add(image_folder.read(str(moved)).fingerprint)
    (moved / 'b/1.png').rename(moved / 'b/2.png')
    found.add(image_folder.read(str(moved)).fingerprint)
    assert len(found) == 3


def test_size_and_colours_come_from_the_pictures(tmp_path):
    write(tmp_path, *(f'a/{number}.png' for number in range(3)), size=(200, 100), colour='grey')
    write(tmp_path, 'b/1.jpg', size=(20, 300), colour='grey')
    facts = image_folder.read(str(tmp_path)).info(most=48, least=17)
    assert (facts.height, facts.width, facts.channels) == (24, 48, 1)
    assert facts.class_names == ('a', 'b')
    write(tmp_path, 'b/2.png', colour='red')
    (tmp_path / 'b/3.png').write_bytes(b'damaged')
    assert image_folder.read(str(tmp_path)).info(most=48, least=17).channels == 3
    small = image_folder.read(str(tmp_path)).info(most=20, least=17)
    assert (small.height, small.width) == (17, 20)


def test_a_photograph_counts_as_it_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in 'ab':
        (tmp_path / name).mkdir()
        Image.new('L', (40, 30)).save(tmp_path / name / '1.jpg', exif=exif)
    facts = image_folder.read(str(tmp_path)).info(most=48, least=17)
    assert (facts.height, facts.width) == (40, 30)


def test_a_folder_without_one_readable_picture_has_no_size(tmp_path):
    for path in ('a/1.png', 'b/1.jpg'):
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(b'?')
    with pytest.raises(DatasetError, match=r'None of the pictures in .* for example, a/1\.png'):
        image_folder.read(str(tmp_path)).info(most=48, least=17)


@pytest.mark.parametrize(
    ('pictures', 'folders', 'said'),
    [
        ([], [], 'IMAGES is FOLDER, in which there are no pictures'),
        (['1.png', '2.png'], [], 'which has no sub-folders: it needs one for each class'),
        (['a/1.png', 'b/1.png', 'c.png'], [], 'c.png in FOLDER has no class: put each picture'),
        (['a/1.png'], [], 'there is only one class, a: there must be at least two'),
        (
            ['all/a/1.png', 'all/b/1.png'], [],
            'only one class, all: there must be at least two; if the classes are in it, set IMAGES '
            'to FOLDER/all',
        ),
        (['a/1.png', 'b/1.png'], ['c'], 'there are no pictures in c: fill it or remove it'),
        (
            ['train/a/1.png', 'train/b/1.png', 'test/a/1.png'], [],
            'the class b has pictures in train, but none in test',
        ),
        (
            ['train/a/1.png', 'train/b/1.png', 'test/a/1.png', 'test/b/1.png'], ['test/c'],
            'there are no pictures in test/c',
        ),
        (['test/a/1.png', 'val/b/1.png'], [], 'has test, val, but no sub-folder train to learn'),
        (
            ['train/a/1.png', 'train/b/1.png', 'c/1.png'], [],
            'has the classes c beside train: put each class into the sub-folders train, eval and',
        ),
        (
            ['pupils/a/1.png', 'pupils/b/1.png', 'test/a/1.png', 'test/b/1.png'], [],
            'has the classes pupils beside test: put each class into the sub-folders train, eval',
        ),
        (
            ['caf\u00e9/1.png', 'cafe\u0301/1.png'], [],
            'have two names that look the same and differ in their characters (Unicode NFC and',
        ),
        (
            ['train/\u00e9/1.png', 'train/b/1.png', 'test/e\u0301/1.png', 'test/b/1.png'], [],
            'have two names that look the same',
        ),
        (
            ['train/1.png', 'train/a/1.png', 'train/b/1.png'], [],
            'train/1.png in FOLDER has no class',
        ),
        (['1.png', '2.png', '3.png', '4.png', 'a/1.png'], [], '1.png, 2.png, 3.png and 1 more in'),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_said_in_one_sentence(tmp_path, pictures, folders, said):
    write(tmp_path, *pictures)
    for folder in folders:
        (tmp_path / folder).mkdir()
    refused = refusal(tmp_path)
    assert said in refused
    if 'no sub-folders' in said:
        assert_printed('no classes', refused)


def test_a_folder_that_is_missing_or_is_a_file_is_named(tmp_path):
    assert_printed('no folder', refusal(tmp_path / 'nowhere'))
    (tmp_path / 'file').touch()
    assert refusal(tmp_path / 'file') == 'IMAGES is FOLDER, which is no folder'


def test_links_are_followed_and_loops_end(tmp_path):
    write(tmp_path / 'elsewhere', 'photos/1.png')
    write(tmp_path / 'own', 'a/1.png')
    (tmp_path / 'own' / 'b').symlink_to(tmp_path / 'elsewhere' / 'photos')
    (tmp_path / 'own' / 'a' / 'again').symlink_to(tmp_path / 'own')
    found = image_folder.read(str(tmp_path / 'own'))
    assert [picture.path for picture in found.pictures] == ['a/1.png', 'b/1.png']
    (tmp_path / 'own' / 'b').unlink()
    (tmp_path / 'own' / 'b').symlink_to(tmp_path / 'gone')
    assert refusal(tmp_path / 'own') == 'FOLDER/b is a broken link: mend or remove it'


@pytest.mark.skipif(os.geteuid() == 0, reason='root may read everything')
def test_a_file_that_cannot_be_read_is_named(tmp_path):
    write(tmp_path, 'a/1.png', 'b/1.png')
    (tmp_path / 'b/1.png').chmod(0)
    assert refusal(tmp_path) == 'FOLDER/b/1.png cannot be read: mend or remove it'


def test_names_in_any_script_stay_and_what_cannot_be_shown_is_escaped(tmp_path):
    write(tmp_path, 'Кошки и коты/ж.png', 'a\tb\n/1.png')
    os.mkdir(os.fsencode(tmp_path) + b'/\xff')
    write(tmp_path, os.fsdecode(b'\xff/1.png'))
    assert image_folder.read(str(tmp_path)).class_names == (
        'a\\tb\\n',
        'Кошки и коты',
        '\\udcff',
    )


class _Bucket(LocalFileSystem):
    """A file system of Beam for bucket:///path, which is /path of this machine."""

    @classmethod
    def scheme(cls):
        return 'bucket'

    def _list(self, dir_or_prefix):
        for each in super()._list(dir_or_prefix.removeprefix('bucket://')):
            yield FileMetadata(
                f'bucket://{each.path}', each.size_in_bytes, each.last_updated_in_seconds
            )

    def open(self, path, *arguments, **options):
        return super().open(path.removeprefix('bucket://'), *arguments, **options)


def test_a_bucket_that_beam_can_read_is_a_folder_as_well(tmp_path):
    own_images.write_folder(tmp_path / 'own', 12)
    (tmp_path / 'own' / 'lime' / '.hidden').touch()
    here = image_folder.read(str(tmp_path / 'own'))
    there = image_folder.read(f'bucket://{tmp_path}/own')
    assert there.pictures == here.pictures
    assert there.others == here.others == ('lime/.hidden',)
    assert there.info(most=48, least=17) == here.info(most=48, least=17)
    with image_folder.open_file(there.folder, here.pictures[0].path) as file:
        assert np.asarray(Image.open(file)).shape[-1] == 3
    with pytest.raises(DatasetError, match='in which there are no files'):
        image_folder.read(f'bucket://{tmp_path}/nowhere')
    with pytest.raises(DatasetError, match='IMAGES is nobucket://x/y, which cannot be listed'):
        image_folder.read('nobucket://x/y')
