"""The fault stream of one peer: followed for certain origins, resumed where it broke, its events in our words.

What becomes of them is decided in `fault_streams.py`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from ..errors import Forbidden, GatewayError
from .client import BadAnswer
from .event_reader import EventReader, StreamEvent, StreamGarbage
from .forward import rewriter_for
from .peer import COMPATIBLE
from .request import GATEWAY, NO_FAN_OUT, ORIGINS
from .transport import STREAMS
from .tree_sync import NO_STREAM_RETRY_S, StreamRefused, check_stream, next_piece
from .unheard import GAP, PEER_DOWN, PEER_UP, Word, word_of

if TYPE_CHECKING:
    from .fault_streams import PeerFaultStreams
    from .federation import Federation
    from .peer import Peer

FAULT_STREAM = b"/api/v1/faults/stream"
FAULT_EVENTS = frozenset({"fault_confirmed", "fault_updated", "fault_cleared"})
# Longer than the keep-alive of a fault stream (30 s).
IDLE_S = 45.0
# Clients understand events of 256 KB; nothing longer is worth reading.
MAX_EVENT = 256 * 1024
RETRY_S = 1.0
MAX_LABEL = 300
MAX_REASON = 500
GONE = "it is no peer any more"

Json = dict[str, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Heard:
    """An event for our own streams: its type, its data, and the origins it is about."""

    event: str
    data: Json
    origins: frozenset[str]


class Follower:
    """The stream of one peer, for certain origins."""

    def __init__(self, streams: PeerFaultStreams, federation: Federation, name: str, origins: frozenset[str]) -> None:
        self.name = name
        self.origins = origins
        self.task: asyncio.Task[None] | None = None
        self._streams = streams
        self._federation = federation
        self._dropped = 0

    async def run(self) -> None:
        """Follow until cancelled, again and again."""
        while True:
            pause = RETRY_S
            peer = self._federation.peer(self.name)
            client = peer.client if peer is not None else None
            try:
                await self._follow()
                reason = "its stream ended"
            except StreamRefused as error:
                reason, pause = str(error), error.retry_s
            except Forbidden as error:
                reason, pause = error.message, NO_STREAM_RETRY_S
            except (GatewayError, BadAnswer) as error:
                reason = str(error)
            except Exception:
                _log.exception("Following the faults of peer '%s' failed", self.name)
                reason = "internal error"
            if peer is not None and peer.client is not client:
                # It has new settings, and is asked by them where the old stream ended.
                continue
            # Its connections are closed when it is removed, which looks like a failure of it.
            self._streams.down(self.name, reason if self._federation.peer(self.name) is not None else GONE)
            await anyio.sleep(pause * (0.5 + random.random()))

    async def _follow(self) -> None:
        peer = self._federation.peer(self.name)
        if peer is None:
            raise BadAnswer(GONE)
        peer.check_callable()
        boot_id, last = self._streams.place(self.name)
        if last and boot_id != peer.gateway.boot_id:
            self._restarted(peer.gateway.boot_id)
            last = 0
        async with peer.client.open(
            "GET", FAULT_STREAM, headers=self._headers(peer, last), lane=STREAMS, first_byte_s=peer.client.timeout_s,
            idle_s=IDLE_S + 1,
        ) as response:  # fmt: skip
            check_stream(response, "its faults")
            boot_now = response.headers.get(GATEWAY, "").partition("/")[2] or peer.gateway.boot_id
            if last and boot_now != boot_id:
                self._restarted(boot_now)
                raise BadAnswer("was restarted")
            peer.answered()
            self._streams.up(self.name)
            await self._read(peer, boot_now, response.aiter_raw().__aiter__())

    def _restarted(self, boot_id: str) -> None:
        self._streams.keep_place(self.name, boot_id, 0)
        self._streams.nothing_behind(self.name)
        self._streams.gap(self.name, "the gateway was restarted: what it said last may be lost")

    def _headers(self, peer: Peer, last: int) -> list[tuple[bytes, bytes]]:
        headers = [(b"accept", b"text/event-stream"), (b"accept-encoding", b"identity")]
        if last:
            headers.append((b"last-event-id", str(last).encode()))
        if peer.kind == COMPATIBLE:
            headers.append((NO_FAN_OUT.encode(), b"1"))
        else:
            origins = self._federation.origins_at(self.name, sorted(self.origins))
            headers.append((ORIGINS.encode(), ",".join(origins).encode("latin-1", "replace")))
        return headers

    async def _read(self, peer: Peer, boot_id: str, stream: Any) -> None:
        reader = EventReader(MAX_EVENT)
        client = peer.client
        while peer.client is client and (piece := await next_piece(self.name, stream, IDLE_S)) is not None:
            try:
                events = reader.feed(piece)
            except StreamGarbage as error:
                raise BadAnswer(str(error)) from None
            for event in events:
                self._take(peer, boot_id, event)

    def _take(self, peer: Peer, boot_id: str, event: StreamEvent) -> None:
        number = int(event.id) if event.id.isdecimal() and len(event.id) < 19 else 0
        if number:
            _, last = self._streams.place(self.name)
            if number < last and peer.kind == COMPATIBLE:
                self._streams.gap(self.name, "its events are counted anew: what it said last may be lost")
            self._streams.keep_place(self.name, boot_id, number)
        try:
            data = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            data = None
        if not isinstance(data, dict):
            self._drop("an event that is no JSON object")
        elif event.event in FAULT_EVENTS:
            self._fault(peer, boot_id, event, data)
        elif event.event in (PEER_UP, PEER_DOWN, GAP):
            self._state(event.event, data)

    def _fault(self, peer: Peer, boot_id: str, event: StreamEvent, data: Json) -> None:
        if not isinstance(data.get("fault"), dict):
            self._drop("an event without a fault")
            return
        data = rewriter_for(self._federation.tree, self.name, None, "").body(data)
        said = data.get("x-medkit")
        medkit: Json = dict(said) if isinstance(said, Mapping) else {}
        behind, origin, key = medkit.get("peer"), medkit.get("origin"), medkit.get("event_id")
        if peer.kind == COMPATIBLE or not isinstance(origin, str) or not isinstance(key, str):
            behind, origin, key = None, peer.gateway.id, f"{boot_id}-{event.id}"
        here = self._origin_here(origin)
        if here is None:
            self._drop("an event of an origin that was not asked for")
            return
        medkit["peer"] = _label(self.name, behind)
        medkit["origin"], medkit["event_id"] = here, key[:MAX_LABEL]
        seen = (here, key[:MAX_LABEL]) if peer.kind != COMPATIBLE else None
        self._streams.tell(Heard(event.event, {**data, "x-medkit": medkit}, frozenset({here})), seen)

    def _state(self, event: str, data: Json) -> None:
        """What the peer says of its own peers, or of what it lost itself."""
        label = _label(self.name, data.get("peer"))
        reason = data["reason"][:MAX_REASON] if isinstance(data.get("reason"), str) else ""
        if event == GAP and label == self.name:
            # Its own log: what it said of its peers is lost with it, and it says anew what holds.
            self._streams.nothing_behind(self.name)
            self._streams.gap(self.name, reason)
            return
        word = word_of(data, self._federation.identity.id, self._federation.config.aggregation.max_hops)
        about = (
            frozenset(here for one in word.origins if (here := self._origin_here(one))) if word is not None else None
        )
        if word is None or not about:
            # Not for us: it has been here, or we hear those gateways over another way.
            return
        word = Word(reason, about, word.via)
        if event == GAP:
            self._streams.gap_behind(label, word)
        else:
            self._streams.behind(self.name, label, word if event == PEER_DOWN else None)

    def _origin_here(self, origin: str) -> str | None:
        for name in (origin, f"{origin}~{self.name}"):
            if name in self.origins:
                return name
        return None

    def _drop(self, what: str) -> None:
        self._dropped += 1
        if self._dropped == 1:
            _log.warning("Peer '%s' sent %s on its fault stream; it is dropped, as are all like it", self.name, what)


def _label(name: str, behind: object) -> str:
    return f"{name}/{behind}"[:MAX_LABEL] if isinstance(behind, str) and behind else name
