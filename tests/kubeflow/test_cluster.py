import pytest

from kubeflow import cluster
from pipeline.configs import SettingError


def _load(tmp_path, text):
    path = tmp_path / 'mine.yaml'
    path.write_text(text)
    return cluster.load(path)


def test_defaults():
    settings = cluster.load()
    assert settings.image == 'capsnet:latest'
    assert settings.volumes == {'capsnet-var': settings.var}
    assert settings.resources('Pusher').gpus == 0
    assert settings.resources('Trainer').memory_limit == '8Gi'
    assert settings.resources('Trainer').retries == settings.resources('Pusher').retries


def test_a_file_changes_what_it_names(tmp_path):
    settings = _load(
        tmp_path,
        'image: registry/capsnet:3\n'
        'metadata: grpc://metadata:8080\n'
        'secrets: {capsnet-mysql: null}\n'
        'volumes: {more: /more}\n'
        'defaults: {retries: 5}\n'
        'nodes: {Trainer: {gpus: 2}, Evaluator: {memory: 3Gi}}\n',
    )
    assert settings.image == 'registry/capsnet:3'
    assert settings.secrets == {}
    assert settings.volumes == {'capsnet-var': '/var/capsnet', 'more': '/more'}
    trainer = settings.resources('Trainer')
    assert (trainer.gpus, trainer.cpu, trainer.retries) == (2, '4', 5)
    assert settings.resources('Evaluator').memory == '3Gi'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('imag: x', 'there is no setting imag'),
        ('defaults: {cpus: 3}', 'there is no setting defaults.cpus'),
        ('defaults: {cpu: 3}', 'defaults.cpu is 3: it must be text'),
        ('defaults: {cpu: null}', 'defaults.cpu is missing'),
        ('defaults: 3', 'defaults is 3: it must be a mapping'),
        ('nodes: {Trainer: {gpu: 1}}', 'there is no setting nodes.Trainer.gpu'),
        ('nodes: {Trainer: {gpus: one}}', "nodes.Trainer.gpus is 'one': it must be a whole number"),
        ('nodes: {Trainer: 1}', 'nodes.Trainer is 1: it must be a mapping'),
        ('nodes: 1', 'nodes is 1: it must be a mapping'),
        ('environment: {A: 1}', 'environment.A is 1: it must be text'),
        ('volumes: [a]', "volumes is ['a']: it must be a mapping"),
        (
            'nodes: {Trainer: {memory: 1.5Gi}}',
            "nodes.Trainer.memory is '1.5Gi': it must be a whole",
        ),
        ('defaults: {memory: 2GB}', "defaults.memory is '2GB': it must be a whole number with"),
        ('defaults: {memory: 0Gi}', "defaults.memory is '0Gi': it must be a whole number with"),
        ("defaults: {memory: ''}", "defaults.memory is '': it must not be empty"),
        ('defaults: {memory: 6Gi}', "memory_limit is '4Gi': it must be at least memory, which is"),
        (
            "nodes: {Trainer: {cpu_limit: '3'}}",
            "nodes.Trainer.cpu_limit is '3': it must be at least",
        ),
        ('nodes: {Pusher: {cpu_limit: 999m}}', 'it must be at least cpu, which is 1'),
        ('defaults: {cpu: one}', "defaults.cpu is 'one': it must be a number of cores, such as"),
        ('defaults: {cpu_limit: -1m}', "defaults.cpu_limit is '-1m': it must be a number of cores"),
        ("defaults: {cpu: ''}", "defaults.cpu is '': it must not be empty"),
        ('defaults: {retries: -1}', 'defaults.retries is -1: it must be at least 0'),
        ('defaults: {retry_wait: -5}', 'defaults.retry_wait is -5: it must be at least 0'),
        ('defaults: {retry_factor: 0}', 'defaults.retry_factor is 0: it must be at least 1'),
        ('defaults: {retry_wait_limit: 3601}', 'retry_wait_limit is 3601: it must be at most 3600'),
        ('nodes: {Tuner: {timeout: 0}}', 'nodes.Tuner.timeout is 0: it must be at least 1'),
        ('nodes: {Trainer: {gpus: -1}}', 'nodes.Trainer.gpus is -1: it must be at least 0'),
        ("nodes: {Trainer: {gpus: 2, gpu_type: ''}}", "nodes.Trainer.gpu_type is '': it must be a"),
        (
            'image_pull_policy: always',
            "image_pull_policy is 'always': it must be '', 'Always', 'If",
        ),
        ("image: ''", "image is '': it must be a name without spaces"),
        ('gpu_image: a b', "gpu_image is 'a b': it must be a name without spaces"),
        ('defaults: {tolerations: [{keey: x}]}', 'there is no setting defaults.tolerations.keey'),
        ('defaults: {tolerations: [a]}', "defaults.tolerations is 'a': it must be a mapping"),
        ('defaults: {tolerations: [{effect: Never}]}', "tolerations.effect is 'Never': it must be"),
        ('var: data', "var is 'data': it must be an absolute path"),
        (
            'var: /data',
            "var is '/data': it must be in a folder of `volumes`, which are /var/capsnet",
        ),
        ('var: /var/capsnet/../x', 'it must be in a folder of `volumes`'),
        ('var: /var/capsnet2', 'it must be in a folder of `volumes`'),
        (
            'pipeline_root: artifacts',
            "pipeline_root is 'artifacts': it must be in a folder of `vol",
        ),
        ('volumes: {more: more}', "volumes.more is 'more': it must be an absolute path"),
        ('secret_files: {key: key}', "secret_files.key is 'key': it must be an absolute path"),
        (
            'environment: {EPOCHS: abc}',
            'environment.EPOCHS is a setting of the pipeline: give it to',
        ),
        ('environment: {CAPSNET_VAR: /x}', 'environment.CAPSNET_VAR is a setting of the pipeline'),
        ('environment: {CAPSNET_EPOCH: "1"}', 'no setting CAPSNET_EPOCH; did you mean'),
        (
            'environment: {METADATA_PASSWORD: x}',
            'would be in the compiled file: put it into a Secret',
        ),
        ('environment: {A B: x}', 'it must be the name of an environment variable'),
        (
            'secrets: {s: {key: A-B}}',
            "secrets.s.key is 'A-B': it must be the name of an environment",
        ),
        ('metadata: mysql://h', 'METADATA must be mysql://HOST:PORT/DATABASE or grpc://HOST:PORT'),
        ('1: x', 'must have a setting a line'),
        ('[', 'cannot be read'),
        ('- image', 'must have a setting a line'),
    ],
)
def test_wrong_setting_is_refused(tmp_path, text, message):
    with pytest.raises(SettingError) as caught:
        _load(tmp_path, text)
    assert message in str(caught.value)
    assert 'mine.yaml' in str(caught.value)


def test_a_password_in_the_address_of_the_database_is_refused_and_not_repeated(tmp_path):
    with pytest.raises(
        SettingError, match='A user and a password belong in METADATA_USER'
    ) as caught:
        _load(tmp_path, 'metadata: mysql://u:secretpw@h:3306/db')
    assert 'secretpw' not in str(caught.value)


@pytest.mark.parametrize(
    'text',
    [
        "defaults: {memory_limit: ''}",
        "nodes: {Pusher: {cpu: '.5', cpu_limit: 500m}}",
        'defaults: {memory: 4Gi, memory_limit: 4295M}',
        "nodes: {Trainer: {cpu: 2500m, memory: '4294967296'}}",
        'defaults: {tolerations: [{key: a, effect: NoExecute, tolerationSeconds: 0}]}',
        'var: /var/capsnet/mine\npipeline_root: /var/capsnet/artifacts',
        'var: /data/x\nvolumes: {data: /data/}',
        'pipeline_root: gs://bucket/folder',
        'environment: {IDX_DIR: /var/capsnet/idx, CAPSNET_PORT: tcp, aws_region: ""}',
        'image_pull_policy: Never',
    ],
)
def test_what_a_cluster_knows_is_taken(tmp_path, text):
    _load(tmp_path, text)
