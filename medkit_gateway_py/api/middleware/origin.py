"""Keeps web pages of other origins from sending commands to the robot (DECISIONS 11).

A browser lets every page send a POST without reading the answer, and DNS rebinding lets a page read, too. Requests
without `Origin` come from programs, not from pages, and pass.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Receive, Scope, Send

from ...errors import Forbidden
from .cors import is_allowed

_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": 80, "https": 443}


class OriginGuard:
    """403 for commands whose `Origin` is neither allowed nor our own. `hostname`: the name of this machine."""

    def __init__(
        self, app: ASGIApp, *, origins: Iterable[str], allowed_hosts: Iterable[str], hostname: str | None = None
    ) -> None:
        self._app = app
        self._origins = frozenset(origins)
        name = (socket.gethostname() if hostname is None else hostname).lower()
        short = name.split(".")[0]
        self._hosts = frozenset(
            {"localhost", name, short, f"{short}.local", *(host.lower() for host in allowed_hosts)} - {"", ".local"}
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or raise Forbidden."""
        if scope["type"] == "http" and scope["method"] not in _HARMLESS:
            headers = dict(scope["headers"])
            origin = headers.get(b"origin")
            host = headers.get(b"host", b"").decode("latin-1")
            if origin is not None and not self._may(origin.decode("latin-1"), host):
                raise Forbidden(
                    "Requests from web pages of this origin are not allowed",
                    details="Add the origin to cors.allowed_origins, or the host name of this gateway to"
                    " server.allowed_hosts",
                    origin=origin.decode("latin-1")[:256],
                )
        await self._app(scope, receive, send)

    def _may(self, origin: str, host: str) -> bool:
        if is_allowed(origin, self._origins):
            return True
        page, server = split_origin(origin), split_origin(f"{origin.partition('://')[0]}://{host}")
        return page is not None and page == server and self._is_ours(page[0])

    def _is_ours(self, host: str) -> bool:
        if host in self._hosts:
            return True
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True


def split_origin(origin: str) -> tuple[str, int] | None:
    """Host and port of an origin, the port by its scheme where it is not named; None for `null` and the like."""
    try:
        parts = urlsplit(origin)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in _DEFAULT_PORTS or not host or parts.username is not None:
        return None
    if parts.path or parts.query or parts.fragment:
        return None
    return host.rstrip("."), port or _DEFAULT_PORTS[parts.scheme]
