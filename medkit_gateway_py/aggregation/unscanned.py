"""Nodes of a ROS graph that we see ourselves, told by a peer before our own scan found them (AGGREGATION.md §2).

Taken at once, such a node would get an id as a peer's, and another one as ours a moment later. No I/O; time is passed
in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..entities.tree import EntityTree
from .merge_state import PeerView
from .sections import OriginSection

# A process that starts is seen by one gateway at once, and by another up to 4.5 s later, when it announces itself again
# (`ros/graph.py`); then come the debounce (0.25 s) and half a second of a storm at most. What is heard over several
# hops may be as much older for each.
SCAN_S = 6.0
# The first scan waits for discovery to settle, and for the nodes that were known before a restart (9.5 s at most).
FIRST_SCAN_S = 10.0


class Unscanned:
    """What is held back, and since when; `now` is when this gateway started."""

    def __init__(self, now: float) -> None:
        self._started = now
        self._since: dict[str, float] = {}
        self._keys: frozenset[str] = frozenset()

    def hold(
        self, views: Sequence[PeerView], local: EntityTree | None, now: float
    ) -> tuple[tuple[PeerView, ...], list[float]]:
        """The views without nodes of our graph that our own scan has yet to find, for as long as it needs at most.

        The same when a node ends: for a moment it would be listed as the peer's. The second part is when to look again.
        """
        keys = frozenset(app.graph_key for app in local.apps.values() if app.graph_key) if local else frozenset()
        since: dict[str, float] = {}
        again: list[float] = []
        found: list[PeerView] = []
        for view in views:
            sections = []
            for section in view.sections:
                held = self._held(section, None if local is None else keys, since, now, again)
                sections.append(_without(section, held) if held else section)
            found.append(PeerView(view.name, tuple(sections)))
        self._since, self._keys = since, keys
        return tuple(found), again

    def _held(
        self, section: OriginSection, keys: frozenset[str] | None, since: dict[str, float], now: float,
        again: list[float],
    ) -> set[str]:  # fmt: skip
        theirs = section.graph_keys
        if not theirs:
            return set()
        if keys is None:
            until = self._started + FIRST_SCAN_S
            if now >= until:
                return set()
            again.append(until)
            return set(theirs.values())
        here = theirs.keys()
        if here.isdisjoint(keys) and here.isdisjoint(self._keys) and here.isdisjoint(self._since.keys()):
            return set()
        allowed_s = SCAN_S * len(section.path)
        held: set[str] = set()
        for key, app_id in theirs.items():
            if key in keys:
                continue
            began = since[key] = self._since.get(key, now)
            if now - began < allowed_s:
                held.add(app_id)
                again.append(began + allowed_s)
        return held


def _without(section: OriginSection, app_ids: set[str]) -> OriginSection:
    apps = {app_id: app for app_id, app in section.tree.apps.items() if app_id not in app_ids}
    return replace(section, tree=replace(section.tree, apps=apps))
