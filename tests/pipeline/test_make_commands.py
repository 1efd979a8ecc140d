"""The commands that messages name, pasted into a shell."""

import json
import os
import subprocess
import sys

import pytest
from troubles import assert_printed

from pipeline import configs, make_commands

# As the project's, but a target prints where it runs and what it hands on.
_MAKEFILE = f"""\
VAR ?= var
export VAR
serve run:
\t@{sys.executable} -S -c 'import json, os; print(json.dumps([os.getcwd(), dict(os.environ)]))'
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with such a Makefile in the place of the project's."""
    folder = tmp_path / 'my project'
    folder.mkdir()
    (folder / 'Makefile').write_text(_MAKEFILE)
    monkeypatch.setattr(make_commands, '_ROOT', str(folder))
    monkeypatch.setattr(make_commands, '_STARTED_IN', str(folder))
    monkeypatch.chdir(folder)
    return folder


def _paste(command, **environment):
    """What the command would look at in a shell with these variables only."""
    printed = subprocess.check_output(
        command, shell=True, env={'PATH': os.environ['PATH'], **environment}
    )
    # make -C says where it is, before and after.
    (line,) = [line for line in printed.splitlines() if line.startswith(b'[')]
    folder, handed_on = json.loads(line)
    config = configs.from_environment({**handed_on, 'VAR': os.path.join(folder, handed_on['VAR'])})
    return [config.pipeline_name, config.serving_model_dir]


@pytest.mark.parametrize(
    ('environment', 'command'),
    [
        ({}, 'make serve'),
        ({'PRESET': 'paper', 'EPOCHS': '3', 'VAR': 'var'}, 'make serve'),
        ({'PRESET': 'tiny'}, 'make serve PRESET=tiny'),
        ({'PRESET': 'tiny', 'PIPELINE_NAME': 'capsnet-tiny'}, 'make serve PRESET=tiny'),
        ({'PRESET': 'tiny', 'PIPELINE_NAME': 'mine'}, 'make serve PIPELINE_NAME=mine'),
        ({'DATASET': 'fashion_mnist'}, 'make serve DATASET=fashion_mnist'),
        ({'NETWORK': 'mlp', 'EPOCHS': '3'}, 'make serve NETWORK=mlp'),
        ({'NETWORK': 'ensemble', 'MEMBERS': 'var/a,var/b'}, 'make serve NETWORK=ensemble'),
        ({'VAR': 'other'}, 'make serve VAR=other'),
        ({'VAR': "/a $b'c#d"}, """make serve VAR='/a $$b'"'"'c#d'"""),
    ],
)
def test_a_command_has_what_it_takes_and_works_when_pasted(project, environment, command):
    config = configs.from_environment(environment)
    assert make_commands.make_command('serve', config) == command
    wanted = [config.pipeline_name, config.serving_model_dir]
    assert _paste(command) == _paste(command, **environment) == wanted


def test_elsewhere_it_names_the_project(project, tmp_path, monkeypatch):
    monkeypatch.setattr(make_commands, '_STARTED_IN', str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = configs.from_environment({'PRESET': 'tiny'})
    command = make_commands.make_command('serve', config)
    assert command == f"make -C '{project}' serve PRESET=tiny VAR={tmp_path}/var"
    assert config.serving_model_dir in _paste(command)


def test_what_trains_takes_all_settings():
    given = {'PRESET': 'tiny', 'EPOCHS': '3', 'DECODER': 'no', 'DECODER_UNITS': '3,4'}
    command = make_commands.make_command('run', configs.from_environment(given))
    assert command == 'make run PRESET=tiny DECODER=no DECODER_UNITS=3,4 EPOCHS=3'


def test_members_are_found_from_where_the_command_is_pasted(project):
    given = {'NETWORK': 'ensemble', 'MEMBERS': f'{project}/var/a,/elsewhere/b,gs://bucket/c'}
    command = make_commands.make_command('run', configs.from_environment(given))
    assert command == 'make run MEMBERS=var/a,/elsewhere/b,gs://bucket/c NETWORK=ensemble'


def test_others_are_listed_where_nothing_is_found(project):
    config = configs.from_environment({'PRESET': 'paper'})
    assert_printed('nothing pushed', make_commands.what_is_missing('serve', config, {}))
    assert make_commands.what_is_missing('serve', config, {}) == (
        f'No model is pushed to {project}/var/serving_model/capsnet.\n'
        'To train one: make run PRESET=paper'
    )
    for folder in ('one/17', 'capsnet-tiny/18', 'empty/model', 'no name/19'):
        (project / 'var' / 'serving_model' / folder).mkdir(parents=True)
    (project / 'var' / 'pipeline_root' / 'two' / 'Trainer' / 'model_run').mkdir(parents=True)
    # What another shell has must not lead elsewhere.
    environment = {'PRESET': 'tiny', 'PIPELINE_NAME': 'mine', 'PIPELINE_ROOT': '/r', 'PORT': '8600'}
    config = configs.from_environment(environment)
    listed = make_commands.what_is_missing('serve', config, environment).splitlines()
    commands = [line.strip() for line in listed if line.startswith('  ')]
    assert [_paste(command, **environment)[0] for command in commands] == ['capsnet-tiny', 'one']
    assert all('PORT=8600' in command for command in commands)
    assert all(command.endswith("PIPELINE_ROOT='' PORT=8600") for command in commands)
    longer = {**environment, 'PIPELINE_ROOT': '', 'CAPSNET_PIPELINE_ROOT': '/r'}
    assert make_commands.what_is_missing('serve', config, longer).splitlines() == listed
    predict = make_commands.what_is_missing('predict', config, {'IMAGE': 'my 7.png'})
    assert "  make predict PIPELINE_NAME=one IMAGE='my 7.png'" in predict.splitlines()
    assert '  make serve PIPELINE_NAME=one' in predict.splitlines()
    tensorboard = make_commands.what_is_missing('tensorboard', config, {}).splitlines()
    assert_printed('nothing trained', tensorboard[0])
    assert tensorboard[0] == 'Nothing is trained in /r.'
    assert '  make tensorboard PIPELINE_NAME=two' in tensorboard
    of_one = configs.from_environment({'PIPELINE_NAME': 'one'})
    assert make_commands.what_is_missing('rollback', of_one, {}) is None


def test_the_sample_image_is_there(root):
    assert os.path.exists(os.path.join(root, make_commands.SAMPLE_IMAGE))


def test_a_preset_whose_schedule_has_no_decay_needs_no_settings():
    assert configs.from_preset('quick').learning_rate_schedule != 'exponential'
    assert make_commands.make_command('run', configs.from_preset('quick')) == 'make run'
    paper = configs.from_preset('paper', epochs=7)
    assert make_commands.make_command('run', paper) == 'make run PRESET=paper EPOCHS=7'


def test_what_is_secret_is_refused_on_the_command_line(monkeypatch):
    names = ['EPOCHS', 'CAPSNET_SEED', 'KFP_TOKEN', 'METADATA_PASSWORD', 'EPOCH']
    monkeypatch.setattr(sys, 'argv', ['make_commands', 'known', *names, '--others', 'HOST'])
    with pytest.raises(SystemExit) as ended:
        make_commands.main()
    seen = 'does not belong on a command line, which others on this machine can see: use `export'
    assert ended.value.code.splitlines() == [
        f'KFP_TOKEN {seen} KFP_TOKEN=...`',
        f'METADATA_PASSWORD {seen} METADATA_PASSWORD=...`',
        'There is no setting EPOCH; did you mean EPOCHS?',
    ]
