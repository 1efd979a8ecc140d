"""What is told of versions and datasets, from records of runs as TFX writes them."""

import itertools
import json
import os
import re
import subprocess
import sys

import outer_environment
import pytest
from ml_metadata.proto import metadata_store_pb2
from mlmd_records import CACHED, Records

from pipeline import code_version, configs
from pipeline.lineage.data import of_data
from pipeline.lineage.graph import LineageError
from pipeline.lineage.versions import of_version
from pipeline.metadata_error import MetadataError

_FINGERPRINT = '0123456789abcdef' * 4
_TRAINER = {
    'custom_config': json.dumps(
        {
            'checkpoint_root': 'checkpoints',
            'code_version': 'f' * 16,
            'network': {'network': 'mlp', 'standardize': False, 'decoder_units': [64, 128]},
            'training': {'epochs': 3, 'learning_rate': 0.004},
        }
    )
}


@pytest.fixture
def config(tmp_path):
    return configs.from_preset('tiny', var=str(tmp_path))


@pytest.fixture
def records(config):
    return Records(config)


def _example_gen(records, **where):
    splits = {'splits': [{'name': 'train', 'pattern': 'train[:10]'}]}
    data = {'dataset': 'mnist', 'dataset_version': '3.0.1', 'fingerprint': _FINGERPRINT}
    (examples,) = records.execute(
        'TfdsExampleGen',
        {},
        {'examples': ('Examples', data)},
        code_version=code_version.code_version('TfdsExampleGen'),
        input_config=json.dumps(splits),
        **where,
    )
    return examples


def _train(records, examples, inputs=None, **where):
    (model,) = records.execute(
        'Trainer', {'examples': examples, **(inputs or {})}, {'model': ('Model', {})},
        **_TRAINER, **where,
    )  # fmt: skip
    return model


def _evaluate(records, examples, model, blessed=1, baseline=None, **where):
    inputs = {'examples': examples, 'model': model}
    (blessing,) = records.execute(
        'Evaluator',
        inputs | ({'baseline_model': baseline} if baseline else {}),
        {'blessing': ('ModelBlessing', {'blessed': blessed})},
        eval_config=json.dumps({'config': json.dumps({'code_version': 'e' * 16})}),
        **where,
    )
    return blessing


def _push(records, model, blessing, version, live_already=0, **where):
    pushed = {
        'pushed_version': version,
        'pushed_destination': f'serving_model/{version}',
        'live_already': live_already,
    }
    records.execute(
        'Pusher',
        {'model': model, 'model_blessing': blessing},
        {'pushed_model': ('PushedModel', pushed)},
        **where,
    )


@pytest.fixture
def two_versions(records):
    """A version; a run that finds all of it in the cache; a version of retrained weights."""
    examples = _example_gen(records)
    model = _train(records, examples)
    records.choose('BaselineResolver', 'candidate', model, 'run 1')
    blessing = _evaluate(records, examples, model)
    _push(records, model, blessing, '9')
    again = {'run': 'run 2', 'state': CACHED}
    records.execute('TfdsExampleGen', {}, {'examples': examples}, **again)
    records.execute('Trainer', {'examples': examples}, {'model': model}, **again)
    records.execute(
        'Evaluator', {'examples': examples, 'model': model}, {'blessing': blessing}, **again
    )
    _push(records, model, blessing, '9', live_already=1, run='run 2')
    records.execute('TfdsExampleGen', {}, {'examples': examples}, run='run 3', state=CACHED)
    retrained = _train(records, examples, {'base_model': model}, run='run 3')
    records.choose('BaselineResolver', 'model', model, 'run 3')
    blessing = _evaluate(records, examples, retrained, baseline=model, run='run 3')
    _push(records, retrained, blessing, '10', run='run 3')
    return records


def _without_times(lines):
    return re.sub(r' at \d{4}-\d\d-\d\d \d\d:\d\d:\d\d(, took \d+\.\d s)?', '', '\n'.join(lines))


def test_a_version_is_told_back_to_its_dataset(config, two_versions):
    os.makedirs(os.path.join(config.var, 'serving_model', '9'))
    assert (
        _without_times(of_version(config, '9'))
        == f"""\
Version 9 of capsnet-tiny; paths begin in {config.var}
pushed_model: serving_model/9
│ by Pusher
│ in the run run 1, with TFX 1.16.0
├─ model: capsnet-tiny/Trainer/model/run 1 (removed)
│  │ by Trainer
│  │ code ffffffffffffffff (changed since)
│  │ NETWORK=mlp STANDARDIZE=no DECODER_UNITS=64,128 EPOCHS=3
│  │ LEARNING_RATE=0.004
│  └─ examples: capsnet-tiny/TfdsExampleGen/examples/run 1 (removed)
│       DATASET=mnist DATASET_VERSION=3.0.1
│       fingerprint={_FINGERPRINT}
│       by TfdsExampleGen
│       code {code_version.code_version('TfdsExampleGen')}
│       train=train[:10]
└─ model_blessing: capsnet-tiny/Evaluator/blessing/run 1 (removed)
   │ blessed=yes
   │ by Evaluator
   │ code eeeeeeeeeeeeeeee (changed since)
   ├─ examples: capsnet-tiny/TfdsExampleGen/examples/run 1 (removed)
   │    by TfdsExampleGen, as above
   └─ model: capsnet-tiny/Trainer/model/run 1 (removed)
        by Trainer, as above"""
    )


