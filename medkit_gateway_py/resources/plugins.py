"""The plugins at work: started, asked, watched and stopped; what they say exists, and their apps' resources.

Runs on the asyncio loop; each plugin is in a thread of its own (`plugin_thread.py`). Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from ..entities.model import App, Kind
from ..entities.tree import EntityTree
from ..errors import (
    GatewayError,
    InvalidParameter,
    PluginFailed,
    ResourceNotFound,
    ServiceUnavailable,
)
from ..plugins.api import (
    BadValue,
    ConfigurationItem,
    DataItem,
    Entities,
    EntityPlugin,
    EntityView,
    NotFound,
    OperationItem,
    PluginApp,
    PluginContext,
    PluginError,
    Unavailable,
)
from ..plugins.loading import ENTITY_GROUP, PEER_GROUP, ROUTES_GROUP, LoadedPlugin, LoadedPlugins
from ..plugins.thread import PluginThread

Json = dict[str, Any]

CALL_S = 5.0  # a read or a write of one item
ENTITIES_S = 2.0
# A plugin that says at every turn that it changed must not keep the gateway busy.
REFRESH_GAP_S = 0.2
WATCH_S = 2.0
MAX_TOLD = 500  # characters of what a plugin says of itself
MAX_VALUE = 1_048_576  # bytes of JSON that one call of a plugin may give

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PluginHooks:
    """What plugins may ask of the gateway; called from any thread, and must return at once."""

    apps: Callable[[], Sequence[EntityView]]
    report_fault: Callable[[str, str, bool, str, str], None]
    add_log: Callable[[str, str, str], None]


class Plugins:
    """All plugins that are used. `said` is what each says exists now, by plugin; `offers` what its apps offer."""

    def __init__(self, loaded: LoadedPlugins, hooks: PluginHooks) -> None:
        self._loaded = loaded
        self._hooks = hooks
        self._threads: dict[tuple[str, str], PluginThread] = {}
        self._refreshing: dict[str, asyncio.Task[None]] = {}
        self._again: set[str] = set()
        self._problems: dict[str, str] = dict(loaded.failed)
        self._refused: Mapping[str, tuple[str, ...]] = {}
        self._told: dict[str, str] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._subscribers: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self.said: dict[str, Entities] = {}
        self.offers: Mapping[str, tuple[str, PluginApp]] = {}

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Call `changed` on the loop whenever `said` is different."""
        self._subscribers.append(changed)

    def place(self, offers: Mapping[str, tuple[str, PluginApp]], refused: Mapping[str, tuple[str, ...]]) -> None:
        """What became of the entities when they were put into the tree."""
        self.offers = offers
        for name, reasons in refused.items():
            if self._refused.get(name) != reasons:
                _log.warning("Plugin '%s': %s", name, "; ".join(reasons[:5]))
        self._refused = refused

    # Life

    async def start(self) -> None:
        """Start all at once; one that cannot is left out."""
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(*(self._start(one) for one in self._loaded.plugins if one.group != PEER_GROUP))
        if self._threads:
            self._watcher = asyncio.create_task(self._watch(), name="plugins")

    async def _start(self, plugin: LoadedPlugin) -> None:
        name = plugin.name
        context = PluginContext(
            name=name,
            parameters=dict(plugin.parameters),
            log=logging.getLogger(f"medkit_gateway_py.plugin.{name}"),
            changed=lambda: self._tell(name),
            apps=self._hooks.apps,
            report_fault=self._hooks.report_fault,
            add_log=self._hooks.add_log,
        )
        thread = PluginThread(name, lambda: plugin.factory(context))
        self._threads[plugin.group, name] = thread
        try:
            await thread.start()
        except (GatewayError, PluginError) as error:
            self._problems[name] = str(error)
            _log.error("Plugin '%s' is not used: %s", name, error)
            del self._threads[plugin.group, name]
            await thread.stop()
            return
        if plugin.group == ENTITY_GROUP:
            await self._refresh(name)

    async def stop(self) -> None:
        """Stop all at once, in a bounded time."""
        for task in (*self._refreshing.values(), self._watcher):
            if task is not None:
                task.cancel()
        await asyncio.gather(*(thread.stop() for thread in self._threads.values()))
        self._threads.clear()

    async def _watch(self) -> None:
        """Ask every plugin what is wrong with it; one that hangs is found here, though nobody calls it."""
        while True:
            await asyncio.sleep(WATCH_S)
            await asyncio.gather(*(self._ask(name, thread) for (_, name), thread in self._threads.items()))

    async def _ask(self, name: str, thread: PluginThread) -> None:
        try:
            told = await thread.call("problem", lambda plugin: plugin.problem(), ENTITIES_S)
        except (GatewayError, PluginError):
            return  # the thread remembers it
        self._told[name] = str(told or "")[:MAX_TOLD]

    def _tell(self, name: str) -> None:
        """From any thread: the plugin's entities may be different."""
        if self._loop is None:
            return
        try:
            self._loop.call_soon_threadsafe(self._schedule, name)
        except RuntimeError:
            _log.debug("the loop is closed, plugin %s has no taker", name)

    def _schedule(self, name: str) -> None:
        running = self._refreshing.get(name)
        if running is not None and not running.done():
            self._again.add(name)
            return
        self._refreshing[name] = asyncio.ensure_future(self._refresh_until_quiet(name))

    async def _refresh_until_quiet(self, name: str) -> None:
        while True:
            self._again.discard(name)
            await self._refresh(name)
            await asyncio.sleep(REFRESH_GAP_S)
            if name not in self._again:
                return

    async def _refresh(self, name: str) -> None:
        thread = self._threads.get((ENTITY_GROUP, name))
        if thread is None:
            return
        try:
            said = await thread.call("entities", _entities, ENTITIES_S)
        except (GatewayError, PluginError) as error:
            # What it said last stays: a plugin's bug must not make its devices vanish.
            self._problems[name] = str(error)
            return
        self._problems.pop(name, None)
        if said != self.said.get(name):
            self.said[name] = said
            for changed in self._subscribers:
                changed()

    # What routes ask

    def app(self, app_id: str) -> PluginApp | None:
        """What the app of a plugin offers, None for other apps."""
        found = self.offers.get(app_id)
        return found[1] if found else None

    def members(self, tree: EntityTree, kind: Kind, entity_id: str) -> list[PluginApp]:
        """The apps of plugins whose resources an entity gathers."""
        if not self.offers:
            return []
        apps: Sequence[App] = tree.members(kind, entity_id)
        return [self.offers[app.id][1] for app in apps if app.id in self.offers]

    def find_data(self, tree: EntityTree, kind: Kind, entity_id: str, data_id: str) -> list[tuple[str, DataItem]]:
        """The data items of plugins that an id means, each with its app; `<app>:<item>` names one app's."""
        member, colon, bare = data_id.strip("/").partition(":")
        wanted, item_id = (member, bare.strip("/")) if colon and kind is not Kind.APP else ("", data_id.strip("/"))
        apps = [app for app in self.members(tree, kind, entity_id) if wanted in ("", app.id)]
        return [(app.id, item) for app in apps for item in app.data if item.id.strip("/") == item_id]

    async def read_data(self, app_id: str, item: DataItem) -> Any:
        """The value of a data item, as JSON."""
        return await self._call(app_id, "read_data", lambda plugin: plugin.read_data(app_id, item.id), CALL_S)

    async def write_data(self, app_id: str, item: DataItem, value: Any) -> None:
        """Set a data item."""
        await self._call(app_id, "write_data", lambda plugin: plugin.write_data(app_id, item.id, value), CALL_S)

    async def run_operation(self, app_id: str, item: OperationItem, parameters: Json, limit_s: float) -> Json:
        """Run an operation to its end; its result."""
        result = await self._call(
            app_id, "run_operation", lambda plugin: plugin.run_operation(app_id, item.id, parameters), limit_s
        )
        if not isinstance(result, dict):
            raise PluginFailed(f"The result of {item.id} is no object", app_id=app_id)
        return result

    async def read_configurations(self, app_id: str) -> list[ConfigurationItem]:
        """All settings of an app, each name once."""
        found = await self._call(
            app_id, "read_configurations", lambda plugin: plugin.read_configurations(app_id), CALL_S, _configurations
        )
        return list({one.name: one for one in found}.values())

    async def write_configuration(self, app_id: str, name: str, value: Any) -> None:
        """Change a setting."""
        await self._call(
            app_id, "write_configuration", lambda plugin: plugin.write_configuration(app_id, name, value), CALL_S
        )

    async def reset_configuration(self, app_id: str, name: str) -> None:
        """Put a setting back to its default."""
        await self._call(app_id, "reset_configuration", lambda plugin: plugin.reset_configuration(app_id, name), CALL_S)

    async def _call(
        self,
        app_id: str,
        what: str,
        work: Callable[[Any], Any],
        limit_s: float,
        clean: Callable[[Any], Any] | None = None,
    ) -> Any:
        offer = self.offers.get(app_id)
        thread = self._threads.get((ENTITY_GROUP, offer[0])) if offer else None
        if thread is None:
            raise ServiceUnavailable("The plugin of this app is not running", app_id=app_id)
        make = clean or as_json

        async def in_plugin(plugin: EntityPlugin) -> Any:
            return make(await work(plugin))

        try:
            return await thread.call(what, in_plugin, limit_s)
        except PluginError as error:
            raise _answer(error, app_id) from None

    # Routes of plugins

    async def routers(self) -> dict[str, tuple[PluginThread, Any]]:
        """The router of each routes plugin that gives one."""
        found: dict[str, tuple[PluginThread, Any]] = {}
        for (group, name), thread in self._threads.items():
            if group != ROUTES_GROUP:
                continue
            try:
                found[name] = (thread, await thread.call("router", lambda plugin: plugin.router(), CALL_S))
            except (GatewayError, PluginError) as error:
                self._problems[name] = str(error)
        return found

    def refuse(self, name: str, reason: str) -> None:
        """A plugin gave something that cannot be used."""
        self._problems[name] = reason
        _log.error("Plugin '%s': %s", name, reason)

    def health(self) -> Json:
        """The block of `/health` (DECISIONS 25): each plugin with its state, and why."""
        names = dict.fromkeys([*(one.name for one in self._loaded.plugins), *self._loaded.failed])
        plugins = [self._state(name) for name in names]
        bad = [one["name"] for one in plugins if one["state"] != "ok"]
        block: Json = {"state": "degraded" if bad else ("ok" if plugins else "off"), "plugins": plugins}
        if bad:
            block["reason"] = f"not all well with {', '.join(bad)}"
        return block

    def _state(self, name: str) -> Json:
        threads = [thread for (_, owner), thread in self._threads.items() if owner == name]
        reasons = [self._problems[name]] if name in self._problems else []
        reasons += [thread.problem for thread in threads if thread.problem and thread.problem not in reasons]
        if self._told.get(name):
            reasons.append(self._told[name])
        reasons += self._refused.get(name, ())[:5]
        if not reasons:
            return {"name": name, "state": "ok"}
        return {"name": name, "state": "degraded" if threads else "down", "reason": "; ".join(reasons)}


