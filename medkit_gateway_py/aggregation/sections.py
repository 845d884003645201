"""Origin sections: what one gateway has in its own graph, as it travels between gateways (AGGREGATION.md §5, §6).

A tree document is a set of sections. Each was issued by the gateway that has the entities in its own graph, and
carries the instance ids of the gateways it came over. What peers send is read in `section_reader.py`. Pure: no I/O, no
clock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

from ..entities.model import Entity, Kind
from ..entities.tree import EntityTree

SCHEMA = 1
# Bounds on what one peer can make us hold; all are far above what a real robot has.
MAX_ORIGINS = 1024
MAX_TEXT = 4096
# Not on the wire: what a node offers stays with its owner, contributors are the receiver's to say.
LOCAL_ONLY = frozenset({"topics", "services", "actions", "contributors"})


class TreeDocumentError(ValueError):
    """The document of a peer is not a tree document; its last good one stays."""


@dataclass(frozen=True, slots=True)
class DroppedItem:
    """An item of a peer that could not be used: where it stood and why."""

    where: str
    reason: str


@dataclass(frozen=True, slots=True)
class GatewayIdentity:
    """Who a gateway is: `id` its instance id, `boot_id` this start of it, `name` what it calls itself."""

    id: str
    boot_id: str
    name: str = ""
    version: str = ""


@dataclass(frozen=True)
class OriginSection:
    """The entities of one origin, with the ids they have there.

    `path` begins with the gateway we have it from and ends with the origin. `served_as` maps an app's id at the
    origin to its id at the gateway we have it from, where the two differ. `label` is how that gateway names the
    origin, "" its own. `state` is `up` or `down` (known there and out of reach); a `down` section has no entities.
    """

    id: str
    name: str
    boot_id: str
    seq: int
    path: tuple[str, ...]
    state: str = "up"
    tree: EntityTree = field(default_factory=EntityTree)
    served_as: Mapping[str, str] = field(default_factory=dict)
    label: str = ""

    @property
    def age(self) -> tuple[str, int]:
        """`(boot_id, seq)`: the greater, the newer; the boot ids of one gateway sort by age."""
        return (self.boot_id, self.seq)

    @cached_property
    def graph_keys(self) -> Mapping[str, str]:
        """Graph key to app id, of those apps that have one."""
        return {app.graph_key: app.id for app in self.tree.apps.values() if app.graph_key}

    def is_usable(self, own_id: str, max_hops: int) -> bool:
        """Whether it neither came over this gateway nor too far (AGGREGATION.md §5)."""
        return own_id not in self.path and len(self.path) <= max_hops

    def app_id_at_exporter(self, app_id: str) -> str:
        """The id under which the gateway we have the section from serves this app."""
        return self.served_as.get(app_id, app_id)


@dataclass(frozen=True)
class TreeDocument:
    """One peer's answer to `GET /api/v1/x-medkit/tree`, read.

    `wires`: by origin and app id what was read, so that what comes again unchanged need not be read again.
    """

    gateway: GatewayIdentity
    seq: int
    sections: tuple[OriginSection, ...]
    dropped: tuple[DroppedItem, ...] = ()
    dropped_count: int = 0
    wires: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False, repr=False)


def entity_to_wire(entity: Entity) -> dict[str, Any]:
    """The JSON object of an entity; members that say nothing are omitted."""
    wire: dict[str, Any] = {}
    for one in fields(entity):
        if one.name in LOCAL_ONLY:
            continue
        value = getattr(entity, one.name)
        if isinstance(value, bool):
            if value != one.default:
                wire[one.name] = value
        elif value:
            wire[one.name] = list(value) if isinstance(value, tuple) else value
    return wire


def section_to_wire(section: OriginSection) -> dict[str, Any]:
    """The JSON object of a section, as it stands in `origins`."""
    entities: dict[str, list[dict[str, Any]]] = {}
    for kind in Kind:
        items = [entity_to_wire(entity) for entity in section.tree.of(kind).values()]
        if kind is Kind.APP:
            for item in items:
                served = section.served_as.get(item["id"])
                if served is not None and served != item["id"]:
                    item["served_as"] = served
        entities[kind.value] = items
    wire: dict[str, Any] = {
        "id": section.id,
        "name": section.name,
        "boot_id": section.boot_id,
        "seq": section.seq,
        "path": list(section.path),
        "state": section.state,
        "entities": entities,
    }
    if section.label:
        wire["label"] = section.label[:MAX_TEXT]
    return wire


def tree_to_wire(gateway: GatewayIdentity, seq: int, sections: Sequence[OriginSection]) -> dict[str, Any]:
    """The document of `GET /api/v1/x-medkit/tree` (AGGREGATION.md §6)."""
    return {
        "schema": SCHEMA,
        "gateway": {"id": gateway.id, "boot_id": gateway.boot_id, "name": gateway.name, "version": gateway.version},
        "seq": seq,
        "origins": [section_to_wire(section) for section in sections],
    }


def delta_to_wire(
    before: Sequence[OriginSection], after: Sequence[OriginSection], base: int, seq: int
) -> dict[str, Any]:
    """What turns one exported tree into the next: `{base, seq, set, gone}` (AGGREGATION.md §6)."""
    known = {section.id: section for section in before}
    present = {section.id for section in after}
    return {
        "base": base,
        "seq": seq,
        "set": [section_to_wire(section) for section in after if known.get(section.id) != section],
        "gone": [origin for origin in known if origin not in present],
    }
