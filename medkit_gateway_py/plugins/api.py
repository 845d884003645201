"""The interface for plugins, version 1; plugins import it as `medkit_gateway_py.plugin`.

    class Thermostat(EntityPlugin):
        def entities(self):
            return Entities(apps=(PluginApp("thermostat", data=(DataItem("temperature"),)),))

        async def read_data(self, app_id, item_id):
            return {"celsius": 21.5}

A plugin is an entry point of its own Python package in one of three groups, named in the parameter `plugins` to be
used: `medkit_gateway_py.entity_provider` (a subclass of EntityPlugin), `medkit_gateway_py.routes` (a subclass of
RoutesPlugin), `medkit_gateway_py.peer_discovery` (see `aggregation/peer_discovery`). docs/plugins.md leads there.

Each plugin runs in a thread of its own with an asyncio loop of its own: every method here is called there, one call may
overlap another, and one that raises, waits for ever or blocks costs an error answer and an entry in `/health`, never
the gateway. What is called from the plugin, `context`, may be used from any of its threads.

What changes in this module within version 1 only adds; `API_VERSION` counts the rest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

API_VERSION = 1

__all__ = [
    "API_VERSION",
    "BadValue",
    "ConfigurationItem",
    "DataItem",
    "Entities",
    "EntityPlugin",
    "EntityView",
    "NotFound",
    "OperationItem",
    "PluginApp",
    "PluginArea",
    "PluginComponent",
    "PluginContext",
    "PluginError",
    "PluginFunction",
    "PluginParameter",
    "RoutesPlugin",
    "Unavailable",
]

Json = Any
"""What JSON can say: None, bool, int, float, str, lists and dicts of them. NaN and infinity become null."""


# Errors


class PluginError(Exception):
    """Something did not work; the text is shown to the client. Anything else that a plugin raises is a bug of it, and
    its text is shown in the log and in `/health` only."""


class NotFound(PluginError):
    """There is no such item: 404."""


class BadValue(PluginError):
    """The client's value does not fit: 400."""


class Unavailable(PluginError):
    """The thing behind the plugin does not answer now: 503."""


# What a plugin is told


@dataclass(frozen=True)
class PluginParameter:
    """A ROS parameter `plugins.<plugin>.<name>`, of the type of `default`: bool, int, float, str, or a tuple of str.

    `check` is given a value of that type and returns "" or what is wrong with it; a wrong value is replaced by the
    default, with an error in the log.
    """

    name: str
    default: bool | int | float | str | tuple[str, ...]
    description: str
    check: Callable[[Any], str] | None = None


@dataclass(frozen=True)
class EntityView:
    """An app of the gateway's own tree, as a plugin may see it. `fqn` is the bound ROS node, "" when there is none."""

    id: str
    name: str
    fqn: str
    component_id: str
    is_online: bool
    source: str


@dataclass(frozen=True)
class PluginContext:
    """What a plugin is given when it is made. The callables may be called from any thread and return at once.

    * `parameters`: a value for each declared parameter.
    * `log`: the plugin's logger; what it says appears on `/rosout` as the gateway's.
    * `changed()`: `entities()` would say something else now. As often as wanted.
    * `apps()`: the apps of this gateway now, those of plugins too.
    * `report_fault(app_id, fault_code, failed, severity, description)`: as a ROS node reports one (API.md §7.1);
      `severity` is INFO, WARN, ERROR or CRITICAL, `failed` False says that it passed.
    * `add_log(app_id, severity, message)`: a line in the logs of an app of this plugin; `severity` is debug, info,
      warning, error or fatal.
    """

    name: str
    parameters: Mapping[str, Any]
    log: logging.Logger
    changed: Callable[[], None]
    apps: Callable[[], Sequence[EntityView]]
    report_fault: Callable[[str, str, bool, str, str], None]
    add_log: Callable[[str, str, str], None]


# What a plugin says exists. Ids: 1 to 256 of letters, digits, `_` and `-`.


