"""Which plugins there are, which are wanted, and the values of their parameters.

A plugin that cannot be used is a finding, shown as those of parameters are; it never keeps the gateway from starting.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ..parameters.rules import Finding
from .api import API_VERSION, EntityPlugin, PluginParameter, RoutesPlugin

ENTITY_GROUP = "medkit_gateway_py.entity_provider"
ROUTES_GROUP = "medkit_gateway_py.routes"
PEER_GROUP = "medkit_gateway_py.peer_discovery"
GROUPS: Mapping[str, type | None] = {ENTITY_GROUP: EntityPlugin, ROUTES_GROUP: RoutesPlugin, PEER_GROUP: None}
# Names that are ours; they are always there, and no plugin can take them.
BUILT_IN = frozenset({"host", "manifest", "mdns", "ros_graph", "static"})

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedPlugin:
    """A class that a plugin's entry point names, with the checked values of its parameters."""

    name: str
    group: str
    factory: Any
    parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedPlugins:
    """The plugins that are used. `failed`: why one is not, by name. `declared`: ROS parameters with their values."""

    plugins: tuple[LoadedPlugin, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    declared: Mapping[str, tuple[PluginParameter, Any]] = field(default_factory=dict)

    def of(self, group: str) -> tuple[LoadedPlugin, ...]:
        """Those of one group."""
        return tuple(one for one in self.plugins if one.group == group)


def load_plugins(wanted: Sequence[str], given: Mapping[str, Mapping[str, object]]) -> LoadedPlugins:
    """Load the plugins named in the parameter `plugins`; `given`: overrides of `plugins.<name>.*` by plugin."""
    points: dict[str, list[EntryPoint]] = {}
    for group in GROUPS:
        for point in entry_points(group=group):
            points.setdefault(point.name, []).append(point)
    found: list[LoadedPlugin] = []
    failed: dict[str, str] = {}
    findings: list[Finding] = []
    declared: dict[str, tuple[PluginParameter, Any]] = {}
    for name in dict.fromkeys(wanted):
        try:
            loaded = _load(name, points.get(name, []))
        except _Unusable as reason:
            failed[name] = str(reason)
            findings.append(Finding("ERROR", "plugins", name, f"Plugin '{name}' is not used: {reason}"))
            continue
        specs = {spec.name: spec for one in loaded for spec in getattr(one.factory, "parameters", ())}
        values, more = check_parameters(name, specs, given.get(name, {}))
        findings += more
        declared.update({f"plugins.{name}.{key}": (specs[key], value) for key, value in values.items()})
        found += [LoadedPlugin(one.name, one.group, one.factory, values) for one in loaded]
    return LoadedPlugins(tuple(found), failed, tuple(findings), declared)


class _Unusable(Exception):
    pass


def _load(name: str, points: Sequence[EntryPoint]) -> list[LoadedPlugin]:
    if name in BUILT_IN:
        raise _Unusable("this name is the gateway's own; what it names is always used")
    if not points:
        installed = sorted({point.name for group in GROUPS for point in entry_points(group=group)} - BUILT_IN)
        raise _Unusable(f"it is not installed here. Installed: {', '.join(installed) or 'none'}")
    loaded = []
    for point in points:
        try:
            factory = point.load()
        except BaseException as error:  # whatever a plugin's module does when it is imported, sys.exit too
            if isinstance(error, KeyboardInterrupt):
                raise
            _log.debug("plugin %s", name, exc_info=True)
            raise _Unusable(f"{point.value} cannot be imported: {type(error).__name__}: {error}") from None
        base = GROUPS[point.group]
        if base is not None:
            if not isinstance(factory, type) or not issubclass(factory, base):
                raise _Unusable(f"{point.value} is no subclass of medkit_gateway_py.plugin.{base.__name__}")
            version = getattr(factory, "api_version", None)
            if version != API_VERSION:
                raise _Unusable(f"it is written for version {version} of the interface, this is {API_VERSION}")
            if not all(isinstance(spec, PluginParameter) for spec in getattr(factory, "parameters", ())):
                raise _Unusable("its `parameters` hold something that is no PluginParameter")
        loaded.append(LoadedPlugin(name, point.group, factory))
    return loaded


def check_parameters(
    plugin: str, specs: Mapping[str, PluginParameter], given: Mapping[str, object]
) -> tuple[dict[str, Any], list[Finding]]:
    """A value for each parameter, and what is wrong with those given. Values may be secrets, so none is shown."""
    findings = [
        Finding("WARN", f"plugins.{plugin}.{name}", "", f"plugins.{plugin}.{name} is no parameter of that plugin.")
        for name in given
        if name not in specs
    ]
    values: dict[str, Any] = {}
    for name, spec in specs.items():
        values[name] = spec.default
        if name not in given:
            continue
        problem, value = _convert(spec, given[name])
        if not problem and spec.check is not None:
            try:
                problem = spec.check(value)
            except Exception as error:  # a plugin may raise anything
                problem = f"its check failed: {type(error).__name__}: {error}"
        if problem:
            text = f"plugins.{plugin}.{name} is not usable ({problem}). Using the default."
            findings.append(Finding("ERROR", f"plugins.{plugin}.{name}", "", text))
        else:
            values[name] = value
    return values, findings


def _convert(spec: PluginParameter, value: object) -> tuple[str, Any]:
    kind = type(spec.default)
    if kind is tuple:
        # `[]` arrives as None: rclpy cannot tell what an empty array is of.
        items = [] if value is None or value == b"" else value
        if isinstance(items, (list, tuple)) and all(isinstance(one, str) for one in items):
            return "", tuple(one for one in items if one)
        return "it must be an array of strings", None
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return "", float(value)
    if type(value) is kind:
        return "", value
    return f"it must be {'an' if kind is int else 'a'} {kind.__name__}", None
