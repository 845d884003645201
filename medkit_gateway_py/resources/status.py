"""Whether an app or a component is ready (API.md §10.8)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ..entities.model import App, Component, Kind
from ..entities.tree import EntityTree

READY, NOT_READY = "ready", "notReady"
ACTIVE = "active"


def is_lifecycle(app: App) -> bool:
    """Whether the node has both services of a lifecycle node."""
    names = {use.name for use in app.services}
    return bool(app.fqn) and {f"{app.fqn}/get_state", f"{app.fqn}/change_state"} <= names


class StatusService:
    """`state(fqn)` gives a lifecycle node's state, "" when it is not known: such a node is not ready."""

    def __init__(self, state: Callable[[str], Awaitable[str]]) -> None:
        self._state = state

    async def of_app(self, app: App) -> str:
        """Of an app that is a node of our own graph."""
        if not app.is_online:
            return NOT_READY
        if is_lifecycle(app):
            return READY if await self._state(app.fqn) == ACTIVE else NOT_READY
        return READY

    def of_component(self, tree: EntityTree, component: Component) -> str:
        """The host is ready, it answers; so is what has no apps; others with one app that is online."""
        apps = tree.members(Kind.COMPONENT, component.id)
        is_ready = component.source == "runtime" or not apps or any(app.is_online for app in apps)
        return READY if is_ready else NOT_READY
