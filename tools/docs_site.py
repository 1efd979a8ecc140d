"""Builds the site, which has the pages of docs/, its notebook and the API: `make docs`, or

.venv-docs/bin/python tools/docs_site.py build/docs

Zensical makes it, since mkdocs-material is no longer developed, and since it reads mkdocstrings:
this reads the sources without importing them, so that the pages need neither TensorFlow nor a GPU.
The theme's fonts are left out, and the build needs no network. A warning ends it.
"""

from __future__ import annotations

import argparse
import ast
import base64
import html
import json
import pathlib
import re
import shutil
import subprocess
import sys

_ROOT = pathlib.Path(__file__).parents[1]
_ROOMS = ('capsmodel', 'components', 'pipeline', 'serving', 'kubeflow')
# Outside code: [text](path#anchor) and ![text](path). Paths with a scheme lead out of the project.
_LINK = re.compile(r'(\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=\))')
_CODE = re.compile(r'^```.*?^```$|`[^`\n]*`', re.MULTILINE | re.DOTALL)

_SETTINGS = """\
[project]
site_name = "CapsNet on TFX"
docs_dir = "pages"
site_dir = "site"
use_directory_urls = false

[project.theme]
font = false
features = ["content.code.copy", "navigation.indexes", "navigation.top", "search.highlight"]

[project.theme.palette]
primary = "indigo"

[project.plugins.mkdocstrings.handlers.python]
paths = ["{root}"]

[project.plugins.mkdocstrings.handlers.python.options]
docstring_style = "google"
heading_level = 2
members_order = "source"
separate_signature = true
show_root_heading = false
show_root_toc_entry = false
show_source = true
show_symbol_type_heading = true
"""


class SiteError(ValueError):
    """The site cannot be built: the message says which file is wrong."""


class Site:
    """The pages, as they are before Zensical makes HTML of them.

    Attributes:
        root: The project's folder.
        pages: The folder that they are in.
        places: The page of each file and folder of the project that has one, relative to `pages`.
    """

    def __init__(self, root: pathlib.Path, pages: pathlib.Path):
        self.root, self.pages = root, pages
        self.places = {}
        for folder, pattern in (
            (root, '*.md'),
            (root / 'docs', '**/*.md'),
            (root / 'docs', '*.ipynb'),
        ):
            for path in folder.glob(pattern):
                self.places[path] = path.relative_to(folder).with_name(f'{path.stem.lower()}.md')
        if not (root / 'docs' / 'index.md').exists():
            self.places[root / 'README.md'] = pathlib.Path('index.md')
        for path in self._modules():
            relative = path.relative_to(root)
            self.places[path] = pathlib.Path('api', relative.with_suffix('.md'))
            if path.parent != root:
                self.places[path.parent] = pathlib.Path('api', relative.parent, 'index.md')
        for room in self._rooms():
            self.places[room] = pathlib.Path('api', room.name, 'index.md')

    def write(self) -> None:
        """Writes all pages, and the files that they link to.

        Raises:
            SiteError: A link leads nowhere.
        """
        for path, place in list(self.places.items()):
            if path.suffix == '.md':
                self._put(place, self._linked(path, path.read_text()))
            elif path.suffix == '.ipynb':
                self._put(place, self._linked(path, self._notebook(path)))
            elif path.is_dir():
                self._put(place, self._contents(path))
            else:
                name = '.'.join(path.relative_to(self.root).with_suffix('').parts)
                self._put(place, f'---\ntitle: {path.stem}\n---\n\n# {name}\n\n::: {name}\n')
        rooms = [
            f'- [{room.name}]({room.name}/index.md): {_summary(room)}' for room in self._rooms()
        ]
        self._put(pathlib.Path('api', 'index.md'), '\n'.join(['# API', '', *rooms, '']))

    def _rooms(self) -> list[pathlib.Path]:
        return [self.root / room for room in _ROOMS if (self.root / room).is_dir()]

    def _modules(self) -> list[pathlib.Path]:
        """All modules that have a page: neither generated ones nor those that name a package."""
        found = [*self.root.glob('*.py')]
        for room in self._rooms():
            found += room.rglob('*.py')
        named = [path for path in found if not path.stem.startswith('__') and path.stem != 'setup']
        return sorted(path for path in named if not path.stem.endswith('_pb2'))

    def _put(self, place: pathlib.Path, text: str) -> None:
        path = self.pages / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def _contents(self, package: pathlib.Path) -> str:
        """A page that lists the packages and modules of a package."""
        name = '.'.join(package.relative_to(self.root).parts)
        entries = []
        for path in sorted(self.places):
            if path.parent == package:
                link = f'{path.name}/index.md' if path.is_dir() else f'{path.stem}.md'
                entries.append(f'- [{path.stem}]({link}): {_summary(path)}')
        return '\n'.join([f'# {name}', '', _summary(package), '', *entries, ''])

    def _notebook(self, path: pathlib.Path) -> str:
        """A notebook as Markdown; its pictures are written beside it."""
        parts = []
        alternative = ''
        for number, cell in enumerate(json.loads(path.read_text())['cells']):
            source = ''.join(cell['source'])
            if cell['cell_type'] == 'markdown':
                parts.append(source)
                alternative = source.partition('\n')[0].strip('# ')
                continue
            parts.append(f'```python\n{source}\n```')
            for output in cell['outputs']:
                if 'text' in output:
                    parts.append(f'```\n{"".join(output["text"])}```')
                elif 'image/png' in output.get('data', {}):
                    name = f'{path.stem}_{number}.png'
                    self.pages.mkdir(parents=True, exist_ok=True)
                    picture = base64.b64decode(output['data']['image/png'])
                    (self.pages / name).write_bytes(picture)
                    parts.append(f'<img src="{name}" alt="{html.escape(alternative)}">')
        return '\n\n'.join(parts) + '\n'

    def _linked(self, path: pathlib.Path, text: str) -> str:
        """The text of a document, with links to where the targets are on the site."""
        place = self.places[path]
        code = [match.span() for match in _CODE.finditer(text)]

        def linked(match: re.Match) -> str:
            if any(start <= match.start() < end for start, end in code):
                return match[0]
            target = pathlib.Path(path.parent, match[2]).resolve()
            if not target.exists() or self.root not in target.parents:
                raise SiteError(
                    f'{path.relative_to(self.root)} links to {match[2]}, which is not there'
                )
            return f'{match[1]}{_up(place)}{self._place(target)}{match[3] or ""}'

        return _LINK.sub(linked, text)

    def _place(self, target: pathlib.Path) -> pathlib.Path:
        """Where a target is on the site; one that is no page is copied."""
        if target in self.places:
            return self.places[target]
        relative = target.relative_to(self.root)
        if target.parent == self.root / 'docs':
            place = pathlib.Path(target.name)
        else:
            place = pathlib.Path('files', relative)
        if target.suffix == '.md':
            # Its text is to be read. As a page, its links would lead nowhere.
            place = place.with_name(f'{target.name}.txt')
        if target.is_dir():
            place = place / 'index.md'
            files = [path for path in sorted(target.rglob('*')) if _is_source(path)]
            up = _up(place)
            links = [f'- [{path.relative_to(target)}]({up}{self._place(path)})' for path in files]
            self._put(place, '\n'.join([f'# {relative}', '', *links, '']))
        else:
            copy = self.pages / place
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(target, copy)
        return place


