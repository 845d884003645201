"""Faults of several gateways in one list: which of them are the same fault of the same nodes.

Pure. Two gateways in one ROS graph hear the same nodes, and each keeps what they report; a list shows it once. Robots
whose nodes only have the same names are told apart by their graph keys (AGGREGATION.md §2).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from ..aggregation.routing import FederatedTree
from ..entities.tree import EntityTree
from .views import Json

_Name = tuple[str, tuple[str, ...]]


def distinct(tree: FederatedTree, ours: Sequence[Json], theirs: Sequence[Json]) -> list[Json]:
    """Our items, and those of peers (with `x-medkit.peer`) that neither we nor a peer before has told already."""
    items = [*ours, *theirs]
    if not theirs:
        return items
    counts = Counter(filter(None, map(_name, items)))
    keys: dict[str, Mapping[str, str]] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    found = []
    for item in items:
        name = _name(item)
        # Two items of one code and the same sources are rare, and only they have to be looked at closely.
        if name is not None and counts[name] > 1:
            peer = _peer(item)
            if peer not in keys:
                keys[peer] = _keys_of(tree, peer)
            nodes = frozenset(keys[peer].get(source, "") for source in name[1])
            if "" not in nodes:
                if (name[0], nodes) in seen:
                    continue
                seen.add((name[0], nodes))
        found.append(item)
    return found


def _name(item: Json) -> _Name | None:
    code, sources = item.get("fault_code"), item.get("reporting_sources")
    if not isinstance(code, str) or not isinstance(sources, list) or not sources:
        return None
    if not all(isinstance(source, str) for source in sources):
        return None
    return code, tuple(sorted(sources))


def _peer(item: Json) -> str:
    medkit = item.get("x-medkit")
    peer = medkit.get("peer") if isinstance(medkit, dict) else None
    return peer.partition("/")[0] if isinstance(peer, str) else ""


def _keys_of(tree: FederatedTree, peer: str) -> Mapping[str, str]:
    """Node names to graph keys as a peer has them, as we have them for ""; without names that mean several nodes."""
    if not peer:
        trees: list[EntityTree] = [tree.local]
    else:
        origins = tree.origins_by_peer.get(peer, ())
        trees = [section.tree for section in tree.sections if section.id in origins]
    keys: dict[str, str] = {}
    for one in trees:
        for app in one.apps.values():
            if app.fqn:
                keys[app.fqn] = app.graph_key if keys.get(app.fqn, app.graph_key) == app.graph_key else ""
    return keys
