"""The peers that `aggregation.peer_urls` and `aggregation.peer_names` list; they never change while we run.

Their rules (AGGREGATION.md §1) are checked in `parameters/aggregation.py`, with an ERROR for each pair refused.
"""

from __future__ import annotations

from collections.abc import Callable

from . import ADDED, DiscoveryContext, PeerEvent, PeerSpec


class StaticPeers:
    """The configured peers, in their order."""

    name = "static"

    def __init__(self, context: DiscoveryContext) -> None:
        self._peers = context.config.aggregation.peers

    async def start(self, emit: Callable[[PeerEvent], None]) -> None:
        """Emit all of them at once."""
        for peer in self._peers:
            emit(PeerEvent(ADDED, PeerSpec(peer.name, peer.url, self.name)))

    async def stop(self) -> None:
        """Nothing to release."""
