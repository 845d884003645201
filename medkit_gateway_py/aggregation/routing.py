"""The federated tree: one snapshot of all that is listed, with the owner of each entity (AGGREGATION.md §4, §5).

`resolve` answers the one question that every request asks: who serves this id? Pure: no I/O, no clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from ..entities.ids import GivenId, GivenIds
from ..entities.model import Entity, Kind
from ..entities.tree import EntityTree
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
    """Known, and its owner cannot be reached now; `peer` is the label of `failed_peers`."""

    peer: str


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
    * `origins_by_peer`: origins whose best way leads through a peer; what `X-Medkit-Origins` says to it.
    * `renames`: per peer, app ids that are other there: id at the peer to id here, those of a shared ROS graph too.
    * `sections`: the chosen sections as we received them; `own` is ours. `export` is what peers get.
    * `given`: the memory of ids, for entities that are away.
    """

    version: int = 0
    local: EntityTree = field(default_factory=EntityTree)
    remote: Mapping[tuple[Kind, str], Contribution] = field(default_factory=dict)
    shared: Mapping[tuple[Kind, str], Shared] = field(default_factory=dict)
    origins_by_peer: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    renames: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    own: OriginSection | None = None
    sections: tuple[OriginSection, ...] = ()
    exported_ids: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    peers: tuple[str, ...] = ()
    warnings: tuple[Warn, ...] = ()
    given: GivenIds = field(default_factory=GivenIds, compare=False, repr=False)

    def resolve(self, kind: Kind, entity_id: str) -> Resolution | None:
        """Who serves this id now; None when nobody ever did.

        `<peer>__<x>` is accepted as an alias of the peer's `x` (AGGREGATION.md §4): a peer that is down answers for
        all its ids with Away.
        """
        entity = self.get(kind, entity_id)
        if entity is not None:
            contribution = self.remote.get((kind, entity_id))
            shared = self.shared.get((kind, entity_id))
            if shared is not None:
                return shared
            if kind is not Kind.APP and self.missing(kind, entity_id):
                # Several gateways have it and all but one are away: it stays shared, so that answers say so (§8).
                return Shared(entity, contribution is None, (contribution,) if contribution else ())
            if contribution is not None:
                return Remote(entity, contribution.peer, contribution.remote_id, contribution.origins)
            return Local(entity)
        label = self._away(kind, entity_id)
        if label is not None:
            return Away(label)
        alias = split_alias(entity_id)
        if alias is not None and alias[0] in self.peers:
            peer, remote_id = alias
            if peer not in self.origins_by_peer:
                return Away(peer)
            here = self._by_remote_id.get((kind, peer, remote_id))
            if here is not None:
                return self.resolve(kind, here)
        return None

    def missing(self, kind: Kind, entity_id: str) -> tuple[str, ...]:
        """Labels of gateways that are known to have a share of this entity and cannot be asked now (§8)."""
        return tuple(sorted({one.peer_label for one in self.given.holders(kind, entity_id) if self._is_missed(one)}))

    def missing_anything(self) -> tuple[str, ...]:
        """Labels of all gateways that had something and cannot be asked now."""
        return self._missing_anything

    @cached_property
    def _missing_anything(self) -> tuple[str, ...]:
        return tuple(sorted({one.peer_label for one in self.given if self._is_missed(one)}))

    def _is_missed(self, one: GivenId) -> bool:
        """Whether its owner is away; a peer that is up under another identity has taken its owner's place."""
        is_replaced = not one.origin_name and one.via in self.origins_by_peer
        return one.origin not in self._present and one.via in self.peers and not is_replaced

    def _away(self, kind: Kind, entity_id: str) -> str | None:
        labels = [
            one.peer_label for one in self.given.holders(kind, entity_id) if one.origin not in self._present and one.via
        ]
        return labels[0] if labels else None

    @cached_property
    def _present(self) -> frozenset[str]:
        own = (self.own.id,) if self.own else ()
        return frozenset((*own, *(section.id for section in self.sections)))

    @cached_property
    def _by_remote_id(self) -> Mapping[tuple[Kind, str, str], str]:
        return {(kind, share.peer, share.remote_id): here for (kind, here), share in self.remote.items()}

    def is_local_app(self, app_id: str) -> bool:
        """Whether the app is a node of this gateway's own graph."""
        return app_id in self.local.apps

    def export(self) -> tuple[OriginSection, ...]:
        """The sections that peers get: ours and those we chose, each path with us in front."""
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
            )
            for section in self.sections
        )
        return (self.own, *passed_on)
