"""Telling entities that a C++ peer only passes on from gateways we reach without it (AGGREGATION.md §5, §11).

A C++ gateway knows no origins: what it has from its peers looks like its own, but for `source: peer:<name>`. Its
`/health` says which URL a name stands for.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import httpx

from .names import split_alias

if TYPE_CHECKING:
    from .federation import Federation


class EchoFilter:
    """Knows our own addresses and those of our peers."""

    def __init__(self, federation: Federation) -> None:
        self._federation = federation
        self._own = own_endpoints(federation.config.server.port)

    def is_echo(self, item: dict[str, Any], peer_urls: dict[str, str]) -> bool:
        """Whether the item of a C++ peer came from ourselves or from another peer of ours."""
        medkit = item.get("x-medkit")
        source = medkit.get("source") if isinstance(medkit, dict) else None
        if not isinstance(source, str) or not source.startswith("peer:"):
            return False
        url = peer_urls.get(source.removeprefix("peer:"), "")
        if endpoint(url) in self._own or endpoint(url) in {endpoint(one.url) for one in self._federation.peers}:
            return True
        return self._is_local_app(item, medkit if isinstance(medkit, dict) else {})

    def _is_local_app(self, item: dict[str, Any], medkit: dict[str, Any]) -> bool:
        """An app of ours that went round over addresses we do not know: same id and same node."""
        entity_id, ros2 = item.get("id"), medkit.get("ros2")
        if not isinstance(entity_id, str) or not isinstance(ros2, dict):
            return False
        alias = split_alias(entity_id)
        local = self._federation.tree.local.apps
        app = local.get(entity_id) or (local.get(alias[1]) if alias else None)
        return app is not None and bool(app.fqn) and app.fqn == ros2.get("node")


def endpoint(url: str) -> tuple[str, int]:
    """Host and port of a URL; `("", 0)` when it is none."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        return ("", 0)
    if not parsed.host:
        return ("", 0)
    return (parsed.host.lower(), parsed.port or (443 if parsed.scheme == "https" else 80))


def own_endpoints(port: int) -> frozenset[tuple[str, int]]:
    """The addresses under which this host names itself, with our port."""
    names = {"localhost", "127.0.0.1", "::1", socket.gethostname().lower()}
    return frozenset((name, port) for name in names)
