"""The site that `make docs` builds."""

import json
import pathlib
import re
import subprocess

import pytest
from project_paths import ROOT

from tools.docs_site import Site, SiteError

_PYTHON = ROOT / '.venv-docs' / 'bin' / 'python'


@pytest.fixture
def small(tmp_path):
    """A project with one document beside README.md, one module and one other file."""
    files = {
        'README.md': '# Small\n\n[Read on](docs/more.md#part), and see [the code](pipeline).\n',
        'docs/more.md': '# More\n\n## Part\n\n![A picture](a.png), [rule](../pipeline/rule.py), '
        '[all](../kubeflow/files), [up](../README.md), [net](https://example.org/)\n\n'
        '```\n[code](nowhere.md)\n```\n',
        'docs/a.png': '',
        'docs/how-to/deep.md': '# Deep\n\n[Up](../more.md), [beside](flat.md)\n',
        'docs/how-to/flat.md': '# Flat\n',
        'kubeflow/files/b.yaml': 'b: 1\n',
        'kubeflow/files/c.md': '[Read on](../../docs/more.md)\n',
        'pipeline/__init__.py': '"""The pipeline."""\n',
        'pipeline/rule.py': '"""A rule.\n\nMore of it.\n"""\n\n\ndef judge(x: int) -> int:\n'
        '    """Judges.\n\n    Args:\n        x: What is judged.\n    """\n    raise OSError\n',
    }
    root = tmp_path / 'small'
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_links_lead_to_pages_and_to_copies_of_files(small, tmp_path):
    pages = tmp_path / 'pages'
    Site(small, pages).write()
    index = (pages / 'index.md').read_text()
    assert '[Read on](more.md#part)' in index
    assert '[the code](api/pipeline/index.md)' in index
    more = (pages / 'more.md').read_text()
    assert '![A picture](a.png), [rule](api/pipeline/rule.md)' in more
    assert '[all](files/kubeflow/files/index.md), [up](index.md)' in more
    assert '[net](https://example.org/)' in more
    assert '[code](nowhere.md)' in more
    assert (pages / 'a.png').exists()
    deep = (pages / 'how-to' / 'deep.md').read_text()
    assert '[Up](../more.md), [beside](../how-to/flat.md)' in deep
    listing = (pages / 'files' / 'kubeflow' / 'files' / 'index.md').read_text()
    assert '[b.yaml](../../../files/kubeflow/files/b.yaml)' in listing
    assert (pages / 'files' / 'kubeflow' / 'files' / 'b.yaml').read_text() == 'b: 1\n'
    assert '[c.md](../../../files/kubeflow/files/c.md.txt)' in listing
    copy = pages / 'files' / 'kubeflow' / 'files' / 'c.md.txt'
    assert copy.read_text() == '[Read on](../../docs/more.md)\n'
    contents = (pages / 'api' / 'pipeline' / 'index.md').read_text()
    assert 'The pipeline.' in contents
    assert '- [rule](rule.md): A rule.' in contents


def test_a_notebook_becomes_a_page_with_its_outputs(small, tmp_path):
    picture = {'output_type': 'display_data', 'data': {'image/png': 'aGVsbG8='}}
    said = {'output_type': 'stream', 'name': 'stdout', 'text': ['1\n', '2\n']}
    cells = [
        {'cell_type': 'markdown', 'source': ['# Draw "it"\n', 'See [more](more.md).']},
        {'cell_type': 'code', 'source': ['draw()\n', 'say()'], 'outputs': [picture, said]},
    ]
    (small / 'docs' / 'walk.ipynb').write_text(json.dumps({'cells': cells}))
    Site(small, tmp_path / 'pages').write()
    assert (tmp_path / 'pages' / 'walk.md').read_text() == (
        '# Draw "it"\nSee [more](more.md).\n\n```python\ndraw()\nsay()\n```\n\n'
        '<img src="walk_1.png" alt="Draw &quot;it&quot;">\n\n```\n1\n2\n```\n'
    )
    assert (tmp_path / 'pages' / 'walk_1.png').read_bytes() == b'hello'


def test_a_link_that_leads_nowhere_is_named(small, tmp_path):
    (small / 'docs' / 'more.md').write_text('[x](gone.md)\n')
    with pytest.raises(SiteError, match=r'docs/more\.md links to gone\.md, which is not there'):
        Site(small, tmp_path / 'pages').write()


def test_every_link_of_the_documents_leads_somewhere(tmp_path):
    site = Site(ROOT, tmp_path)
    site.write()
    assert (tmp_path / 'api' / 'capsmodel' / 'networks' / 'routing.md').exists()
    assert not (tmp_path / 'api' / 'setup.md').exists()


def test_each_picture_has_an_alternative_text():
    for page in [ROOT / 'README.md', *(ROOT / 'docs').glob('*.md')]:
        for alternative in re.findall(r'!\[([^\]]*)\]\(', page.read_text()):
            assert len(alternative.split()) >= 3, f'{page.name}: {alternative!r}'


def _build(root: pathlib.Path, target: pathlib.Path) -> subprocess.CompletedProcess:
    if not _PYTHON.exists():
        pytest.skip('make setup-docs installs what this test needs')
    program = (
        'import pathlib, sys; from tools import docs_site; '
        'docs_site.build(*map(pathlib.Path, sys.argv[1:]))'
    )
    return subprocess.run(
        [_PYTHON, '-c', program, root, target],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def _text(page: pathlib.Path) -> str:
    return re.sub(r'<[^>]+>', '', page.read_text())


@pytest.mark.slow
def test_the_site_has_the_documents_and_the_api(tmp_path):
    done = _build(ROOT, tmp_path / 'site')
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / 'site.unfinished').exists()
    routing = _text(tmp_path / 'site' / 'api' / 'capsmodel' / 'networks' / 'routing.html')
    assert 'routing_by_agreement(' in re.sub(r'\s', '', routing)
    assert 'Ten questions' in _text(tmp_path / 'site' / 'index.html')
    assert 'arXiv' in _text(tmp_path / 'site' / 'readme.html')
    for page in (ROOT / 'docs').rglob('*.md'):
        place = page.relative_to(ROOT / 'docs').with_name(f'{page.stem.lower()}.html')
        assert (tmp_path / 'site' / place).exists()


@pytest.mark.slow
@pytest.mark.parametrize('text', ['[x](#nowhere)\n', '::: pipeline.nothing\n'])
def test_a_warning_is_an_error_and_the_last_site_stays(small, tmp_path, text):
    assert _build(small, tmp_path / 'site').returncode == 0
    before = (tmp_path / 'site' / 'more.html').read_text()
    assert 'What is judged.' in _text(tmp_path / 'site' / 'api' / 'pipeline' / 'rule.html')
    (small / 'docs' / 'more.md').write_text(f'# More\n\n{text}')
    done = _build(small, tmp_path / 'site')
    assert done.returncode == 1
    assert (tmp_path / 'site' / 'more.html').read_text() == before
