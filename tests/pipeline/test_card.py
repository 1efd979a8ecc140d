"""What `make card` shows, and what the settings tell a card."""

import json
import os
import subprocess
import sys

import pytest

from components.model_card import files
from pipeline import card, card_settings, configs


@pytest.fixture
def config(tmp_path):
    return configs.from_environment({'VAR': str(tmp_path / 'var'), 'PRESET': 'tiny'})


def _write(*folders):
    path = os.path.join(*folders, files.PAGE)
    os.makedirs(os.path.dirname(path))
    with open(path, 'w', encoding='utf-8') as file:
        file.write('<p>')
    return path


def test_the_card_of_the_newest_version_or_of_another_one(config):
    paths = {
        version: _write(config.serving_model_dir, version, 'assets.extra')
        for version in ('9', '10')
    }
    os.makedirs(os.path.join(config.serving_model_dir, '8'))
    os.makedirs(os.path.join(config.serving_model_dir, '11.unfinished'))
    assert card.of_version(config) == paths['10']
    assert card.of_version(config, '9') == paths['9']
    with pytest.raises(card.NoCard, match=r'^Version 8 has no model card: it was pushed without'):
        card.of_version(config, '8')
    with pytest.raises(card.NoCard, match=r'no version 3 in .*capsnet-tiny, only 8, 9, 10$'):
        card.of_version(config, '3')


def test_the_card_of_the_last_run_that_came_to_it(config):
    with pytest.raises(card.NoCard, match=r'^No run of capsnet-tiny has come .* PRESET=tiny'):
        card.of_last_run(config)
    folder = os.path.join(config.pipeline_root, 'ModelCard', 'card')
    _write(folder, '9')
    path = _write(folder, '10')
    os.makedirs(os.path.join(folder, '11'))  # of a run that was killed
    assert card.of_last_run(config) == path


def test_nothing_pushed_is_a_sentence_with_what_to_do(config, root):
    done = _card(config, root)
    assert done.returncode == 1
    assert done.stderr.startswith(f'No model is pushed to {config.serving_model_dir}.\n')
    assert 'make run PRESET=tiny' in done.stderr
    both = _card(config, root, '--version=1', '--latest')
    assert both.stderr.startswith('Name VERSION or LATEST: ')


def test_it_is_opened_where_there_is_a_screen(config, root, tmp_path):
    path = _write(config.serving_model_dir, '9', 'assets.extra')
    opened = tmp_path / 'opened'
    browser = tmp_path / 'browser'
    browser.write_text(f'#!/bin/sh\necho "$1" > {opened}\n')
    browser.chmod(0o755)
    screen = {'BROWSER': str(browser), 'WAYLAND_DISPLAY': ''}
    if sys.platform != 'darwin':
        done = _card(config, root, DISPLAY='', **screen)
        assert (done.returncode, done.stdout) == (0, f'{path}\n')
        assert not opened.exists()
    assert _card(config, root, DISPLAY=':0', **screen).stdout == f'{path}\n'
    assert opened.read_text() == f'file://{path}\n'


def _card(config, root, *arguments, **environment):
    return subprocess.run(
        [sys.executable, '-m', 'pipeline.card', *arguments],
        cwd=root,
        env={**os.environ, 'VAR': config.var, 'PRESET': 'tiny', **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ('settings', 'command'),
    [
        ({}, 'make run'),
        ({'PRESET': 'tiny', 'EPOCHS': '6'}, 'make run PRESET=tiny'),  # its own number of epochs
        ({'EPOCHS': '3', 'SEED': '7'}, 'make run EPOCHS=3 SEED=7'),
        ({'NETWORK': 'cnn', 'PIPELINE_NAME': 'mine'}, 'make run NETWORK=cnn PIPELINE_NAME=mine'),
        ({'IMAGES': '/my pets', 'INFRA_CHECK_TIMEOUT': '9'}, "make run IMAGES='/my pets'"),
    ],
)
def test_the_command_has_what_the_model_depends_on_and_no_more(settings, command):
    given = configs.from_environment({'VAR': '/somewhere', 'METADATA': '', **settings})
    assert sorted(card_settings.command(given).split()) == sorted(command.split())


def test_a_card_is_told_the_same_wherever_the_folder_lies(tmp_path):
    told = [
        card_settings.described(config, config)
        for folder in ('a', 'b')
        for config in [configs.from_environment({'VAR': str(tmp_path / folder), 'EPOCHS': '3'})]
    ]
    assert told[0] == told[1]
    found = json.loads(told[0])
    assert found['pipeline'] == 'capsnet'
    assert found['settings']['EPOCHS'] == '3'
    assert not {'VAR', 'METADATA', 'PIPELINE_ROOT', 'BEAM_ARGS'} & found['settings'].keys()
