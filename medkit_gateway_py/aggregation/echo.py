"""Telling entities that a C++ peer only passes on from gateways we reach without it (AGGREGATION.md §5, §11).

A C++ gateway knows no origins: what it has from its peers looks like its own, but for `source: peer:<name>`. Its
`/health` says which URL a name stands for. URLs are compared by the addresses they lead to, and `localhost` in them
means the machine of who says it.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import anyio
import httpx

from .lookup import look_up
from .names import split_alias
from .peer_discovery.addresses import is_one_of, machine_addresses

if TYPE_CHECKING:
    from .federation import Federation

# Names of hosts are looked up this long for one fetch; what is not known by then is compared as text.
RESOLVE_S = 1.0
# How long an address is believed, and how many names are remembered; a C++ peer chooses them.
REMEMBER_S = 60.0
MAX_NAMES = 256

HERE = "here"
# An address, or a name that leads to none, and a port.
Place = tuple[str, int]
Item = dict[str, Any]


class EchoFilter:
    """Knows our own addresses and those of our peers. `addresses` are those of this machine."""

    def __init__(self, federation: Federation, addresses: Callable[[], Iterable[str]] = machine_addresses) -> None:
        self._federation = federation
        self._addresses = addresses
        self._found: dict[str, tuple[float, tuple[str, ...]]] = {}

    async def of(self, url: str, peer_urls: Mapping[str, str]) -> Callable[[Item], bool]:
        """What tells echoes among the items of the C++ peer at `url`; `peer_urls` are its peers, name to URL."""
        own = tuple(await anyio.to_thread.run_sync(self._addresses))
        port = self._federation.config.server.port
        ours = [one.url for one in self._federation.peers]
        found = await self._look_up(endpoint(one)[0] for one in (url, *ours, *peer_urls.values()))
        there = {host for host, _ in places(url, found, own, {HERE})}
        known = {(HERE, port)}.union(*(places(one, found, own, {HERE}) for one in ours))
        echoes = {f"peer:{name}" for name, one in peer_urls.items() if places(one, found, own, there) & known}
        return lambda item: self._is_echo(item, echoes)

    def _is_echo(self, item: Item, echoes: set[str]) -> bool:
        medkit = item.get("x-medkit")
        source = medkit.get("source") if isinstance(medkit, dict) else None
        if not isinstance(source, str) or not source.startswith("peer:"):
            return False
        return source in echoes or self._is_local_app(item, medkit if isinstance(medkit, dict) else {})

    def _is_local_app(self, item: Item, medkit: dict[str, Any]) -> bool:
        """An app of ours that went round over addresses we do not know: same id and same node."""
        entity_id, ros2 = item.get("id"), medkit.get("ros2")
        if not isinstance(entity_id, str) or not isinstance(ros2, dict):
            return False
        alias = split_alias(entity_id)
        local = self._federation.tree.local.apps
        app = local.get(entity_id) or (local.get(alias[1]) if alias else None)
        return app is not None and bool(app.fqn) and app.fqn == ros2.get("node")

    async def _look_up(self, hosts: Iterable[str]) -> Mapping[str, tuple[str, ...]]:
        """The addresses of those hosts that are names and are known; one after the other, so that one thread waits."""
        now = time.monotonic()
        self._found = {host: one for host, one in self._found.items() if now - one[0] < REMEMBER_S}
        names = [host for host in dict.fromkeys(hosts) if host and not is_localhost(host) and not is_address(host)]
        with anyio.move_on_after(RESOLVE_S):
            for name in names:
                if name not in self._found and len(self._found) < MAX_NAMES:
                    self._found[name] = (now, await _addresses_of(name))
        return {name: self._found[name][1] for name in names if name in self._found}


async def _addresses_of(name: str) -> tuple[str, ...]:
    try:
        answers = await look_up(name)
    except OSError:
        return ()
    return tuple(dict.fromkeys(str(answer[4][0]) for answer in answers))


def places(url: str, found: Mapping[str, tuple[str, ...]], own: Iterable[str], there: Iterable[str]) -> set[Place]:
    """Where a URL leads. `found`: addresses by name; `own`: of this machine; `there`: what `localhost` means in it."""
    host, port = endpoint(url)
    if not host:
        return set()
    if is_localhost(host):
        return {(one, port) for one in there}
    if host == socket.gethostname().lower():
        return {(HERE, port)}
    # A name that leads to loopback is one of this machine's own.
    addresses = (host,) if is_address(host) else found.get(host, ())
    own = tuple(own)
    return {(HERE if is_localhost(one) or is_one_of(one, own) else one, port) for one in (addresses or (host,))}


def is_address(host: str) -> bool:
    """Whether it is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_localhost(host: str) -> bool:
    """Whether it means the machine of who says it."""
    if not is_address(host):
        return host == "localhost" or host.endswith(".localhost")
    return ipaddress.ip_address(host).is_loopback


def endpoint(url: str) -> Place:
    """Host and port of a URL; `("", 0)` when it is none."""
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        return ("", 0)
    if not parsed.host:
        return ("", 0)
    return (parsed.host.lower(), parsed.port or (443 if parsed.scheme == "https" else 80))
