"""What plugins say exists, put into the local tree (API.md §3.7: plugins are the last layer).

Pure. What cannot be taken is refused item by item, with a sentence for `/health`: an id of the wrong form, one that
another source has, one that was once given to something else (AGGREGATION.md §4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from ..plugins.api import Entities, PluginApp, PluginArea, PluginComponent, PluginFunction
from .ids import RESERVED_IDS, GivenId, GivenIds, is_valid_id
from .model import App, Area, Component, Function, Kind
from .tree import EntityTree

# More than any device has; a plugin's bug must not become a tree that nobody can read.
MAX_ENTITIES = 5000
MAX_TEXT = 4096

Item = TypeVar("Item", PluginApp, PluginComponent, PluginArea, PluginFunction)


@dataclass(frozen=True)
class PluginLayer:
    """The tree with all plugins in it; `offers`: plugin and app by app id; `refused`: sentences by plugin."""

    tree: EntityTree
    new_ids: tuple[GivenId, ...] = ()
    offers: Mapping[str, tuple[str, PluginApp]] = ()  # type: ignore[assignment]
    refused: Mapping[str, tuple[str, ...]] = ()  # type: ignore[assignment]


def with_plugins(
    tree: EntityTree,
    said: Mapping[str, Entities],
    given: GivenIds,
    origin: str,
    new_ids: Sequence[GivenId] = (),
) -> PluginLayer:
    """Add the entities of plugins, by plugin name. What a manifest or the graph has already is left as it is.

    `new_ids` are those of the other layers that are not among `given` yet; they come out together with ours.
    """
    if not said:
        return PluginLayer(tree, tuple(new_ids), {}, {})
    adder = _Adder(tree, given, origin, new_ids)
    for name in sorted(said):
        adder.add(name, said[name])
    return adder.layer()


class _Adder:
    def __init__(self, tree: EntityTree, given: GivenIds, origin: str, new_ids: Sequence[GivenId]) -> None:
        self._given, self._origin = given, origin
        self._areas, self._components = dict(tree.areas), dict(tree.components)
        self._apps, self._functions = dict(tree.apps), dict(tree.functions)
        self._new: list[GivenId] = list(new_ids)
        self._offers: dict[str, tuple[str, PluginApp]] = {}
        self._refused: dict[str, tuple[str, ...]] = {}

    def layer(self) -> PluginLayer:
        tree = EntityTree(
            areas=dict(sorted(self._areas.items())),
            components=dict(sorted(self._components.items())),
            apps=dict(sorted(self._apps.items())),
            functions=dict(sorted(self._functions.items())),
        )
        return PluginLayer(tree, tuple(self._new), self._offers, self._refused)

    def add(self, plugin: str, entities: Entities) -> None:
        wrong: list[str] = []
        for area in _usable(entities.areas, PluginArea, wrong):
            if area.id in self._areas:
                wrong.append(f"area {area.id}: another source has it")
            else:
                self._areas[area.id] = Area(
                    area.id, area.name or area.id, f"/{area.id}", area.description, parent_area_id=area.parent_area_id,
                    source=plugin,
                )  # fmt: skip
        for component in _usable(entities.components, PluginComponent, wrong):
            if component.id in self._components:
                wrong.append(f"component {component.id}: another source has it")
            else:
                self._components[component.id] = Component(
                    component.id, component.name or component.id, component.type, area=component.area,
                    description=component.description, tags=component.tags,
                    parent_component_id=component.parent_component_id, source=plugin,
                )  # fmt: skip
        for app in _usable(entities.apps, PluginApp, wrong):
            problem = self._take(plugin, app)
            if problem:
                wrong.append(f"app {app.id}: {problem}")
        for function in _usable(entities.functions, PluginFunction, wrong):
            known = self._functions.get(function.id)
            if known is None:
                self._functions[function.id] = Function(
                    function.id, function.name or function.id, function.description, hosts=_unique(function.hosts),
                    source=plugin,
                )  # fmt: skip
            else:
                # A function is what several do together, so more hosts are welcome.
                self._functions[function.id] = replace(known, hosts=_unique((*known.hosts, *function.hosts)))
        if wrong:
            self._refused[plugin] = tuple(wrong)

    def _take(self, plugin: str, app: PluginApp) -> str:
        """Add an app; why not, or ""."""
        if app.id in self._apps:
            return "another source has this id"
        owner = (self._origin, Kind.APP.value, f"{plugin}:{app.id}")
        holders = self._given.holders(Kind.APP, app.id)
        if any(holder.owner != owner for holder in holders):
            return "this id was given to something else before, and ids never move"
        if not holders:
            self._new.append(GivenId(*owner, app.id))
        self._apps[app.id] = App(
            app.id, app.name or app.id, app.description, app.tags, component_id=app.component_id,
            depends_on=app.depends_on, is_online=app.is_online, source=plugin, plugin=plugin,
        )  # fmt: skip
        self._offers[app.id] = (plugin, app)
        return ""


def _usable(items: Any, kind: type[Item], wrong: list[str]) -> list[Item]:
    """The items of the right class with a usable id, each id once, and not too many."""
    found: dict[str, Item] = {}
    if not isinstance(items, (tuple, list)):
        wrong.append(f"{kind.__name__}: not a tuple")
        return []
    for item in items:
        if not isinstance(item, kind):
            wrong.append(f"{type(item).__name__} is no {kind.__name__}")
        elif not isinstance(item.id, str) or not is_valid_id(item.id) or item.id in RESERVED_IDS or "__" in item.id:
            wrong.append(f"{kind.__name__} {str(item.id)[:80]!r}: no usable id")
        elif not _texts_are_texts(item):
            wrong.append(f"{kind.__name__} {item.id}: its texts must be str of at most {MAX_TEXT} characters")
        elif item.id in found:
            wrong.append(f"{kind.__name__} {item.id}: more than once")
        elif len(found) >= MAX_ENTITIES:
            wrong.append(f"{kind.__name__} {item.id}: more than {MAX_ENTITIES}")
            break
        else:
            found[item.id] = item
    return list(found.values())


def _texts_are_texts(item: Any) -> bool:
    for name in ("name", "description", "type", "component_id", "area", "parent_component_id", "parent_area_id"):
        value = getattr(item, name, "")
        if not isinstance(value, str) or len(value) > MAX_TEXT:
            return False
    for name in ("tags", "depends_on", "hosts"):
        values = getattr(item, name, ())
        if not isinstance(values, tuple) or not all(isinstance(one, str) and len(one) <= MAX_TEXT for one in values):
            return False
    return True


def _unique(ids: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(sorted(set(ids)))
