"""Areas, components, apps and functions (API.md §3)."""

from __future__ import annotations

from typing import Any, Literal

from .base import Capability, Links, Model, XMedkitCollection, XMedkitRos2, alias, required


class XMedkitEntity(Model):
    """What every kind may say of itself."""

    ros2: XMedkitRos2 | None = None
    source: str | None = None
    contributors: list[str] | None = None
    missing: bool | None = None


class XMedkitArea(XMedkitEntity):
    """An area."""

    parent_area_id: str | None = None


class XMedkitComponent(XMedkitEntity):
    """A component."""

    type: str | None = None
    parentComponentId: str | None = None
    dependsOn: list[str] | None = None
    area: str | None = None
    variant: str | None = None
    description: str | None = None
    identity: dict[str, Any] | None = None
    external: bool | None = None
    available: bool | None = None
    capabilities: list[Capability] | None = None


class XMedkitApp(XMedkitEntity):
    """An app."""

    is_online: bool | None = None
    component_id: str | None = None
    external: bool | None = None
    available: bool | None = None


class XMedkitFunction(XMedkitEntity):
    """A function."""

    hosts: list[str] | None = None
    description: str | None = None


class ListItem(Model):
    """An entity in a list."""

    id: str
    name: str
    href: str
    description: str | None = None
    tags: list[str] | None = None
    source: str | None = None


class AreaListItem(ListItem):
    """An area in a list."""

    type: Literal["area"]
    x_medkit: XMedkitArea | None = alias("x-medkit")


class ComponentListItem(ListItem):
    """A component in a list."""

    type: Literal["component"]
    x_medkit: XMedkitComponent | None = alias("x-medkit")


class AppListItem(ListItem):
    """An app in a list."""

    type: Literal["app"]
    is_located_on: str | None = alias("is-located-on")
    x_medkit: XMedkitApp | None = alias("x-medkit")


class FunctionListItem(ListItem):
    """A function in a list."""

    type: Literal["function"]
    x_medkit: XMedkitFunction | None = alias("x-medkit")


class EntityList(Model):
    """What all lists have."""

    links: Links | None = alias("_links")
    x_medkit: XMedkitCollection | None = alias("x-medkit")


class AreaList(EntityList):
    """Areas."""

    items: list[AreaListItem]


class ComponentList(EntityList):
    """Components."""

    items: list[ComponentListItem]


class AppList(EntityList):
    """Apps."""

    items: list[AppListItem]


class FunctionList(EntityList):
    """Functions."""

    items: list[FunctionListItem]


class Detail(Model):
    """What all details have; members named like a collection are its URI."""

    id: str
    name: str
    description: str | None = None
    translation_id: str | None = None
    tags: list[str] | None = None
    source: str | None = None
    data: str
    operations: str
    configurations: str
    faults: str
    logs: str
    bulk_data: str = required("bulk-data")
    triggers: str
    capabilities: list[Capability]
    links: Links = required("_links")


class AreaDetail(Detail):
    """One area."""

    type: Literal["area"]
    subareas: str
    components: str
    contains: str
    x_medkit: XMedkitArea | None = alias("x-medkit")


class ComponentDetail(Detail):
    """One component."""

    type: Literal["component"]
    status: str
    subcomponents: str
    hosts: str
    cyclic_subscriptions: str = required("cyclic-subscriptions")
    depends_on: str | None = alias("depends-on")
    belongs_to: str | None = alias("belongs-to")
    x_medkit: XMedkitComponent | None = alias("x-medkit")


class AppDetail(Detail):
    """One app."""

    type: Literal["app"]
    status: str
    cyclic_subscriptions: str = required("cyclic-subscriptions")
    is_located_on: str | None = alias("is-located-on")
    belongs_to: str | None = alias("belongs-to")
    depends_on: str | None = alias("depends-on")
    x_medkit: XMedkitApp | None = alias("x-medkit")


class FunctionDetail(Detail):
    """One function."""

    type: Literal["function"]
    hosts: str
    x_medkit_graph: str = required("x-medkit-graph")
    cyclic_subscriptions: str = required("cyclic-subscriptions")
    x_medkit: XMedkitFunction | None = alias("x-medkit")


class FunctionGraph(Model):
    """The graph of a function, as a plugin draws it."""

    x_medkit_graph: dict[str, Any] = required("x-medkit-graph")
