"""`GET /faults/stream`: our own faults and those of peers as one stream with one count of ids (API.md §7.7).

How peers are followed is in `aggregation/fault_streams.py`, how bytes reach clients in `sse.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..aggregation.fault_follower import Heard
from ..aggregation.fault_streams import PeerFaultStreams
from ..aggregation.request import RequestInfo
from ..aggregation.routing import FederatedTree
from ..aggregation.unheard import GAP, PEER_DOWN
from ..resources.faults.documents import list_item
from ..resources.faults.events import FaultEvents
from ..resources.faults.model import FaultEvent
from ..resources.faults.scope import source_of
from .answers import to_json
from .sse import KEEP_ALIVE, EventLog, Streams, frame

if TYPE_CHECKING:
    from ..aggregation.federation import Federation

# What a new client gets of what was before it came (API.md §7.7).
REPLAY = 100
# What a slow client may be behind before it loses anything, and what a peer may resume from.
MAX_EVENTS = 1000
MAX_BYTES = 8 * 1024 * 1024

Listener = Callable[[str, bytes], None]


class FaultStream:
    """The merged events of this gateway. One for all clients."""

    def __init__(self, federation: Federation, events: FaultEvents, streams: Streams) -> None:
        self._federation = federation
        self._own_id = federation.identity.id
        self._listeners: list[Listener] = []
        self._app_ids: tuple[FederatedTree, Mapping[str, str]] | None = None
        self._log = EventLog(MAX_EVENTS, MAX_BYTES)
        self.peers: PeerFaultStreams | None = None
        if federation.enabled:
            self.peers = PeerFaultStreams(federation, self._on_heard)
            streams.on_close(self.peers.close)
        for _, event in events.after(0):
            self._on_local(0, event)
        events.subscribe(self._on_local)

    def cursor(self, info: RequestInfo, last_event_id: str) -> FaultCursor:
        """For one client: what it wants to hear, and from where on."""
        number = int(last_event_id) if last_event_id.isdecimal() and len(last_event_id) < 19 else 0
        wanted = info.origins
        if info.is_local_only(self._own_id):
            wanted = frozenset({self._own_id}) if info.asks_local(self._own_id) else frozenset()
        replay = MAX_EVENTS if info.via else REPLAY
        return FaultCursor(self._log, self.peers, wanted, self._own_id, number, replay)

    def listen(self, listener: Listener) -> None:
        """Have `listener` called with the type and the data of each event."""
        self._listeners.append(listener)

    def _on_local(self, _: int, event: FaultEvent) -> None:
        data: dict[str, Any] = {
            "event_type": event.event_type,
            "fault": list_item(event.fault),
            "timestamp": event.timestamp,
        }
        if event.auto_cleared_codes:
            data["auto_cleared_codes"] = list(event.auto_cleared_codes)
        app_id = self._app_of(event.fault.reporting_sources[0]) if event.fault.reporting_sources else None
        if app_id is not None:
            data["x-medkit"] = {"entity_type": "apps", "entity_id": app_id}
        self._append(event.event_type, data, frozenset({self._own_id}))

    def _on_heard(self, heard: Heard) -> None:
        self._append(heard.event, heard.data, heard.origins)

    def _append(self, event: str, data: dict[str, Any], origins: frozenset[str]) -> None:
        encoded = to_json(data)
        self._log.append(lambda number: frame(encoded, event=event, number=str(number)), origins)
        for listener in self._listeners:
            listener(event, encoded)

    def _app_of(self, source: str) -> str | None:
        """The app that reports under this name: the node of this FQN, else one of this id."""
        tree = self._federation.tree
        if self._app_ids is None or self._app_ids[0] is not tree:
            self._app_ids = (tree, {source_of(app): app.id for app in tree.local.apps.values()})
        found = self._app_ids[1].get(source)
        if found is not None:
            return found
        path = source.strip("/").split("/")
        return next((name for name in (path[-1], "_".join(path)) if name in tree.local.apps), None)


class FaultCursor:
    """One client's place."""

    def __init__(
        self, log: EventLog, peers: PeerFaultStreams | None, wanted: frozenset[str] | None, own_id: str, last: int,
        replay: int,
    ) -> None:  # fmt: skip
        self._log = log
        self._peers = peers
        self._wanted = wanted
        self._own_id = own_id
        self._at = last
        self._replay = replay

    def greeting(self) -> bytes:
        """A comment; what a client that comes back has lost; who cannot be heard now."""
        parts = [KEEP_ALIVE]
        asked, newest = self._at, self._log.newest
        # A larger id was given by another run of this gateway (API.md §7.7): whoever has it saw none of ours.
        last = self._at = min(asked, newest)
        if asked > newest:
            parts.append(counted_anew(newest))
        floor = max(self._log.newest - self._replay, self._log.oldest - 1)
        if last < floor:
            self._at = floor
            if last:
                parts.append(_lost(last + 1, floor, "more happened meanwhile than is kept"))
        return b"".join([*parts, self._unheard()])

    def take(self) -> bytes:
        """What came since, with word of what was lost because the client was slow."""
        batch = self._log.read(self._at, self._wanted)
        self._at = batch.last
        if not batch.lost_from:
            return batch.body
        return _lost(batch.lost_from, batch.lost_to, "this client reads too slowly") + self._unheard() + batch.body

    def _unheard(self) -> bytes:
        """Who cannot be heard now."""
        if self._peers is None:
            return b""
        return b"".join(frame(to_json(one), event=PEER_DOWN) for one in self._peers.unheard(self._wanted).values())

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """See `sse.Source`; peers are followed for as long as this client is there."""
        unfollow = self._log.follow(wake)
        behind = self._wanted - {self._own_id} if self._wanted is not None else None
        release = self._peers.want(behind) if self._peers is not None and (behind is None or behind) else None

        def end() -> None:
            unfollow()
            if release is not None:
                release()

        return end


def counted_anew(newest: int) -> bytes:
    """What a client is told that comes back with an id that this run has not given yet.

    It comes with the id from which the client goes on: with its old one it would miss as many events of this run when
    it comes back once more.
    """
    reason = "ids are counted anew: the gateway was restarted, and what it said last may be lost"
    if newest:
        return _lost(1, newest, reason, str(newest))
    return frame(to_json({"reason": reason, "timestamp": time.time()}), event=GAP, number="0")


def _lost(first: int, last: int, reason: str, number: str = "") -> bytes:
    data = {"lost": last - first + 1, "first_id": first, "last_id": last, "reason": reason, "timestamp": time.time()}
    return frame(to_json(data), event=GAP, number=number)
