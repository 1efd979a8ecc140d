"""Which flags of TensorFlow Serving there are, and what the docs say of the others."""

import json
import re

import pytest

from serving import server


@pytest.fixture(scope='module')
def flags(root):
    """The real server's flags."""
    with open(f'{root}/tests/data/tf_serving_flags.json', encoding='utf-8') as file:
        return set(json.load(file)['flags'])


@pytest.fixture
def own(capsys):
    """The flags of this server, as its help lists them."""
    with pytest.raises(SystemExit):
        server.main(['--help'])
    found = re.findall(r'^  (?:-\w, )?--(\w+)', capsys.readouterr().out, re.MULTILINE)
    return set(found) - {'help'}


def _documented(root, heading):
    """The flags that the docs name in the first column of the table below a sentence."""
    with open(f'{root}/docs/serving.md', encoding='utf-8') as file:
        text = file.read()
    table = text.split(heading, 1)[1].lstrip().split('\n\n', 1)[0]
    rows = [row.split('|') for row in table.splitlines()[2:]]
    assert all(row[2].strip() for row in rows)
    return {flag for row in rows for flag in re.findall(r'`--(\w+)`', row[1])}


def test_each_flag_of_the_real_server_is_taken_or_said_to_be_left_out(root, flags, own):
    left_out = _documented(root, 'These flags of TensorFlow Serving are left out:')
    assert len(flags) == 48
    assert flags - own == left_out
    assert not left_out & own


def test_flags_of_its_own_are_named(root, flags, own):
    assert own - flags == _documented(root, "These flags are not TensorFlow Serving's:")
