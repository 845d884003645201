"""Entities that merge by id: areas, components and functions, and who serves them (AGGREGATION.md §4). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, cast

from ..entities.model import Component, Entity, Kind
from .merge_state import LOCAL, Chosen, MergeState, Share
from .routing import Contribution, Shared, Warn

# Members of a merged entity that are united; all other ones are filled where they are empty.
_UNITED = ("tags", "hosts", "depends_on")
_FILLED = (
    "name", "description", "translation_id", "namespace", "fqn", "area", "variant", "identity", "parent_area_id",
    "parent_component_id",
)  # fmt: skip


def shares_of(state: MergeState, kind: Kind) -> dict[str, list[Share]]:
    """All contributions to each id of a kind: the local one first, then in peer order, then what is retained.

    Ids of remote entities are given where they are new.
    """
    found: dict[str, list[Share]] = {}
    for entity_id, entity in state.own.tree.of(kind).items():
        found[entity_id] = [Share(entity, "", state.own.id)]
    for one, is_away in _all(state):
        for entity_id, entity in one.section.tree.of(kind).items():
            found.setdefault(entity_id, []).append(Share(entity, one.peer, one.section.id, is_away))
            owner = (one.section.id, kind.value, entity_id)
            if state.known(owner) is None:
                state.give(owner, entity_id, one)
    return found


def _all(state: MergeState) -> Iterable[tuple[Chosen, bool]]:
    yield from ((one, False) for one in state.chosen)
    yield from ((one, True) for one in state.retained)


def route_components(state: MergeState, merged: Mapping[str, list[Share]]) -> None:
    """Groups are served here, leaves by their gateway, leaves of several here with a warning."""
    groups = {cast("Component", share.entity).parent_component_id for shares in merged.values() for share in shares} - {
        ""
    }
    for component_id, shares in merged.items():
        living = [share for share in shares if not share.is_away]
        is_local = not shares[0].peer
        if living and component_id in groups and not is_local:
            # A group is served here even when one peer alone declares it.
            _share(state, Kind.COMPONENT, component_id, living)
            continue
        if not is_local and len(living) > 1:
            peers = tuple(sorted({share.peer for share in living}))
            state.warnings.append(
                Warn(
                    "leaf_id_collision",
                    f"Component '{component_id}' is declared by {len(living)} gateways behind {', '.join(peers)};"
                    " their collections are gathered. Give the components different ids when they are different parts.",
                    entity_ids=(component_id,),
                    peer_names=peers,
                )
            )
        route(state, Kind.COMPONENT, component_id, shares)


def route(state: MergeState, kind: Kind, entity_id: str, shares: list[Share]) -> None:
    """Who serves this entity: one peer whole, or this gateway with the shares of several, or nobody now."""
    living = [share for share in shares if not share.is_away]
    if not living:
        state.unreachable[(kind, entity_id)] = state.away[shares[0].origin]
    elif len(living) > 1:
        _share(state, kind, entity_id, living)
    elif living[0].peer:
        state.remote[(kind, entity_id)] = Contribution(living[0].peer, entity_id, (living[0].origin,))


def _share(state: MergeState, kind: Kind, entity_id: str, shares: list[Share]) -> None:
    origins: dict[str, list[str]] = {}
    for share in shares:
        if share.peer:
            origins.setdefault(share.peer, []).append(share.origin)
    contributions = tuple(Contribution(peer, entity_id, tuple(found)) for peer, found in origins.items())
    # The merged entity is put in once it exists.
    state.shared[(kind, entity_id)] = Shared(shares[0].entity, not shares[0].peer, contributions)


def unite(state: MergeState, shares: list[Share]) -> Entity:
    """One entity of all contributions: tags, hosts and dependencies united, empty members filled in order (§4)."""
    first = shares[0]
    changes: dict[str, Any] = {}
    for name in _UNITED:
        if hasattr(first.entity, name):
            changes[name] = _union(_references(state, share, name) for share in shares)
    for share in shares[1:]:
        for name in _FILLED:
            if not changes.get(name, getattr(first.entity, name, True)):
                changes[name] = getattr(share.entity, name)
    peers = sorted({f"peer:{share.peer}" for share in shares if share.peer})
    changes["contributors"] = (LOCAL, *peers) if not first.peer else tuple(peers)
    if first.peer:
        changes["source"] = f"peer:{first.peer}"
    if hasattr(first.entity, "available") and all(share.is_away for share in shares):
        changes["available"] = False
    return replace(first.entity, **changes)


def _references(state: MergeState, share: Share, name: str) -> Iterable[str]:
    values: tuple[str, ...] = getattr(share.entity, name)
    if name == "hosts":
        return (
            state.app_ids.get((share.origin, app_id), app_id) for app_id in values if _is_known(state, share, app_id)
        )
    return values


def _is_known(state: MergeState, share: Share, app_id: str) -> bool:
    """Hosts of a peer that are no apps of it are left out: here the same id may be another robot's app."""
    return not share.peer or (share.origin, app_id) in state.app_ids


def _union(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for values in lists for value in values))
