"""Which web pages may use the server.

A browser sends requests to any address that a page names, even to a server that only its own
machine can reach. Two headers distinguish such requests from those of programs and of our own page:
`Origin` says where the page is from, and `Host` by which name the server is asked. A page whose own
name was made to point to this machine (DNS rebinding) has the right origin, but the wrong host.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import re

from aiohttp import web

from serving.errors import ServingError

# The real server's: AddCORSHeaders in tensorflow_serving/model_servers/http_rest_api_util.cc.
CORS_HEADERS = {
    'Access-Control-Allow-Origin': '*',
    'Access-Control-Allow-Methods': 'POST, GET',
    'Access-Control-Allow-Headers': 'Content-Type',
}
_AUTHORITY = re.compile(r'(\[[^\[\]]+\]|[^\s\[\]:/?#@]+)(?::([0-9]*))?')
_ORIGIN = re.compile(r'(https?)://([^/]+)')
_PORTS = {'http': 80, 'https': 443}
# These change nothing, and no foreign page can read the answers.
_READING = ('GET', 'HEAD', 'OPTIONS')


@dataclasses.dataclass(frozen=True)
class Origins:
    """Who may use the server.

    Attributes:
        is_local: Whether only this machine can reach the server. Then `Host` must be a name of this
            machine.
        host: The address on which it was told to listen.
        allowed_hosts: More names that `Host` may have. Web pages of these hosts may ask, too.
        any_page: Whether the pages of all sites may use it (CORS).
    """

    is_local: bool
    host: str = ''
    allowed_hosts: frozenset[str] = frozenset()
    any_page: bool = False

    def check(self, request: web.BaseRequest) -> None:
        """Refuses requests of foreign pages.

        Raises:
            ServingError: The request is for another host, or comes from a foreign page.
        """
        asked = request.headers.getall('Host', [])
        # A request line may have a whole URL. Its host is checked as well, and is the target then.
        whole = request._message.url.raw_authority
        if self.is_local or self.allowed_hosts:
            for authority in [*asked, whole] if whole else asked:
                if not self._is_ours(_split(authority)[0]):
                    raise ServingError(
                        'PERMISSION_DENIED',
                        f"This server does not answer to the name '{authority}' (--allowed_hosts)",
                    )
        if request.method in _READING or self.any_page:
            return
        origins = request.headers.getall('Origin', [])
        for origin in origins:
            if not self._is_same(origin, whole or ''.join(asked)):
                raise _foreign(f"from '{origin}'")
        # A browser may keep the origin secret.
        if not origins and request.headers.get('Sec-Fetch-Site') in ('cross-site', 'same-site'):
            raise _foreign('of other sites')

    def _is_ours(self, name: str) -> bool:
        return (
            name == 'localhost'
            or name.endswith('.localhost')  # browsers take these names for this machine
            or _is_loopback(name)
            or name in (_split(self.host)[0], self.host)
            or name in self.allowed_hosts
        )

    def _is_same(self, origin: str, authority: str) -> bool:
        found = _ORIGIN.fullmatch(origin.lower())
        if not found:  # 'null': the page has no origin
            return False
        port = _PORTS[found[1]]
        name, asked_at = _split(found[2])
        if name in self.allowed_hosts:
            return True
        own_name, own_port = _split(authority)
        return (name, asked_at or port) == (own_name, own_port or port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    return _is_loopback(_split(f'[{host}]' if ':' in host else host)[0])


def host_names(text: str) -> frozenset[str]:
    """The names in a list with commas, in the form in which names are compared."""
    return frozenset(_split(name.strip())[0] for name in text.split(',') if name.strip())


@functools.lru_cache(1024)
def _split(authority: str) -> tuple[str, int | None]:
    """Name and port of a `Host`: a name in small letters, an IPv6 address in its shortest form.

    The name is empty if the text is not a valid authority.
    """
    found = _AUTHORITY.fullmatch(authority)
    if not found:
        return '', None
    name = found[1].lower().removesuffix('.')
    port = int(found[2]) if found[2] and len(found[2]) <= 5 else None
    if name.startswith('['):
        try:
            ip = ipaddress.IPv6Address(name[1:-1])
        except ValueError:
            return '', None
        return str(ip.ipv4_mapped or ip), port
    return name, port


@functools.lru_cache(1024)
def _is_loopback(name: str) -> bool:
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _foreign(where: str) -> ServingError:
    return ServingError(
        'PERMISSION_DENIED',
        f'Web pages {where} may not use this server (--allowed_hosts, '
        '--rest_api_enable_cors_support)',
    )
