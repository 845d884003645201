"""How two layers that both have an entity become one: who wins, per group of fields (API.md §12.3).

The higher policy wins. An empty text is filled from the other layer whoever wins. Where both are equal and neither is
authoritative, lists are united and the first layer has the word; where both are authoritative, the first wins, and a
difference is a conflict. `source` is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from .model import App, Area, Component, Function

AUTHORITATIVE, ENRICHMENT, FALLBACK = "authoritative", "enrichment", "fallback"
_RANK = {AUTHORITATIVE: 2, ENRICHMENT: 1, FALLBACK: 0}
MANIFEST, RUNTIME = "manifest", "runtime"

Policies = Mapping[str, Mapping[str, str]]

DEFAULTS: Policies = {
    MANIFEST: {
        "identity": AUTHORITATIVE,
        "hierarchy": AUTHORITATIVE,
        "live_data": ENRICHMENT,
        "status": FALLBACK,
        "metadata": AUTHORITATIVE,
    },
    RUNTIME: {
        "identity": FALLBACK,
        "hierarchy": FALLBACK,
        "live_data": AUTHORITATIVE,
        "status": AUTHORITATIVE,
        "metadata": ENRICHMENT,
    },
}
GROUP_OF: Mapping[str, str] = {
    "name": "identity",
    "description": "identity",
    "tags": "identity",
    "translation_id": "identity",
    "identity": "identity",
    "area": "hierarchy",
    "parent_area_id": "hierarchy",
    "parent_component_id": "hierarchy",
    "component_id": "hierarchy",
    "depends_on": "hierarchy",
    "hosts": "hierarchy",
    "namespace": "hierarchy",
    "topics": "live_data",
    "services": "live_data",
    "actions": "live_data",
    "is_online": "status",
    "fqn": "status",
    "graph_key": "status",
    "variant": "metadata",
    "external": "metadata",
    "type": "metadata",
}
_Entity = TypeVar("_Entity", Area, Component, App, Function)


@dataclass(frozen=True, slots=True)
class Conflict:
    """A group in which two authoritative layers say different things."""

    entity_id: str
    field_group: str
    winning_layer: str
    losing_layer: str


def effective_policies(given: Policies, *, allow_manifest_override: bool) -> Policies:
    """The defaults, the manifest's demoted where it may not override, and over both what the parameters say."""
    found: dict[str, dict[str, str]] = {}
    for layer, defaults in DEFAULTS.items():
        demoted = layer == MANIFEST and not allow_manifest_override
        chosen = dict.fromkeys(defaults, FALLBACK) if demoted else dict(defaults)
        chosen.update({group: policy for group, policy in given.get(layer, {}).items() if policy})
        found[layer] = chosen
    return found


def combine(
    first: _Entity, second: _Entity, layers: tuple[str, str], policies: Policies
) -> tuple[_Entity, tuple[Conflict, ...]]:
    """One entity of two; `first` is that of the layer that declares it and keeps its id and source."""
    changes: dict[str, Any] = {}
    conflicts: dict[str, Conflict] = {}
    for one in fields(first):
        group = GROUP_OF.get(one.name)
        if group is None:
            continue
        ours, theirs = getattr(first, one.name), getattr(second, one.name)
        if ours == theirs:
            continue
        own, other = (policies[layer][group] for layer in layers)
        value, is_conflict = _choose(ours, theirs, own, other)
        changes[one.name] = value
        if is_conflict:
            conflicts.setdefault(group, Conflict(first.id, group, *layers))
    return replace(first, **changes), tuple(conflicts.values())


def _choose(ours: Any, theirs: Any, own: str, other: str) -> tuple[Any, bool]:
    if _RANK[own] != _RANK[other]:
        winner, loser = (ours, theirs) if _RANK[own] > _RANK[other] else (theirs, ours)
        is_empty = isinstance(winner, (str, Mapping)) and not winner
        return (loser if is_empty else winner), False
    if own == AUTHORITATIVE:
        if isinstance(ours, (str, Mapping)) and not ours:
            return theirs, False
        return ours, bool(theirs)
    if isinstance(ours, tuple):
        return tuple(dict.fromkeys((*ours, *theirs))), False
    return ours or theirs, False
