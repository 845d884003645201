"""The document of one part of the API: `/apps/docs`, `/apps/x/docs`, `/apps/x/data/docs` (API.md §2.4).

Cut out of the whole document: paths that belong to the part, ids in place of placeholders, and only the schemas that
are left in use.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..aggregation.routing import Away, FederatedTree
from ..entities.model import App, Component, Entity, Function, Kind
from ..errors import ResourceNotFound
from .context import SERVER_NAME
from .route_rows import GREEDY

Json = dict[str, Any]

MAX_SEGMENTS = 10
COLLECTIONS = (
    "data", "data-categories", "data-groups", "operations", "faults", "configurations", "logs", "bulk-data",
    "cyclic-subscriptions", "triggers", "updates", "hosts",
)  # fmt: skip
_KINDS = {
    "areas": Kind.AREA,
    "subareas": Kind.AREA,
    "components": Kind.COMPONENT,
    "subcomponents": Kind.COMPONENT,
    "apps": Kind.APP,
    "functions": Kind.FUNCTION,
}
# Which kinds may stand below which, and by what a child is known to belong there.
_IS_CHILD: dict[tuple[Kind, str], Callable[[Entity, Entity], bool]] = {
    (Kind.AREA, "subareas"): lambda parent, child: getattr(child, "parent_area_id", "") == parent.id,
    (Kind.AREA, "components"): lambda parent, child: isinstance(child, Component) and child.area == parent.id,
    (Kind.COMPONENT, "subcomponents"): lambda parent, child: (
        isinstance(child, Component) and child.parent_component_id == parent.id
    ),
    (Kind.COMPONENT, "apps"): lambda parent, child: isinstance(child, App) and child.component_id == parent.id,
    (Kind.FUNCTION, "apps"): lambda parent, child: isinstance(parent, Function) and child.id in parent.hosts,
}
# Collections whose items are named one by one, and the placeholder that stands for their ids.
_ENUMERATED = {"data": "data_id", "operations": "operation_id"}
_REF = re.compile(r"#/components/schemas/(\w+)")


@dataclass(frozen=True)
class Part:
    """What a path names: a list, an entity, a collection of it, or one resource in that."""

    kind: Kind
    entity: Entity | None = None
    collection: str = ""
    resource: str = ""


def describe(whole: Json, tree: FederatedTree, path: str, ids: Callable[[Part], Sequence[str]]) -> Json:
    """The document of the part at `path` (relative to `/api/v1`, without `/docs`).

    `ids` gives those of the topics or operations of a part. Raises ResourceNotFound when the path
    names nothing that can be described.
    """
    part = find(tree, [segment for segment in path.split("/") if segment])
    if part is None:
        raise ResourceNotFound("No capability description available for the requested path")
    paths = _with_own_ids(dict(_paths(whole["paths"], part, ids)))
    if not paths:
        raise ResourceNotFound("No capability description available for the requested path")
    document: Json = {
        "openapi": whole["openapi"],
        "info": {**whole["info"], "title": f"{SERVER_NAME} - {_title(part)}"},
        "servers": whole["servers"],
        "tags": whole["tags"],
        "paths": paths,
    }
    schemas = whole["components"]["schemas"]
    used = set(_used(paths, schemas)) | {"GenericError"}
    document["components"] = {
        "schemas": {name: schemas[name] for name in sorted(used)},
        "responses": whole["components"]["responses"],
    }
    return document


def find(tree: FederatedTree, segments: Sequence[str]) -> Part | None:
    """What the segments of a path name; None for nothing. Pairs of parent and child are checked."""
    if not 0 < len(segments) <= MAX_SEGMENTS or segments[0] not in {kind.value for kind in Kind}:
        return None
    part = Part(_KINDS[segments[0]])
    index = 1
    while index < len(segments):
        entity = _entity(tree, part.kind, segments[index])
        if entity is None or (part.entity is not None and not _belongs(part.entity, segments[index - 1], entity)):
            return None
        part = Part(part.kind, entity)
        if index + 1 == len(segments):
            return part
        word = segments[index + 1]
        if word in COLLECTIONS:
            return Part(part.kind, entity, word, "/".join(segments[index + 2 :]))
        if (part.kind, word) not in _IS_CHILD:
            return None
        part = Part(_KINDS[word], entity)
        index += 2
        if index == len(segments):
            return Part(entity.kind, entity, word)
    return part


def _entity(tree: FederatedTree, kind: Kind, entity_id: str) -> Entity | None:
    found = tree.resolve(kind, entity_id)
    return None if found is None or isinstance(found, Away) else found.entity


def _belongs(parent: Entity, word: str, child: Entity) -> bool:
    return _IS_CHILD[(parent.kind, word)](parent, child)


def _title(part: Part) -> str:
    if part.entity is None:
        return part.kind.value
    return "/".join(word for word in (part.entity.id, part.collection, part.resource) if word)


def _paths(paths: Json, part: Part, ids: Callable[[Part], Sequence[str]]) -> Iterator[tuple[str, Json]]:
    base = f"/{part.kind.value}"
    one = f"{base}/{{{part.kind.type}_id}}"
    if part.entity is None:
        yield base, paths[base]
        yield one, paths[one]
        return
    here = f"{base}/{part.entity.id}"
    entity_parameter = f"{part.kind.type}_id"
    if not part.collection:
        yield here, _without(paths[one], entity_parameter)
        for name in (*COLLECTIONS, "logs/configuration"):
            if f"{one}/{name}" in paths:
                yield f"{here}/{name}", _without(paths[f"{one}/{name}"], entity_parameter)
        return
    collection = f"{one}/{part.collection}"
    if collection not in paths:
        return
    below = [template for template in paths if template.startswith(f"{collection}/")]
    if part.resource:
        for template in below:
            name = template.removeprefix(f"{collection}/").strip("{}")
            fits = "/" not in name and (name in GREEDY or "/" not in part.resource)
            if template.endswith("}") and fits:
                yield f"{here}/{part.collection}/{part.resource}", _without(paths[template], entity_parameter, name)
        return
    yield f"{here}/{part.collection}", _without(paths[collection], entity_parameter)
    placeholder = _ENUMERATED.get(part.collection, "")
    known = ids(part) if placeholder else ()
    item_of = f"{collection}/{{{placeholder}}}"
    for template in below:
        if known and template.startswith(item_of):
            rest = template.removeprefix(item_of)
            for item_id in known:
                path = f"{here}/{part.collection}/{item_id.lstrip('/')}{rest}"
                yield path, _without(paths[template], entity_parameter, placeholder)
        else:
            rest = template.removeprefix(one)
            yield f"{here}{rest}", _without(paths[template], entity_parameter)


def _with_own_ids(paths: dict[str, Json]) -> dict[str, Json]:
    """The same with an `operationId` of its own for each operation: where one is repeated, it is counted."""
    seen: dict[str, int] = {}
    for item in paths.values():
        for operation in item.values():
            name = operation["operationId"]
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                operation["operationId"] = f"{name}{seen[name]}"
    return paths


def _without(item: Json, *parameters: str) -> Json:
    """A path item without path parameters that are filled in. A copy: the whole document stays as it is."""
    item = copy.deepcopy(item)
    for operation in item.values():
        left = [one for one in operation.get("parameters", ()) if one["in"] != "path" or one["name"] not in parameters]
        operation.pop("parameters", None)
        if left:
            operation["parameters"] = left
    return item


def _used(value: Any, schemas: Json) -> Iterator[str]:
    """Names of the schemas in use, directly and by others."""
    seen: set[str] = set()
    waiting = [value]
    while waiting:
        for name in _refs(waiting.pop()):
            if name not in seen and name in schemas:
                seen.add(name)
                waiting.append(schemas[name])
                yield name


def _refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, member in value.items():
            if key == "$ref" and isinstance(member, str):
                match = _REF.fullmatch(member)
                if match:
                    yield match.group(1)
            else:
                yield from _refs(member)
    elif isinstance(value, list):
        for member in value:
            yield from _refs(member)
