"""What is remembered of origins over time, and which claims about them may be believed (AGGREGATION.md §2, §5, §6).

The merge has no memory; this is it: the newest state seen of each origin (entities never go back in time), the peer
that an origin was first heard from directly (nobody else may pose as it), the last way to it (who is missing), what
`unreachable: retain` keeps. `origin_keeper.py` keeps it over restarts. No I/O; time is passed in.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..entities.ids import GivenId
from ..entities.tree import EntityTree
from .merge_state import Chosen, Past, PeerView, Way
from .routing import Warn
from .trust import Pin, Trust
from .unscanned import Unscanned

# An origin that is only heard in an older state than the one we know was set back (its state directory is gone, and its
# clock); what still circulates from before would be withdrawn long before this, also by a gateway that was frozen.
SET_BACK_S = 30.0
# Two claims about one origin differ for the moment it takes news to go round; longer than this they contradict.
CONTRADICTION_S = 10.0
# Where an address leads to another gateway since a moment ago, the former one may be at an address whose dead link is
# not noticed yet, which takes seconds; a robot that was replaced for good is missed for so long.
MOVED_S = 60.0
# Far more gateways than any fleet has; the ones heard longest ago leave first.
MAX_REMEMBERED = 10_000


@dataclass(frozen=True)
class Admitted:
    """What goes into a merge. `again_in` is when to look again though nothing changes, in seconds, or None."""

    views: tuple[PeerView, ...] = ()
    warnings: tuple[Warn, ...] = ()
    again_in: float | None = None


@dataclass(frozen=True)
class Remembered:
    """What is known of one origin and outlives this process; `age` and `way` None where not known."""

    origin: str
    age: tuple[str, int] | None = None
    pin: Pin | None = None
    way: Way | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether nothing is known."""
        return self.age is None and self.pin is None and self.way is None


@dataclass
class _Looking:
    """One look at all claims."""

    own_id: str
    trust: Trust
    now: float
    claims: dict[str, list[Chosen]] = field(default_factory=dict)
    refused: set[tuple[str, str]] = field(default_factory=set)
    conflicts: dict[str, set[str]] = field(default_factory=dict)
    doubles: dict[str, set[str]] = field(default_factory=dict)
    again: list[float] = field(default_factory=list)


