"""`medkit manifest export`: a manifest of what a gateway lists now, ready to be edited (API.md §12.1).

Written from the REST lists alone, so it works for any gateway. Pure: what was read goes in, a document comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .output import medkit_of

Json = Mapping[str, Any]

HEADER = """\
# Made of what a gateway listed. Give the entities names and descriptions that mean something to people, put components
# into areas, and delete what you do not want to keep: in hybrid mode nodes that are not here are still found.
"""


def manifest_of(
    areas: Sequence[Json],
    components: Sequence[Json],
    apps: Sequence[Json],
    functions: Sequence[Json],
    hosts: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """The document. `hosts`: the apps of each function, by its id; items are list items or details of the API."""
    found: dict[str, Any] = {
        "manifest_version": "1.0",
        "config": {"unmanifested_nodes": "warn", "inherit_runtime_resources": True},
    }
    taken: set[str] = set()
    for name, entries in (
        ("areas", [_area(item) for item in areas]),
        ("components", [_component(item) for item in components]),
        ("apps", [_app(item) for item in apps]),
        ("functions", [_function(item, hosts.get(str(item.get("id")), ())) for item in functions]),
    ):
        unique = []
        for entry in entries:
            # A manifest has one space of ids for all kinds; the graph has not.
            if entry["id"] in taken:
                entry = {**entry, "id": _free(f"{entry['id']}-{name.removesuffix('s')}", taken)}
            taken.add(entry["id"])
            unique.append(entry)
        if unique:
            found[name] = unique
    return found


def to_yaml(document: Mapping[str, Any]) -> str:
    """The text of a manifest."""
    text: str = yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True, default_flow_style=False)
    return HEADER + text


def _free(wanted: str, taken: set[str]) -> str:
    found, number = wanted, 2
    while found in taken:
        found, number = f"{wanted}-{number}", number + 1
    return found


def _base(item: Json) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": str(item["id"]), "name": str(item.get("name") or item["id"])}
    for key in ("description", "translation_id", "tags"):
        if item.get(key):
            entry[key] = item[key]
    return entry


def _area(item: Json) -> dict[str, Any]:
    medkit = medkit_of(item)
    entry = _base(item)
    namespace = _ros2(medkit).get("namespace") or item.get("namespace")
    if namespace:
        entry["namespace"] = namespace
    parent = medkit.get("parent_area_id") or medkit.get("parentAreaId")
    if parent:
        entry["parent_area"] = parent
    return entry


def _component(item: Json) -> dict[str, Any]:
    medkit = medkit_of(item)
    entry = _base(item)
    for key, value in (
        ("area", medkit.get("area") or item.get("area")),
        ("type", medkit.get("component_type")),
        ("parent_component_id", medkit.get("parentComponentId")),
        ("depends_on", medkit.get("dependsOn") or medkit.get("depends_on")),
    ):
        if value:
            entry[key] = value
    return entry


def _app(item: Json) -> dict[str, Any]:
    medkit = medkit_of(item)
    entry = _base(item)
    if medkit.get("component_id"):
        entry["is_located_on"] = medkit["component_id"]
    node = _ros2(medkit).get("node")
    if isinstance(node, str) and node.startswith("/"):
        namespace, _, name = node.rpartition("/")
        entry["ros_binding"] = {"node_name": name, "namespace": namespace or "/"}
    return entry


def _function(item: Json, hosts: Sequence[str]) -> dict[str, Any]:
    entry = _base(item)
    if hosts:
        entry["hosted_by"] = list(hosts)
    return entry


def _ros2(medkit: Json) -> Json:
    found = medkit.get("ros2")
    return found if isinstance(found, Mapping) else {}
