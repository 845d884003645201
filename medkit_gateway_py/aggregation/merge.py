"""The merge: our tree, the trees of peers and the ids given so far become one federated tree (AGGREGATION.md §4, §5).

A pure function: no I/O, no clock, no memory but its arguments. New ids are returned and committed by the caller
before the tree is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from ..entities.ids import GivenId, GivenIds
from ..entities.model import App, Area, Component, Entity, Function, Kind
from ..entities.tree import EntityTree
from .names import choose_app_id, peer_name_from, prefixed
from .routing import Contribution, FederatedTree, Shared, Warn
from .sections import GatewayIdentity, OriginSection

LOCAL = "local"
_MERGED_KINDS = (Kind.AREA, Kind.COMPONENT, Kind.FUNCTION)
# Members of a merged entity that are united; all other ones are filled where they are empty.
_UNITED = ("tags", "hosts", "depends_on")


@dataclass(frozen=True)
class PeerView:
    """What one reachable peer told last. A peer that is down has no view."""

    name: str
    sections: tuple[OriginSection, ...]


@dataclass(frozen=True)
class MergeOptions:
    """`peers` are the names of all known peers, up or down, in their order; the others are parameters."""

    naming: str = "collision"
    max_hops: int = 8
    peers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Merged:
    """The tree and the ids that it gives for the first time."""

    tree: FederatedTree
    new_ids: tuple[GivenId, ...]


@dataclass(frozen=True)
class _Chosen:
    """A section and the peer through which its origin is reached best."""

    peer: str
    section: OriginSection


@dataclass
class _Share:
    """One contribution to an entity that merges by id: from `peer` ("" ourselves), issued by `origin`."""

    entity: Entity
    peer: str
    origin: str


@dataclass
class _State:
    own: OriginSection
    chosen: list[_Chosen]
    given: GivenIds
    options: MergeOptions
    # (origin, app id at the origin) -> app id here
    app_ids: dict[tuple[str, str], str] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    remote: dict[tuple[Kind, str], Contribution] = field(default_factory=dict)
    shared: dict[tuple[Kind, str], Shared] = field(default_factory=dict)
    new: dict[tuple[str, str, str], GivenId] = field(default_factory=dict)
    new_app_ids: set[str] = field(default_factory=set)
    warnings: list[Warn] = field(default_factory=list)


def merge(
    identity: GatewayIdentity,
    local: EntityTree,
    local_seq: int,
    views: Sequence[PeerView],
    given: GivenIds,
    options: MergeOptions,
) -> Merged:
    """Merge once. `views` come in peer order; the result has `version` 0, which the caller replaces.

    `given` must hold the ids of the local apps already (`entities/ids.py`).
    """
    own = OriginSection(identity.id, identity.name, identity.boot_id, local_seq, (identity.id,), tree=local)
    state = _State(own, _choose_sections(own.id, views, options.max_hops), given, options)
    _merge_apps(state)
    merged = {kind: _merge_by_id(state, kind) for kind in _MERGED_KINDS}
    _route_components(state, merged[Kind.COMPONENT])
    for kind in (Kind.AREA, Kind.FUNCTION):
        for entity_id, shares in merged[kind].items():
            _route(state, kind, entity_id, shares)
    trees: dict[Kind, dict[str, Entity]] = {
        kind: {entity_id: _unite(state, shares) for entity_id, shares in sorted(merged[kind].items())}
        for kind in _MERGED_KINDS
    }
    state.shared = {
        (kind, entity_id): replace(share, entity=trees[kind][entity_id])
        for (kind, entity_id), share in state.shared.items()
    }
    tree = FederatedTree(
        areas=cast("dict[str, Area]", trees[Kind.AREA]),
        components=cast("dict[str, Component]", trees[Kind.COMPONENT]),
        apps=dict(sorted(state.apps.items())),
        functions=cast("dict[str, Function]", trees[Kind.FUNCTION]),
        local=local,
        remote=state.remote,
        shared=state.shared,
        origins_by_peer=_origins_by_peer(state.chosen, views),
        renames=_renames(state),
        own=own,
        sections=tuple(one.section for one in state.chosen),
        exported_ids=_exported_ids(state),
        peers=options.peers,
        warnings=tuple(state.warnings),
        given=given,
    )
    return Merged(tree, tuple(state.new.values()))


def _choose_sections(own_id: str, views: Sequence[PeerView], max_hops: int) -> list[_Chosen]:
    """One section an origin: the newest, then the shortest path, then the peer name (AGGREGATION.md §5).

    Returned in the order of peers, then of distance: the order in which first names are given.
    """
    best: dict[str, tuple[tuple[str, int], int, str, int, _Chosen]] = {}
    for order, view in enumerate(views):
        for section in view.sections:
            if section.state != "up" or own_id in section.path or len(section.path) > max_hops:
                continue
            candidate = (
                (section.boot_id, section.seq),
                len(section.path),
                view.name,
                order,
                _Chosen(view.name, section),
            )
            present = best.get(section.id)
            if present is None or _is_better(candidate, present):
                best[section.id] = candidate
    ordered = sorted(best.values(), key=lambda one: (one[3], one[1], one[4].section.id))
    return [one[4] for one in ordered]


def _is_better(candidate: Any, present: Any) -> bool:
    if candidate[0] != present[0]:
        return bool(candidate[0] > present[0])
    return bool(candidate[1:3] < present[1:3])


def _merge_apps(state: _State) -> None:
    local = state.own.tree
    by_graph_key = {app.graph_key: app.id for app in local.apps.values() if app.graph_key}
    state.apps = {app_id: replace(app, contributors=(LOCAL,)) for app_id, app in local.apps.items()}
    for app_id in local.apps:
        state.app_ids[(state.own.id, app_id)] = app_id
    seen_here: set[str] = set()
    sharing: set[str] = set()
    # Which of two origins owns a node of their common graph must not depend on the ways to them.
    owner_of: dict[str, str] = {}
    for one in sorted(state.chosen, key=lambda chosen: chosen.section.id):
        for app in one.section.tree.apps.values():
            if app.graph_key:
                owner_of.setdefault(app.graph_key, one.section.id)
    doubled: list[tuple[_Chosen, App]] = []
    for one in state.chosen:
        for app in one.section.tree.apps.values():
            if app.graph_key in by_graph_key:
                seen_here.add(by_graph_key[app.graph_key])
                sharing.add(one.peer)
                doubled.append((one, app))
            elif app.graph_key and owner_of[app.graph_key] != one.section.id:
                doubled.append((one, app))
            else:
                entity_id = _take_remote_app(state, one, app)
                if app.graph_key:
                    by_graph_key.setdefault(app.graph_key, entity_id)
    for one, app in doubled:
        state.app_ids[(one.section.id, app.id)] = by_graph_key[app.graph_key]
    _rewrite_dependencies(state)
    if seen_here:
        fqns = tuple(sorted(local.apps[app_id].fqn for app_id in seen_here if app_id in local.apps))
        if fqns:
            state.warnings.append(
                Warn(
                    "shared_ros_graph",
                    f"{len(fqns)} nodes are also seen by {', '.join(sorted(sharing))}: both gateways are on one ROS"
                    " graph. Each node is listed once, as local. Different ROS_DOMAIN_IDs part them.",
                    entity_ids=tuple(sorted(app_id for app_id in seen_here if app_id in local.apps)),
                    ros_node_fqns=fqns,
                    peer_names=tuple(sorted(sharing)),
                )
            )


def _take_remote_app(state: _State, one: _Chosen, app: App) -> str:
    section = one.section
    key = app.fqn or app.id
    owner = (section.id, Kind.APP.value, key)
    known = state.given.by_key.get(owner) or state.new.get(owner)
    served = section.app_id_at_exporter(app.id)
    if known is not None and known.id not in state.apps:
        entity_id = known.id
    else:
        always = state.options.naming == "always_prefix"
        prefix = peer_name_from(section.name, one.peer) if always else one.peer
        # Two apps of one origin on one FQN (a peer's mistake): the second is told apart by its id.
        salt = key if known is None else app.id
        entity_id = choose_app_id(app.id if always else served, prefix, (section.id, salt), always, _is_free(state))
        if known is not None:
            owner = (section.id, Kind.APP.value, app.id)
        _give(state, owner, entity_id, one)
    name = app.name or app.id
    if entity_id != app.id:
        head = entity_id[: -len(app.id) - 2] if entity_id.endswith(f"__{app.id}") else ""
        name = prefixed(head, name) if head else name
    state.app_ids[(section.id, app.id)] = entity_id
    state.apps[entity_id] = replace(
        app, id=entity_id, name=name, source=f"peer:{one.peer}", contributors=(f"peer:{one.peer}",)
    )
    state.remote[(Kind.APP, entity_id)] = Contribution(one.peer, served, (section.id,))
    return entity_id


def _is_free(state: _State) -> Any:
    def is_free(candidate: str) -> bool:
        return (
            candidate not in state.apps
            and candidate not in state.new_app_ids
            and not state.given.holders(Kind.APP, candidate)
        )

    return is_free


def _give(state: _State, owner: tuple[str, str, str], entity_id: str, one: _Chosen) -> None:
    origin_name = "" if len(one.section.path) == 1 else (one.section.name or one.section.id)
    state.new[owner] = GivenId(*owner, entity_id, one.peer, origin_name)
    if owner[1] == Kind.APP.value:
        state.new_app_ids.add(entity_id)


def _rewrite_dependencies(state: _State) -> None:
    for one in state.chosen:
        for app in one.section.tree.apps.values():
            entity_id = state.app_ids[(one.section.id, app.id)]
            here = state.apps[entity_id]
            if here.depends_on and (Kind.APP, entity_id) in state.remote:
                ids = tuple(state.app_ids.get((one.section.id, other), other) for other in app.depends_on)
                state.apps[entity_id] = replace(here, depends_on=ids)


def _merge_by_id(state: _State, kind: Kind) -> dict[str, list[_Share]]:
    """All contributions to each id of a kind, the local one first, then in peer order; new remote ids are given."""
    found: dict[str, list[_Share]] = {}
    for entity_id, entity in state.own.tree.of(kind).items():
        found[entity_id] = [_Share(entity, "", state.own.id)]
    for one in state.chosen:
        for entity_id, entity in one.section.tree.of(kind).items():
            found.setdefault(entity_id, []).append(_Share(entity, one.peer, one.section.id))
            owner = (one.section.id, kind.value, entity_id)
            if owner not in state.given.by_key and owner not in state.new:
                _give(state, owner, entity_id, one)
    return found


def _route_components(state: _State, merged: Mapping[str, list[_Share]]) -> None:
    groups = {cast("Component", share.entity).parent_component_id for shares in merged.values() for share in shares} - {
        ""
    }
    for component_id, shares in merged.items():
        is_local = not shares[0].peer
        if component_id in groups and not is_local:
            # A group is served here even when one peer alone declares it.
            _share(state, Kind.COMPONENT, component_id, shares)
            continue
        if not is_local and len(shares) > 1:
            peers = tuple(sorted({share.peer for share in shares}))
            state.warnings.append(
                Warn(
                    "leaf_id_collision",
                    f"Component '{component_id}' is declared by {len(shares)} gateways behind {', '.join(peers)};"
                    " their collections are gathered. Give the components different ids when they are different parts.",
                    entity_ids=(component_id,),
                    peer_names=peers,
                )
            )
        _route(state, Kind.COMPONENT, component_id, shares)


def _route(state: _State, kind: Kind, entity_id: str, shares: list[_Share]) -> None:
    if len(shares) > 1:
        _share(state, kind, entity_id, shares)
    elif shares[0].peer:
        state.remote[(kind, entity_id)] = Contribution(shares[0].peer, entity_id, (shares[0].origin,))


def _share(state: _State, kind: Kind, entity_id: str, shares: list[_Share]) -> None:
    origins: dict[str, list[str]] = {}
    for share in shares:
        if share.peer:
            origins.setdefault(share.peer, []).append(share.origin)
    contributions = tuple(Contribution(peer, entity_id, tuple(found)) for peer, found in origins.items())
    # The merged entity is put in once it exists.
    state.shared[(kind, entity_id)] = Shared(shares[0].entity, not shares[0].peer, contributions)


def _unite(state: _State, shares: list[_Share]) -> Entity:
    """One entity of all contributions: tags, hosts and dependencies united, empty members filled in order (§4)."""
    first = shares[0]
    changes: dict[str, Any] = {}
    for name in _UNITED:
        if hasattr(first.entity, name):
            changes[name] = _union(_references(state, share, name) for share in shares)
    for share in shares[1:]:
        for name in ("name", "description", "translation_id", "namespace", "fqn", "area", "variant", "identity"):
            if not changes.get(name, getattr(first.entity, name, True)):
                changes[name] = getattr(share.entity, name)
        for name in ("parent_area_id", "parent_component_id"):
            if not changes.get(name, getattr(first.entity, name, True)):
                changes[name] = getattr(share.entity, name)
    peers = sorted({f"peer:{share.peer}" for share in shares if share.peer})
    changes["contributors"] = (LOCAL, *peers) if not first.peer else tuple(peers)
    if first.peer:
        changes["source"] = f"peer:{first.peer}"
    return replace(first.entity, **changes)


def _references(state: _State, share: _Share, name: str) -> Iterable[str]:
    values: tuple[str, ...] = getattr(share.entity, name)
    if name == "hosts":
        return (
            state.app_ids.get((share.origin, app_id), app_id) for app_id in values if _is_known(state, share, app_id)
        )
    return values


def _is_known(state: _State, share: _Share, app_id: str) -> bool:
    """Hosts of a peer that are no apps of it are left out: here the same id may be another robot's app."""
    return not share.peer or (share.origin, app_id) in state.app_ids


def _union(lists: Iterable[Iterable[str]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for values in lists for value in values))


def _origins_by_peer(chosen: Sequence[_Chosen], views: Sequence[PeerView]) -> dict[str, tuple[str, ...]]:
    found: dict[str, list[str]] = {view.name: [] for view in views}
    for one in chosen:
        found[one.peer].append(one.section.id)
    return {peer: tuple(origins) for peer, origins in found.items()}


def _renames(state: _State) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for one in state.chosen:
        for app_id in one.section.tree.apps:
            there = one.section.app_id_at_exporter(app_id)
            here = state.app_ids[(one.section.id, app_id)]
            if there != here:
                found.setdefault(one.peer, {})[there] = here
    return found


def _exported_ids(state: _State) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for (origin, app_id), here in state.app_ids.items():
        if app_id != here:
            found.setdefault(origin, {})[app_id] = here
    return found
