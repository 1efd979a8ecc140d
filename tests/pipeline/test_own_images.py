"""What follows from a folder of one's own pictures: settings, and what a person is told."""

import os
import pathlib
import shutil

import own_images as pictures
import pytest
from PIL import Image

from components.datasets import image_folder
from components.datasets.errors import DatasetError
from pipeline import configs, make_commands, own_images, slices
from pipeline.pipeline import create_pipeline
from pipeline.presets import PRESETS


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A folder of 60 pictures and two other files."""
    folder = tmp_path_factory.mktemp('pictures') / 'fruit'
    pictures.write_folder(folder, 60)
    (folder / 'notes.txt').touch()
    (folder / 'lime' / 'Thumbs.db').touch()
    return folder


def settings(folder, **environment):
    return configs.from_environment({'IMAGES': str(folder), 'VAR': '/tmp/var', **environment})


def test_images_choose_the_preset_and_the_name():
    config = settings('pets')
    assert (config.preset, config.dataset) == ('folder', '')
    assert config.images == os.path.abspath('pets')
    assert config.pipeline_name == 'capsnet-pets'
    assert config.min_accuracy == PRESETS['folder']['min_accuracy'] == 0.9
    assert settings('pets', PRESET='tiny').pipeline_name == 'capsnet-pets-tiny'
    assert settings('gs://bucket/my pets/').images == 'gs://bucket/my pets'
    assert settings('gs://bucket/my pets/').pipeline_name == 'capsnet-my-pets'
    assert settings('Питомцы').pipeline_name == 'capsnet-images'


@pytest.mark.parametrize(
    ('environment', 'said'),
    [
        ({'IMAGES': 'a', 'DATASET': 'mnist'}, 'IMAGES and DATASET exclude each other: your'),
        ({'IMAGES': 'a', 'TEST_SPLIT': 'test'}, 'IMAGES and TEST_SPLIT exclude each other'),
        ({'PRESET': 'folder'}, 'PRESET is folder: it needs IMAGES, the folder of your pictures'),
        ({'PRESET': 'quick', 'EPOCHS': '0'}, "EPOCHS is '0': it must be at least 1"),
    ],
)
def test_settings_that_exclude_each_other_are_refused(environment, said):
    with pytest.raises(configs.SettingError) as refused:
        configs.from_environment(environment)
    assert str(refused.value).startswith(said)


def test_epochs_are_as_many_as_2000_steps_take(folder):
    found = image_folder.read(str(folder))
    config = own_images.choose(settings(folder), found)
    assert config.epochs == -(-2000 * config.batch_size // 48)
    assert config.learning_rate_decay**config.epochs == pytest.approx(0.1)
    # The same over all epochs where they are given.
    given = settings(folder, EPOCHS='20')
    assert own_images.choose(given, found) == given
    assert given.learning_rate_decay**20 == pytest.approx(0.1)
    assert settings(folder, EPOCHS='20', LEARNING_RATE_DECAY='0.9').learning_rate_decay == 0.9


@pytest.mark.parametrize(
    ('environment', 'decoder'),
    [
        ({}, True),
        ({'IMAGE_HEIGHT': '48', 'IMAGE_WIDTH': '48'}, True),
        ({'IMAGE_WIDTH': '49'}, False),
        ({'IMAGE_WIDTH': '49', 'DECODER': 'yes'}, True),
        ({'IMAGE_WIDTH': '49', 'PRESET': 'quick'}, True),
    ],
)
def test_images_above_48_pixels_have_no_decoder(environment, decoder):
    assert settings('pets', **environment).decoder is decoder


def test_a_person_is_told_what_is_in_the_folder(folder):
    assert slices.chosen(settings(folder)).splitlines() == [
        f'Pictures of {folder}: 60 in 3 classes (blueberry, lime, tomato); about 48 train, 6 eval, '
        '6 test',
        'The network gets them in colour as 48 x 44 pixels (height x width), for 667 epochs',
        'Left aside: 2 files that are no pictures: lime/Thumbs.db, notes.txt',
    ]
    large = slices.chosen(settings(folder, IMAGE_HEIGHT='96', IMAGE_WIDTH='64', CHANNELS='1'))
    assert 'gets them grey as 96 x 64 pixels' in large
    assert large.endswith('no reconstructions. DECODER=yes trains one')


def test_the_pipeline_reads_the_folder_and_nothing_of_tfds(folder, tmp_path):
    built = create_pipeline(settings(folder, VAR=str(tmp_path)))
    example_gen = next(each for each in built.components if 'ExampleGen' in each.id)
    assert example_gen.id == 'ImageFolderExampleGen'
    assert example_gen.exec_properties['folder'] == str(folder)
    fingerprint = image_folder.read(str(folder)).fingerprint
    assert example_gen.exec_properties['fingerprint'] == fingerprint
    assert example_gen.exec_properties['max_bad_images'] == 0.05
    assert not (tmp_path / 'data').exists()
    with pytest.raises(DatasetError, match='IMAGES is /nowhere, which does not exist'):
        create_pipeline(settings('/nowhere', VAR=str(tmp_path)))


def test_next_steps_name_the_folder_and_one_of_its_pictures(folder, tmp_path):
    folder = shutil.copytree(folder, tmp_path / 'fruit')
    config = settings(folder, VAR=str(tmp_path))
    first = image_folder.first_picture(str(folder))
    pathlib.Path(first).with_name('0 damaged.png').write_bytes(
        pathlib.Path(first).read_bytes()[:60]
    )
    pathlib.Path(first).with_name('0 empty.jpg').touch()
    pathlib.Path(first).with_name('.0 of a Mac.png').write_bytes(pathlib.Path(first).read_bytes())
    for hidden in ('.trash', '@eaDir'):
        (folder / hidden).mkdir()
        shutil.copy(first, folder / hidden / '0.png')
    serve, predict, _ = make_commands.next_steps(config)
    assert serve.endswith(f'make serve IMAGES={folder} VAR={tmp_path}')
    assert predict.endswith(f'make predict IMAGES={folder} VAR={tmp_path} IMAGE={first}')
    with Image.open(first) as picture:
        assert picture.size
    assert len(make_commands.next_steps(settings('gs://bucket/pets', VAR=str(tmp_path)))) == 2
