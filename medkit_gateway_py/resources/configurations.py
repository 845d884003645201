"""The configurations collection of local entities: ROS parameters listed, read, set and reset (API.md §6).

Knows nothing of HTTP or of peers. What a reset restores is the first value of a parameter that was seen here.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from ..entities.model import App, Kind
from ..entities.tree import EntityTree
from ..errors import GatewayError
from ..ros.parameter_values import (
    NOT_SET,
    NodeUnavailable,
    Parameter,
    ParameterError,
    UnknownParameter,
    Value,
    WrongType,
    convert,
    infer,
)
from .plugin_parameters import OBJECT, WithPlugins, key_of

if TYPE_CHECKING:
    from .plugins import Plugins

MAX_REMEMBERED_NODES = 2048

Json = dict[str, Any]


class ParameterSource(Protocol):
    """What `ros/node_parameters.py` gives."""

    async def read_all(self, fqn: str, within_s: float | None = None) -> list[Parameter]:
        """All parameters of a node."""

    async def read(self, fqn: str, name: str) -> Parameter:
        """One of them; raises UnknownParameter."""

    async def write(self, fqn: str, values: Sequence[tuple[str, Value]]) -> list[str]:
        """Set some; reasons of refusal, "" for those that were set."""


class Refused(ParameterError):
    """The node did not take a value; `read_only` because it takes none for this parameter."""

    def __init__(self, reason: str, read_only: bool) -> None:
        super().__init__(reason)
        self.read_only = read_only


class NothingRemembered(ParameterError):
    """No value of the parameter has been seen, so there is nothing to restore."""


@dataclass(frozen=True)
class Found:
    """A parameter and the app whose it is."""

    app: App
    parameter: Parameter


@dataclass
class Listing:
    """What the nodes of some apps have, in the order of the apps; `errors` by FQN of those that gave nothing."""

    found: list[Found] = field(default_factory=list)
    answered: list[str] = field(default_factory=list)
    errors: dict[str, Exception] = field(default_factory=dict)


@dataclass(frozen=True)
class Reset:
    """What became of one node when all its parameters were reset; `error` "" when all went well."""

    app: App
    count: int = 0
    failed: Mapping[str, str] = field(default_factory=dict)
    error: str = ""


def members_with_nodes(tree: EntityTree, kind: Kind, entity_id: str) -> list[App]:
    """The apps whose parameters an entity has; of an area those of its own components only (API.md §6.1)."""
    if kind is Kind.AREA:
        components = tree.components_by_area.get(entity_id, ())
        return [app for component in components for app in tree.apps_by_component.get(component.id, ())]
    return list(tree.members(kind, entity_id))


def parameter_json(parameter: Parameter) -> Json:
    """`{name, value, type, description?, read_only?}`."""
    found: Json = {"name": parameter.name, "value": parameter.value.value, "type": parameter.value.type}
    if parameter.description:
        found["description"] = parameter.description
    if parameter.read_only is not None:
        found["read_only"] = parameter.read_only
    return found


class ConfigurationService:
    """Parameters of apps that are nodes of our own graph, or that a plugin has."""

    def __init__(self, source: ParameterSource, plugins: Plugins | None = None) -> None:
        self._plugins = WithPlugins(source, plugins) if plugins is not None else None
        self._source: ParameterSource = self._plugins or source
        self._first: OrderedDict[str, dict[str, Value]] = OrderedDict()  # by FQN, least recently used first

    async def listing(self, apps: Sequence[App], within_s: float | None = None) -> Listing:
        """The parameters of all `apps`, asked at once. Never raises for what a node does."""
        listing = Listing()
        answers = await asyncio.gather(
            *(self._source.read_all(key_of(app), within_s) for app in apps), return_exceptions=True
        )
        for app, answer in zip(apps, answers, strict=True):
            if isinstance(answer, BaseException):
                if not isinstance(answer, (ParameterError, GatewayError)):
                    raise answer
                listing.errors[key_of(app)] = answer
                continue
            listing.answered.append(key_of(app))
            for parameter in answer:
                self._remember(key_of(app), parameter)
                listing.found.append(Found(app, parameter))
        return listing

    async def read(self, apps: Sequence[App], name: str) -> Found:
        """The parameter of the first of `apps` that has it, all asked at once.

        :raises UnknownParameter: all answered, and none has it.
        :raises ParameterError, GatewayError: somebody who may have it did not answer.
        """
        answers = await asyncio.gather(*(self._source.read(key_of(app), name) for app in apps), return_exceptions=True)
        problem: BaseException | None = None
        for app, answer in zip(apps, answers, strict=True):
            if not isinstance(answer, BaseException):
                self._remember(key_of(app), answer)
                return Found(app, answer)
            if not isinstance(answer, UnknownParameter) or problem is None:
                problem = answer
        raise problem or UnknownParameter(f"no node has a parameter {name}")

    async def write(self, app: App, name: str, given: Any) -> Found:
        """Set a parameter to a JSON value; its type now is the hint (API.md §6.4).

        What cannot be made that type is sent as what it looks like, so that the node itself says why not.

        :raises WrongType: no parameter looks like this.
        :raises Refused: the node's reason.
        """
        try:
            current = await self._source.read(key_of(app), name)
        except UnknownParameter:
            current = Parameter(name, Value(NOT_SET, None))
        if app.plugin:
            # It judges itself; what it has may be no ROS parameter.
            value = Value(OBJECT, given)
        else:
            value = _fitting(given, current.value.type)
        await self._set(app, current, value)
        self._remember(key_of(app), current)
        return Found(app, Parameter(name, value, current.description, current.read_only))

    async def reset(self, app: App, name: str) -> None:
        """Restore the first value seen, or have a plugin do it. Raises NothingRemembered, and the errors of `write`."""
        if app.plugin and self._plugins is not None:
            return await self._plugins.reset(app.id, name)
        first = self._first.get(key_of(app), {}).get(name)
        if first is None:
            raise NothingRemembered(f"No value of {name} is known from before")
        await self._set(app, await self._source.read(key_of(app), name), first)

    async def reset_all(self, apps: Sequence[App]) -> list[Reset]:
        """Restore the first values seen of all parameters that have others now, on all `apps` at once."""
        return list(await asyncio.gather(*(self._reset_node(app) for app in apps)))

    async def _reset_node(self, app: App) -> Reset:
        if app.plugin:
            return await self._reset_plugin(app)
        try:
            now = await self._source.read_all(key_of(app))
            first = self._first.get(key_of(app), {})
            changed = [(one.name, first[one.name]) for one in now if first.get(one.name, one.value) != one.value]
            for one in now:
                self._remember(key_of(app), one)
            reasons = await self._source.write(key_of(app), changed) if changed else []
        except (ParameterError, GatewayError) as error:
            return Reset(app, error=str(error))
        failed = {name: reason for (name, _), reason in zip(changed, reasons, strict=True) if reason}
        said = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        return Reset(app, len(changed) - len(failed), failed, said)

    async def _reset_plugin(self, app: App) -> Reset:
        failed: dict[str, str] = {}
        count = 0
        try:
            for one in await self._source.read_all(app.id):
                if one.read_only:
                    continue
                try:
                    await self.reset(app, one.name)
                    count += 1
                except ParameterError as error:
                    failed[one.name] = str(error)
        except (ParameterError, GatewayError) as error:
            return Reset(app, count, failed, error=str(error))
        return Reset(app, count, failed, "; ".join(f"{name}: {reason}" for name, reason in failed.items()))

    async def _set(self, app: App, current: Parameter, value: Value) -> None:
        reason = (await self._source.write(key_of(app), [(current.name, value)]))[0]
        if reason:
            raise Refused(reason, bool(current.read_only) or "read-only" in reason or "read only" in reason)

    def _remember(self, fqn: str, parameter: Parameter) -> None:
        if parameter.value.type == NOT_SET:
            return
        self._first.setdefault(fqn, {}).setdefault(parameter.name, parameter.value)
        self._first.move_to_end(fqn)
        while len(self._first) > MAX_REMEMBERED_NODES:
            self._first.popitem(last=False)


def _fitting(given: Any, hint: str) -> Value:
    try:
        return convert(given, hint)
    except WrongType as problem:
        try:
            return infer(given)
        except WrongType:
            raise problem from None


def is_unavailable(error: BaseException) -> bool:
    """Whether the node could not be reached, or the ROS side could not ask it."""
    return isinstance(error, NodeUnavailable) or (isinstance(error, GatewayError) and error.status == 503)
