"""The federated tree: one snapshot of all that is listed, with the owner of each entity (AGGREGATION.md §4, §5).

`resolve` answers the one question that every request asks: who serves this id? Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from ..entities.ids import GivenIds, is_internal_name
from ..entities.model import Entity, Kind
from ..entities.tree import EntityTree
from ..errors import GatewayError, NotResponding, PeerUnavailable
from .names import split_alias
from .sections import OriginSection


@dataclass(frozen=True, slots=True)
class Contribution:
    """A share that one peer gives to an entity: its id there, and the origins asked through that peer."""

    peer: str
    remote_id: str
    origins: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Local:
    """Served here alone."""

    entity: Entity


@dataclass(frozen=True, slots=True)
class Remote:
    """Served whole by one peer; `remote_id` is the id there, `origins` whose entity it is."""

    entity: Entity
    peer: str
    remote_id: str
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Shared:
    """Served here, its collections gathered: `local` says whether this gateway has a share of its own."""

    entity: Entity
    local: bool
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Away:
    """Known, and its owner cannot be reached now; `peer` is the label of `failed_peers`.

    `is_retained`: it is listed nevertheless (`unreachable: retain`).
    """

    peer: str
    is_retained: bool = False

    def error(self, entity_id: str) -> GatewayError:
        """What a request for it is answered: 502, or 504 where it is listed (AGGREGATION.md §6)."""
        if self.is_retained:
            return NotResponding(
                "The gateway of this entity does not respond",
                entity_id=entity_id,
                peer=self.peer,
                details=f"Peer '{self.peer}' is not available; the entity is listed because its manifest declares it",
            )
        return PeerUnavailable(f"Peer '{self.peer}' is not available", entity_id=entity_id, peer=self.peer)


@dataclass(frozen=True, slots=True)
class Warn:
    """One entry of `/health.warnings` (API.md §2.2)."""

    code: str
    message: str
    entity_ids: tuple[str, ...] = ()
    ros_node_fqns: tuple[str, ...] = ()
    peer_names: tuple[str, ...] = ()


Resolution = Local | Remote | Shared | Away


@dataclass(frozen=True)
class FederatedTree(EntityTree):
    """What this gateway lists, and how to reach it.

    * `remote`: (kind, id) to the peer that serves it whole; `shared`: to the shares of several.
    * `unreachable`: (kind, id) listed though nobody serves it now, with the label of its gateway.
    * `origins_by_peer`: origins whose best way leads through a peer; what `X-Medkit-Origins` says to it.
    * `labels`: what an origin is called here, `peer` or `peer/...`; `away`: the same of those out of reach; `silent`:
      labels of those out of reach that other gateways do not hear of from us.
    * `renames`: per peer, app ids that are other there: id at the peer to id here, those of a shared ROS graph too.
    * `sections`: the chosen sections as we received them; `own` is ours; `down`: those of origins that are away.
      `export` is what peers get.
    * `passed_over`: per peer, what it passes on of gateways that are reached another way, or that are we ourselves.
    * `given`: the memory of ids, for entities that are away.
    """

    version: int = 0
    local: EntityTree = field(default_factory=EntityTree)
    remote: Mapping[tuple[Kind, str], Contribution] = field(default_factory=dict)
    shared: Mapping[tuple[Kind, str], Shared] = field(default_factory=dict)
    unreachable: Mapping[tuple[Kind, str], str] = field(default_factory=dict)
    origins_by_peer: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    away: Mapping[str, str] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    renames: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    own: OriginSection | None = None
    sections: tuple[OriginSection, ...] = ()
    down: tuple[OriginSection, ...] = ()
    exported_ids: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    warnings: tuple[Warn, ...] = ()
    passed_over: Mapping[str, tuple[OriginSection, ...]] = field(default_factory=dict, compare=False, repr=False)
    given: GivenIds = field(default_factory=GivenIds, compare=False, repr=False)

    def resolve(self, kind: Kind, entity_id: str) -> Resolution | None:
        """Who serves this id now; None when nobody ever did.

        `<peer>__<x>` is accepted as an alias of the peer's `x` (AGGREGATION.md §4): a peer that is down answers for
        all its ids with Away.
        """
        entity = self.get(kind, entity_id)
        if entity is not None:
            return self._resolve_listed(kind, entity)
        label = self._away(kind, entity_id)
        if label is not None:
            return Away(label)
        alias = split_alias(entity_id)
        if alias is None or self.given.holders(kind, entity_id):
            # It was an id of something that is gone; read as an alias it would lead to another.
            return None
        return self._resolve_alias(kind, *alias)

    def _resolve_listed(self, kind: Kind, entity: Entity) -> Resolution:
        slot = (kind, entity.id)
        gone = self.unreachable.get(slot)
        if gone is not None:
            if kind in (Kind.APP, Kind.COMPONENT):
                return Away(gone, is_retained=True)
            # Areas and functions are ours to describe; their collections say who is missing.
            return Shared(entity, False, ())
        contribution = self.remote.get(slot)
        shared = self.shared.get(slot)
        if shared is not None:
            return shared
        if kind is not Kind.APP and self.missing(kind, entity.id):
            # Several gateways have it and all but one are away: it stays shared, so that answers say so (§8).
            return Shared(entity, contribution is None, (contribution,) if contribution else ())
        if contribution is not None:
            return Remote(entity, contribution.peer, contribution.remote_id, contribution.origins)
        return Local(entity)

    def _resolve_alias(self, kind: Kind, peer: str, remote_id: str) -> Resolution | None:
        if peer in self.peers and peer not in self.origins_by_peer:
            return Away(peer)
        here = self._by_remote_id.get((kind, peer, remote_id))
        if here is not None:
            return self.resolve(kind, here)
        shared = self.shared.get((kind, remote_id))
        for one in shared.contributions if shared is not None else ():
            if one.peer == peer and shared is not None:
                return Remote(shared.entity, peer, remote_id, one.origins)
        here = self._passed_over(peer, remote_id) if kind is Kind.APP else None
        if here is not None:
            return self.resolve(kind, here)
        # Known, and out of reach behind the peer; or of one that discovery let go, which is known as long as its ids.
        label = self._away(kind, remote_id)
        return Away(label) if label is not None and label.partition("/")[0] == peer else None

    def _passed_over(self, peer: str, remote_id: str) -> str | None:
        """Our id of an app that the peer has as `remote_id`, of a gateway that is reached another way (or is we)."""
        for section in self.passed_over.get(peer, ()):
            app_id = next((one for one in section.tree.apps if section.app_id_at_exporter(one) == remote_id), None)
            if app_id is None:
                continue
            if self.own is not None and section.id == self.own.id:
                return app_id if app_id in self.local.apps else None
            if any(one.id == section.id and app_id in one.tree.apps for one in self.sections):
                return self.exported_ids.get(section.id, {}).get(app_id, app_id)
        return None

    def missing(self, kind: Kind, entity_id: str) -> tuple[str, ...]:
        """Labels of gateways that are known to have a share of this entity and cannot be asked now (§8)."""
        holders = self.given.holders(kind, entity_id)
        return tuple(sorted({self.away[one.origin] for one in holders if one.origin in self.away}))

    def missing_anything(self) -> tuple[str, ...]:
        """Labels of all gateways that are known and cannot be asked now."""
        return tuple(sorted(set(self.away.values())))

    def targets(self, origins: frozenset[str] | None) -> tuple[list[tuple[str, tuple[str, ...]]], tuple[str, ...]]:
        """Whom to ask for what of everybody, and labels of those who cannot be asked (AGGREGATION.md §8).

        `origins` are those the asker wants, None: everybody. Every origin stands once, with the peer of its best way.
        """
        found = [
            (peer, tuple(origin for origin in theirs if origins is None or origin in origins))
            for peer, theirs in self.origins_by_peer.items()
        ]
        missing = {*self.missing_anything()} if origins is None else {*self.lacking(origins)}
        if origins is None or (self.own is not None and self.own.id in origins):
            # Who asks us for our own cannot know of a peer of ours that never told who it is.
            missing.update(self.silent)
        return [(peer, wanted) for peer, wanted in found if wanted], tuple(sorted(missing))

    def lacking(self, origins: frozenset[str]) -> tuple[str, ...]:
        """Labels of those `origins` that are not in this tree: asked for by somebody who has not heard yet."""
        return tuple(sorted({self.label_of(origin) for origin in origins if origin not in self._present}))

    def is_meant(self, kind: Kind, entity_id: str, resolution: Resolution | None, origins: frozenset[str]) -> bool:
        """Whether a request that is passed on for an entity of these origins is right here.

        An app id that none of them ever had here belongs to another gateway: the asker goes by an address that leads
        here since a moment ago. Taken for unknown (404), a robot that exists would be gone.
        """
        if resolution is not None:
            return self.is_owned_by(resolution, origins)
        if kind is not Kind.APP or is_internal_name(entity_id):
            return True
        return any(one.origin in origins for one in self.given.holders(kind, entity_id))

    def is_owned_by(self, resolution: Resolution, origins: frozenset[str]) -> bool:
        """Whether what was resolved is an entity of one of these origins.

        A gateway that passes a request on says whose entity it means: an id that has another owner here by now must
        not be served (AGGREGATION.md §5).
        """
        if isinstance(resolution, Local):
            return self.own is not None and self.own.id in origins
        if isinstance(resolution, Remote):
            return not origins.isdisjoint(resolution.origins)
        return True

    def label_of(self, origin: str) -> str:
        """What an origin is called in `failed_peers`; its id where nothing is known of it."""
        return self.labels.get(origin) or self.away.get(origin) or origin

    def is_present(self, origin: str) -> bool:
        """Whether the origin's entities are in this tree."""
        return origin in self._present

    def _away(self, kind: Kind, entity_id: str) -> str | None:
        for one in self.given.holders(kind, entity_id):
            if one.origin not in self._present and one.via:
                return self.away.get(one.origin, one.peer_label)
        return None

    @cached_property
    def _present(self) -> frozenset[str]:
        own = (self.own.id,) if self.own else ()
        return frozenset((*own, *(section.id for section in self.sections)))

    @cached_property
    def _by_remote_id(self) -> Mapping[tuple[Kind, str, str], str]:
        return {(kind, share.peer, share.remote_id): here for (kind, here), share in self.remote.items()}

    def owners(self) -> tuple[tuple[str, str, str], ...]:
        """The owners of all ids that are in use: `(origin, kind, key)` as in `GivenId`; a few more may be in it.

        What an app is remembered by may be its node of long ago or its id in a manifest, so it is found by its id.
        """
        found: list[tuple[str, str, str]] = []
        for section in (*self.sections, *((self.own,) if self.own else ())):
            ids = self.exported_ids.get(section.id, {})
            for app in section.tree.apps.values():
                holders = self.given.holders(Kind.APP, ids.get(app.id, app.id))
                found.extend(one.owner for one in holders if one.origin == section.id)
            for kind in (Kind.AREA, Kind.COMPONENT, Kind.FUNCTION):
                found.extend((section.id, kind.value, entity_id) for entity_id in section.tree.of(kind))
        return tuple(found)

    def is_local_app(self, app_id: str) -> bool:
        """Whether the app is a node of this gateway's own graph."""
        return app_id in self.local.apps

    def export(self) -> tuple[OriginSection, ...]:
        """The sections that peers get: ours, those we chose and those that are down, each path with us in front."""
        if self.own is None:
            return ()
        passed_on = tuple(
            OriginSection(
                id=section.id,
                name=section.name,
                boot_id=section.boot_id,
                seq=section.seq,
                path=(self.own.id, *section.path),
                state=section.state,
                tree=section.tree,
                served_as=self.exported_ids.get(section.id, {}),
                label=self.labels.get(section.id, ""),
            )
            for section in self.sections
        )
        away = tuple(replace(section, path=(self.own.id, *section.path)) for section in self.down)
        return (self.own, *passed_on, *away)
