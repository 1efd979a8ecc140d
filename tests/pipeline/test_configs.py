"""Settings: defaults, presets, the environment, and what is said of a wrong value."""

import os
import re
import subprocess
import sys

import pytest

from capsmodel import settings
from capsmodel.networks.table import NETWORKS
from pipeline import configs
from pipeline.presets import PRESETS

# What TFX takes: tests/pipeline/test_pipeline.py gives it such a name.
_LONGEST_NAME = 63
_HASHES = {'folder': '26bfb4e4', 'tiny': '0b2411cc'}


def test_environment_overrides_preset():
    config = configs.from_environment({'PRESET': 'paper', 'EPOCHS': '3', 'DECODER': 'no'})
    assert (config.epochs, config.decoder) == (3, False)
    assert config.min_accuracy == PRESETS['paper']['min_accuracy']


def test_empty_variable_counts_as_not_set():
    assert configs.from_environment({'EPOCHS': '', 'PRESET': ''}) == configs.from_preset('quick')


def test_every_field_is_read_from_its_variable():
    texts = {bool: 'no', int: '7', float: '0.125', tuple: '3,4', str: 'text'}
    values = {bool: False, int: 7, float: 0.125, tuple: (3, 4), str: 'text'}
    for variable, name in configs.NAMES.items():
        if settings.choices(configs.DECLARED[name]) or name in ('metadata', 'augmentation'):
            continue
        kind = type(configs.DECLARED[name].default)
        is_path = name in ('var', 'pipeline_root', 'images')
        expected = os.path.abspath('text') if is_path else values[kind]
        if name == 'members':
            expected = tuple(map(os.path.abspath, ('3', '4')))
        network = next(each for each in NETWORKS if name not in configs.lacking(each))
        for prefix in ('', 'CAPSNET_'):
            others = {'NETWORK': network, 'LEARNING_RATE_SCHEDULE': 'exponential'}
            config = configs.from_environment({prefix + variable: texts[kind], **others})
            assert getattr(config, name) == expected, name


def test_the_longer_name_wins_also_over_an_argument_of_the_same_setting():
    environment = {'EPOCHS': '3', 'CAPSNET_EPOCHS': '4', 'SEED': '5', 'CAPSNET_SEED': ''}
    config = configs.from_environment(environment)
    assert (config.epochs, config.seed) == (4, 5)
    assert configs.given(environment) == {'EPOCHS': '4', 'SEED': '5'}


def test_a_longer_name_that_is_nearly_a_setting_is_refused_and_those_of_kubernetes_are_not():
    services = {'CAPSNET_PORT': 'tcp://1.2.3.4:80', 'CAPSNET_MYSQL_SERVICE_HOST': '1.2.3.4'}
    assert configs.from_environment(services) == configs.from_environment({})
    with pytest.raises(configs.SettingError) as caught:
        configs.from_environment({'CAPSNET_EPOCH': '5'})
    assert str(caught.value) == ('There is no setting CAPSNET_EPOCH; did you mean CAPSNET_EPOCHS?')


def test_continuous_integration_is_told_which_of_its_variables_are_settings():
    used = {'SEED': '1', 'STRATEGY': 'default', 'EPOCHS': '3'}
    assert configs.notice({**used, 'CI': 'true'}) == (
        'These variables are used as settings: SEED, STRATEGY'
    )
    assert configs.notice({**used, 'CI': 'true', 'CAPSNET_SEED': '2'}).endswith(': STRATEGY')
    assert configs.notice(used) == configs.notice({'CI': 'true', 'EPOCHS': '3'}) == ''