def _up(place: pathlib.Path) -> str:
    """From a page to the folder of all pages."""
    return '../' * (len(place.parts) - 1)


def _is_source(path: pathlib.Path) -> bool:
    return path.is_file() and '__pycache__' not in path.parts


def _summary(path: pathlib.Path) -> str:
    """The first line of a module's docstring, or of a package's."""
    file = path / '__init__.py' if path.is_dir() else path
    text = ast.get_docstring(ast.parse(file.read_text())) if file.exists() else None
    return (text or '').partition('\n')[0]


def build(root: pathlib.Path, target: pathlib.Path) -> None:
    """Builds the site.

    Args:
        root: The project's folder.
        target: The site's folder, which is replaced once the new one is whole.

    Raises:
        SiteError: A link leads nowhere, or Zensical warns.
    """
    work = target.with_name(f'{target.name}.unfinished')
    shutil.rmtree(work, ignore_errors=True)
    Site(root, work / 'pages').write()
    settings = work / 'zensical.toml'
    settings.write_text(_SETTINGS.format(root=root))
    program = pathlib.Path(sys.executable).with_name('zensical')
    done = subprocess.run([program, 'build', '--strict', '--config-file', settings], check=False)
    if done.returncode:
        raise SiteError(f'Zensical ended with {done.returncode}; the pages are in {work}')
    shutil.rmtree(target, ignore_errors=True)
    (work / 'site').rename(target)
    shutil.rmtree(work)


def main() -> None:
    parser = argparse.ArgumentParser(description='Build the site.')
    parser.add_argument('target', type=pathlib.Path)
    target = parser.parse_args().target.absolute()
    try:
        build(_ROOT, target)
    except SiteError as error:
        sys.exit(f'The site is not built: {error}')
    print(f'Open {target / "index.html"}')


if __name__ == '__main__':
    main()
