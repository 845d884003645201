"""The interface of a peer discovery: where peers come from, found by entry point (AGGREGATION.md §3).

Group `medkit_gateway_py.peer_discovery`; the entry point names a callable that takes a `DiscoveryContext` and returns
a `PeerDiscovery`. One that raises is logged with its name and hurts nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ...plugins import find_plugins
from ..access import Access
from ..sections import GatewayIdentity

if TYPE_CHECKING:
    from ..peer_status import PeerStatus

ENTRY_POINT_GROUP = "medkit_gateway_py.peer_discovery"
BUILT_IN = {
    "static": "medkit_gateway_py.aggregation.peer_discovery.static:StaticPeers",
    "mdns": "medkit_gateway_py.aggregation.peer_discovery.mdns:MdnsPeers",
}

ADDED, UPDATED, REMOVED = "added", "updated", "removed"
# Sources of peers that a person chose; they win over discovered ones of the same name, and need not be allowed.
BY_PARAMETERS, BY_OPERATOR, BY_MDNS = "static", "added", "mdns"
CONFIGURED = frozenset({BY_PARAMETERS, BY_OPERATOR})

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PeerSpec:
    """A peer as its discovery found it: a name that is unique among all peers, and a checked base URL.

    `access`: settings of its own (AGGREGATION.md §9); None: those of the gateway. `paused`: known, and not asked.
    """

    name: str
    url: str
    source: str = "static"
    access: Access | None = None
    paused: bool = False


@dataclass(frozen=True)
class PeerEvent:
    """What happened to a peer: `added`, `updated` (another URL), `removed` (only the name counts)."""

    change: str
    peer: PeerSpec


def _nobody() -> tuple[PeerStatus, ...]:
    return ()


def _own_access(spec: PeerSpec) -> Access:
    return spec.access or Access()


@dataclass(frozen=True)
class DiscoveryContext:
    """What a discovery is given: the frozen configuration, who we are, and what is known of peers.

    `peers()` are all peers now, of every discovery. `access(spec)` is how one that may be added is spoken to, for a
    discovery that asks before it adds. Whether it may be added is decided when it is (AGGREGATION.md §9).
    """

    config: Any
    identity: GatewayIdentity
    peers: Callable[[], tuple[PeerStatus, ...]] = _nobody
    access: Callable[[PeerSpec], Access] = _own_access


class PeerDiscovery(Protocol):
    """A source of peers. All methods are called on the asyncio loop."""

    name: str

    async def start(self, emit: Callable[[PeerEvent], None]) -> None:
        """Begin; call `emit` on the loop, now and whenever something changes. Must return within a second."""

    async def stop(self) -> None:
        """Release everything; called once, with a deadline of one second."""

    # One that can be off, starting, ok, degraded or down has `health() -> dict` as well, for `/health` (DECISIONS 25).


def load(context: DiscoveryContext) -> list[PeerDiscovery]:
    """All peer discoveries that are installed; one that cannot be made is logged and left out."""
    factories, _ = find_plugins(ENTRY_POINT_GROUP, BUILT_IN)
    found: list[PeerDiscovery] = []
    for name, factory in factories.items():
        try:
            found.append(factory(context))
        except Exception:  # a plugin may raise anything
            _log.exception("Peer discovery '%s' cannot be used", name)
    return found
