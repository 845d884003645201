"""Reading what a peer says of its tree (AGGREGATION.md §5, §6): whole documents, and changes of one.

Strict: a wrong envelope refuses the document, a wrong item is dropped and named. Pure: no I/O, no clock.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from ..entities.ids import is_valid_id
from ..entities.model import App, Area, Component, Entity, Function, Kind
from ..entities.tree import EntityTree
from .sections import (
    LOCAL_ONLY,
    MAX_ORIGINS,
    MAX_TEXT,
    SCHEMA,
    DroppedItem,
    GatewayIdentity,
    OriginSection,
    TreeDocument,
    TreeDocumentError,
)

# Bounds on what one peer can make us hold; all are far above what a real robot has.
MAX_LIST = 20_000
MAX_INSTANCE_ID = 200
MAX_NAMEPLATE = 100
MAX_DROPPED_NAMED = 50

_CLASSES: Mapping[Kind, type[Entity]] = {
    Kind.AREA: Area,
    Kind.COMPONENT: Component,
    Kind.APP: App,
    Kind.FUNCTION: Function,
}
_WIRE_FIELDS: Mapping[Kind, tuple[tuple[str, Any], ...]] = {
    kind: tuple((one.name, one.type) for one in fields(made) if one.name not in LOCAL_ONLY)
    for kind, made in _CLASSES.items()
}
_LISTS_OF_IDS = frozenset({"hosts", "depends_on"})


def entity_from_wire(kind: Kind, wire: Any) -> Entity:
    """The entity of a JSON object. Unknown members are ignored; a wrong one raises ValueError with its name."""
    if not isinstance(wire, dict):
        raise ValueError("not an object")
    entity_id = wire.get("id")
    if not isinstance(entity_id, str) or not is_valid_id(entity_id):
        raise ValueError("id: not a valid entity id")
    values: dict[str, Any] = {}
    for name, declared in _WIRE_FIELDS[kind]:
        value = wire.get(name)
        if value is not None:
            values[name] = _field(name, declared, value)
    return _CLASSES[kind](**values)


def _field(name: str, declared: Any, value: Any) -> Any:
    if declared == "bool":
        if not isinstance(value, bool):
            raise ValueError(f"{name}: expected a boolean")
        return value
    if declared == "str":
        return _text(value, name)
    if declared.startswith("tuple[str"):
        if not isinstance(value, list) or len(value) > MAX_LIST:
            raise ValueError(f"{name}: expected an array of at most {MAX_LIST} strings")
        for text in value:
            _text(text, name)
            if name in _LISTS_OF_IDS and not is_valid_id(text):
                raise ValueError(f"{name}: holds something that is no entity id")
        return tuple(value)
    return _nameplate(name, value)


def _nameplate(name: str, value: Any, depth: int = 0) -> dict[str, Any]:
    """An `identity` object: scalars, and objects of scalars one level down (`extra`, API.md §12.1), nothing deeper."""
    if not isinstance(value, dict) or len(value) > MAX_NAMEPLATE:
        raise ValueError(f"{name}: expected an object of at most {MAX_NAMEPLATE} members")
    checked: dict[str, Any] = {}
    for key, inner in value.items():
        _text(key, name)
        if isinstance(inner, dict) and depth == 0:
            checked[key] = _nameplate(name, inner, depth + 1)
        elif isinstance(inner, str):
            checked[key] = _text(inner, name)
        elif isinstance(inner, bool) or inner is None:
            checked[key] = inner
        elif isinstance(inner, int) and abs(inner) < 2**63:
            checked[key] = inner
        elif isinstance(inner, float) and math.isfinite(inner):
            checked[key] = inner
        else:
            raise ValueError(f"{name}: {key} is neither text, number, boolean nor a flat object")
    return checked


def tree_from_wire(document: Any, max_entities: int) -> TreeDocument:
    """Read a peer's document.

    Raises TreeDocumentError for a wrong envelope, a wrong schema, or more than `max_entities` entities (the tree is
    then refused whole, AGGREGATION.md §1). Wrong items and sections are dropped and named.
    """
    if not isinstance(document, dict):
        raise TreeDocumentError("not an object")
    if document.get("schema") != SCHEMA or isinstance(document.get("schema"), bool):
        raise TreeDocumentError(f"schema is not {SCHEMA}")
    gateway = _identity(document.get("gateway"))
    origins = document.get("origins")
    if not isinstance(origins, list) or len(origins) > MAX_ORIGINS:
        raise TreeDocumentError(f"origins: expected an array of at most {MAX_ORIGINS}")
    try:
        seq = _sequence(document.get("seq"))
    except ValueError as error:
        raise TreeDocumentError(str(error)) from None
    reader = _Reader(max_entities)
    sections = reader.sections(origins, "origins", gateway.id)
    return TreeDocument(gateway, seq, sections, tuple(reader.dropped), reader.dropped_count, reader.wires)


def section_from_wire(wire: Any, max_entities: int) -> OriginSection:
    """One section by itself, as `section_to_wire` wrote it. Raises ValueError for anything that is wrong with it."""
    reader = _Reader(max_entities)
    section = reader.section(wire, "section")
    if reader.dropped:
        raise ValueError(f"{reader.dropped[0].where}: {reader.dropped[0].reason}")
    return section


def apply_delta(document: TreeDocument, delta: Any, max_entities: int) -> TreeDocument | None:
    """The document after a delta; None when the whole must be fetched: the delta does not follow, or cannot be read.

    Sections keep their places, new ones come at the end. Raises TreeDocumentError as `tree_from_wire` does; bounds
    are those of the whole document, so that many small deltas cannot do what one document may not.
    """
    if not isinstance(delta, dict):
        raise TreeDocumentError("not an object")
    changed, gone = delta.get("set", []), delta.get("gone", [])
    if not isinstance(changed, list) or not isinstance(gone, list):
        raise TreeDocumentError("set and gone: expected arrays")
    try:
        base, seq = _sequence(delta.get("base")), _sequence(delta.get("seq"))
    except ValueError as error:
        raise TreeDocumentError(str(error)) from None
    if base != document.seq or seq < base:
        return None
    reader = _Reader(max_entities, document)
    read = {section.id: section for section in reader.sections(changed, "set", document.gateway.id)}
    if len(read) != len(changed):
        return None
    left = {origin for origin in gone if isinstance(origin, str)}
    sections = [read.pop(one.id, one) for one in document.sections if one.id in read or one.id not in left]
    sections += read.values()
    if len(sections) > MAX_ORIGINS:
        raise TreeDocumentError(f"more than {MAX_ORIGINS} origins")
    if sum(sum(section.tree.counts().values()) for section in sections) > max_entities:
        raise TreeDocumentError(f"more than {max_entities} entities")
    wires = {**document.wires, **reader.wires}
    wires = {one.id: wires[one.id] for one in sections if one.id in wires}
    return TreeDocument(document.gateway, seq, tuple(sections), tuple(reader.dropped), reader.dropped_count, wires)


def _identity(wire: Any) -> GatewayIdentity:
    if not isinstance(wire, dict):
        raise TreeDocumentError("gateway: expected an object")
    try:
        return GatewayIdentity(
            _name(wire.get("id"), "gateway.id"),
            _name(wire.get("boot_id"), "gateway.boot_id"),
            _text(wire.get("name", ""), "gateway.name"),
            _text(wire.get("version", ""), "gateway.version"),
        )
    except ValueError as error:
        raise TreeDocumentError(str(error)) from None


def _name(value: Any, where: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= MAX_INSTANCE_ID or not value.isprintable():
        raise ValueError(f"{where}: expected 1 to {MAX_INSTANCE_ID} printable characters")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise ValueError(f"{where}: expected a string of at most {MAX_TEXT} characters")
    if not value.isascii():
        # Half a surrogate pair could be read here and never be written again.
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where}: holds a character that is no Unicode") from None
    return value


def _sequence(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("seq: expected an integer from 0")
    return value


class _Reader:
    """Reads sections under one common bound on entities, collecting what had to be dropped."""

    def __init__(self, max_entities: int, before: TreeDocument | None = None) -> None:
        """`before`: apps that are as they were there are taken over unread."""
        self._max_entities = max_entities
        self._before = {one.id: one.tree.apps for one in before.sections} if before else {}
        self._wires_before = before.wires if before else {}
        self.wires: dict[str, dict[str, Any]] = {}
        self._entities = 0
        self.dropped: list[DroppedItem] = []
        self.dropped_count = 0

    def drop(self, where: str, reason: str) -> None:
        self.dropped_count += 1
        if len(self.dropped) < MAX_DROPPED_NAMED:
            self.dropped.append(DroppedItem(where, reason))

    def sections(self, wires: Sequence[Any], where: str, gateway_id: str) -> tuple[OriginSection, ...]:
        """The sections of one gateway; a wrong one is dropped. Raises TreeDocumentError for too many entities."""
        found: dict[str, OriginSection] = {}
        for index, wire in enumerate(wires):
            place = f"{where}[{index}]"
            try:
                section = self.section(wire, place)
            except TreeDocumentError:
                raise
            except ValueError as error:
                self.drop(place, str(error))
                continue
            if section.id in found:
                self.drop(place, "a second section of the same origin")
            elif section.path[0] != gateway_id or section.path[-1] != section.id:
                self.drop(place, "path does not lead from the gateway to the origin")
            else:
                found[section.id] = section
        return tuple(found.values())

    def section(self, wire: Any, where: str) -> OriginSection:
        if not isinstance(wire, dict):
            raise ValueError("not an object")
        path = wire.get("path")
        if not isinstance(path, list) or not path or len(path) > MAX_ORIGINS:
            raise ValueError("path: expected a non-empty array")
        state = wire.get("state", "up")
        if state not in ("up", "down"):
            raise ValueError("state: expected up or down")
        entities = wire.get("entities", {})
        if not isinstance(entities, dict):
            raise ValueError("entities: expected an object")
        origin = _name(wire.get("id"), "id")
        served_as: dict[str, str] = {}
        found = {kind: self._items(kind, entities.get(kind.value, []), where, served_as, origin) for kind in Kind}
        return OriginSection(
            id=origin,
            name=_text(wire.get("name", ""), "name"),
            boot_id=_name(wire.get("boot_id"), "boot_id"),
            seq=_sequence(wire.get("seq")),
            path=tuple(_name(hop, "path") for hop in path),
            state=state,
            tree=EntityTree(**{kind.value: items for kind, items in found.items()}) if state == "up" else EntityTree(),
            served_as=served_as,
            label=_text(wire.get("label", ""), "label"),
        )

    def _items(self, kind: Kind, wires: Any, where: str, served_as: dict[str, str], origin: str) -> dict[str, Any]:
        where = f"{where}.{kind.value}"
        if not isinstance(wires, list):
            self.drop(where, "expected an array")
            return {}
        self._entities += len(wires)
        if self._entities > self._max_entities:
            raise TreeDocumentError(f"more than {self._max_entities} entities")
        found: dict[str, Any] = {}
        # Only apps are many; what else there is may hold numbers, and 1 is not True.
        before = self._before.get(origin, {}) if kind is Kind.APP else {}
        wires_before = self._wires_before.get(origin, {})
        kept: dict[str, Any] = {}
        for index, wire in enumerate(wires):
            try:
                known = before.get(wire["id"]) if before and _is_app_of(wire, wires_before) else None
                entity = known or entity_from_wire(kind, wire)
                served = wire.get("served_as")
                if served is not None and not (isinstance(served, str) and is_valid_id(served)):
                    raise ValueError("served_as: not a valid entity id")
            except ValueError as error:
                self.drop(f"{where}[{index}]", str(error))
                continue
            if entity.id in found:
                self.drop(f"{where}[{index}]", f"a second {entity.id}")
                continue
            found[entity.id] = entity
            kept[entity.id] = wire
            if served is not None and kind is Kind.APP:
                served_as[entity.id] = served
        if kind is Kind.APP:
            self.wires[origin] = kept
        return found


def _is_app_of(wire: Any, before: Mapping[str, Any]) -> bool:
    """Whether exactly this object was read before."""
    entity_id = wire.get("id") if isinstance(wire, dict) else None
    return isinstance(entity_id, str) and before.get(entity_id) == wire
