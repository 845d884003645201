"""Entities as JSON: lists and details (API.md §3.1-3.5). Pure functions of one tree; relations are in `relations.py`.

Members that say nothing are omitted, never null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..entities.model import App, Area, Component, Entity, Function, Kind
from ..entities.tree import EntityTree
from .context import PREFIX

Json = dict[str, Any]

# Members with a URI, in the order of API.md §3.2-3.5; clients' models require them also where nothing is served yet.
_URIS = {
    Kind.AREA: (
        "subareas", "components", "contains", "data", "operations", "configurations", "faults", "logs", "bulk-data",
        "triggers",
    ),
    Kind.COMPONENT: (
        "status", "data", "operations", "configurations", "faults", "subcomponents", "hosts", "logs", "bulk-data",
        "cyclic-subscriptions", "triggers",
    ),
    Kind.APP: (
        "status", "data", "operations", "configurations", "faults", "logs", "bulk-data", "cyclic-subscriptions",
        "triggers",
    ),
    Kind.FUNCTION: (
        "hosts", "data", "operations", "configurations", "faults", "logs", "bulk-data", "x-medkit-graph",
        "cyclic-subscriptions", "triggers",
    ),
}  # fmt: skip
_CAPABILITIES = {
    Kind.AREA: (
        "subareas", "contains", "data", "operations", "configurations", "faults", "logs", "bulk-data", "triggers",
    ),
    Kind.COMPONENT: (
        "status", "data", "operations", "configurations", "faults", "logs", "subcomponents", "hosts", "bulk-data",
        "cyclic-subscriptions", "triggers",
    ),
    Kind.APP: (
        "status", "data", "operations", "configurations", "faults", "logs", "bulk-data", "cyclic-subscriptions",
        "triggers",
    ),
    Kind.FUNCTION: (
        "hosts", "data", "operations", "configurations", "faults", "logs", "bulk-data", "cyclic-subscriptions",
        "triggers",
    ),
}  # fmt: skip
# A component's `belongs-to` is the area itself, no collection of its own.
_CAPABILITIES_IF_RELATED = {
    Kind.AREA: (),
    Kind.COMPONENT: ("depends-on",),
    Kind.APP: ("is-located-on", "belongs-to", "depends-on"),
    Kind.FUNCTION: (),
}


def uri(kind: Kind, entity_id: str, *more: str) -> str:
    """`/api/v1/apps/x/data`: absolute path, no host (API.md §1.12)."""
    return "/".join((PREFIX, kind.value, entity_id, *more))


def collection(items: Sequence[Json], **medkit: Any) -> Json:
    """`{items, x-medkit: {total_count, ...}}`."""
    return {"items": list(items), "x-medkit": {"total_count": len(items), **medkit}}


def list_document(tree: EntityTree, kind: Kind, keeps: Callable[[Entity], bool] | None = None) -> Json:
    """The list of a kind: areas and components without a parent, all apps and functions (API.md §3.1).

    `keeps`: a filter that the request names.
    """
    entities: Iterable[Entity]
    if kind is Kind.AREA:
        entities = (area for area in tree.areas.values() if not area.parent_area_id)
    elif kind is Kind.COMPONENT:
        entities = (one for one in tree.components.values() if not one.parent_component_id)
    else:
        entities = tree.of(kind).values()
    return collection([list_item(entity) for entity in entities if keeps is None or keeps(entity)])


def list_item(entity: Entity) -> Json:
    """An item of a list or of a relation."""
    item: Json = {
        "id": entity.id,
        "name": entity.name or entity.id,
        "href": uri(entity.kind, entity.id),
        "type": entity.kind.type,
        **_given(description=entity.description, tags=list(entity.tags)),
        **_top_level_source(entity),
    }
    if isinstance(entity, App) and entity.component_id:
        # A C++ gateway reads lists of apps only, and learns from it where they are (AGGREGATION.md §11).
        item["is-located-on"] = uri(Kind.COMPONENT, entity.component_id)
    medkit = _item_medkit(entity)
    if medkit:
        item["x-medkit"] = medkit
    return item


def detail_document(tree: EntityTree, entity: Entity, aggregated: bool) -> Json:
    """The detail of an entity. `aggregated`: whether contributors are told."""
    kind = entity.kind
    uris, links = _relations(tree, entity)
    names = (*_CAPABILITIES[kind], *(name for name in _CAPABILITIES_IF_RELATED[kind] if name in uris))
    capabilities = [{"name": name, "href": uri(kind, entity.id, name)} for name in names]
    medkit = _detail_medkit(entity)
    if aggregated and entity.contributors:
        medkit["contributors"] = list(entity.contributors)
    if kind is Kind.COMPONENT:
        medkit["capabilities"] = capabilities
    return {
        "id": entity.id,
        "name": entity.name or entity.id,
        "type": kind.type,
        **_given(description=entity.description, translation_id=entity.translation_id, tags=list(entity.tags)),
        **_top_level_source(entity),
        **{name: uri(kind, entity.id, name) for name in _URIS[kind]},
        **uris,
        "capabilities": capabilities,
        "_links": {"self": uri(kind, entity.id), "collection": f"{PREFIX}/{kind.value}", **links},
        **_given(**{"x-medkit": medkit}),
    }


def _relations(tree: EntityTree, entity: Entity) -> tuple[Json, Json]:
    """URI members that depend on the entity, and the links beside `self` and `collection`."""
    uris: Json = {}
    links: Json = {}
    if isinstance(entity, Area):
        links.update(_given(parent=_uri_if(Kind.AREA, entity.parent_area_id)))
    elif isinstance(entity, Component):
        uris.update(_given(**{"belongs-to": _uri_if(Kind.AREA, entity.area)}))
        links.update(
            _given(area=_uri_if(Kind.AREA, entity.area), parent=_uri_if(Kind.COMPONENT, entity.parent_component_id))
        )
    elif isinstance(entity, App) and entity.component_id:
        uris["is-located-on"] = links["is-located-on"] = uri(Kind.COMPONENT, entity.component_id)
        uris["belongs-to"] = links["belongs-to"] = uri(Kind.APP, entity.id, "belongs-to")
    if not isinstance(entity, Area) and entity.depends_on:
        if not isinstance(entity, Function):
            uris["depends-on"] = uri(entity.kind, entity.id, "depends-on")
        if not isinstance(entity, Component):
            links["depends-on"] = [uri(entity.kind, other) for other in entity.depends_on]
    return uris, links


def _item_medkit(entity: Entity) -> Json:
    if isinstance(entity, Area):
        # Our own areas have no source (API.md §3.2), a peer's say so twice (AGGREGATION.md §4).
        return _given(ros2=_given(namespace=entity.namespace), **_source_of_peer(entity))
    if isinstance(entity, Component):
        return {
            "source": entity.source,
            **_given(ros2=_given(node=entity.fqn, namespace=entity.namespace), identity=dict(entity.identity)),
            **_availability(entity),
        }
    if isinstance(entity, App):
        return {
            "source": entity.source,
            "is_online": entity.is_online,
            **_given(component_id=entity.component_id, ros2=_given(node=_bound_node(entity))),
            **_availability(entity),
        }
    return _given(source=entity.source)


def _detail_medkit(entity: Entity) -> Json:
    medkit = _item_medkit(entity)
    if isinstance(entity, Area):
        medkit.update(_given(parent_area_id=entity.parent_area_id))
    elif isinstance(entity, Component):
        medkit["type"] = entity.type or "Component"
        medkit.update(
            _given(
                parentComponentId=entity.parent_component_id,
                dependsOn=list(entity.depends_on),
                area=entity.area,
                variant=entity.variant,
                description=entity.description,
            )
        )
    elif isinstance(entity, Function):
        medkit["hosts"] = list(entity.hosts)
        medkit.update(_given(description=entity.description))
    return medkit


def _bound_node(app: App) -> str:
    """The node that an app is; one that a manifest declares and that does not run is bound to none."""
    return app.fqn if app.is_online or not app.available else ""


def _availability(entity: Component | App) -> Json:
    """`external` is told only when true, `available` only when false."""
    flags: Json = {}
    if entity.external:
        flags["external"] = True
    if not entity.available:
        flags["available"] = False
    return flags


def _top_level_source(entity: Entity) -> Json:
    """Components always tell it (DECISIONS 9), the other kinds when a peer has them (AGGREGATION.md §4)."""
    return _given(source=entity.source) if entity.kind is Kind.COMPONENT else _source_of_peer(entity)


def _source_of_peer(entity: Entity) -> Json:
    return {"source": entity.source} if entity.source.startswith("peer:") else {}


def _uri_if(kind: Kind, entity_id: str) -> str:
    return uri(kind, entity_id) if entity_id else ""


def _given(**members: Any) -> Json:
    """Only the members that say something."""
    return {name: value for name, value in members.items() if value}
