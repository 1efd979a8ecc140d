import os
import pathlib
import re

import pytest
from google.protobuf import descriptor_pb2, text_format

from serving import config_files
from serving.config import config_pb2
from serving.config_files import BatchingOptions
from serving.errors import ServingError

CONFIG = pathlib.Path(config_pb2.__file__).parent


@pytest.fixture
def file(tmp_path):
    """Writes a file; returns its path."""

    def write(text):
        path = tmp_path / 'file.config'
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(path)

    return write


def model(**fields):
    values = {'name': '"m"', 'base_path': '"/models/m"', 'model_platform': '"tensorflow"'} | fields
    lines = '\n'.join(f'{name}: {value}' for name, value in values.items() if value)
    return f'config {{ {lines} }}'


def models(*texts):
    lines = '\n'.join(texts)
    return f'model_config_list {{\n{lines}\n}}'


def test_models_config_of_the_real_server(file):
    config = config_files.read_model_config(
        file(
            """
            # Two models.
            model_config_list {
              config {
                name: 'one', base_path: '/models/one', model_platform: 'tensorflow'
                model_version_policy { specific { versions: 4 versions: 5 } }
                version_labels { key: 'stable' value: 4 }
                version_labels { key: 'canary' value: 5 }
              }
              config { name: "two" base_path: "/models/two" model_type: TENSORFLOW }
            }
            """
        )
    )
    one, two = config.model_config_list.config
    assert list(one.model_version_policy.specific.versions) == [4, 5]
    assert dict(one.version_labels) == {'stable': 4, 'canary': 5}
    assert (two.name, two.base_path) == ('two', '/models/two')


def test_list_without_models_serves_none(file):
    assert not config_files.read_model_config(file(models())).model_config_list.config


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('', ' has no model_config_list: it says no model to serve.'),
        ('custom_model_config {}', ' has no model_config_list: it says no model to serve.'),
        (
            models('config {', 'nam: "m"', '}'),
            ', line 3: Message type "tensorflow.serving.ModelConfig" has no field named "nam".',
        ),
        (models('config {', 'name: m', '}'), ", line 3: 'name: m': Expected string but found: 'm'"),
        ('model_config_list {', ', line 1: Expected "}".'),
        (
            models(model(model_version_policy='{ specific { versions: 9223372036854775808 } }')),
            'Value out of range: 9223372036854775808',
        ),
        (b'# caf\xe9', ' is no text in UTF-8.'),
        (models(model(name='""')), ' has a model without a name.'),
        (models(model(), model()), ' lists the model m more than once.'),
        (
            models(model(base_path='"models/m"')),
            " needs an absolute path as base_path of the model m, not 'models/m'.",
        ),
        (
            models(model(base_path=None)),
            " needs an absolute path as base_path of the model m, not ''.",
        ),
        (
            models(model(model_platform=None)),
            ' needs model_platform: "tensorflow" for the model m.',
        ),
        (
            models(model(model_platform='"caffe"')),
            ' needs model_platform: "tensorflow" for the model m.',
        ),
        (
            models(model(model_type='TENSORFLOW')),
            ' needs model_platform: "tensorflow" for the model m.',
        ),
    ],
)
def test_models_config_that_the_real_server_refuses(file, text, said):
    path = file(text)
    with pytest.raises(ServingError) as caught:
        config_files.read_model_config(path)
    assert caught.value.code == 'INVALID_ARGUMENT'
    assert str(caught.value).startswith(path)
    assert str(caught.value).endswith(said)


def test_file_that_cannot_be_read(tmp_path):
    path = tmp_path / 'none.config'
    for read in (
        config_files.read_model_config,
        config_files.read_batching_parameters,
        config_files.read_monitoring_config,
        config_files.read_request_log_config,
    ):
        with pytest.raises(ServingError) as caught:
            read(str(path))
        assert str(caught.value) == f'Cannot read {path}: No such file or directory.'
    with pytest.raises(ServingError, match='Is a directory'):
        config_files.read_model_config(str(tmp_path))


def test_single_model(tmp_path, monkeypatch, file):
    monkeypatch.chdir(tmp_path)
    config = config_files.single_model_config('m', 'models/m')
    (only,) = config.model_config_list.config
    assert (only.name, only.base_path) == ('m', str(tmp_path / 'models' / 'm'))
    assert config_files.read_model_config(file(text_format.MessageToString(config))) == config


