"""The interface of an entity provider: a source of local entities, found by entry point.

Group `medkit_gateway_py.entity_provider`; the entry point names a callable that takes a `ProviderContext` and
returns an `EntityProvider`. A provider that raises is logged with its name, marked in `/health`, and hurts nothing
else (ARCHITECTURE.md, Plugins).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from ..entities.manifest import Manifest
from ..entities.model import Component, GraphNode

ENTRY_POINT_GROUP = "medkit_gateway_py.entity_provider"


@dataclass(frozen=True)
class Contribution:
    """What a provider adds to the local tree at one moment: nodes (they become apps), and finished components.

    `manifest` is what people declare; the first one counts. `problem` is what is wrong with the source although this
    can be used: it is told in `/health`.
    """

    nodes: tuple[GraphNode, ...] = ()
    components: tuple[Component, ...] = ()
    manifest: Manifest | None = None
    problem: str = ""


class StartRefused(Exception):
    """Raised by a provider's `start` when the gateway must not run without it; the text says why."""


@dataclass(frozen=True)
class ProviderContext:
    """What a provider is given: the frozen configuration and the ROS thread (`ros.bridge.RosBridge`).

    `known_nodes`: FQNs of nodes that the ROS graph had when this gateway ran last; None when it never ran.
    """

    config: Any
    ros: Any
    known_nodes: frozenset[str] | None = None


class EntityProvider(Protocol):
    """A source of local entities. All methods are called on the asyncio loop."""

    name: str

    async def start(self, changed: Callable[[], None]) -> None:
        """Begin to watch; call `changed()` on the loop, as often as wanted, when `contribution()` is different."""

    async def stop(self) -> None:
        """Release everything; called once, with a deadline of one second."""

    def contribution(self) -> Contribution:
        """What exists now. Must not block."""
