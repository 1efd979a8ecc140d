"""The page for drawings and pictures, and the cards of the models."""

from __future__ import annotations

import os
import urllib.parse
from collections.abc import Callable

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


# A card is a page of its own that runs nothing and loads nothing.
_CARD_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
_CARD = '/demo/card'


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

    def answer(
        self, path: str, model: str, card_of: Callable[[str], bytes | None]
    ) -> web.Response | None:
        """The answer to a GET; None if the page has no such path.

        Args:
            path: URL-encoded, with the query.
            model: The model that the page asks if it is opened without a model's name.
            card_of: From the name of a model to its card, which is empty if it has none; or to None
                if it is not served.
        """
        path, _, query = path.partition('?')
        if path == _CARD:
            names = urllib.parse.parse_qs(query).get('model', [model])
            return _card_answer(card_of(names[0]))
        if path in ('/demo', '/demo/') and not query:
            location = f'/demo/?model={urllib.parse.quote(model, safe="")}'
            return web.Response(status=302, headers={'Location': location})
        name = path.removeprefix('/demo/') or 'index.html'
        if not path.startswith('/demo/') or name not in self._files:
            return None
        headers = _headers(_TYPES[os.path.splitext(name)[1]], _POLICY)
        return web.Response(body=self._files[name], headers=headers)


def _card_answer(card: bytes | None) -> web.Response | None:
    """A card; no content for a model without one, and None for a model that is not served."""
    if card is None:
        return None
    if not card:
        return web.Response(status=204)
    return web.Response(body=card, headers=_headers(_TYPES['.html'], _CARD_POLICY))


def _headers(content_type: str, policy: str) -> dict[str, str]:
    return {
        'Content-Type': content_type,
        'Cache-Control': 'no-cache',
        'Content-Security-Policy': policy,
        'X-Content-Type-Options': 'nosniff',
    }
