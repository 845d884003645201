"""The fault streams of peers: one a peer while anybody here listens, their events in our words (AGGREGATION.md §8).

Which origins are asked for through which peer follows the routes, as fan-out does; a repetition on another way is told
by origin and event id. So an event comes once, whatever the topology. What becomes of the events, and who listens, is
decided by whoever owns this. Who cannot be heard is judged in `unheard.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from .fault_follower import GONE, MAX_REASON, Follower, Heard
from .routing import FederatedTree
from .sections import MAX_ORIGINS
from .unheard import GAP, PEER_DOWN, PEER_UP, Word, changes, unheard

if TYPE_CHECKING:
    from .federation import Federation

# A client that reconnects within this finds the peers' streams still open.
LINGER_S = 30.0
# Events that were seen, to know them again when another way repeats them: ten times what a peer replays.
MAX_SEEN = 4096

Json = dict[str, Any]


class PeerFaultStreams:
    """All peers' streams. Everything here runs on the asyncio loop."""

    def __init__(self, federation: Federation, on_event: Callable[[Heard], None]) -> None:
        self._federation = federation
        self._on_event = on_event
        self._wants: dict[object, frozenset[str] | None] = {}
        self._followers: dict[str, Follower] = {}
        self._places: dict[str, tuple[str, int]] = {}
        self._origins: dict[str, frozenset[str]] = {}
        self._down: dict[str, str] = {}
        # By peer and our label, what it says of its own peers.
        self._behind: dict[str, dict[str, Word]] = {}
        # What listeners know of who is down; None: there was none yet.
        self._told: dict[str, Word] | None = None
        self._seen: dict[tuple[str, str], None] = {}
        self._linger: asyncio.TimerHandle | None = None
        federation.subscribe(self._on_tree)

    def want(self, origins: frozenset[str] | None) -> Callable[[], None]:
        """Listen to these origins, or with None to all; gives a function that ends it."""
        key = object()
        self._wants[key] = origins
        self._reconcile()

        def end() -> None:
            if self._wants.pop(key, key) is not key:
                self._reconcile()

        return end

    def unheard(self, wanted: frozenset[str] | None = None) -> dict[str, Json]:
        """By their labels, the gateways whose faults cannot be heard now, of certain origins or all: what to say."""
        found = (self._told or self._unheard()).items()
        return {
            label: self._data(label, word, word.reason)
            for label, word in sorted(found)
            if wanted is None or not wanted.isdisjoint(word.origins)
        }

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
                if name not in known:
                    self.down(name, GONE)
        self._forget_all_but(known)
        for name in known:
            if name not in routed:
                self._down.setdefault(name, "it is offline")
        for name, origins in routed.items():
            needed = origins if wanted is None else origins & wanted
            if needed:
                elsewhere = frozenset[str]().union(*(others for peer, others in routed.items() if peer != name))
                self._follow(name, needed, origins, elsewhere)
        self._restate()

    def _follow(self, name: str, needed: frozenset[str], routed: frozenset[str], elsewhere: frozenset[str]) -> None:
        current = self._followers.get(name)
        known = self._origins.get(name, routed) - elsewhere | routed
        self._origins[name] = known if len(known) <= MAX_ORIGINS else routed
        if current is not None:
            # An origin that is away stays asked for here, so that its return is heard of, until it comes another way.
            if needed <= current.origins and elsewhere.isdisjoint(current.origins):
                return
            self._drop(current)
        self._followers[name] = follower = Follower(self, self._federation, name, needed)
        follower.task = asyncio.create_task(follower.run(), name=f"faults of {name}")

    def _drop(self, follower: Follower) -> None:
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
        self._down = {name: reason for name, reason in self._down.items() if name in known}
        self._behind = {name: words for name, words in self._behind.items() if name in known}
        if self._told is not None:
            self._told = {label: word for label, word in self._told.items() if label.partition("/")[0] in known}
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
        self._down.pop(name, None)
        self._restate()

    def down(self, name: str, reason: str) -> None:
        """The peer's faults cannot be heard; said once."""
        if name in self._federation.peer_names():
            self._down.setdefault(name, reason[:MAX_REASON])
            self._restate()
        elif self._told is not None and name not in self._told:
            self._told[name] = word = Word(GONE, self._origins.get(name, frozenset()))
            self._say(PEER_DOWN, name, word, GONE)

    def behind(self, name: str, label: str, word: Word | None) -> None:
        """The peer cannot hear what has this label here, or with None: it can again."""
        words = self._behind.setdefault(name, {})
        if word is None:
            words.pop(label, None)
        elif len(words) < MAX_ORIGINS:
            words[label] = word
        self._restate()

    def nothing_behind(self, name: str) -> None:
        """Forget what the peer said of its own: it says anew what holds."""
        self._behind.pop(name, None)

    def gap(self, name: str, reason: str) -> None:
        """Events of the peer may be lost."""
        self._say(GAP, name, Word(origins=self._origins.get(name, frozenset())), reason)

    def gap_behind(self, label: str, word: Word) -> None:
        """Events of what has this label here may be lost, as a peer says."""
        self._say(GAP, label, word, word.reason)

    def _unheard(self) -> dict[str, Word]:
        tree = self._federation.tree
        down = {name: Word(why, self._origins.get(name, frozenset())) for name, why in self._down.items()}
        return unheard(down, self._behind, tree.away, tree.origins_by_peer)

    def _restate(self) -> None:
        """Say what has changed about who can be heard."""
        before, now = self._told, self._unheard()
        self._told = now
        if before is None:
            # Who begins to listen is told by `unheard`; events are for what changes from now on.
            return
        up, down = changes(before, now)
        for label in up:
            self._say(PEER_UP, label, before[label])
        for label in down:
            self._say(PEER_DOWN, label, now[label], now[label].reason)

    def _say(self, event: str, label: str, word: Word, reason: str = "") -> None:
        self._on_event(Heard(event, self._data(label, word, reason), word.origins))

    def _data(self, label: str, word: Word, reason: str) -> Json:
        data: Json = {"peer": label, "timestamp": time.time(), "x-medkit": word.marks(self._federation.identity.id)}
        return {**data, "reason": reason} if reason else data

    def tell(self, heard: Heard, key: tuple[str, str] | None) -> None:
        """Hand an event on, unless it came before."""
        if key is not None:
            if key in self._seen:
                return
            self._seen[key] = None
            if len(self._seen) > MAX_SEEN:
                del self._seen[next(iter(self._seen))]
        self._on_event(heard)
