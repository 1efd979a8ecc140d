"""Every link in the documents leads to a file, and to a heading that this file has."""

import re
import urllib.parse

import documents
import pytest

_LINK = re.compile(r'\]\(([^)\s]+)\)')


def _anchors(text):
    """The names under which the headings of a page are linked to."""
    headings = re.findall(r'^#+ +(.+)$', documents.prose(text), re.MULTILINE)
    words = [re.sub(r'[^\w\- ]', '', heading.lower()) for heading in headings]
    return {each.strip().replace(' ', '-') for each in words}


def _broken(page, text):
    """The links of a page that lead nowhere."""
    for link in _LINK.findall(documents.prose(text)):
        if urllib.parse.urlsplit(link).scheme:
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        has_it = target.exists() and (
            not anchor or anchor in _anchors(target.read_text(encoding='utf-8'))
        )
        if not has_it:
            yield link


@pytest.mark.parametrize('page', documents.PAGES, ids=documents.name_of)
def test_no_link_is_broken(page):
    assert list(_broken(page, page.read_text(encoding='utf-8'))) == []


def test_every_page_is_in_the_index():
    index = next(page for page in documents.PAGES if page.name == 'index.md')
    links = _LINK.findall(index.read_text(encoding='utf-8'))
    listed = {(index.parent / link.partition('#')[0]).resolve() for link in links}
    pages = {page.resolve() for page in documents.PAGES if index.parent in page.parents}
    assert pages - listed == {index.resolve()}


@pytest.mark.parametrize('link', ['nowhere.md', 'index.md#nowhere', '#nowhere', '../READ.md'])
def test_a_broken_link_is_found(link):
    index = next(page for page in documents.PAGES if page.name == 'index.md')
    text = f'[README](../README.md#license), [below](#learn) and\n[some\nwords]({link})'
    assert list(_broken(index, text)) == [link]