@pytest.mark.parametrize(
    ('variable', 'value', 'said'),
    [
        ('PRESET', 'huge', "PRESET is 'huge': it must be one of tiny, quick, paper"),
        ('EPOCHS', 'three', "EPOCHS is 'three': it must be a whole number"),
        ('EPOCHS', '0', "EPOCHS is '0': it must be at least 1"),
        ('LEARNING_RATE', 'nan', "LEARNING_RATE is 'nan': it must be a finite number"),
        ('LEARNING_RATE', 'fast', "LEARNING_RATE is 'fast': it must be a number"),
        ('LEARNING_RATE_DECAY', '1.5', "LEARNING_RATE_DECAY is '1.5': it must be at most 1"),
        ('LEARNING_RATE_DECAY', '0.5', 'LEARNING_RATE_SCHEDULE is flat_linear, in which LEARNING'),
        ('DECODER', 'maybe', "DECODER is 'maybe': it must be yes or no"),
        ('ROUTING_GRADIENT', 'some', "ROUTING_GRADIENT is 'some': it must be one of all, last"),
        ('DECODER_UNITS', '512;8', "DECODER_UNITS is '512;8': it must be a whole number"),
        ('SEED', '4294967296', "SEED is '4294967296': it must be at most 4294967295"),
        ('MIN_ACCURACY', '-1', "MIN_ACCURACY is '-1': it must be at least 0"),
        ('PIPELINE_NAME', '../x', "PIPELINE_NAME is '../x': it must be of letters, digits"),
        ('PROFILE_STEPS', '15,10', 'PROFILE_STEPS is 15,10: it must be the first and the last'),
        ('PROFILE_STEPS', '10', 'PROFILE_STEPS is 10: it must be the first and the last step'),
        ('PROFILE_STEPS', '10-15', "PROFILE_STEPS is '10-15': it must be a whole number"),
        ('DATASET', 'mnist:x', "DATASET is 'mnist:x': it must be the name of a dataset of TFDS"),
        (
            'AUGMENTATION',
            'shift:2,spin',
            "AUGMENTATION is 'shift:2,spin': it must be none, or some of",
        ),
        ('VAR', '/a[1]/b', "VAR is '/a[1]/b': TensorFlow reads '[' in a path as part of a pattern"),
        ('PIPELINE_ROOT', 'gs://b/a*', "PIPELINE_ROOT is 'gs://b/a*': TensorFlow reads '*'"),
        ('DECODER_UNITS', '512,0', "DECODER_UNITS is '0': it must be at least 1"),
    ],
)
def test_wrong_value_names_what_is_allowed(variable, value, said):
    with pytest.raises(configs.SettingError) as caught:
        configs.from_environment({variable: value})
    assert str(caught.value).startswith(said)


def test_augmentation_has_one_spelling():
    config = configs.from_environment({'AUGMENTATION': 'rotate:10.0, shift:2'})
    assert config.augmentation == 'shift:2,rotate:10'
    assert configs.from_environment({'AUGMENTATION': 'shift:0'}).augmentation == 'none'


def test_a_pipeline_name_that_tfx_does_not_take_is_refused():
    configs.from_environment({'PIPELINE_NAME': 'n' * _LONGEST_NAME})
    with pytest.raises(configs.SettingError, match='of 64 characters: it may have 63'):
        configs.from_environment({'PIPELINE_NAME': 'n' * (_LONGEST_NAME + 1)})


@pytest.mark.parametrize('preset', ['folder', 'tiny'])
def test_a_long_folder_is_cut_to_a_name_of_its_own(preset):
    def name(folder):
        given = {'IMAGES': f'/pictures/{folder}', 'PRESET': preset, 'NETWORK': 'efficient_capsnet'}
        return configs.from_environment(given).pipeline_name

    after = '-tiny' if preset == 'tiny' else ''
    longest = 'f' * (_LONGEST_NAME - len(f'efficient_capsnet-{after}'))
    assert name(longest) == f'efficient_capsnet-{longest}{after}'
    cut = [name(f'{longest}{more}') for more in ('1', '2', f' of {"2026" * 40}')]
    assert [len(each) for each in cut] == [_LONGEST_NAME] * 3
    assert len(set(cut)) == 3
    assert all(each.startswith('efficient_capsnet-fff') and each.endswith(after) for each in cut)
    # Another process comes to the same: models and baselines lie under this name.
    assert cut[0] == f'efficient_capsnet-{longest[:-9]}-{_HASHES[preset]}{after}'


