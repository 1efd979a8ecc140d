"""Requests that are malformed by construction: no server may take one of them for a good one."""

import json

_PATHS = {
    '/v1/models/half:predict': 'predict',
    '/v1/models/half/versions/123:predict': 'predict',
    '/v1/models/half:regress': 'regress',
    '/v1/models/half/versions/123:classify': 'classify',
}
_WORDS = ['v1', 'models', 'half', 'versions', '123', 'labels', 'metadata', '%00', '%2F', '..']
_WORDS += [':predict', ':', '?', '#', '*', '9' * 30, '%c3%a9', 'a' * 2000]


def good_request(random):
    """One that half_plus_two of saved_models.py answers: what the malformed are made of."""
    path, kind = random.choice(list(_PATHS.items()))
    return _sent(random, 'POST', path, json.dumps(_good_document(random, kind)).encode(), [])


def malformed_request(random):
    """The bytes, and whether they are HTTP at all."""
    if random.random() < 0.1:
        return _broken_http(random), False
    path, kind = random.choice(list(_PATHS.items()))
    document = _good_document(random, kind)
    body = json.dumps(document).encode()
    verb, headers = 'POST', []
    choice = random.random()
    if choice < 0.2:
        verb, path = _wrong_path(random, path)
    elif choice < 0.5:
        body = _wrong_text(random, body)
    elif choice < 0.55:
        # It is neither.
        headers = [f'Content-Encoding: {random.choice(["gzip", "deflate"])}']
        body = b'\x00' + body
    else:
        spoil = _wrong_predict if kind == 'predict' else _wrong_examples
        body = json.dumps(spoil(random, document)).encode()
    return _sent(random, verb, path, body, headers), True


def _sent(random, verb, path, body, headers):
    headers = [*headers]
    if random.random() < 0.1:
        headers.append(random.choice(['Content-Type: text/plain', 'Upgrade: h2c', 'Accept: x/y']))
    if random.random() < 0.1:
        headers.append('Transfer-Encoding: chunked')
        body = _chunked(random, body)
    else:
        headers.append(f'Content-Length: {len(body)}')
    head = '\r\n'.join([f'{verb} {path} HTTP/1.1', 'Host: localhost', *headers, '', ''])
    return head.encode('latin-1') + body


def _chunked(random, body):
    text = b''
    while body:
        size = random.randint(1, len(body))
        text += b'%x\r\n%s\r\n' % (size, body[:size])
        body = body[size:]
    return text + b'0\r\n\r\n'


def _good_document(random, kind):
    if kind == 'predict':
        shape = [random.randint(1, 3) for _ in range(random.randint(1, 4))]
        return {random.choice(['instances', 'inputs']): _numbers(random, shape)}
    # Whole numbers would make int64 features, which the model does not take.
    examples = [{'x': _number(random) + 0.25} for _ in range(random.randint(1, 3))]
    return {'signature_name': f'{kind}_x_to_y', 'examples': examples}


def _number(random):
    return random.choice([0, 1.5, -2e30, random.random(), random.randint(-9, 9)])


def _numbers(random, shape):
    if not shape:
        return _number(random)
    return [_numbers(random, shape[1:]) for _ in range(shape[0])]


def _wrong_path(random, path):
    """A verb and a path that together the interface does not have, or for a model not there."""
    choice = random.randrange(5)
    if choice == 0:
        return random.choice(['GET', 'PUT', 'DELETE', 'OPTIONS', 'TRACE', 'PROPFIND']), path
    if choice == 1:
        # No good path has these characters, in whatever place.
        place = random.randrange(1, len(path) + 1)
        junk = ''.join(random.choices('!"$&\'()*+,;<=>@[]^`{|}~_z', k=3))
        return 'POST', path[:place] + junk + path[place:]
    if choice == 2:
        return 'POST', path[: random.randrange(1, len(path) - 1)]
    if choice == 3:
        # No path begins with the first word.
        return 'POST', '/'.join(['', 'no', *random.choices(_WORDS, k=random.randint(0, 5))])
    label = random.choice(['labels/stable', 'versions/124', 'versions/x', 'versions/' + '9' * 40])
    return 'POST', f'/v1/models/half/{label}:predict'