class OriginMemory:
    """The memory of one gateway.

    From earlier runs: `given` ids, which know over which peer an origin was heard; what was `remembered`, the oldest
    first; what was `retained`.
    """

    def __init__(
        self,
        given: Iterable[GivenId] = (),
        remembered: Iterable[Remembered] = (),
        retained: Mapping[str, Chosen] | None = None,
        *,
        retain: bool = False,
        now: float = 0.0,
    ) -> None:
        self._retain = retain
        self._ages: dict[str, tuple[str, int]] = {}
        self._set_back_since: dict[str, float] = {}
        self._pins: dict[str, Pin] = {}
        self._contradicted_since: dict[tuple[str, str], float] = {}
        self._doubled_since: dict[tuple[str, str], float] = {}
        self._ways: dict[str, Way] = {one.origin: Way(one.via, one.peer_label) for one in given if one.via}
        self._direct: dict[str, str] = {one.via: one.origin for one in given if one.via and not one.origin_name}
        self._retained: dict[str, Chosen] = dict(retained or {}) if retain else {}
        self._present: set[str] = set()
        self._left_at: dict[str, float] = {}
        # By origin, the peer that it was reached over and that answers as another one, and since when.
        self._displaced: dict[str, tuple[str, float]] = {}
        self._unscanned = Unscanned(now)
        self._changed: set[str] = set()
        for one in remembered:
            self._recall(one)

    @property
    def past(self) -> Past:
        """What the merge is told."""
        displaced = {origin: peer for origin, (peer, _) in self._displaced.items()}
        return Past(self._ways, self._direct, self._retained, displaced)

    def way(self, origin: str) -> Way | None:
        """How an origin was reached last."""
        return self._ways.get(origin)

    def remembered(self, origin: str) -> Remembered:
        """What is known of an origin now."""
        return Remembered(origin, self._ages.get(origin), self._pins.get(origin), self._ways.get(origin))

    def is_pinned(self, origin: str, peer: str, trust: Trust) -> bool:
        """Whether this peer is known to be this gateway by its certificate."""
        pin = self._pins.get(origin)
        return pin is not None and bool(pin.certificate) and trust.counts(pin) and trust.is_own_word(pin, peer)

    def retained(self, origin: str) -> Chosen | None:
        """What `unreachable: retain` keeps of it."""
        return self._retained.get(origin)

    def known(self) -> tuple[str, ...]:
        """All origins of which something is known, those of which it became known longest ago first."""
        return tuple(dict.fromkeys((*self._ways, *self._ages, *self._pins)))

    def take_changed(self) -> set[str]:
        """The origins of which something else is known since this was asked last; of some of them perhaps nothing."""
        changed, self._changed = self._changed, set()
        return changed

    def _recall(self, one: Remembered) -> None:
        if one.age is not None:
            self._ages[one.origin] = one.age
        if one.pin is not None:
            self._pins[one.origin] = one.pin
        if one.way is not None:
            self._ways[one.origin] = one.way
            if one.way.label == one.way.peer:
                self._direct[one.way.peer] = one.origin

    def admit(
        self,
        views: Sequence[PeerView],
        own_id: str,
        local: EntityTree | None,
        trust: Trust,
        max_hops: int,
        now: float,
    ) -> Admitted:
        """The views without the claims that must not be believed now.

        `local` is our own tree, None before the first scan; `trust` who may say what.
        """
        look = _Looking(own_id, trust, now)
        for view in views:
            for section in view.sections:
                if section.state == "up" and section.is_usable(own_id, max_hops):
                    look.claims.setdefault(section.id, []).append(Chosen(view.name, section))
        self._meet(look, views)
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
        admitted, again = self._unscanned.hold(kept, local, now)
        look.again += again
        warnings = [_conflict(origin, peers) for origin, peers in sorted(look.conflicts.items())]
        warnings += [_double(origin, peers) for origin, peers in sorted(look.doubles.items())]
        return Admitted(admitted, tuple(warnings), max(0.05, min(look.again) - now) if look.again else None)

    def left_at(self, origin: str) -> float | None:
        """When it was no more in the tree; None for one that is in it, or was not since we started."""
        return self._left_at.get(origin)

    def merged(self, chosen: Sequence[Chosen], now: float) -> None:
        """Note over which ways the origins were reached in this merge."""
        present = {one.section.id for one in chosen}
        self._left_at.update(dict.fromkeys(self._present - present, now))
        for origin in present & self._left_at.keys():
            del self._left_at[origin]
        self._present = present
        for one in chosen:
            section = one.section
            plate = replace(section, state="down", tree=EntityTree(), served_as={})
            known = self._ways.get(section.id)
            if known is None or known.peer != one.peer or known.section != plate:
                self._ways.pop(section.id, None)
                self._ways[section.id] = Way(one.peer, one.label, plate)
                self._changed.add(section.id)
            if self._retain:
                self._retained[section.id] = one
        for memory in (
            self._ways,
            self._ages,
            self._pins,
            self._direct,
            self._retained,
            self._displaced,
            self._left_at,
        ):
            _trim(memory)

    def forget_peer(self, peer: str, present: Collection[str]) -> tuple[str, ...]:
        """Forget the origins that were reached over this peer, but for those that are `present`; they are returned."""
        gone = tuple(origin for origin, way in self._ways.items() if way.peer == peer and origin not in present)
        self.forget(gone)
        self._unpin({origin for origin, pin in self._pins.items() if pin.peer == peer})
        self._direct.pop(peer, None)
        return gone

    def forget(self, origins: Iterable[str]) -> None:
        """Forget these origins."""
        for origin in origins:
            self._ways.pop(origin, None)
            self._ages.pop(origin, None)
            self._retained.pop(origin, None)
            self._displaced.pop(origin, None)
            self._left_at.pop(origin, None)
            self._set_back_since.pop(origin, None)
            self._pins.pop(origin, None)
            self._changed.add(origin)

    def _unpin(self, origins: Iterable[str]) -> None:
        for origin in origins:
            del self._pins[origin]
            self._changed.add(origin)

    def _note_age(self, origin: str, age: tuple[str, int]) -> None:
        if self._ages.pop(origin, None) != age:
            self._changed.add(origin)
        self._ages[origin] = age

    def _meet(self, look: _Looking, views: Sequence[PeerView]) -> None:
        """Note who each peer is; one that has become another gateway no longer vouches for the one it was.

        One that was known by its certificate still is.
        """
        direct = {one.peer: origin for origin, claims in look.claims.items() for one in claims if _is_direct(one)}
        direct.update({view.name: view.gateway for view in views if view.gateway})
        by_name = [(origin, pin.peer) for origin, pin in self._pins.items() if not pin.certificate]
        self._unpin([origin for origin, peer in by_name if direct.get(peer, origin) != origin])
        for peer, origin in direct.items():
            before = self._direct.get(peer, origin)
            if before != origin:
                self._displaced[before] = (peer, look.now)
        found = set(direct.values())
        self._displaced = {
            origin: (peer, since)
            for origin, (peer, since) in self._displaced.items()
            if origin not in found and look.now - since < MOVED_S
        }
        look.again += [since + MOVED_S for _, since in self._displaced.values()]
        self._direct.update(direct)

    def _judge(self, look: _Looking, origin: str, claims: list[Chosen]) -> None:
        pin = self._pins.get(origin)
        if pin is not None and not look.trust.counts(pin):
            # A peer that is configured no more vouches for nobody.
            pin = None
        if pin is not None:
            own_word = next((one for one in claims if _is_direct(one) and look.trust.is_own_word(pin, one.peer)), None)
            if own_word is not None:
                # What a gateway says of itself, to us, is never older than what others say of it.
                self._judge_others(look, origin, own_word, [one for one in claims if one is not own_word])
                self._note_age(origin, own_word.section.age)
                self._set_back_since.pop(origin, None)
                self._pin(look, origin, pin, own_word)
                return
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
        self._note_age(origin, newest)
        self._judge_boots(look, origin, claims, newest[0])
        for one in claims:
            if _is_direct(one):
                pin = self._pin(look, origin, pin, one)

    def _pin(self, look: _Looking, origin: str, pin: Pin | None, one: Chosen) -> Pin | None:
        """Who speaks as this gateway from now on, of who did and who does now."""
        new = look.trust.pin_by(one.peer)
        if new is None or new == pin or (pin is not None and not look.trust.beats(one.peer, pin)):
            return pin
        self._pins[origin] = new
        self._changed.add(origin)
        return new

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

    def _poses(self, look: _Looking, origin: str, one: Chosen, pin: Pin) -> bool:
        """Whether a peer says that it is the gateway which another one is known to be."""
        known = self._ages.get(origin)
        is_known_start = known is not None and known[0] == one.section.boot_id
        if not _is_direct(one) or look.trust.may_speak(pin, one.peer, is_known_start):
            return False
        look.refused.add((one.peer, origin))
        look.conflicts.setdefault(origin, set()).add(one.peer)
        return True


def _is_direct(one: Chosen) -> bool:
    return len(one.section.path) == 1


def _trim(memory: dict[str, Any]) -> None:
    while len(memory) > MAX_REMEMBERED:
        del memory[next(iter(memory))]


def _conflict(origin: str, peers: set[str]) -> Warn:
    who = ", ".join(f"'{peer}'" for peer in sorted(peers))
    return Warn(
        "origin_conflict",
        f"{who} says about the gateway {origin} what contradicts the peer that is known to be this gateway; it is not"
        " believed.",
        peer_names=tuple(sorted(peers)),
    )


def _double(origin: str, peers: set[str]) -> Warn:
    who = ", ".join(f"'{peer}'" for peer in sorted(peers))
    return Warn(
        "duplicate_instance_id",
        f"Behind {who} there are different gateways with one instance id ({origin}), as copies of one disk image are;"
        " only the one that was started last is shown, and requests for either go to that one. Give one of them another"
        " aggregation.instance_id, or remove its state directory.",
        peer_names=tuple(sorted(peers)),
    )