def test_a_long_dataset_is_cut_to_a_name_of_its_own():
    name = 'imagenet2012_corrupted/elastic_transform_1'
    given = {'DATASET': name, 'NETWORK': 'efficient_capsnet'}
    assert configs.from_environment(given).pipeline_name == (
        f'efficient_capsnet-{name.replace("/", "-")}'
    )
    of_tiny = configs.from_environment({**given, 'PRESET': 'tiny'}).pipeline_name
    assert re.fullmatch(
        'efficient_capsnet-imagenet2012_corrupted-elastic_-[0-9a-f]{8}-tiny', of_tiny
    )


@pytest.mark.parametrize(
    'address',
    [
        'db:3306', 'mysql://db', 'mysql://db/', 'mysql://db:port/runs', 'mysql://db:99999/runs',
        'mysql://db/a/b', 'grpc://metadata', 'grpc://metadata:80/runs', 'postgres://db/runs',
        'mysql://me:secret@db/runs', 'mysql://me@db/runs', 'mysql://:secret@db:3306/runs',
        'mysql://db/runs?password=secret', 'mysql://me:secret', 'mysql:me:secret@db/runs',
        'me:secret@db/runs', 'mysql://db/me:secret@runs', 'grpc://me:secret@metadata:80',
        'mysql://[::1/runs', 'mysql://db/runs#secret',
    ],
)  # fmt: skip
def test_a_wrong_address_of_ml_metadata_is_refused_and_not_repeated(address):
    with pytest.raises(configs.SettingError, match='METADATA must be mysql://HOST:PORT') as caught:
        configs.from_environment({'METADATA': address})
    assert address not in str(caught.value)
    assert 'secret' not in str(caught.value)


def test_presets_change_only_fields_and_quick_and_paper_share_a_name():
    names = set(configs.NAMES.values())
    assert all(names.issuperset(changes) for changes in PRESETS.values())
    assert configs.from_preset('quick').pipeline_name == 'capsnet'
    assert configs.from_preset('paper').pipeline_name == 'capsnet'


@pytest.mark.parametrize(
    ('environment', 'said'),
    [
        (
            {'NETWORK': 'mlp', 'ROUTING_GRADIENT': 'all'},
            'NETWORK is mlp, which has no ROUTING_GRADIENT: leave it out, or take capsnet',
        ),
        (
            {'CNN_WIDTH': '2'},
            'NETWORK is capsnet, which has no CNN_WIDTH: leave it out, or take cnn or '
            'cnn_large_kernels',
        ),
        ({'NETWORK': 'cnn', 'RECONSTRUCTION_WEIGHT': '1'}, 'NETWORK is cnn, which has no RECONSTR'),
        ({'NETWORK': 'mlp', 'PRESET': 'paper'}, 'PRESET is paper, and NETWORK is mlp: this preset'),
        ({'NETWORK': 'resnet'}, "NETWORK is 'resnet': it must be one of capsnet, "),
    ],
)
def test_what_a_network_does_not_have_is_refused(environment, said):
    with pytest.raises(configs.SettingError) as caught:
        configs.from_environment(environment)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize('preset', ['tiny', 'quick'])
@pytest.mark.parametrize('network', NETWORKS)
def test_every_network_has_its_values_in_the_presets_for_all(preset, network):
    config = configs.from_environment({'NETWORK': network, 'PRESET': preset})
    assert config.pipeline_name == network + ('-tiny' if preset == 'tiny' else '')
    of_network = NETWORKS[network].presets.get(preset, {})
    assert {name: getattr(config, name) for name in of_network} == of_network
    size = {'image_height': 28, 'image_width': 28, 'num_classes': 10}
    assert settings.filled(NETWORKS[network].config, config, **size).network == network


