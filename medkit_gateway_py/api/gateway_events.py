"""`GET /x-medkit/events`: what happens to this gateway as one stream: its tree, its peers, faults (DECISIONS 24)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..aggregation.routing import FederatedTree
from ..aggregation.unheard import GAP
from ..entities.model import Kind
from .answers import to_json
from .fault_stream import FaultStream, counted_anew
from .sse import KEEP_ALIVE, EventLog, frame

if TYPE_CHECKING:
    from ..aggregation.federation import Federation

# What a client that comes back may have missed.
MAX_EVENTS = 500
MAX_BYTES = 4 * 1024 * 1024
# Ids named in one event; whoever needs them all reads the list.
MAX_IDS = 50

TREE, PEER = "tree", "peer"


class GatewayEvents:
    """All events of one gateway, for all who listen. A client gets what happens from now on, or from its last id on."""

    def __init__(self, federation: Federation, faults: FaultStream) -> None:
        self._federation = federation
        self._faults = faults
        self._log = EventLog(MAX_EVENTS, MAX_BYTES)
        self._tree = federation.tree
        self._peers = {peer.name: peer.status for peer in federation.peers}
        federation.subscribe(self._on_tree)
        faults.listen(self._append)

    def cursor(self, last_event_id: str) -> EventsCursor:
        """For one client."""
        number = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 19 else -1
        return EventsCursor(self, self._log, self._faults, number)

    def state(self) -> bytes:
        """The frame that says how things are now; it has no id, because nothing happened."""
        data = {"version": self._tree.version, "counts": self._tree.counts(), "peers": self._peers}
        return frame(to_json(data), event=TREE)

    def _on_tree(self, tree: FederatedTree) -> None:
        before, self._tree = self._tree, tree
        changes = {kind.value: found for kind in Kind if (found := _changes(before, tree, kind))}
        if changes:
            data = {"version": tree.version, "counts": tree.counts(), "changes": changes, "timestamp": time.time()}
            self._append(TREE, to_json(data))
        peers = {peer.name: peer.status for peer in self._federation.peers}
        for name, status in peers.items():
            if self._peers.get(name) != status:
                self._append(PEER, to_json({"peer": name, "status": status, "timestamp": time.time()}))
        self._peers = peers

    def _append(self, event: str, data: bytes) -> None:
        self._log.append(lambda number: frame(data, event=event, number=str(number)))


def _changes(before: FederatedTree, after: FederatedTree, kind: Kind) -> dict[str, Any]:
    old, new = before.of(kind), after.of(kind)
    found = {
        "added": [one for one in new if one not in old],
        "removed": [one for one in old if one not in new],
        "changed": [one for one, entity in new.items() if one in old and old[one] is not entity and old[one] != entity],
    }
    summary: dict[str, Any] = {name: ids[:MAX_IDS] for name, ids in found.items() if ids}
    more = sum(len(ids) - MAX_IDS for ids in found.values() if len(ids) > MAX_IDS)
    if more:
        summary["more"] = more
    return summary


class EventsCursor:
    """One client's place."""

    def __init__(self, events: GatewayEvents, log: EventLog, faults: FaultStream, last: int) -> None:
        self._events = events
        self._log = log
        self._faults = faults
        self._at = log.newest if last < 0 else min(last, log.newest)
        self._lost = counted_anew(log.newest) if last > log.newest else b""

    def greeting(self) -> bytes:
        """A comment, what a client has lost that was here before the gateway was restarted, and the present state."""
        return KEEP_ALIVE + self._lost + self._events.state()

    def take(self) -> bytes:
        """What came since; a `gap` where some of it is gone."""
        batch = self._log.read(self._at)
        self._at = batch.last
        if not batch.lost_from:
            return batch.body
        lost = {"lost": batch.lost_to - batch.lost_from + 1, "first_id": batch.lost_from, "last_id": batch.lost_to}
        return frame(to_json({**lost, "timestamp": time.time()}), event=GAP) + batch.body

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """See `sse.Source`; the faults of peers are followed for as long as this client is there."""
        unfollow = self._log.follow(wake)
        release = self._faults.peers.want(None) if self._faults.peers is not None else None

        def end() -> None:
            unfollow()
            if release is not None:
                release()

        return end
