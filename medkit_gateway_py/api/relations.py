"""The relation collections of entities (API.md §3.6), answered from the merged tree whoever owns the entity."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..entities.model import App, Component, Entity, Kind
from ..entities.tree import EntityTree
from .views import Json, collection, list_item, uri

Items = Callable[[EntityTree, Any], list[Json]]


def _items(entities: Iterable[Entity]) -> list[Json]:
    return [list_item(entity) for entity in entities]


def _missing(kind: Kind, entity_id: str) -> Json:
    """Something that is referred to and that nobody has."""
    return {
        "id": entity_id,
        "name": entity_id,
        "href": uri(kind, entity_id),
        "type": kind.type,
        "x-medkit": {"missing": True},
    }


def _depends_on(tree: EntityTree, entity: Component | App) -> list[Json]:
    found = ((other, tree.get(entity.kind, other)) for other in entity.depends_on)
    return [list_item(one) if one is not None else _missing(entity.kind, other) for other, one in found]


def _is_located_on(tree: EntityTree, app: App) -> list[Json]:
    if not app.component_id:
        return []
    component = tree.components.get(app.component_id)
    if component is None:
        return [_missing(Kind.COMPONENT, app.component_id)]
    item = list_item(component)
    item.pop("x-medkit", None)
    return [item]


def _belongs_to(tree: EntityTree, app: App) -> list[Json]:
    if not app.component_id:
        return []
    component = tree.components.get(app.component_id)
    if component is None:
        unknown: Json = {"missing": True, "unresolved_component": app.component_id}
        return [{"id": "", "name": "<unknown area>", "href": "", "type": Kind.AREA.type, "x-medkit": unknown}]
    if not component.area:
        return []
    area = tree.areas.get(component.area)
    return [list_item(area) if area is not None else _missing(Kind.AREA, component.area)]


# Name of the relation to its items, and to the name of the link back ("" for no `_links` at all).
RELATIONS: dict[tuple[Kind, str], tuple[Items, str]] = {
    (Kind.AREA, "components"): (lambda tree, area: _items(tree.components_by_area.get(area.id, ())), ""),
    (Kind.AREA, "subareas"): (lambda tree, area: _items(tree.subareas.get(area.id, ())), "parent"),
    (Kind.AREA, "contains"): (lambda tree, area: _items(tree.components_within(area.id)), "area"),
    (Kind.COMPONENT, "subcomponents"): (
        lambda tree, component: _items(tree.subcomponents.get(component.id, ())),
        "parent",
    ),
    (Kind.COMPONENT, "hosts"): (
        lambda tree, component: _items(tree.apps_by_component.get(component.id, ())),
        "component",
    ),
    (Kind.COMPONENT, "depends-on"): (_depends_on, "component"),
    (Kind.APP, "is-located-on"): (_is_located_on, "app"),
    (Kind.APP, "belongs-to"): (_belongs_to, "app"),
    (Kind.APP, "depends-on"): (_depends_on, "app"),
    (Kind.FUNCTION, "hosts"): (
        lambda tree, function: _items(tree.apps[host] for host in function.hosts if host in tree.apps),
        "function",
    ),
}


def relation_document(tree: EntityTree, entity: Entity, relation: str) -> Json:
    """One relation of an entity; `relation` is one of RELATIONS for its kind."""
    items, link = RELATIONS[(entity.kind, relation)]
    document = collection(items(tree, entity))
    if link:
        document["_links"] = {
            "self": uri(entity.kind, entity.id, relation),
            link: uri(entity.kind, entity.id),
        }
    return document
