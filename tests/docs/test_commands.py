"""Every command in the documents can be typed: its target, its settings and its options exist."""

import ast
import functools
import importlib.util
import re

import documents
import pytest
from project_paths import ROOT

from capsmodel.networks.choices import ROUTINGS, Routing
from capsmodel.networks.table import NETWORKS, Entry
from pipeline import configs

# Commands with which the documents show what is refused.
_REFUSED = {'make run EPOCH=5', 'make run PRESET=tiny ADAM_BETA_1=2'}
_MAKE = (ROOT / 'Makefile').read_text()
_TARGETS = set(re.findall(r'^([a-z-]+):.*##', _MAKE, re.MULTILINE))
_ASSIGNMENT = re.compile(r'([A-Z][A-Z0-9_]*)=(.*)', re.DOTALL)


def _variables(target):
    """The variables of a target of the Makefile that are no settings."""
    found = re.search(rf'^of_{target} = (.*)$', _MAKE, re.MULTILINE)
    own = found[1] if found else ''
    for other in re.findall(r'\$\(of_([a-z-]+)\)', own):
        own = own.replace(f'$(of_{other})', ' '.join(_variables(other)))
    return set(own.split())


_OF_SETUP = _variables('setup')


def _promised(text):
    """What the reader of a page adds to the project: settings, networks, routings, files."""
    code = '\n'.join(documents.blocks(text, 'python'))
    return {
        'settings': {
            name.upper() for name in re.findall(r'^    (\w+): \w+ = setting\(', code, re.M)
        },
        'networks': set(re.findall(r"^    '(\w+)': Entry\(", code, re.M)),
        'routings': set(re.findall(r"^    '(\w+)': Routing\(", code, re.M)),
        'files': set(re.findall(r'`([\w/]+\.py)`:\n\n```python', text)),
    }


def _wrong_make(words, promised):
    """What is wrong with the words behind `make`, given what a page adds; '' if nothing is."""
    matches = filter(None, map(_ASSIGNMENT.fullmatch, words))
    given = {match[1]: match[2] for match in matches}
    # The words of -C FOLDER and of -o TARGET belong to make itself.
    own_words = {at for at, word in enumerate(words) if at and words[at - 1] in ('-C', '-o')}
    targets = [
        word
        for at, word in enumerate(words)
        if at not in own_words and not word.startswith('-') and not _ASSIGNMENT.fullmatch(word)
    ]
    if unknown := set(targets) - _TARGETS:
        return f'no target {unknown}'
    own = _OF_SETUP.union(*map(_variables, targets))
    settings = {}
    for name, value in given.items():
        bare = name.removeprefix(configs.PREFIX)
        if bare in configs.NAMES:
            settings[name] = value
        elif name not in own | promised['settings']:
            return f'{targets} has no variable {name}'
    try:
        configs.from_environment(settings)
    except configs.SettingError as error:
        return str(error)
    return ''


def _wrong_python(words, promised):
    """The same of the words behind `python`."""
    if words[0] == '-m':
        module, arguments = words[1], words[2:]
        path = ROOT.joinpath(*module.split('.'))
        files = [file for file in (path.with_suffix('.py'), path / '__main__.py') if file.exists()]
        if not files:
            package = module.partition('.')[0]
            is_ours = (ROOT / package).is_dir()
            is_there = not is_ours and importlib.util.find_spec(package) is not None
            return '' if is_there else f'no module {module}'
    else:
        files, arguments = [ROOT / words[0]], words[1:]
        if not files[0].exists() and words[0] not in promised['files']:
            return f'no file {words[0]}'
    options = {word.partition('=')[0] for word in arguments if word.startswith('--')} - {'--help'}
    unknown = options - _options(files[0])
    return f'no option {unknown}' if unknown else ''


