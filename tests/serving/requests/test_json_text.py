import base64
import contextlib
import json
import math
import time

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies

from serving.errors import ServingError
from serving.requests import json_text


def printed(value):
    """A JSON number by its definition: print, read back, compare."""
    if np.isnan(value):
        return 'NaN'
    if np.isinf(value):
        return 'Infinity' if value > 0 else '-Infinity'
    text = f'{value:g}'
    if value.dtype.type(text) != value:
        text = f'{value:.{9 if value.dtype == np.float32 else 17}g}'
    return text if '.' in text or 'e' in text else f'{text}.0'


@pytest.mark.parametrize(
    ('text', 'document'),
    [
        ('{"a": [1, 2.5, -3e2, true, null, "x"]}', {'a': [1, 2.5, -300.0, True, None, 'x']}),
        ('\ufeff {"a": 1}', {'a': 1}),
        ('{"a": 1} and more', {'a': 1}),
        ('{"a": 1}{"b": 2}', {'a': 1}),
        ('{"a": [Infinity, -Infinity]}', {'a': [math.inf, -math.inf]}),
        ('{"a": 1, "a": 2}', {'a': 2}),
        ('{"a": 1, "a": 2} ', {'a': 2}),
        ('{"a": "\\ud83d\\ude00 \u00e9"}', {'a': '\U0001f600 \u00e9'}),
        ('{"a": "\\ud83d\\ude00 \u00e9"} more', {'a': '\U0001f600 \u00e9'}),
        # What 64 bits hold is an int, with and without a reason to read it leniently.
        ('{"a": 18446744073709551615}', {'a': 2**64 - 1}),
        ('{"a": 18446744073709551615} more', {'a': 2**64 - 1}),
        ('{"a": -9223372036854775808} more', {'a': -(2**63)}),
    ],
)
def test_what_the_real_server_reads_is_read(text, document):
    assert json_text.parse_object(text.encode()) == document


@pytest.mark.parametrize('behind', ['', ' more'])
@pytest.mark.parametrize(
    ('text', 'number'),
    [
        ('18446744073709551616', 2.0**64),
        ('-9223372036854775809', -(2.0**63)),
        ('1' + '0' * 300, 1e300),
    ],
)
def test_integers_that_64_bits_cannot_hold_are_floats(text, number, behind):
    found = json_text.parse_object(f'{{"a": {text}}}{behind}'.encode())['a']
    assert type(found) is float
    assert found == number


def test_nan():
    (found,) = json_text.parse_object(b'{"a": [NaN]}')['a']
    assert math.isnan(found)


@pytest.mark.parametrize(
    ('body', 'message'),
    [
        (b'', 'JSON Parse error: The document is empty. at offset: 0'),
        (b' \n', 'JSON Parse error: The document is empty. at offset: 2'),
        (b'instances = [1, 2]', 'JSON Parse error: Invalid value. at offset: 0'),
        (b'{"\xc3\xa9": x}', 'JSON Parse error: Invalid value. at offset: 7'),
        (b'{"a": 1, }', 'Missing a name for object member.'),
        (b'{1: 2}', 'Missing a name for object member.'),
        (b'{"a" 1}', 'Missing a colon after a name of object member.'),
        (b'{"a": 1 2}', 'Missing a comma or } or ] after a value.'),
        (b'{"a": [1', 'Missing a comma or } or ] after a value.'),
        (b'{"a', 'Missing a closing quotation mark in string.'),
        (b'{"a": "\\x"}', 'Invalid escape character in string.'),
        (b'{"a": "\n"}', 'Invalid escape character in string.'),
        (b'{"a": "\\u12g4"}', 'Incorrect hex digit after \\u escape in string.'),
        (b'{"a": "\\ud83d"}', 'The surrogate pair in string is invalid.'),
        (b'{"a": "\\ude00"}', 'The surrogate pair in string is invalid.'),
        (b'{"a": "\xff"}', 'JSON Parse error: Invalid encoding in string. at offset: 7'),
        # A picture itself.
        (b'\x89PNG\r\n', 'JSON Parse error: Invalid value. at offset: 0'),
        (b'{"a": 1e999}', 'Number too big to be stored in double.'),
        (b'{"a": -1' + b'0' * 5000 + b'}', 'Number too big to be stored in double.'),
        (b'[1]', 'JSON Value: [1] Is not object'),
        (b'"x"', 'JSON Value: "x" Is not object'),
        (b'NaN', 'JSON Value: NaN Is not object'),
        (b'[' * 3_000_000, 'Nested too deeply.'),
        (b'[' * 300_000, 'Missing a comma or } or ] after a value.'),
        (b'[' * 2_000 + b'"' + b'\\"' * 500_000, 'JSON Parse error: '),
    ],
    ids=lambda value: str(value[:20]),
)
def test_the_rest_is_refused_with_the_reason(body, message):
    started = time.perf_counter()
    with pytest.raises(ServingError) as error:
        json_text.parse_object(body)
    assert error.value.code == 'INVALID_ARGUMENT'
    assert message in error.value.message
    assert len(error.value.message) < 400
    assert time.perf_counter() - started < 5  # a quadratic search takes minutes


@pytest.mark.parametrize(('opening', 'closing'), [('[', ']'), ('{"a": ', '}'), ('[{"]": ', '}]')])
def test_depths_are_skipped(opening, closing):
    depth = 100_000
    deep = f'{opening * depth}[]{closing * depth}'
    document = json_text.parse_object(f'{{"x": [{deep}, 1], "y": {deep}, "z": "]"}}'.encode())
    assert document['x'][1] == 1
    assert document['z'] == ']'