def test_the_newest_version_is_told_with_what_it_warm_started_from_and_was_compared_with(
    config, two_versions
):
    told = of_version(config)
    assert told[0].startswith('Version 10 of ')
    (base,) = [at for at, line in enumerate(told) if 'base_model: ' in line]
    assert 'Trainer/model/run 1' in told[base]
    assert 'by Trainer' in told[base + 1]
    assert 'in the run run 1, with TFX 1.16.0' in told[base + 3]
    (baseline,) = [at for at, line in enumerate(told) if 'baseline_model: ' in line]
    assert told[baseline + 1].endswith('  only compared with: version 9')
    assert sum('in the run run 2' in line for line in told) == 0


def test_members_are_told_with_their_fingerprints(config, records):
    members = [['serving_model/mlp/1', 'a' * 16], ['serving_model/cnn/2', 'b' * 16]]
    network = {'network': 'ensemble', 'members': [{'network': 'mlp'}, {'network': 'cnn'}]}
    (model,) = records.execute(
        'Trainer',
        {},
        {'model': ('Model', {})},
        custom_config=json.dumps({'members': members, 'network': network}),
    )
    _push(records, model, _evaluate(records, _example_gen(records), model), '1')
    text = '\n'.join(of_version(config))
    assert f'member=serving_model/mlp/1 ({"a" * 16})' in text
    assert f'member=serving_model/cnn/2 ({"b" * 16})' in text
    assert re.findall(r'NETWORK=\w+', text) == ['NETWORK=ensemble']


def test_data_are_told_with_what_became_of_all_their_trainings(config, two_versions):
    two_versions.execute(
        'TfdsExampleGen', {}, {'examples': ('Examples', {'dataset': 'other', 'fingerprint': 'ff'})}
    )
    examples = _example_gen(two_versions, run='run 4', pipeline='cnn')
    where = {'pipeline': 'cnn', 'run': 'run 4'}
    rejected = _train(two_versions, examples, **where)
    _evaluate(two_versions, examples, rejected, blessed=0, **where)
    blessed = _train(two_versions, examples, **where)
    _evaluate(two_versions, examples, blessed, **where)
    _train(two_versions, examples, **where)
    for state in ('FAILED', 'CANCELED', 'RUNNING'):
        two_versions.execute(
            'Trainer',
            {'examples': examples},
            {},
            state=metadata_store_pb2.Execution.State.Value(state),
            **where,
        )
    told = of_data(config, 'mnist')
    assert of_data(config, _FINGERPRINT[:6])[1:] == told[1:]
    first, second = [at for at, line in enumerate(told) if line.startswith('examples: ')]
    assert f'fingerprint={_FINGERPRINT}' in told[first + 2]
    assert 'train=train[:10]' in told[first + 3]
    outcomes = [
        (before.strip('│ '), line.strip('│ '))
        for before, line in itertools.pairwise(told)
        if re.search('blessed|rejected|evaluated|failed|stopped|running', line)
    ]
    assert [outcome for _, outcome in outcomes] == [
        'blessed and pushed as version 9',
        'blessed and pushed as version 10',
        'rejected by the Evaluator',
        'blessed, but not pushed',
        'not evaluated',
        'failed',
        'was stopped',
        'is running, or its run was killed',
    ]
    assert outcomes[0][0] == 'model: capsnet-tiny/Trainer/model/run 1 (removed)'
    names = [line[3:] for line in told if re.match('[├└]', line)]
    assert names == ['capsnet-tiny'] * 2 + ['cnn'] * 6
    assert told[second - 1].startswith('   ')


def test_data_without_a_training_are_told(config, records):
    _example_gen(records)
    assert of_data(config, 'mnist')[-1] == '  no training has used them'


def test_what_is_not_there_is_said_with_what_is(config, two_versions):
    with pytest.raises(LineageError) as caught:
        of_version(config, '11')
    assert str(caught.value) == ('ML Metadata knows no version 11 of capsnet-tiny, only 9, 10')
    with pytest.raises(LineageError) as caught:
        of_data(config, 'minst')
    assert str(caught.value) == ('ML Metadata knows no dataset minst, only mnist (0123456789ab)')
    other = configs.from_preset('tiny', var=config.var, pipeline_name='mine')
    with pytest.raises(LineageError) as caught:
        of_version(other)
    assert str(caught.value).startswith(
        'ML Metadata knows no pushed version of mine; there are runs of capsnet-tiny '
        '(PIPELINE_NAME); to push one: make '
    )


def _lineage(config, *arguments):
    return subprocess.run(
        [sys.executable, '-m', 'pipeline.lineage', *arguments],
        env={**outer_environment.without_settings(), 'VAR': config.var, 'PRESET': 'tiny'},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_prints_the_tree_or_one_sentence(config, two_versions):
    done = _lineage(config, '--version', '9')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == of_version(config, '9')
    wrong = _lineage(config, '--data', 'minst')
    assert wrong.returncode == 1
    assert wrong.stdout == ''
    assert wrong.stderr.splitlines()[-1].startswith('ML Metadata knows no dataset minst')
    assert 'Traceback' not in wrong.stderr


def test_before_the_first_run_nothing_is_made(config):
    for tell in (of_version, lambda config: of_data(config, 'mnist')):
        with pytest.raises(LineageError, match=r'^There is no .*metadata\.db, in which runs'):
            tell(config)
    assert os.listdir(config.var) == []


def test_a_damaged_file_ends_in_a_sentence(config, two_versions):
    os.truncate(config.metadata_path, os.path.getsize(config.metadata_path) // 2)
    with pytest.raises(MetadataError, match='is damaged'):
        of_version(config)