def test_models_of_other_datasets_and_of_tests_are_kept_apart():
    fashion = configs.from_environment({'DATASET': 'fashion_mnist'})
    assert fashion.serving_model_dir.endswith('/serving_model/capsnet-fashion_mnist')
    assert configs.from_preset('tiny').pipeline_name == 'capsnet-tiny'
    letters = configs.from_environment({'DATASET': 'emnist/letters'})
    assert letters.pipeline_name == 'capsnet-emnist-letters'
    cnn = configs.from_environment({'DATASET': 'fashion_mnist', 'NETWORK': 'cnn'})
    assert cnn.pipeline_name == 'cnn-fashion_mnist'
    assert configs.from_preset('tiny', pipeline_name='mine').pipeline_name == 'mine'


@pytest.mark.parametrize('spelled', ['mnist', 'mnist:3.0.1', 'MNIST', 'Mnist:3.*.*'])
def test_mnist_is_mnist_however_it_is_spelled(spelled):
    config = configs.from_environment({'DATASET': spelled})
    assert (config.dataset, config.pipeline_name) == ('mnist', 'capsnet')
    assert config.dataset_version == spelled.partition(':')[2]


def test_version_is_given_with_the_name_or_apart():
    fashion = configs.from_environment({'DATASET': 'fashion_mnist:3.0.1'})
    apart = {'DATASET': 'FashionMNIST', 'DATASET_VERSION': '3.0.1'}
    assert fashion == configs.from_environment(apart)
    letters = configs.from_environment({'DATASET': 'emnist/letters:3.1.0'})
    assert letters.pipeline_name == 'capsnet-emnist-letters'
    assert configs.from_preset('quick', dataset='a/b+c').pipeline_name == 'capsnet-a-b-c'
    with pytest.raises(configs.SettingError, match='give one version, by either setting'):
        configs.from_environment({'DATASET': 'mnist:3.0.1', 'DATASET_VERSION': '3.0.0'})


def test_everything_written_lies_under_var(tmp_path):
    config = configs.from_preset('quick', var=str(tmp_path))
    for name in ('data_dir', 'pipeline_root', 'metadata_path', 'serving_model_dir', 'schema_dir'):
        assert getattr(config, name).startswith(f'{tmp_path}{os.sep}')


def test_artifacts_may_be_elsewhere():
    bucket = configs.from_environment({'PIPELINE_ROOT': 'gs://bucket/runs', 'VAR': '/var/capsnet'})
    assert bucket.pipeline_root == 'gs://bucket/runs'
    assert bucket.tensorboard_dir == 'gs://bucket/runs/Trainer/model_run'
    folder = configs.from_environment({'PIPELINE_ROOT': 'runs'})
    assert folder.pipeline_root == os.path.abspath('runs')


def _run(*arguments, **environment):
    others = {name: text for name, text in os.environ.items() if name not in configs.NAMES}
    return subprocess.run(
        [sys.executable, '-m', 'pipeline.configs', *arguments],
        env={**others, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_command_prints_settings_and_refuses_in_one_sentence():
    assert _run('epochs', 'pipeline_name', PRESET='tiny', EPOCHS='9').stdout == '9\ncapsnet-tiny\n'
    assigned = _run('--assign', 'images', 'var', IMAGES="/it's $HOME", VAR='/my var').stdout
    printed = subprocess.run(
        ['sh', '-c', f'{assigned}\nprintf "%s|%s" "$images" "$var"'],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert printed == "/it's $HOME|/my var"
    table = _run(PRESET='tiny').stdout
    for variable, name in configs.NAMES.items():
        has = name not in configs.lacking('capsnet')
        assert (f'\n{variable} ' in f'\n{table}') == has
        assert not has or configs.DECLARED[name].description in table
    assert 'There is no setting nonsense; ' in _run('nonsense').stderr
    refused = _run(PRESET='huge')
    assert refused.returncode == 1
    assert refused.stderr.startswith("Wrong setting: PRESET is 'huge': it must be one of tiny")


def test_who_reads_only_the_first_settings_sees_no_stack_trace():
    command = [sys.executable, '-u', '-m', 'pipeline.configs']
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b''
