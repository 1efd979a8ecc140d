"""Pieces of HTML. What they are given as text is escaped, but for `Html`."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


class Html(str):
    """Text that is HTML already."""


def escaped(text: object) -> str:
    """HTML as it is, and any other text with its special characters as entities."""
    return text if isinstance(text, Html) else html.escape(str(text))


def element(name: str, *content: object, **attributes: str) -> Html:
    """One element; the attribute `class_` is `class`."""
    given = ''.join(
        f' {key.rstrip("_")}="{html.escape(value)}"' for key, value in attributes.items() if value
    )
    return Html(f'<{name}{given}>{"".join(map(escaped, content))}</{name}>')


def section(title: str, *content: object) -> Html:
    """A part of the card."""
    return element('section', element('h2', title), *content)


def paragraphs(*texts: object, class_: str = '') -> Html:
    """A paragraph for each text that is not empty."""
    return Html(''.join(element('p', text, class_=class_) for text in texts if text))


def bullets(texts: Iterable[object]) -> Html:
    """A list."""
    return element('ul', *(element('li', text) for text in texts))


def definitions(values: Mapping[str, object]) -> Html:
    """Names with values; those with an empty value are left out."""
    return element(
        'dl',
        *(
            Html(element('dt', name) + element('dd', value))
            for name, value in values.items()
            if value != ''
        ),
    )


def table(head: Sequence[object], rows: Iterable[Sequence[object]], caption: str = '') -> Html:
    """A table that scrolls by itself where it is too wide."""
    lines = [
        element('tr', element('th', first, scope='row'), *(element('td', each) for each in others))
        for first, *others in rows
    ]
    return element(
        'div',
        element(
            'table',
            element('caption', caption) if caption else '',
            element('thead', element('tr', *(element('th', each, scope='col') for each in head))),
            element('tbody', *lines),
        ),
        class_='wide',
    )


def percent(fraction: float | None) -> str:
    """`98.76%`; `none` if there is no value."""
    return 'none' if fraction is None else f'{fraction:.2%}'


def interval(ends: Sequence[float] | None) -> str:
    """`98.52% to 98.96%`."""
    return 'none' if ends is None else f'{ends[0]:.2%} to {ends[1]:.2%}'


def value(setting: Any) -> str:
    """A value of a configuration as people write it."""
    if isinstance(setting, bool):
        return 'yes' if setting else 'no'
    if isinstance(setting, list):
        return ', '.join(map(value, setting))
    if isinstance(setting, dict):
        return ', '.join(f'{name} {value(each)}' for name, each in setting.items())
    return str(setting)