@pytest.mark.parametrize(
    ('url', 'folder'),
    [
        ('file:///models/m', '/models/m'),
        ('file://localhost/models/m', '/models/m'),
        ('FILE:///a b%20c', '/a b%20c'),  # as TensorFlow reads it
        ('/models/m', '/models/m'),
    ],
)
def test_base_path_may_be_a_url(file, url, folder):
    (found,) = config_files.single_model_config('m', url).model_config_list.config
    assert found.base_path == folder
    text = f'config {{ name: "m" base_path: "{url}" model_platform: "tensorflow" }}'
    config = config_files.read_model_config(file(f'model_config_list {{ {text} }}'))
    (found,) = config.model_config_list.config
    assert found.base_path == folder


@pytest.mark.parametrize('url', ['gs://bucket/m', 's3://bucket/m', 'file://other/m', 'hdfs://a/m'])
def test_base_path_of_other_machines_is_refused(file, url):
    with pytest.raises(ServingError, match='this server reads only local folders'):
        config_files.single_model_config('m', url)
    text = f'config {{ name: "m" base_path: "{url}" model_platform: "tensorflow" }}'
    with pytest.raises(ServingError, match='this server reads only local folders'):
        config_files.read_model_config(file(f'model_config_list {{ {text} }}'))


def test_batching_parameters(file):
    options = config_files.read_batching_parameters(
        file(
            """
            max_batch_size { value: 128 }
            batch_timeout_micros { value: 0 }
            max_enqueued_batches { value: 1000000 }
            num_batch_threads { value: 8 }
            thread_pool_name { value: 'pool' }
            allowed_batch_sizes: 1
            allowed_batch_sizes: [ 8, 32 ]
            enable_large_batch_splitting { value: true }
            max_execution_batch_size { value: 32 }
            """
        )
    )
    assert options == BatchingOptions(
        max_batch_size=128,
        batch_timeout_micros=0,
        max_enqueued_batches=1_000_000,
        num_batch_threads=8,
        thread_pool_name='pool',
        allowed_batch_sizes=(1, 8, 32),
        enable_large_batch_splitting=True,
        max_execution_batch_size=32,
    )


def test_batching_parameters_have_the_real_servers_defaults(file):
    options = config_files.read_batching_parameters(file(''))
    assert options == BatchingOptions()
    assert options == BatchingOptions(1000, 0, 10, len(os.sched_getaffinity(0)))
    assert config_files.read_batching_parameters(
        file('max_batch_size { value: 7 }')
    ) == BatchingOptions(max_batch_size=7, max_execution_batch_size=7)


SPLITTING = 'enable_large_batch_splitting { value: true } max_execution_batch_size { value: %d } '


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('\nmax_batch_size: 3', ', line 2: \'max_batch_size: 3\': Expected "{".'),
        ('max_batch_size { value: 0 }', ' needs a max_batch_size of at least 1, not 0.'),
        (
            'max_enqueued_batches { value: 0 }',
            ' needs a max_enqueued_batches of at least 1, not 0.',
        ),
        ('num_batch_threads { value: -1 }', ' needs a num_batch_threads of at least 1, not -1.'),
        ('batch_timeout_micros { value: -1 }', ' has a negative batch_timeout_micros.'),
        (
            'max_batch_size { value: 9 } allowed_batch_sizes: [1, 8]',
            ' needs allowed_batch_sizes that increase and end with max_batch_size, 9, not 1, 8.',
        ),
        (
            'max_batch_size { value: 8 } allowed_batch_sizes: [4, 2, 8]',
            ' needs allowed_batch_sizes that increase and end with max_batch_size, 8, not 4, 2, 8.',
        ),
        (
            'max_batch_size { value: 8 } allowed_batch_sizes: [8, 8]',
            ' needs allowed_batch_sizes that increase and end with max_batch_size, 8, not 8, 8.',
        ),
        (
            'max_batch_size { value: 8 } allowed_batch_sizes: [0, 8]',
            ' needs allowed_batch_sizes that increase and end with max_batch_size, 8, not 0, 8.',
        ),
        (
            SPLITTING % 4 + 'max_batch_size { value: 8 } allowed_batch_sizes: [2, 8]',
            ' needs allowed_batch_sizes that increase and end with max_execution_batch_size, 4, '
            'not 2, 8.',
        ),
        (
            SPLITTING % 9 + 'max_batch_size { value: 8 }',
            ' needs a max_execution_batch_size from 1 to max_batch_size, 8, not 9.',
        ),
        (
            'pad_variable_length_inputs: true',
            ' asks for pad_variable_length_inputs, which this server does not do: requests of '
            'different shapes run apart. Remove the line.',
        ),
    ],
)
def test_batching_parameters_that_contradict_each_other(file, text, said):
    path = file(text)
    with pytest.raises(ServingError) as caught:
        config_files.read_batching_parameters(path)
    assert str(caught.value) == path + said