def no_plugins() -> Plugins:
    """What a gateway without plugins has."""
    return Plugins(LoadedPlugins(), PluginHooks(lambda: (), lambda *_: None, lambda *_: None))


def as_json(value: Any) -> Any:
    """A value of a plugin as JSON of a bounded size; NaN and infinity become null (DECISIONS 4)."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError as error:
        raise ValueError(f"it gave what JSON cannot say: {error}") from None
    if len(text) > MAX_VALUE:
        raise ValueError(f"it gave {len(text)} bytes, at most {MAX_VALUE} are taken")
    return orjson.loads(text)


def _entities(plugin: EntityPlugin) -> Entities:
    said = plugin.entities()
    if not isinstance(said, Entities):
        raise TypeError(f"entities() gave a {type(said).__name__}")
    return said


def _configurations(found: Any) -> list[ConfigurationItem]:
    items = list(found)
    for item in items:
        if not isinstance(item, ConfigurationItem) or not isinstance(item.name, str) or not item.name:
            raise TypeError("read_configurations() gave something that is no ConfigurationItem")
    return [
        ConfigurationItem(item.name, as_json(item.value), str(item.description), bool(item.read_only)) for item in items
    ]


def _answer(error: PluginError, app_id: str) -> GatewayError:
    text = str(error) or type(error).__name__
    if isinstance(error, NotFound):
        return ResourceNotFound(text, app_id=app_id)
    if isinstance(error, BadValue):
        return InvalidParameter(text, app_id=app_id)
    if isinstance(error, Unavailable):
        return ServiceUnavailable(text, app_id=app_id)
    return PluginFailed(text, app_id=app_id)
