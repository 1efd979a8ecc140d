"""The documents, and the commands that they tell their reader to type."""

import pathlib
import re
import shlex

from project_paths import ROOT

PAGES = [
    *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')),
    *sorted((ROOT / 'docs').rglob('*.md')),
]
_COMMAND = re.compile(r'(make|\S*python3?|bash|\S*pytest) \S')
_OPERATORS = set(';&|()<>')


def name_of(page: pathlib.Path) -> str:
    """The path of a page in the project, such as docs/index.md."""
    return page.relative_to(ROOT).as_posix()


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a page in a language; '' for those without one."""
    return [
        body
        for found, body in re.findall(r'^```(\w*)\n(.*?)^```$', text, re.MULTILINE | re.DOTALL)
        if found == language
    ]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL)


def commands(text: str) -> list[list[str]]:
    """The commands of a page, as words: its scripts, and commands elsewhere in it."""
    lines = [line for body in blocks(text, 'sh') for line in _lines(body)]
    others = [line for body in blocks(text, '') for line in _lines(body)]
    others += [' '.join(code.split()) for code in re.findall(r'`([^`]+)`', prose(text))]
    # With three dots it is a message, of which a part differs from case to case.
    lines += [line for line in others if _COMMAND.match(line) and '...' not in line.split()]
    return [command for line in lines for command in split(line)]


def _lines(body: str) -> list[str]:
    """The lines of a script, with those that end in a backslash joined."""
    return [line for line in body.replace('\\\n', ' ').splitlines() if line.strip()]


def split(line: str) -> list[list[str]]:
    """The simple commands of a line for a shell, each with the variables before it."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars=''.join(_OPERATORS))
    lexer.whitespace_split = True
    found: list[list[str]] = [[]]
    for word in lexer:
        if set(word) <= _OPERATORS:
            found.append([])
        elif word not in ('do', 'done', 'until', 'while', 'if', 'then', 'fi'):
            found[-1].append(word)
    return [command for command in found if command]
