"""What is remembered of origins over time, and which claims about them may be believed (AGGREGATION.md §2, §5, §6).

The merge has no memory; this is it: the newest state seen of each origin (entities never go back in time), the peer
that an origin was first heard from directly (nobody else may pose as it), the last way to it (who is missing), what
`unreachable: retain` keeps, and nodes of a shared ROS graph that our own scan has yet to see. No I/O; time is passed
in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..entities.ids import GivenId
from ..entities.tree import EntityTree
from .merge_state import Chosen, Past, PeerView, Way
from .routing import Warn
from .sections import OriginSection

# An origin that is only heard in an older state than the one we know was set back (its state directory is gone, and its
# clock); what still circulates from before would be withdrawn long before this, also by a gateway that was frozen.
SET_BACK_S = 30.0
# Two claims about one origin differ for the moment it takes news to go round; longer than this they contradict.
CONTRADICTION_S = 10.0
# A scan of the ROS graph is at most its debounce (0.25 s), half a second of a storm and itself late; what is heard over
# several hops may be as much older for each.
SCAN_S = 3.0
# The first scan waits for discovery to settle, and for the nodes that were known before a restart (9.5 s at most).
FIRST_SCAN_S = 10.0
# Far more gateways than any fleet has; the ones heard longest ago leave first.
MAX_REMEMBERED = 10_000


@dataclass(frozen=True)
class Admitted:
    """What goes into a merge. `again_in` is when to look again though nothing changes, in seconds, or None."""

    views: tuple[PeerView, ...] = ()
    warnings: tuple[Warn, ...] = ()
    again_in: float | None = None


@dataclass
class _Looking:
    """One look at all claims."""

    own_id: str
    static: Collection[str]
    now: float
    claims: dict[str, list[Chosen]] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)
    conflicts: dict[str, set[str]] = field(default_factory=dict)
    doubles: dict[str, set[str]] = field(default_factory=dict)
    again: list[float] = field(default_factory=list)


class OriginMemory:
    """The memory of one gateway. `given` are ids from earlier runs: they know over which peer an origin was heard."""

    def __init__(self, given: Iterable[GivenId] = (), *, retain: bool = False, now: float = 0.0) -> None:
        self._retain = retain
        self._started = now
        self._ages: dict[str, tuple[str, int]] = {}
        self._set_back_since: dict[str, float] = {}
        self._pins: dict[str, str] = {}
        self._contradicted_since: dict[tuple[str, str], float] = {}
        self._doubled_since: dict[tuple[str, str], float] = {}
        self._ways: dict[str, Way] = {one.origin: Way(one.via, one.peer_label) for one in given if one.via}
        self._direct: dict[str, str] = {one.via: one.origin for one in given if one.via and not one.origin_name}
        self._retained: dict[str, Chosen] = {}
        self._unscanned: dict[str, float] = {}
        self._keys: frozenset[str] = frozenset()

    @property
    def past(self) -> Past:
        """What the merge is told."""
        return Past(self._ways, self._direct, self._retained)

    def way(self, origin: str) -> Way | None:
        """How an origin was reached last."""
        return self._ways.get(origin)

    def admit(
        self,
        views: Sequence[PeerView],
        own_id: str,
        local: EntityTree | None,
        static: Collection[str],
        max_hops: int,
        now: float,
    ) -> Admitted:
        """The views without the claims that must not be believed now.

        `local` is our own tree, None before the first scan; `static` the names of configured peers.
        """
        look = _Looking(own_id, static, now)
        for view in views:
            for section in view.sections:
                if section.state == "up" and section.is_usable(own_id, max_hops):
                    look.claims.setdefault(section.id, []).append(Chosen(view.name, section))
        self._meet(look)
        for origin, claims in look.claims.items():
            self._judge(look, origin, claims)
        self._set_back_since = {key: at for key, at in self._set_back_since.items() if key in look.claims}
        kept = [
            PeerView(view.name, tuple(one for one in view.sections if (view.name, one.id) not in look.refused))
            for view in views
        ]
        self._contradicted_since = {key: at for key, at in self._contradicted_since.items() if key in look.refused}
        heard = {(one.peer, origin) for origin, claims in look.claims.items() for one in claims}
        self._doubled_since = {key: at for key, at in self._doubled_since.items() if key in heard}
        admitted = self._hold_unscanned(kept, local, look)
        warnings = [_conflict(origin, peers) for origin, peers in sorted(look.conflicts.items())]
        warnings += [_double(origin, peers) for origin, peers in sorted(look.doubles.items())]
        return Admitted(admitted, tuple(warnings), max(0.05, min(look.again) - now) if look.again else None)

    def merged(self, chosen: Sequence[Chosen]) -> None:
        """Note over which ways the origins were reached in this merge."""
        for one in chosen:
            section = one.section
            plate = replace(section, state="down", tree=EntityTree(), served_as={})
            known = self._ways.get(section.id)
            if known is None or known.peer != one.peer or known.section != plate:
                self._ways.pop(section.id, None)
                self._ways[section.id] = Way(one.peer, one.label, plate)
            if self._retain:
                self._retained[section.id] = one
        for memory in (self._ways, self._ages, self._pins, self._direct, self._retained):
            _trim(memory)

    def forget_peer(self, peer: str, present: Collection[str]) -> tuple[str, ...]:
        """Forget the origins that were reached over this peer, but for those that are `present`; they are returned."""
        gone = tuple(origin for origin, way in self._ways.items() if way.peer == peer and origin not in present)
        self.forget(gone)
        self._pins = {origin: name for origin, name in self._pins.items() if name != peer}
        self._direct.pop(peer, None)
        return gone

    def forget(self, origins: Iterable[str]) -> None:
        """Forget these origins."""
        for origin in origins:
            self._ways.pop(origin, None)
            self._ages.pop(origin, None)
            self._retained.pop(origin, None)
            self._set_back_since.pop(origin, None)
            self._pins.pop(origin, None)

    def _meet(self, look: _Looking) -> None:
        """Note who each peer is; one that has become another gateway no longer vouches for the one it was."""
        direct = {
            one.peer: origin for origin, claims in look.claims.items() for one in claims if len(one.section.path) == 1
        }
        self._pins = {origin: peer for origin, peer in self._pins.items() if direct.get(peer, origin) == origin}
        self._direct.update(direct)

    def _judge(self, look: _Looking, origin: str, claims: list[Chosen]) -> None:
        pin = self._pins.get(origin)
        own_word = next((one for one in claims if one.peer == pin and len(one.section.path) == 1), None)
        if own_word is not None:
            # What a gateway says of itself, to us, is never older than what others say of it.
            self._judge_others(look, origin, own_word, [one for one in claims if one is not own_word])
            self._ages[origin] = own_word.section.age
            self._set_back_since.pop(origin, None)
            return
        if pin is not None:
            claims = [one for one in claims if not self._poses(look, origin, one, pin)]
        if not claims:
            return
        newest = max(one.section.age for one in claims)
        known = self._ages.get(origin)
        if known is not None and newest < known:
            since = self._set_back_since.setdefault(origin, look.now)
            if look.now - since < SET_BACK_S:
                look.refused.update((one.peer, origin) for one in claims)
                look.again.append(since + SET_BACK_S)
                return
        self._set_back_since.pop(origin, None)
        self._ages.pop(origin, None)
        self._ages[origin] = newest
        self._judge_boots(look, origin, claims, newest[0])
        for one in claims:
            if len(one.section.path) == 1 and one.peer in look.static and origin not in self._pins:
                self._pins[origin] = one.peer

    def _judge_boots(self, look: _Looking, origin: str, claims: list[Chosen], boot: str) -> None:
        """Two boots of one gateway that stay are two gateways of one disk image, behind peers of ours (§2)."""
        for one in claims:
            slot = (one.peer, origin)
            if one.section.boot_id == boot:
                self._doubled_since.pop(slot, None)
                continue
            since = self._doubled_since.setdefault(slot, look.now)
            if look.now - since >= CONTRADICTION_S:
                look.doubles.setdefault(origin, set()).update(other.peer for other in claims)
            else:
                look.again.append(since + CONTRADICTION_S)

    def _judge_others(self, look: _Looking, origin: str, own_word: Chosen, others: list[Chosen]) -> None:
        for one in others:
            slot = (one.peer, origin)
            look.refused.add(slot)
            if one.section.age <= own_word.section.age:
                self._contradicted_since.pop(slot, None)
                continue
            since = self._contradicted_since.setdefault(slot, look.now)
            if look.now - since >= CONTRADICTION_S:
                look.conflicts.setdefault(origin, set()).add(one.peer)
            else:
                look.again.append(since + CONTRADICTION_S)

    def _poses(self, look: _Looking, origin: str, one: Chosen, pin: str) -> bool:
        """Whether a peer that nobody configured says that it is the gateway which a configured one was."""
        known = self._ages.get(origin)
        is_second_address = known is not None and known[0] == one.section.boot_id
        if len(one.section.path) > 1 or one.peer == pin or one.peer in look.static or is_second_address:
            return False
        look.refused.add((one.peer, origin))
        look.conflicts.setdefault(origin, set()).add(one.peer)
        return True

    def _hold_unscanned(
        self, views: Sequence[PeerView], local: EntityTree | None, look: _Looking
    ) -> tuple[PeerView, ...]:
        """Leave out nodes of a graph that we see ourselves, until our own scan had its time to find them.

        Otherwise a node that a peer's scan saw first would get an id as a peer's, and another one as ours. The same
        when it ends: for a moment it would be listed as the peer's.
        """
        keys = frozenset(app.graph_key for app in local.apps.values() if app.graph_key) if local else frozenset()
        unscanned: dict[str, float] = {}
        found: list[PeerView] = []
        for view in views:
            sections = []
            for section in view.sections:
                held = self._held(section, keys, local is None, unscanned, look)
                sections.append(_without(section, held) if held else section)
            found.append(PeerView(view.name, tuple(sections)))
        self._unscanned, self._keys = unscanned, keys
        return tuple(found)

    def _held(
        self, section: OriginSection, keys: frozenset[str], is_first: bool, unscanned: dict[str, float], look: _Looking
    ) -> set[str]:
        theirs = section.graph_keys
        if not theirs:
            return set()
        if is_first:
            until = self._started + FIRST_SCAN_S
            if look.now >= until:
                return set()
            look.again.append(until)
            return set(theirs.values())
        here = theirs.keys()
        if here.isdisjoint(keys) and here.isdisjoint(self._keys) and here.isdisjoint(self._unscanned.keys()):
            return set()
        allowed_s = SCAN_S * len(section.path)
        held: set[str] = set()
        for key, app_id in theirs.items():
            if key in keys:
                continue
            since = unscanned[key] = self._unscanned.get(key, look.now)
            if look.now - since < allowed_s:
                held.add(app_id)
                look.again.append(since + allowed_s)
        return held


def _without(section: OriginSection, app_ids: set[str]) -> OriginSection:
    apps = {app_id: app for app_id, app in section.tree.apps.items() if app_id not in app_ids}
    return replace(section, tree=replace(section.tree, apps=apps))


def _trim(memory: dict[str, Any]) -> None:
    while len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]


def _conflict(origin: str, peers: set[str]) -> Warn:
    who = ", ".join(f"'{peer}'" for peer in sorted(peers))
    return Warn(
        "origin_conflict",
        f"{who} says about the gateway {origin} what contradicts the configured peer that is this gateway; it is not"
        " believed.",
        peer_names=tuple(sorted(peers)),
    )


def _double(origin: str, peers: set[str]) -> Warn:
    who = ", ".join(f"'{peer}'" for peer in sorted(peers))
    return Warn(
        "duplicate_instance_id",
        f"Behind {who} there are different gateways with one instance id ({origin}), as copies of one disk image are;"
        " only the one that was started last is shown. Give one of them another aggregation.instance_id, or remove its"
        " state directory.",
        peer_names=tuple(sorted(peers)),
    )
