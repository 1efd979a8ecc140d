"""MEMBERS: what is read of pushed models, and what is refused before anything runs."""

import dataclasses
import json
import os

import network_configs
import pytest
import tfds_data

from capsmodel import model_facts
from components.datasets.info import ImageDatasetInfo
from pipeline import configs, members, pipeline

NAMES = tuple(str(label) for label in range(10))
DATASET = ImageDatasetInfo(height=28, width=28, channels=1, class_names=NAMES)


def _push(folder, name='mlp', class_names=NAMES, framing='strokes', **changes):
    """What a pushed model has beside its graph."""
    config = dataclasses.replace(network_configs.small(name), **changes)
    (folder / 'variables').mkdir(parents=True)
    (folder / 'saved_model.pb').touch()
    (folder / 'variables' / 'variables.index').write_text(f'weights in {folder}')
    model_facts.write(str(folder), class_names, config)
    model_facts.write_network(str(folder), config, framing)
    return folder


def _read(*folders, dataset=DATASET, **settings):
    config = configs.from_preset('tiny', network='ensemble', members=','.join(map(str, folders)))
    sizes = {'image_height': 28, 'image_width': 28, 'channels': 1, 'framing': 'strokes'}
    return members.read(dataclasses.replace(config, **{**sizes, **settings}), dataset)


def _refusal(*folders, **settings):
    with pytest.raises(configs.SettingError) as caught:
        _read(*folders, **settings)
    said = str(caught.value)
    assert '\n' not in said
    return said


@pytest.fixture
def pushed(tmp_path):
    """A model of each of two networks."""
    return [_push(tmp_path / name / '1', name) for name in ('capsnet', 'mlp')]


def test_members_are_versions_or_the_newest_of_several(pushed, tmp_path):
    newest = _push(tmp_path / 'mlp' / '10')
    _push(tmp_path / 'mlp' / '9')
    (tmp_path / 'mlp' / '11').mkdir()  # not completely there
    found = _read(pushed[0], tmp_path / 'mlp')
    assert [member.folder for member in found] == [str(pushed[0]), str(newest)]
    small = network_configs.small
    assert [member.network for member in found] == [small('capsnet'), small('mlp')]
    assert members.read(configs.from_preset('tiny'), DATASET) == []


def test_the_fingerprint_is_that_of_the_contents(pushed):
    before = [member.fingerprint for member in _read(*pushed)]
    assert before[0] != before[1]
    assert before == [member.fingerprint for member in _read(*pushed)]
    (pushed[1] / 'variables' / 'variables.index').write_text('other weights')
    after = [member.fingerprint for member in _read(*pushed)]
    assert after[0] == before[0]
    assert after[1] != before[1]


def test_fewer_than_two_are_refused(pushed):
    for given in ((), pushed[:1]):
        assert _refusal(*given).startswith(
            'NETWORK is ensemble, which averages pushed models: name at least two in MEMBERS'
        )
    assert _refusal(pushed[1], pushed[0], f'{pushed[1]}/') == (
        f'MEMBERS names {pushed[1]} twice: name each model once'
    )


def test_a_folder_without_a_model_is_named(pushed, tmp_path):
    for folder in (tmp_path, tmp_path / 'nowhere'):
        said = _refusal(pushed[0], folder)
        assert said.startswith(f'MEMBERS: there is no pushed model in {folder}: name the folder')


def test_a_model_that_does_not_say_what_it_is_made_of_is_named(pushed):
    path = pushed[1] / 'assets.extra' / 'network.json'
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, 'config': {**known['config'], 'units': 3}}))
    said = _refusal(*pushed)
    assert said == (
        f'MEMBERS: the network in {pushed[1]} cannot be built: there is no setting UNITS; train '
        'and push it again'
    )
    path.write_text(json.dumps({**known, 'config': {**known['config'], 'network': 'resnet'}}))
    assert 'cannot be built: its network must be one of capsnet, ' in _refusal(*pushed)
    path.write_text('{"config"')
    assert 'cannot be built: Expecting' in _refusal(*pushed)
    path.write_text('{"framing": "strokes"}')
    assert "cannot be built: 'config'" in _refusal(*pushed)
    path.write_text(json.dumps(known))
    (pushed[1] / 'variables' / 'variables.index').unlink()
    assert 'cannot be built: ' in _refusal(*pushed)
    path.unlink()
    assert _refusal(*pushed).startswith(
        f'MEMBERS: the model in {pushed[1]} does not say how its network is built: '
    )


@pytest.mark.parametrize(
    ('other', 'said'),
    [
        ({'class_names': [*NAMES[:9], 'nine']}, 'the classes 0, 1, 2, 3, 4, 5, 6, 7, 8, nine, and'),
        ({'image_width': 30}, 'images of 28x30 pixels, and this run has 28x28 pixels: '),
        ({'image_channels': 3}, 'CHANNELS 3, and this run has 1: '),
        ({'crop': 24}, 'crops of 24x24 pixels, and this run has the whole image: '),
        ({'framing': 'whole'}, 'FRAMING whole, and this run has strokes: '),
    ],
)
def test_a_model_for_other_images_is_named(pushed, tmp_path, other, said):
    odd = _push(tmp_path / 'odd' / '1', **other)
    assert _refusal(*pushed, odd).startswith(f'MEMBERS: the model in {odd} has {said}')


def test_long_names_of_classes_are_cut_off(pushed):
    many = tuple(f'class {number}' for number in range(1000))
    assert len(_refusal(*pushed, dataset=dataclasses.replace(DATASET, class_names=many))) < 600


@pytest.mark.parametrize('setting', ['tuner', 'warm_start', 'profile_steps'])
def test_what_only_a_training_has_is_refused(pushed, setting):
    value = (1, 2) if setting == 'profile_steps' else True
    assert _refusal(*pushed, **{setting: value}) == (
        f'NETWORK is ensemble, which is not trained: leave out {setting.upper()}'
    )


def test_the_trainer_gets_networks_folders_and_what_tells_them_apart(pushed, tmp_path):
    given = pushed[::-1]  # TFX sorts keys; weights must come in the order of the networks
    images = tfds_data.synthetic_images(30, seed=1)
    tfds_data.write_dataset(tmp_path / 'data', {'train': images, 'test': images})
    environment = {
        'NETWORK': 'ensemble',
        'MEMBERS': ','.join(map(str, given)),
        'TRAIN_SPLIT': 'train[:20]',
        'EVAL_SPLIT': 'train[20:]',
        'MIN_TEST_IMAGES': '30',
        'VAR': str(tmp_path),
    }
    built = pipeline.create_pipeline(configs.from_environment(environment))
    (trainer,) = (node for node in built.components if node.id == 'Trainer')
    settings = json.loads(trainer.exec_properties['custom_config'])
    folders, fingerprints = zip(*settings['members'], strict=True)
    assert list(folders) == [str(folder) for folder in given]
    assert all(fingerprints)
    assert len(set(fingerprints)) == 2
    assert [each['network'] for each in settings['network']['members']] == ['mlp', 'capsnet']


def test_paths_are_those_of_the_caller(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = configs.from_environment({'NETWORK': 'ensemble', 'MEMBERS': 'a, gs://bucket/b,'})
    assert config.members == (os.path.abspath('a'), 'gs://bucket/b')
