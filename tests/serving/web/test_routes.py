import pytest

from serving.errors import ServingError
from serving.web.routes import Route, parse_path


@pytest.mark.parametrize(
    ('method', 'path', 'route'),
    [
        ('POST', '/v1/models/m:predict', Route('predict', 'm')),
        ('POST', '/v1/models/m:classify', Route('classify', 'm')),
        ('POST', '/v1/models/m/versions/007:regress', Route('regress', 'm', version=7)),
        ('POST', '/V1/Models/M/Labels/Stable:predict', Route('predict', 'M', label='Stable')),
        ('POST', '/v1/models/m?x=1:predict', Route('predict', 'm?x=1')),
        ('GET', '/v1/models/m', Route('status', 'm')),
        ('GET', f'/v1/models/m/versions/{2**63 - 1}', Route('status', 'm', version=2**63 - 1)),
        ('GET', f'/v1/models/m/versions/{"0" * 5000}1', Route('status', 'm', version=1)),
        ('GET', '/v1/models/m/labels/a%2Fb%3a', Route('status', 'm', label='a/b:')),
        ('GET', '/v1/models/m/metadata', Route('metadata', 'm')),
        ('GET', '/v1/models/m/versions/3/metadata', Route('metadata', 'm', version=3)),
        ('GET', '/v1/models/m/METADATA', Route('status', 'm')),
        ('GET', '/v1/models/metadata', Route('status', 'metadata')),
        ('GET', '/v1/models/%C3%A9%zz+', Route('status', 'é%zz+')),
    ],
)  # fmt: skip
def test_paths(method, path, route):
    assert parse_path(method, path) == route


@pytest.mark.parametrize(
    ('method', 'path'),
    [
        ('GET', '/v1/foo'),
        ('GET', '/v1/models/'),
        ('GET', '/v1/models/a/b'),
        ('GET', '/v1/models/m:predict'),
        ('GET', '/v1/models/m/version/5'),
        ('GET', '/v1/models/m/versions/-1'),
        ('GET', '/v1/models/m/versions/5/labels/a'),
        ('GET', '/v1/models/m/metadata/'),
        ('GET', '/prefix/v1/models/m'),
        ('GET', '/v1/models/m\n/metadata2'),
        ('POST', '/v1/models/m'),
        ('POST', '/v1/models/m/metadata'),
        ('POST', '/v1/models/m:explain'),
        ('POST', '/v1/models/m:PREDICT'),
        ('POST', '/v1/models/m:predict/'),
        ('POST', '/v1/models/m/versions/५:predict'),
        ('POST', '/v1/model\u017f/m:predict'),
        ('HEAD', '/v1/models/m'),
        ('PUT', '/v1/models/m:predict'),
    ],
)
def test_malformed_requests(method, path):
    with pytest.raises(ServingError) as error:
        parse_path(method, path)
    assert error.value.code == 'INVALID_ARGUMENT'
    assert error.value.message == f'Malformed request: {method} {path}'


@pytest.mark.parametrize('path', ['', '/versions/1', '/labels/a/metadata'])
def test_a_model_is_needed(path):
    with pytest.raises(ServingError, match='Missing model name in request') as error:
        parse_path('GET', f'/v1/models{path}')
    assert error.value.code == 'INVALID_ARGUMENT'


@pytest.mark.parametrize('version', [str(2**63), '9' * 10_000])
def test_versions_that_64_bits_cannot_hold(version):
    said = f'Failed to convert version: {version[:99]}'
    for method, path in (
        ('GET', f'/v1/models/m/versions/{version}'),
        ('POST', f'/v1/models/m/versions/{version}:predict'),
    ):
        with pytest.raises(ServingError, match=said) as error:
            parse_path(method, path)
        assert error.value.code == 'INVALID_ARGUMENT'
