"""Over which peer an origin is reached, and which known ones are reached over none (AGGREGATION.md §5, §6). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .merge_state import Chosen, MergeState, Past, PeerView, Way
from .sections import OriginSection


def choose_sections(own_id: str, views: Sequence[PeerView], max_hops: int) -> list[Chosen]:
    """One section an origin: the newest, then the shortest path, then the peer name (AGGREGATION.md §5).

    Returned in the order of peers, then of distance: the order in which first names are given.
    """
    best: dict[str, tuple[tuple[str, int], int, str, int, Chosen]] = {}
    for order, view in enumerate(views):
        for section in view.sections:
            if section.state != "up" or not section.is_usable(own_id, max_hops):
                continue
            candidate = (section.age, len(section.path), view.name, order, Chosen(view.name, section))
            present = best.get(section.id)
            if present is None or _is_better(candidate, present):
                best[section.id] = candidate
    ordered = sorted(best.values(), key=lambda one: (one[3], one[1], one[4].section.id))
    return [one[4] for one in ordered]


def _is_better(candidate: Any, present: Any) -> bool:
    if candidate[0] != present[0]:
        return bool(candidate[0] > present[0])
    return bool(candidate[1:3] < present[1:3])


def away(state: MergeState, views: Sequence[PeerView], past: Past) -> tuple[OriginSection, ...]:
    """Name the origins that are known and out of reach (`state.away`); what is passed on of them, without entities.

    Known are those behind a peer that is down, those that may be, and those that a peer says are down. An origin that a
    peer does not speak of any more is no part of the federation any more.
    """
    present = {state.own.id, *(one.section.id for one in state.chosen)}
    online = {view.name for view in views}
    down: dict[str, Chosen] = {}
    for view in views:
        for section in view.sections:
            if section.state == "up" or section.id in present:
                continue
            if not section.is_usable(state.own.id, state.options.max_hops):
                continue
            known = down.get(section.id)
            if known is None or len(section.path) < len(known.section.path):
                down[section.id] = Chosen(view.name, section)
    offline = [peer for peer in state.options.peers if peer not in online]
    for origin, way in {**_moved(past, present, online, offline), **_lost(past, offline)}.items():
        if origin in present:
            continue
        state.away[origin] = way.label
        if way.section is not None:
            down[origin] = Chosen(way.peer, way.section)
    unknown = {peer for peer in offline if peer not in past.direct}
    state.silent = tuple(sorted(unknown | {label for origin, label in state.away.items() if origin not in down}))
    for origin, one in down.items():
        state.away.setdefault(origin, one.label)
    return tuple(replace(one.section, label=one.label) for _, one in sorted(down.items()))


def _lost(past: Past, offline: Sequence[str]) -> dict[str, Way]:
    """The ways to what was reached over peers that are down; the peers themselves by their own names."""
    lost = {origin: way for origin, way in past.ways.items() if way.peer in offline}
    for peer in offline:
        origin = past.direct.get(peer)
        if origin is not None and not (origin in lost and lost[origin].label in offline):
            lost[origin] = _direct_way(past, origin, peer)
    return lost


def _moved(past: Past, present: set[str], online: set[str], offline: Sequence[str]) -> dict[str, Way]:
    """Origins whose peer has become another gateway: they may have moved to where nobody has looked yet.

    So it looks when gateways exchange their addresses. For a moment they may be behind any peer whose dead link is not
    noticed yet; and for as long as a peer does not answer whose gateway answers at another address, behind that one.
    With all peers answering, who is behind none of them is no part of the federation any more: a robot that was
    replaced.
    """
    elsewhere = {past.direct.get(peer) for peer in online} & present
    vacant = next((peer for peer in offline if past.direct.get(peer) in elsewhere), None)
    found: dict[str, Way] = {}
    for origin, way in past.ways.items():
        first = _first(origin, way)
        is_displaced = first in past.displaced or origin in past.displaced
        if way.peer not in online or past.direct.get(way.peer, first) == first or not (is_displaced or vacant):
            continue
        if first == origin or origin in past.displaced:
            found[origin] = _direct_way(past, origin, vacant or past.displaced.get(origin, way.peer))
        elif first and first not in present:
            # Behind one that was found again is nobody but whom it tells of.
            found[origin] = way
    return found


def _first(origin: str, way: Way) -> str:
    """The gateway that answered the peer's address on this way."""
    if way.section is not None:
        return way.section.path[0]
    return origin if way.label == way.peer else ""


def _direct_way(past: Past, origin: str, peer: str) -> Way:
    known = past.ways.get(origin)
    plate = known.section if known is not None else None
    return Way(peer, peer, replace(plate, path=(origin,), label="") if plate is not None else None)