@dataclass(frozen=True)
class DataItem:
    """A value that can be read, and written when `writable`. `schema` is the JSON Schema of the value."""

    id: str
    name: str = ""
    category: str = "currentData"
    writable: bool = False
    schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class OperationItem:
    """Something to start that ends within seconds. The schemas are JSON Schema; ids have no slash and no colon."""

    id: str
    name: str = ""
    parameters_schema: Mapping[str, Any] | None = None
    result_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class ConfigurationItem:
    """A setting with its value now."""

    name: str
    value: Json
    description: str = ""
    read_only: bool = False


@dataclass(frozen=True)
class PluginApp:
    """An app, and what it offers. `configurable` says that it has configurations, which are read when asked for."""

    id: str
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    component_id: str = ""
    depends_on: tuple[str, ...] = ()
    is_online: bool = True
    data: tuple[DataItem, ...] = ()
    operations: tuple[OperationItem, ...] = ()
    configurable: bool = False


@dataclass(frozen=True)
class PluginComponent:
    """A piece of hardware."""

    id: str
    name: str = ""
    description: str = ""
    type: str = "Component"
    tags: tuple[str, ...] = ()
    area: str = ""
    parent_component_id: str = ""


@dataclass(frozen=True)
class PluginArea:
    """A region of a machine."""

    id: str
    name: str = ""
    description: str = ""
    parent_area_id: str = ""


@dataclass(frozen=True)
class PluginFunction:
    """A capability and the ids of the apps that host it."""

    id: str
    name: str = ""
    description: str = ""
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entities:
    """All entities of a plugin at one moment. An id that another source has is refused, and that is in `/health`."""

    apps: tuple[PluginApp, ...] = ()
    components: tuple[PluginComponent, ...] = ()
    areas: tuple[PluginArea, ...] = ()
    functions: tuple[PluginFunction, ...] = ()


# What a plugin does


class _Plugin:
    """What both kinds of plugin share. Made in the plugin's thread; raise here or in `start` what keeps it away."""

    api_version: ClassVar[int] = API_VERSION
    parameters: ClassVar[Sequence[PluginParameter]] = ()

    def __init__(self, context: PluginContext) -> None:
        self.context = context

    async def start(self) -> None:
        """Begin; within 5 s. Tasks belong on the running loop."""

    async def stop(self) -> None:
        """Release everything, within half a second. Tasks that are left are cancelled."""

    def problem(self) -> str:
        """What does not work now, in a sentence for `/health`, "" when all is well. Asked often, must not wait."""
        return ""


class EntityPlugin(_Plugin):
    """A source of entities, and what reads and writes their resources. Override what there is."""

    def entities(self) -> Entities:
        """What exists now. Must not wait; asked after `start` and after each `context.changed()`."""
        return Entities()

    async def read_data(self, app_id: str, item_id: str) -> Json:
        """The value of a data item."""
        raise NotFound(f"{app_id} has no data {item_id}")

    async def write_data(self, app_id: str, item_id: str, value: Json) -> None:
        """Set a writable data item. Raises BadValue."""
        raise NotFound(f"{app_id} has no data {item_id} that can be written")

    async def run_operation(self, app_id: str, operation_id: str, parameters: Mapping[str, Any]) -> Mapping[str, Any]:
        """Do it and give the result, within `service_call_timeout_sec`. Raises BadValue, Unavailable."""
        raise NotFound(f"{app_id} has no operation {operation_id}")

    async def read_configurations(self, app_id: str) -> Sequence[ConfigurationItem]:
        """All settings of an app."""
        return ()

    async def write_configuration(self, app_id: str, name: str, value: Json) -> None:
        """Change a setting. Raises BadValue, NotFound."""
        raise NotFound(f"{app_id} has no configuration {name}")

    async def reset_configuration(self, app_id: str, name: str) -> None:
        """Put a setting back to its default."""
        raise NotFound(f"{app_id} has no configuration {name}")


class RoutesPlugin(_Plugin):
    """Routes of a vendor's own: `router` is a fastapi.APIRouter, whose paths are relative to `/api/v1`.

    Every path has a segment that begins with `x-`, as in `/x-acme/inventory` or `/apps/{app_id}/x-acme`: all others
    belong to the standard. Requests and answers are handed over whole, at most 1 MiB each, within 10 s.
    """

    def router(self) -> Any:
        """The routes; asked once, after `start`."""
        raise NotImplementedError