@functools.cache
def _options(file):
    """The options of a program: the texts in its source that are the name of one."""
    if not file.exists():
        return set()
    texts = {
        node.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return {f'--{text.removeprefix("--")}' for text in texts if re.fullmatch(r'(--)?\w+', text)}


def _wrong(command, promised):
    """What is wrong with a command; '' if nothing is, or if it is not this project's."""
    words = list(command)
    before = []
    while words and _ASSIGNMENT.fullmatch(words[0]):
        before.append(words.pop(0))
    if not words:
        return ''
    program = words[0].rpartition('/')[2]
    if program == 'make':
        return _wrong_make([*before, *words[1:]], promised)
    if program in ('python', 'python3') and len(words) > 1:
        return _wrong_python(words[1:], promised)
    if program in ('pytest', 'bash'):
        files = [word for word in words[1:] if '/' in word or word.endswith(('.py', '.sh'))]
        missing = [
            each
            for each in files
            if each not in promised['files'] and not (ROOT / each.partition('::')[0]).exists()
        ]
        return f'no file {missing}' if missing else ''
    return ''


@pytest.fixture
def adding(monkeypatch):
    """Adds the networks and routings that a page adds."""

    def add(promised):
        for name in promised['networks']:
            monkeypatch.setitem(NETWORKS, name, Entry(''))
        for name in promised['routings']:
            monkeypatch.setitem(ROUTINGS, name, Routing(''))

    return add


@pytest.mark.parametrize('page', documents.PAGES, ids=documents.name_of)
def test_every_command_exists(page, adding):
    text = page.read_text(encoding='utf-8')
    promised = _promised(text)
    adding(promised)
    wrong = {
        ' '.join(command): why
        for command in documents.commands(text)
        if (why := _wrong(command, promised))
    }
    assert wrong.keys() <= _REFUSED, wrong


def test_the_commands_are_found():
    texts = {documents.name_of(page): page.read_text(encoding='utf-8') for page in documents.PAGES}
    found = {name: documents.commands(text) for name, text in texts.items()}
    assert ['make', 'run', 'EPOCHS=5', 'ROUTING_ITERATIONS=1'] in found['README.md']
    assert ['EPOCHS=5', 'make', 'run'] in found['docs/settings.md']
    assert any('capsmodel.training.worker' in command for command in found['docs/training.md'])
    programs = [word for commands in found.values() for words in commands for word in words]
    assert programs.count('make') > 90
    assert programs.count('-m') > 15
    shown = {' '.join(command) for commands in found.values() for command in commands}
    assert shown >= _REFUSED


@pytest.mark.parametrize(
    ('line', 'why'),
    [
        ('make rum', "no target {'rum'}"),
        ('make run EPOCH=5', 'has no variable EPOCH'),
        ('EPOCHS=many make run', 'must be a whole number'),
        ('make run PRESET=huge', 'PRESET'),
        ('make predict HOST=x', 'has no variable HOST'),
        ('make run NETWORK=cnn ROUTING_ITERATIONS=1', 'which has no ROUTING_ITERATIONS'),
        ('make setup && make sever', "no target {'sever'}"),
        ('until python -m capsmodel.training.wroker x; do sleep 5; done', 'no module'),
        ('.venv/bin/python -m benchmarks.train_step --bathces 3', "no option {'--bathces'}"),
        ('python -m serving.server --rest_api_prot=1', "no option {'--rest_api_prot'}"),
        ('python -m no_such_package', 'no module no_such_package'),
        ('python tools/no_such_file.py', 'no file tools/no_such_file.py'),
        ('.venv/bin/pytest tests/nowhere -m slow', "no file ['tests/nowhere']"),
    ],
)
def test_a_wrong_command_is_found(line, why):
    nothing = _promised('')
    assert why in ''.join(_wrong(command, nothing) for command in documents.split(line))


@pytest.mark.parametrize(
    'line',
    [
        'make run IMAGES=~/Pictures/fruit',
        'make predict CAPSNET_NETWORK=cnn PORT=8502 IMAGE=7.png',
        'make data IDX_DIR=folder',
        'make -C elsewhere run PRESET=tiny',
        'python -m serving.client --show=x.png docs/seven.png',
        'python -m venv elsewhere',
    ],
)
def test_a_right_command_is_not(line):
    assert [_wrong(command, _promised('')) for command in documents.split(line)] == ['']