def _wrong_text(random, body):
    """No JSON. What follows a document does not count, so that its end must be hit, or before."""
    choice = random.randrange(6)
    if choice == 0:
        return body[: random.randrange(len(body))]
    if choice == 1:
        # No character that JSON has outside of strings may be left out.
        places = [place for place, byte in enumerate(body) if byte in b'{}[]":']
        place = random.choice(places)
        return body[:place] + body[place + 1 :]
    if choice == 2:
        # These stand neither in strings nor outside.
        place = random.randrange(len(body))
        return body[:place] + random.choice([b'\x00', b'\xff', b'\x1f', b'\xc3']) + body[place:]
    if choice == 3:
        # Nothing but an object is a body, and these begin none.
        return random.choice([b'[', b'"', b'1', b'x', b'\x80', b'null ', b'-', b'}']) + body
    if choice == 4:
        depth = random.choice([1, 10, 300, 3000, 30_000])
        return random.choice([b'[', b'{"instances":', b'{"instances": [1, [']) * depth
    return b'{"instances": [1' + b'0' * random.randint(400, 5000) + b', {}]}'


_WRONG_VALUES = [None, True, 'x', '1', '\ud800', {}, {'b64': 'AAAA'}, {'b64': '?'}, {'y': 1}]


def _places(values, place=()):
    """Where numbers stand in nested lists."""
    if isinstance(values, list):
        for index, value in enumerate(values):
            yield from _places(value, (*place, index))
    else:
        yield place


def _wrong_predict(random, document):
    ((key, values),) = document.items()
    choice = random.randrange(7)
    if choice == 0:
        # One of the numbers is not a number.
        *place, last = random.choice(list(_places(values)))
        for index in place:
            values = values[index]
        values[last] = random.choice(_WRONG_VALUES)
        return document
    if choice == 1:
        # One row is longer than the other.
        return {key: [values, [*values, values[0]]]}
    if choice == 2:
        # One row is nested deeper than the other.
        return {key: random.sample([values, [values]], 2)}
    if choice == 3:
        for _ in range(40):
            values = [values]
        return {key: values}
    if choice == 4:
        return {'instances': values, 'inputs': values}
    if choice == 5:
        names = random.choice([{'y': 1}, {'x': 1, 'y': 2}, {'x': 'a'}, {'X': 1}])
        return {'instances': [names]} if key == 'instances' else {'inputs': {'y': values}}
    return random.choice(
        [
            {},
            {'instance': values},
            {'instances': random.choice([[], {}, 1, 'x', None, {'x': 1}])},
            {'inputs': random.choice([None, 'x', True, {}, {'y': 1}])},
            {**document, 'signature_name': random.choice([1, None, [], 'x', 'regress', '\x00'])},
            {'signature_name': random.choice(['', 'serving_default'])},
        ]
    )


def _wrong_examples(random, document):
    features = [{'b64': '?'}, {}, None, [], [1, 2], 'a', [1, 'a'], [[1]]]
    wrong = [None, 1, 'x', [], [1], {}, {'y': 1}, *({'x': feature} for feature in features)]
    examples = document['examples']
    choice = random.randrange(4)
    if choice == 0:
        examples[random.randrange(len(examples))] = random.choice(wrong)
    elif choice == 1:
        document['examples'] = random.choice([None, 1, 'x', {}, [], [[]], {'x': 1}])
    elif choice == 2:
        document['context'] = random.choice([None, 1, 'x', [], [{}], {'z': [[1]]}])
    else:
        document['signature_name'] = random.choice(['x', 1, None, [], 'serving_default', ''])
    return document


def _broken_http(random):
    """What no HTTP server takes for a request. The connection ends with it."""
    path = random.choice(list(_PATHS))
    line = f'POST {path} HTTP/1.1\r\n'.encode()
    return random.choice(
        [
            b'%s %s HTTP/1.1\r\n\r\n' % (random.randbytes(3) + b'\x01', path.encode()),
            f'POST {path} HTTP/{random.choice(["x", "1", "-1.1", "11"])}\r\n\r\n'.encode(),
            f'POST {path} FTP/1.1\r\n\r\n'.encode(),
            b'{"instances": [1.0]}\r\n\r\n',
            line.replace(b'half', b'\xe9') + b'\r\n',
            line + b'no colon\r\n\r\n',
            line + b'a b: c\r\n\r\n',
            line + b'\x00: c\r\n\r\n',
            line + b'a: \x00\r\n\r\n',
            line + b'Content-Length: ' + random.choice([b'x', b'-1', b'1, 2', b'']) + b'\r\n\r\n',
            # Well-formed, but more than is allowed.
            line + b'Content-Length: 99999999\r\n\r\n',
            line + b'Content-Length: 1\r\nContent-Length: 2\r\n\r\n12',
            line + b'Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
            line + b'Transfer-Encoding: chunked\r\n\r\nx\r\n\r\n',
            line + b'a: ' + b'b' * 10_000 + b'\r\n\r\n',
            f'POST {path}{"?" * 10_000} HTTP/1.1\r\n\r\n'.encode(),
        ]
    )
