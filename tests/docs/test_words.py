"""README is short, and nothing in the project has the phrases that plain English does without."""

import os
import pathlib
import re

from project_paths import ROOT

_MOST_WORDS_OF_README = 1200
# Each with a letter in brackets, so that this file does not have them itself.
_PHRASES = (
    r'\bane[w]\b',
    r'\bso man[y]\b',
    r'\bin place o[f]\b',
    r'\bgoes on fro[m]\b',
    r'\bis non[e]\b',
    r'\bis missing is name[d]\b',
    r'\bone has traine[d], the other',
    r'\bbrings it there by itsel[f]\b',
    r'\bconcerns those who buil[d]\b',
    r'\bopens or shut[s] it\b',
)
_PATTERN = re.compile('|'.join(_PHRASES))
_TEXT = {'', '.cc', '.config', '.css', '.h', '.html', '.in', '.js', '.md', '.pbtxt', '.proto'}
_TEXT |= {'.py', '.sh', '.svg', '.toml', '.yaml', '.yml'}
_LEFT_OUT = re.compile(r'^(\..*|var|build|dist|__pycache__)$')


def _files():
    """The texts of the project, without what set-up and runs write."""
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if not _LEFT_OUT.match(name)]
        paths = [pathlib.Path(folder, name) for name in names]
        yield from (path for path in paths if path.suffix in _TEXT)


def _phrases(text):
    """The phrases in a text, also where a line, or a part of a string, ends within one."""
    text = re.sub(r"""['"]\s+f?['"]""", '', text)
    return _PATTERN.findall(re.sub(r'\s+(#|//|\*|--)?\s*', ' ', text))


def test_readme_is_short():
    assert len((ROOT / 'README.md').read_text(encoding='utf-8').split()) <= _MOST_WORDS_OF_README


def test_no_file_has_one_of_the_phrases():
    files = list(_files())
    assert len(files) > 400
    found = {
        str(path.relative_to(ROOT)): phrases
        for path in files
        if (phrases := _phrases(path.read_text(encoding='utf-8')))
    }
    assert found == {}


def test_a_phrase_is_found_where_a_line_ends_within_it():
    assert _phrases('# a list in\n    # place of a tuple') == ['in place o' + 'f']
    assert _phrases('there are so\nmany of them, made ane' + 'w') == ['so man' + 'y', 'ane' + 'w']
    assert _phrases("'has one in '\n    f'place of another'") == ['in place o' + 'f']
    assert _phrases('None is none_of_these, a renewal') == []
