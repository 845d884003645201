"""The merge: our tree, the trees of peers and the ids given so far become one federated tree (AGGREGATION.md §4, §5).

A pure function: no I/O, no clock, no memory but its arguments. New ids are returned and committed by the caller
before the tree is served. Which of the peers' claims may be believed is decided before, in `origins.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

from ..entities.ids import RESERVED_IDS, GivenId, GivenIds
from ..entities.model import App, Area, Component, Entity, Function, Kind
from ..entities.tree import EntityTree
from .merge_state import LOCAL, Chosen, MergeOptions, MergeState, Part, Parts, Past, PeerView
from .names import choose_app_id, origin_prefix, prefixed
from .retained import declared
from .routing import Contribution, FederatedTree, Warn
from .sections import GatewayIdentity, OriginSection
from .shares import route, route_components, shares_of, unite
from .ways import away, choose_sections

__all__ = ["LOCAL", "MergeOptions", "Merged", "Parts", "Past", "PeerView", "merge"]

_MERGED_KINDS = (Kind.AREA, Kind.COMPONENT, Kind.FUNCTION)
_NO_PAST = Past()
_NO_PARTS = Parts()


@dataclass(frozen=True)
class Merged:
    """The tree, the ids that it gives for the first time, the ways that it chose, and what the next merge may reuse."""

    tree: FederatedTree
    new_ids: tuple[GivenId, ...]
    chosen: tuple[Chosen, ...] = ()
    parts: Parts = _NO_PARTS


def merge(
    identity: GatewayIdentity,
    local: EntityTree,
    local_seq: int,
    views: Sequence[PeerView],
    given: GivenIds,
    options: MergeOptions,
    past: Past = _NO_PAST,
    parts: Parts = _NO_PARTS,
) -> Merged:
    """Merge once. `views` come in peer order; the result has `version` 0, which the caller replaces.

    `given` must hold the ids of the local apps already (`entities/ids.py`). `parts` are those of the merge before;
    they change how long this one takes, and never its result.
    """
    own = OriginSection(identity.id, identity.name, identity.boot_id, local_seq, (identity.id,), tree=local)
    state = MergeState(own, choose_sections(own.id, views, options.max_hops), given, options)
    down = away(state, views, past)
    state.retained = [
        Chosen(one.peer, replace(one.section, tree=declared(one.section.tree)))
        for origin, one in past.retained.items()
        if origin in state.away
    ]
    _merge_apps(state, parts)
    merged = {kind: shares_of(state, kind) for kind in _MERGED_KINDS}
    route_components(state, merged[Kind.COMPONENT])
    for kind in (Kind.AREA, Kind.FUNCTION):
        for entity_id, shares in merged[kind].items():
            route(state, kind, entity_id, shares)
    trees: dict[Kind, dict[str, Entity]] = {
        kind: {entity_id: unite(state, shares) for entity_id, shares in sorted(merged[kind].items())}
        for kind in _MERGED_KINDS
    }
    state.shared = {
        (kind, entity_id): replace(share, entity=trees[kind][entity_id])
        for (kind, entity_id), share in state.shared.items()
    }
    tree = FederatedTree(
        areas=cast("dict[str, Area]", trees[Kind.AREA]),
        components=cast("dict[str, Component]", trees[Kind.COMPONENT]),
        apps={app_id: state.apps[app_id] for app_id in sorted(state.apps)},
        functions=cast("dict[str, Function]", trees[Kind.FUNCTION]),
        local=local,
        remote=state.remote,
        shared=state.shared,
        unreachable=state.unreachable,
        origins_by_peer=_origins_by_peer(state.chosen, views),
        labels={one.section.id: one.label for one in state.chosen},
        away=state.away,
        silent=state.silent,
        renames=_renames(state),
        own=own,
        sections=tuple(one.section for one in state.chosen),
        down=down,
        exported_ids=_exported_ids(state),
        peers=options.peers,
        warnings=tuple(state.warnings),
        given=given,
    )
    kept = Parts(state.parts, given, given.forgotten)
    return Merged(tree, tuple(state.new.values()), tuple(state.chosen), kept)


def _merge_apps(state: MergeState, parts: Parts) -> None:
    local = state.own.tree
    by_graph_key = {app.graph_key: app.id for app in local.apps.values() if app.graph_key}
    state.apps = {app_id: replace(app, contributors=(LOCAL,)) for app_id, app in local.apps.items()}
    for app_id in local.apps:
        state.app_ids[(state.own.id, app_id)] = app_id
    # Which of two origins owns a node of their common graph must not depend on the ways to them.
    owner_of: dict[str, str] = {}
    for one in sorted(state.chosen, key=lambda chosen: chosen.section.id, reverse=True):
        owner_of.update(dict.fromkeys(one.section.graph_keys, one.section.id))
    is_contested = len(owner_of) < sum(len(one.section.graph_keys) for one in state.chosen)
    seen_here: set[str] = set()
    sharing: set[str] = set()
    doubled: list[tuple[Chosen, App]] = []
    remade: list[Chosen] = []
    for one in state.chosen:
        part = None if is_contested else parts.of(one, state.given)
        if part is not None and _fits(state, part, by_graph_key):
            _take_part(state, one, part, by_graph_key)
            continue
        before = (len(state.new_app_ids), len(doubled))
        for app in one.section.tree.apps.values():
            if app.graph_key in by_graph_key:
                seen_here.add(by_graph_key[app.graph_key])
                sharing.add(one.peer)
                doubled.append((one, app))
            elif app.graph_key and owner_of[app.graph_key] != one.section.id:
                doubled.append((one, app))
            else:
                entity_id = _take_remote_app(state, one, app, parts)
                if app.graph_key:
                    by_graph_key.setdefault(app.graph_key, entity_id)
        if before == (len(state.new_app_ids), len(doubled)):
            remade.append(one)
    for one, app in doubled:
        state.app_ids[(one.section.id, app.id)] = by_graph_key[app.graph_key]
    for one in state.retained:
        for app in one.section.tree.apps.values():
            _take_remote_app(state, one, app, is_away=True)
    _rewrite_dependencies(state)
    state.parts.update(((one.peer, one.section.id), _part_of(state, one)) for one in remade)
    _warn_of_shared_graph(state, seen_here, sharing)
    _warn_of_taken_ids(state)
    if state.options.naming == "always_prefix":
        _warn_of_equal_names(state)


def _warn_of_equal_names(state: MergeState) -> None:
    """Whoever chose one name for two gateways gets ids that depend on which of them was heard first."""
    named: dict[str, list[Chosen]] = {}
    for one in state.chosen:
        named.setdefault(origin_prefix(one.section.id, one.section.name), []).append(one)
    for prefix, found in sorted(named.items()):
        if len(found) > 1:
            peers = tuple(sorted({one.peer for one in found}))
            who = ", ".join(sorted(one.label for one in found))
            text = (
                f"{len(found)} gateways are called '{prefix}': {who}. Which of their apps have a number in their ids"
                " depends on which was heard first. Give each its own gateway.name."
            )
            state.warnings.append(Warn("duplicate_gateway_name", text, peer_names=peers))


def _fits(state: MergeState, part: Part, by_graph_key: Mapping[str, str]) -> bool:
    """Whether no other app took an id or is a node of this part in this merge: then it must become the same again."""
    # Views on both sides: the shorter one is looked through.
    return part.apps.keys().isdisjoint(state.apps.keys()) and part.keys.keys().isdisjoint(by_graph_key.keys())


def _take_part(state: MergeState, one: Chosen, part: Part, by_graph_key: dict[str, str]) -> None:
    state.app_ids.update(part.app_ids)
    state.apps.update(part.apps)
    state.remote.update(part.remote)
    by_graph_key.update(part.keys)
    state.parts[(one.peer, one.section.id)] = part


def _part_of(state: MergeState, one: Chosen) -> Part:
    """For a section of which no app was a node seen elsewhere, nor had to be given an id."""
    section = one.section
    ids = {app_id: state.app_ids[(section.id, app_id)] for app_id in section.tree.apps}
    return Part(
        section=section,
        keys={key: ids[app_id] for key, app_id in section.graph_keys.items()},
        app_ids={(section.id, app_id): here for app_id, here in ids.items()},
        apps={here: state.apps[here] for here in ids.values()},
        remote={(Kind.APP, here): state.remote[(Kind.APP, here)] for here in ids.values()},
        renames={there: here for there, here in _served(section, ids) if there != here},
        exported={app_id: here for app_id, here in ids.items() if app_id != here},
    )


def _served(section: OriginSection, ids: Mapping[str, str]) -> Iterable[tuple[str, str]]:
    """Ids at the gateway that a section is from, with the ids here."""
    return ((section.app_id_at_exporter(app_id), here) for app_id, here in ids.items())


def _warn_of_shared_graph(state: MergeState, seen_here: set[str], sharing: set[str]) -> None:
    local = state.own.tree.apps
    shared = sorted(app_id for app_id in seen_here if app_id in local)
    if not shared:
        return
    state.warnings.append(
        Warn(
            "shared_ros_graph",
            f"{len(shared)} nodes are also seen by {', '.join(sorted(sharing))}: both gateways are on one ROS"
            " graph. Each node is listed once, as local. Different ROS_DOMAIN_IDs part them.",
            entity_ids=tuple(shared),
            ros_node_fqns=tuple(sorted(local[app_id].fqn for app_id in shared)),
            peer_names=tuple(sorted(sharing)),
        )
    )


def _warn_of_taken_ids(state: MergeState) -> None:
    """A manifest's ids are its author's to choose; whoever used one of them for something else must be told."""
    taken: dict[str, GivenId] = {}
    for app in state.own.tree.apps.values():
        for one in state.given.holders(Kind.APP, app.id) if app.source == "manifest" else ():
            is_its_own = one.origin == state.own.id and one.key in (app.id, app.fqn or one.key)
            if not is_its_own:
                taken[app.id] = one
    if taken:
        peers = sorted({one.via for one in taken.values() if one.via})
        state.warnings.append(
            Warn(
                "app_id_taken",
                f"The manifest declares {len(taken)} apps with ids that other nodes had before"
                f"{' (of ' + ', '.join(peers) + ')' if peers else ''}. Requests with these ids reach the declared apps"
                " now. Give them ids of their own if clients may still mean the others.",
                entity_ids=tuple(sorted(taken)),
                peer_names=tuple(peers),
            )
        )


def _take_remote_app(
    state: MergeState, one: Chosen, app: App, parts: Parts = _NO_PARTS, *, is_away: bool = False
) -> str:
    section = one.section
    served = section.app_id_at_exporter(app.id)
    entity_id = _id_of(state, one, app, served)
    same = parts.app_of(one, app, entity_id)
    if same is not None and not is_away:
        state.app_ids[(section.id, app.id)] = entity_id
        state.apps[entity_id] = same
        state.remote[(Kind.APP, entity_id)] = Contribution(one.peer, served, (section.id,))
        return entity_id
    name = app.name or app.id
    if entity_id != app.id:
        head = entity_id[: -len(app.id) - 2] if entity_id.endswith(f"__{app.id}") else ""
        name = prefixed(head, name) if head else name
    state.app_ids[(section.id, app.id)] = entity_id
    here = replace(app, id=entity_id, name=name, source=f"peer:{one.peer}", contributors=(f"peer:{one.peer}",))
    if is_away:
        state.apps[entity_id] = replace(here, available=False, is_online=False)
        state.unreachable[(Kind.APP, entity_id)] = state.away[section.id]
    else:
        state.apps[entity_id] = here
        state.remote[(Kind.APP, entity_id)] = Contribution(one.peer, served, (section.id,))
    return entity_id


def _owner_key(state: MergeState, origin: str, app: App, served: str) -> str:
    """What an app is remembered by: its FQN; a declared one by its id, because its node comes and goes."""
    if app.source != "manifest" or (origin, Kind.APP.value, app.id) in state.given.by_key:
        return app.id if app.source == "manifest" else app.fqn or app.id
    # It may have got its id as a bare node, before somebody declared it.
    before = (one.key for one in state.given.holders(Kind.APP, served) if one.origin == origin)
    return next(before, app.id)


def _id_of(state: MergeState, one: Chosen, app: App, served: str) -> str:
    """The id that the app has had ever since it was first seen, or a new one, which is given."""
    section = one.section
    key = _owner_key(state, section.id, app, served)
    # Two apps of one origin on one FQN (a peer's mistake): the second is told apart by its id, ever after.
    second = (section.id, Kind.APP.value, f"{key}#{app.id}")
    first = (section.id, Kind.APP.value, key)
    known = state.known(second) or state.known(first)
    if known is not None and known.id not in state.apps:
        return known.id
    owner = first if known is None else second
    always = state.options.naming == "always_prefix"
    prefix = origin_prefix(section.id, section.name) if always else one.peer

    def is_free(candidate: str) -> bool:
        return candidate not in RESERVED_IDS and state.is_free(candidate)

    entity_id = choose_app_id(app.id if always else served, prefix, (section.id, owner[2]), always, is_free)
    state.give(owner, entity_id, one)
    return entity_id


def _rewrite_dependencies(state: MergeState) -> None:
    for one in (*state.chosen, *state.retained):
        if (one.peer, one.section.id) in state.parts:
            continue
        for app in one.section.tree.apps.values():
            entity_id = state.app_ids[(one.section.id, app.id)]
            here = state.apps[entity_id]
            share = state.remote.get((Kind.APP, entity_id))
            is_its_own = share.origins == (one.section.id,) if share else entity_id not in state.own.tree.apps
            if here.depends_on and is_its_own:
                ids = tuple(state.app_ids.get((one.section.id, other), other) for other in app.depends_on)
                state.apps[entity_id] = replace(here, depends_on=ids)


def _origins_by_peer(chosen: Sequence[Chosen], views: Sequence[PeerView]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {view.name: [] for view in views}
    for one in chosen:
        found[one.peer].append(one.section.id)
    return {peer: tuple(origins) for peer, origins in found.items()}


def passed_over(chosen: Sequence[Chosen], views: Sequence[PeerView]) -> dict[str, tuple[OriginSection, ...]]:
    """By peer, the sections that were not chosen, also those that may not be believed: what the peer lists itself."""
    taken = {(one.peer, one.section.id) for one in chosen}
    return {
        view.name: tuple(one for one in view.sections if one.state == "up" and (view.name, one.id) not in taken)
        for view in views
    }


def _renames(state: MergeState) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for one in state.chosen:
        section = one.section
        part = state.parts.get((one.peer, section.id))
        if part is not None:
            renames: Mapping[str, str] = part.renames
        else:
            ids = {app_id: state.app_ids[(section.id, app_id)] for app_id in section.tree.apps}
            renames = {there: here for there, here in _served(section, ids) if there != here}
        if renames:
            found.setdefault(one.peer, {}).update(renames)
    return found


def _exported_ids(state: MergeState) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    for one in (*state.chosen, *state.retained):
        origin = one.section.id
        part = state.parts.get((one.peer, origin))
        if part is not None:
            exported = part.exported
        else:
            ids = {app_id: state.app_ids[(origin, app_id)] for app_id in one.section.tree.apps}
            exported = {app_id: here for app_id, here in ids.items() if app_id != here}
        if exported:
            found[origin] = exported
    return found
