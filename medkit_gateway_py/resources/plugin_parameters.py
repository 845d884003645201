"""Settings of plugins' apps beside the parameters of nodes, behind one `ParameterSource`.

A key that begins with a slash is the FQN of a node; any other is the id of a plugin's app.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import anyio

from ..entities.model import App
from ..errors import GatewayError, InvalidParameter, NotResponding, ResourceNotFound
from ..plugins.api import ConfigurationItem
from ..ros.parameter_values import NodeFailed, NodeUnavailable, Parameter, UnknownParameter, Value, WrongType, infer

if TYPE_CHECKING:
    from .configurations import ParameterSource
    from .plugins import Plugins

# The type of a value that no ROS parameter could have, as an object.
OBJECT = "object"


def key_of(app: App) -> str:
    """What a source knows the app by."""
    return app.fqn or app.id


class WithPlugins:
    """The parameters of nodes from `ros`, the settings of plugins' apps from `plugins`."""

    def __init__(self, ros: ParameterSource, plugins: Plugins) -> None:
        self._ros, self._plugins = ros, plugins

    async def read_all(self, key: str, within_s: float | None = None) -> list[Parameter]:
        """All parameters or settings."""
        if key.startswith("/"):
            return await self._ros.read_all(key, within_s)
        try:
            with anyio.fail_after(within_s):
                return [_parameter(item) for item in await self._plugins.read_configurations(key)]
        except TimeoutError:
            raise NodeUnavailable(f"{key} did not answer in time") from None
        except GatewayError as error:
            raise _problem(error) from error

    async def read(self, key: str, name: str) -> Parameter:
        """One of them; raises UnknownParameter."""
        if key.startswith("/"):
            return await self._ros.read(key, name)
        for found in await self.read_all(key):
            if found.name == name:
                return found
        raise UnknownParameter(f"{key} has no configuration {name}")

    async def write(self, key: str, values: Sequence[tuple[str, Value]]) -> list[str]:
        """Set some; reasons of refusal, "" for those that were set."""
        if key.startswith("/"):
            return await self._ros.write(key, values)
        return [await self._write(key, name, value.value) for name, value in values]

    async def _write(self, key: str, name: str, value: Any) -> str:
        try:
            await self._plugins.write_configuration(key, name, value)
        except InvalidParameter as error:
            return error.message
        except GatewayError as error:
            raise _problem(error) from error
        return ""

    async def reset(self, key: str, name: str) -> None:
        """Put a setting of a plugin's app back."""
        try:
            await self._plugins.reset_configuration(key, name)
        except GatewayError as error:
            raise _problem(error) from error


def _problem(error: GatewayError) -> Exception:
    """An error of a plugin as one of a node, so that both are answered alike."""
    if isinstance(error, ResourceNotFound):
        return UnknownParameter(error.message)
    if error.status == 503 or isinstance(error, NotResponding) or error.status == 504:
        return NodeUnavailable(error.message)
    return NodeFailed(error.message)


def _parameter(item: ConfigurationItem) -> Parameter:
    try:
        kind = infer(item.value).type
    except WrongType:
        kind = OBJECT
    return Parameter(item.name, Value(kind, item.value), item.description or None, item.read_only)
