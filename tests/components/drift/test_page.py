"""The report as a page: whole by itself, and with nothing of a class's name taken for HTML."""

import html.parser

import numpy as np
import pytest

from components.drift import distances, page, quantities
from components.drift.report import Report, lines, verdict


def _report(label='7', shift=0.0):
    random = np.random.default_rng(0)
    sets = []
    for moved in (0.0, shift):
        numbers = {name: random.random(300) + moved for name in quantities.NUMERIC}
        sets.append(
            {**numbers, 'label': np.array([label, '1'] * 150), 'known': np.array(['yes'] * 300)}
        )
    measured = distances.compare(*sets)
    return Report('digits', '7', 0.0, 5300, {'6': 12}, measured, *sets)


class _Elements(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.seen = [], []

    def handle_starttag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))
        if tag not in ('meta',):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize('shift', [0.0, 5.0])
def test_it_loads_nothing_and_every_quantity_has_a_picture(shift):
    text = page.html(_report(shift=shift))
    elements = _Elements()
    elements.feed(text)
    assert elements.open == []
    tags = [tag for tag, _ in elements.seen]
    assert not {'script', 'link', 'img', 'iframe', 'object', 'a', 'form'} & {*tags}
    names = {name for _, attributes in elements.seen for name in attributes}
    assert not {'src', 'href', 'xlink:href', 'srcset'} & names
    assert not any(name.startswith('on') for name in names)
    assert 'url(' not in text
    assert '://' not in text
    assert tags.count('svg') == len(quantities.NAMES)
    # The bars of a histogram, and the line of steps over them, are inside of the picture.
    for tag, attributes in elements.seen:
        if tag == 'rect':
            assert float(attributes['height']) >= 0
            assert 0 <= float(attributes['y']) <= 96


def test_a_name_of_a_class_is_text():
    text = page.html(_report(label='<script>"&'))
    assert '<script>' not in text
    assert '&lt;script&gt;&quot;&amp;' in text


def test_it_says_what_moved_and_what_was_compared():
    assert verdict(_report()) == 'What digits is asked is like the data that it was trained with.'
    moved = _report(shift=5.0)
    assert verdict(moved).endswith(
        'not like the data that it was trained with: '
        'brightness, ink, score, margin, reconstruction_error moved.'
    )
    printed = lines(moved)
    assert '300 of them, chosen at random, are compared with 300 images' in printed[0]
    assert (
        printed[1]
        == 'Images that another version was asked about are not compared: 12 of version 6.'
    )
    (row,) = [line for line in printed if line.startswith('  brightness ')]
    assert row.split()[3:] == ['1.000', '0.1', 'moved']
    assert 'class="moved">1.000 moved' in page.html(moved)