def test_monitoring_config(file):
    read = config_files.read_monitoring_config
    assert read(file('prometheus_config { enable: true path: "/metrics" }')) == '/metrics'
    # PrometheusExporter::kPrometheusPath
    default = '/monitoring/prometheus/metrics'
    assert read(file('prometheus_config { enable: true }')) == default
    assert read(file('prometheus_config { path: "/metrics" }')) is None
    assert read(file('')) is None
    with pytest.raises(ServingError, match=r"needs a path that begins with '/', not 'metrics'\."):
        read(file('prometheus_config { enable: true path: "metrics" }'))


@pytest.mark.parametrize(
    ('rate', 'collector', 'said'),
    [
        ('sampling_rate: 2', '', 'needs a sampling_rate from 0 to 1, not 2.'),
        ('sampling_rate: nan', '', 'needs a sampling_rate from 0 to 1, not nan.'),
        (
            'sampling_rate: 1 attributes: 3',
            '',
            'asks for attributes of sampling_config, and this server has none.',
        ),
        ('sampling_rate: 1', 'type: "kafka"', 'needs "tfrecord" as type, not "kafka".'),
        (
            'sampling_rate: 1',
            'filename_prefix: "logs/requests"',
            "needs an absolute path as filename_prefix, such as '/var/log/capsnet/requests', not "
            "'logs/requests'.",
        ),
        (
            'sampling_rate: 1',
            '',
            "needs an absolute path as filename_prefix, such as '/var/log/capsnet/requests', not "
            "''.",
        ),
        ('sampling_rat: 1', '', ', line 1: Message type "tensorflow.serving.SamplingConfig" has'),
    ],
)
def test_request_log_config_that_cannot_be_followed(file, rate, collector, said):
    path = file(f'sampling_config {{ {rate} }} log_collector_config {{ {collector} }}')
    with pytest.raises(ServingError) as caught:
        config_files.read_request_log_config(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(path)


def test_request_log_config(file):
    path = file(
        'sampling_config { sampling_rate: 0.25 } '
        'log_collector_config { type: "tfrecord" filename_prefix: "/logs/requests" }'
    )
    assert config_files.read_request_log_config(path) == (0.25, '/logs/requests')


# session_bundle_config.proto and monitoring_config.proto of TensorFlow Serving.
REAL = {
    'BatchingParameters': {
        'max_batch_size': (1, 'google.protobuf.Int64Value'),
        'batch_timeout_micros': (2, 'google.protobuf.Int64Value'),
        'max_enqueued_batches': (3, 'google.protobuf.Int64Value'),
        'num_batch_threads': (4, 'google.protobuf.Int64Value'),
        'thread_pool_name': (5, 'google.protobuf.StringValue'),
        'allowed_batch_sizes': (6, 'repeated int64'),
        'pad_variable_length_inputs': (7, 'bool'),
        'enable_large_batch_splitting': (8, 'google.protobuf.BoolValue'),
        'max_execution_batch_size': (9, 'google.protobuf.Int64Value'),
    },
    'MonitoringConfig': {'prometheus_config': (1, 'PrometheusConfig')},
    'PrometheusConfig': {'enable': (1, 'bool'), 'path': (2, 'string')},
}


def test_config_proto_is_the_real_servers():
    proto = (CONFIG / 'config.proto').read_text()
    found = {}
    for name, body in re.findall(r'^message (\w+) \{(.*?)^\}', proto, re.S | re.M):
        fields = re.findall(r'^  ((?:repeated )?[\w.]+) (\w+) = (\d+);', body, re.M)
        found[name] = {field: (int(number), kind) for kind, field, number in fields}
    assert found == REAL


def test_generated_messages_are_those_of_config_proto():
    file = descriptor_pb2.FileDescriptorProto()
    config_pb2.DESCRIPTOR.CopyToProto(file)
    kinds = {
        descriptor_pb2.FieldDescriptorProto.TYPE_INT64: 'int64',
        descriptor_pb2.FieldDescriptorProto.TYPE_BOOL: 'bool',
        descriptor_pb2.FieldDescriptorProto.TYPE_STRING: 'string',
    }
    found: dict[str, dict[str, tuple[int, str]]] = {}
    for message in file.message_type:
        found[message.name] = {}
        for field in message.field:
            kind = kinds.get(field.type) or field.type_name.removeprefix(f'.{file.package}')
            if field.label == field.LABEL_REPEATED:
                kind = f'repeated {kind}'
            found[message.name][field.name] = (field.number, kind.removeprefix('.'))
    assert found == REAL