def test_depths_that_python_reads_are_read():
    document = json_text.parse_object(f'{{"x": {"[" * 250}5{"]" * 250}}} more'.encode())
    value = document['x']
    for _ in range(250):
        (value,) = value
    assert value == 5


def test_no_depth_is_too_deep_for_one_step_alone():
    # Python's recursion ends at about 1,000, for each step at another depth.
    for depth in range(900, 1100):
        with contextlib.suppress(ServingError):
            json_text.parse_object(f'{{"x": {"[" * depth}"\\ud800"{"]" * depth}}}'.encode())


def test_signature_name():
    assert json_text.signature_name({}) == 'serving_default'
    assert json_text.signature_name({'signature_name': ''}) == 'serving_default'
    assert json_text.signature_name({'signature_name': 'pixels'}) == 'pixels'
    with pytest.raises(ServingError, match="'signature_name' key must be a string"):
        json_text.signature_name({'signature_name': None})


def test_excerpts_are_short():
    assert json_text.excerpt({'a': [1, 'é', None]}) == '{"a": [1, "é", null]}'
    assert len(json_text.excerpt([[1.5] * 1000] * 1000)) == 256
    assert len(json_text.excerpt('x' * 1000)) == 256


@pytest.mark.parametrize(
    ('value', 'name'),
    [
        (None, 'Null'), (True, 'True'), (False, 'False'), ({}, 'Object'), ([], 'Array'),
        ('', 'String'), (1, 'Number'), (1.5, 'Number'),
    ],
)  # fmt: skip
def test_type_names(value, name):
    assert json_text.type_name(value) == name


@hypothesis.given(strategies.binary())
def test_base64(content):
    text = base64.b64encode(content).decode()
    assert json_text.decode_base64({'b64': text}) == content
    assert json_text.decode_base64({'b64': text.rstrip('=')}) == content
    assert json_text.decode_base64({'b64': '\n '.join(text)}) == content


@pytest.mark.parametrize(
    'text', ['a', 'ab=', 'abc==', 'abcd=', '====', 'a=bc', 'ab_-', 'abcé', '!']
)
def test_what_is_not_base64(text):
    with pytest.raises(ServingError, match='Unable to base64 decode'):
        json_text.decode_base64({'b64': text})


def test_base64_objects():
    assert json_text.is_base64({'b64': ''})
    for value in ({'b64': 1}, {'b64': '', 'a': ''}, {'a': ''}, {}, 'b64', None):
        assert not json_text.is_base64(value)


def test_strings():
    assert json_text.strings([b'a"\n', 'é'.encode()]) == ['"a\\"\\n"', '"é"']
    assert json_text.strings([b'\xff'])[0].encode('utf-8', 'surrogateescape') == b'"\xff"'
    assert json_text.strings([b'\xff', b''], as_base64=True) == ['{"b64": "/w=="}', '{"b64": ""}']


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (0, '0.0'), (-0.0, '-0.0'), (3, '3.0'), (0.2, '0.2'), (-1.5, '-1.5'),
        (1 / 3, '0.333333343'),
        (9e6, '9e+06'), (999999, '999999.0'), (0.0003, '0.0003'), (3e-5, '3e-05'),
        (555557.5, '555557.5'), (12345678, '12345678.0'), (1e-45, '1.4013e-45'),
        (3.4028235e38, '3.40282347e+38'), (np.nan, 'NaN'), (np.inf, 'Infinity'),
        (-np.inf, '-Infinity'),
    ],
)  # fmt: skip
def test_decimals_by_hand(value, text):
    assert json_text.decimals(np.array([[value]], np.float32)) == [text]


def test_decimals_of_float64():
    values = np.array([0.2, 1 / 3, 1e300, 5e-324, 2.0**53, 1e22])
    assert json_text.decimals(values) == [
        '0.2', '0.33333333333333331', '1e+300', '4.94066e-324', '9007199254740992.0', '1e+22',
    ]  # fmt: skip


@pytest.mark.parametrize('bits', [32, 64])
def test_decimals_are_what_printing_gives(bits):
    random = np.random.default_rng(bits)
    dtype = np.dtype(f'float{bits}')
    anything = np.frombuffer(random.bytes(5000 * dtype.itemsize), dtype)
    exponents = random.integers(-48, 40, 5000)
    with np.errstate(all='ignore'):
        six_digits = (random.integers(1, 10**6, 5000) * 10.0**exponents).astype(dtype)
        neighbours = np.nextafter(six_digits, random.choice([-1, 1], 5000).astype(dtype))
    whole = random.integers(-(10**8), 10**8, 1000).astype(dtype)
    powers = np.array([10.0**power for power in range(-45, 39)]).astype(dtype)
    near_powers = [np.nextafter(powers, dtype.type(0)), powers, np.nextafter(powers, dtype.type(1))]
    values = np.concatenate([anything, six_digits, neighbours, whole, *near_powers])
    expected = [printed(value) for value in values]
    assert json_text.decimals(values) == expected
    # Few values go another way than many.
    few = np.array_split(values, len(values) // 20)
    assert [text for part in few for text in json_text.decimals(part)] == expected


@hypothesis.given(strategies.lists(strategies.integers(0, 4), max_size=4))
def test_nested(shape):
    values = np.arange(math.prod(shape)).reshape(shape)
    texts = json_text.nested([str(value) for value in values.ravel()], shape)
    assert [json.loads(text) for text in texts] == (values.tolist() if shape else [0])
