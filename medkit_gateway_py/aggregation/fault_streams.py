"""The fault streams of peers: one a peer while anybody here listens, their events in our words (AGGREGATION.md §8).

Which origins are asked for through which peer follows the routes, as fan-out does; a repetition on another way is told
by origin and event id. So an event comes once, whatever the topology. What becomes of the events, and who listens, is
decided by whoever owns this. What gateways say of their peers goes round by the same marks: once to each, and never
back to who said it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
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
from .routing import FederatedTree
from .sections import MAX_ORIGINS
from .transport import STREAMS
from .tree_sync import NO_STREAM_RETRY_S, StreamRefused, check_stream, next_piece

if TYPE_CHECKING:
    from .federation import Federation
    from .peer import Peer

FAULT_STREAM = b"/api/v1/faults/stream"
FAULT_EVENTS = frozenset({"fault_confirmed", "fault_updated", "fault_cleared"})
PEER_UP, PEER_DOWN, GAP = "peer_up", "peer_down", "gap"
# Longer than the keep-alive of a fault stream (30 s).
IDLE_S = 45.0
# Clients understand events of 256 KB; nothing longer is worth reading.
MAX_EVENT = 256 * 1024
# A client that reconnects within this finds the peers' streams still open.
LINGER_S = 30.0
RETRY_S = 1.0
# Events that were seen, to know them again when another way repeats them: ten times what a peer replays.
MAX_SEEN = 4096
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


class PeerFaultStreams:
    """All peers' streams. Everything here runs on the asyncio loop."""

    def __init__(self, federation: Federation, on_event: Callable[[Heard], None]) -> None:
        self._federation = federation
        self._on_event = on_event
        self._wants: dict[object, frozenset[str] | None] = {}
        self._followers: dict[str, _Follower] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._origins: dict[str, frozenset[str]] = {}
        self._down: set[str] = set()
        self._seen: dict[tuple[str, str], None] = {}
        self._linger: asyncio.TimerHandle | None = None
        federation.subscribe(self._on_tree)

    def want(self, origins: frozenset[str] | None) -> Callable[[], None]:
        """Listen to these origins, or with None to all; gives a function that ends it."""
        key = object()
        if not self._wants and not self._followers:
            # Who begins to listen is told by `unheard`; events are for what changes from now on.
            tree = self._federation.tree
            self._down |= {name for name in self._federation.peer_names() if name not in tree.origins_by_peer}
        self._wants[key] = origins
        self._reconcile()

        def end() -> None:
            if self._wants.pop(key, key) is not key:
                self._reconcile()

        return end

    def unheard(self) -> tuple[str, ...]:
        """Labels of gateways whose faults cannot be heard now."""
        tree = self._federation.tree
        away = [name for name in self._federation.peer_names() if name not in tree.origins_by_peer]
        return tuple(sorted({*away, *self._down, *tree.missing_anything()}))

    def close(self) -> None:
        """End all streams."""
        self._wants.clear()
        self._stop_all()

    # Which streams there must be

    def _on_tree(self, tree: FederatedTree) -> None:
        if self._wants or self._followers:
            self._reconcile()

    def _reconcile(self) -> None:
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        if not self._wants:
            self._linger = asyncio.get_running_loop().call_later(LINGER_S, self._stop_all)
            return
        routed = {peer: frozenset(origins) for peer, origins in self._federation.tree.origins_by_peer.items()}
        wants = list(self._wants.values())
        wanted = None if None in wants else frozenset[str]().union(*(one for one in wants if one is not None))
        known = self._federation.peer_names()
        for name, follower in list(self._followers.items()):
            if name not in routed:
                self._drop(follower)
                self.down(name, "it is offline" if name in known else GONE)
        self._forget_all_but(known)
        for name in known:
            if name not in routed:
                self.down(name, "it is offline")
        for name, origins in routed.items():
            needed = origins if wanted is None else origins & wanted
            if needed:
                elsewhere = frozenset[str]().union(*(others for peer, others in routed.items() if peer != name))
                self._follow(name, needed, origins, elsewhere)

    def _follow(self, name: str, needed: frozenset[str], routed: frozenset[str], elsewhere: frozenset[str]) -> None:
        current = self._followers.get(name)
        known = self._origins.get(name, routed) - elsewhere | routed
        self._origins[name] = known if len(known) <= MAX_ORIGINS else routed
        if current is not None:
            # An origin that is away stays asked for here, so that its return is heard of, until it comes another way.
            if needed <= current.origins and elsewhere.isdisjoint(current.origins):
                return
            self._drop(current)
        self._followers[name] = follower = _Follower(self, self._federation, name, needed)
        follower.task = asyncio.create_task(follower.run(), name=f"faults of {name}")

    def _drop(self, follower: _Follower) -> None:
        if follower.task is not None:
            follower.task.cancel()
        self._followers.pop(follower.name, None)

    def _stop_all(self) -> None:
        for follower in list(self._followers.values()):
            self._drop(follower)
        self._forget_all_but(self._federation.peer_names())

    def _forget_all_but(self, names: Sequence[str]) -> None:
        """Who is no peer any more is not missing, and nothing of it is kept."""
        known = set(names)
        self._down &= known
        self._places = {name: place for name, place in self._places.items() if name in known}
        self._origins = {name: origins for name, origins in self._origins.items() if name in known}

    # What the streams say

    def place(self, name: str) -> tuple[str, int]:
        """Boot id of the peer, and the last event id that came from it; 0 for none."""
        return self._places.get(name, ("", 0))

    def keep_place(self, name: str, boot_id: str, number: int) -> None:
        """Remember up to where a peer's events came."""
        self._places[name] = (boot_id, number)

    def up(self, name: str) -> None:
        """The peer's stream is open."""
        if name in self._down:
            self._down.discard(name)
            self._say(PEER_UP, name, {})

    def down(self, name: str, reason: str) -> None:
        """The peer's faults cannot be heard; said once."""
        if name not in self._down:
            self._down.add(name)
            self._say(PEER_DOWN, name, {"reason": reason[:MAX_REASON]})

    def gap(self, name: str, reason: str) -> None:
        """Events of the peer may be lost."""
        self._say(GAP, name, {"reason": reason})

    def _say(self, event: str, label: str, data: Json) -> None:
        origins = self._origins.get(label.partition("/")[0], frozenset())
        self._on_event(Heard(event, {"peer": label, **data, "timestamp": time.time()}, origins))

    def tell(self, heard: Heard, key: tuple[str, str] | None) -> None:
        """Hand an event on, unless it came before."""
        if key is not None:
            if key in self._seen:
                return
            self._seen[key] = None
            if len(self._seen) > MAX_SEEN:
                del self._seen[next(iter(self._seen))]
        self._on_event(heard)


class _Follower:
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
            self._state(peer, boot_id, event, data)

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

    def _state(self, peer: Peer, boot_id: str, event: StreamEvent, data: Json) -> None:
        """What the peer says of its own peers, or of what it lost itself."""
        said = data.get("x-medkit")
        origin, key = (said.get("origin"), said.get("event_id")) if isinstance(said, Mapping) else (None, None)
        if not isinstance(origin, str) or not isinstance(key, str):
            origin, key = peer.gateway.id, f"{boot_id}-{event.id}-{event.event}"
        if origin == self._federation.identity.id:
            return
        origin, key = origin[:MAX_LABEL], key[:MAX_LABEL]
        told: Json = {"peer": _label(self.name, data.get("peer")), "timestamp": time.time()}
        told["x-medkit"] = {"origin": origin, "event_id": key}
        if isinstance(data.get("reason"), str):
            told["reason"] = data["reason"][:MAX_REASON]
        if isinstance(data.get("lost"), int):
            told["lost"] = data["lost"]
        self._streams.tell(Heard(event.event, told, self.origins), (origin, key))

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
