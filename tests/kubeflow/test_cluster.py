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
