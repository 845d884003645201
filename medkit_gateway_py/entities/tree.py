"""An immutable snapshot of entities with its look-ups. A new tree replaces the old one; readers never lock."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from .model import App, Area, Component, Entity, Function, Kind


@dataclass(frozen=True)
class EntityTree:
    """Entities by id, one mapping a kind. Mappings keep a stable (sorted) order and are never changed."""

    areas: Mapping[str, Area] = field(default_factory=dict)
    components: Mapping[str, Component] = field(default_factory=dict)
    apps: Mapping[str, App] = field(default_factory=dict)
    functions: Mapping[str, Function] = field(default_factory=dict)

    def of(self, kind: Kind) -> Mapping[str, Entity]:
        """All entities of one kind."""
        return cast("Mapping[str, Entity]", getattr(self, kind.value))

    def get(self, kind: Kind, entity_id: str) -> Entity | None:
        """The entity, or None. Look-ups always name the kind (API.md §1.5)."""
        return self.of(kind).get(entity_id)

    def kind_of(self, entity_id: str) -> Kind | None:
        """The first kind that has this id, Component before App before Area before Function; for error texts only."""
        for kind in (Kind.COMPONENT, Kind.APP, Kind.AREA, Kind.FUNCTION):
            if entity_id in self.of(kind):
                return kind
        return None

    @cached_property
    def apps_by_component(self) -> Mapping[str, tuple[App, ...]]:
        """Component id to the apps located on it."""
        found: dict[str, list[App]] = {}
        for app in self.apps.values():
            if app.component_id:
                found.setdefault(app.component_id, []).append(app)
        return {key: tuple(value) for key, value in found.items()}

    @cached_property
    def components_by_area(self) -> Mapping[str, tuple[Component, ...]]:
        """Area id to the components directly in it."""
        found: dict[str, list[Component]] = {}
        for component in self.components.values():
            if component.area:
                found.setdefault(component.area, []).append(component)
        return {key: tuple(value) for key, value in found.items()}

    @cached_property
    def subareas(self) -> Mapping[str, tuple[Area, ...]]:
        """Area id to its direct children."""
        found: dict[str, list[Area]] = {}
        for area in self.areas.values():
            if area.parent_area_id:
                found.setdefault(area.parent_area_id, []).append(area)
        return {key: tuple(value) for key, value in found.items()}

    @cached_property
    def subcomponents(self) -> Mapping[str, tuple[Component, ...]]:
        """Component id to its direct children."""
        found: dict[str, list[Component]] = {}
        for component in self.components.values():
            if component.parent_component_id:
                found.setdefault(component.parent_component_id, []).append(component)
        return {key: tuple(value) for key, value in found.items()}

    def components_within(self, area_id: str) -> tuple[Component, ...]:
        """Components of an area and of all its sub-areas; a cycle of sub-areas ends the walk."""
        seen: set[str] = set()
        queue = [area_id]
        found: list[Component] = []
        while queue:
            current = queue.pop(0)
            if current in seen:
                continue
            seen.add(current)
            found.extend(self.components_by_area.get(current, ()))
            queue.extend(area.id for area in self.subareas.get(current, ()))
        return tuple(found)

    def members(self, kind: Kind, entity_id: str) -> tuple[App, ...]:
        """The apps whose resources an entity gathers; for an area all sub-areas too (API.md §4.1)."""
        if kind is Kind.APP:
            app = self.apps.get(entity_id)
            return (app,) if app else ()
        if kind is Kind.COMPONENT:
            return self.apps_by_component.get(entity_id, ())
        if kind is Kind.AREA:
            return tuple(
                app
                for component in self.components_within(entity_id)
                for app in self.apps_by_component.get(component.id, ())
            )
        function = self.functions.get(entity_id)
        if function is None:
            return ()
        return tuple(self.apps[host] for host in function.hosts if host in self.apps)

    def counts(self) -> dict[str, int]:
        """Number of entities of each kind, keyed by collection."""
        return {kind.value: len(self.of(kind)) for kind in Kind}
