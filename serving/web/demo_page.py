"""The page for drawings and pictures."""

from __future__ import annotations

import os
import urllib.parse

from aiohttp import web

# The module mimetypes may know none of them in a bare container.
_TYPES = {
    '.html': 'text/html; charset=utf-8',
    '.css': 'text/css; charset=utf-8',
    '.js': 'text/javascript; charset=utf-8',
    '.svg': 'image/svg+xml',
}
# The page runs only its own scripts, asks only its own server, and no other page can embed it.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class DemoPage:
    """Serves the files of a folder, which it reads once.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: str) -> None:
        self._files = {}
        for name in os.listdir(folder):
            if os.path.splitext(name)[1] in _TYPES:
                with open(os.path.join(folder, name), 'rb') as file:
                    self._files[name] = file.read()

    def answer(self, path: str, model: str) -> web.Response | None:
        """The answer to a GET; None if the page has no such path.

        Args:
            path: URL-encoded, with the query.
            model: The model that the page asks if it is opened without a model's name.
        """
        path, _, query = path.partition('?')
        if path in ('/demo', '/demo/') and not query:
            location = f'/demo/?model={urllib.parse.quote(model, safe="")}'
            return web.Response(status=302, headers={'Location': location})
        name = path.removeprefix('/demo/') or 'index.html'
        if not path.startswith('/demo/') or name not in self._files:
            return None
        headers = {
            'Content-Type': _TYPES[os.path.splitext(name)[1]],
            'Cache-Control': 'no-cache',
            'Content-Security-Policy': _POLICY,
            'X-Content-Type-Options': 'nosniff',
        }
        return web.Response(body=self._files[name], headers=headers)
