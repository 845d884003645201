"""The four kinds of entity as frozen values (API.md §3), and what a ROS node offers.

Nothing here knows HTTP, ROS or time. `""` and `()` stand for "not given"; whoever writes JSON omits them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any


class Kind(str, Enum):
    """A kind of entity; the value is its collection in the URL."""

    AREA = "areas"
    COMPONENT = "components"
    APP = "apps"
    FUNCTION = "functions"

    @property
    def type(self) -> str:
        """`area`, `component`, `app`, `function`: the `type` member of list items."""
        return self.value[:-1]

    @property
    def label(self) -> str:
        """`Area`, `Component`, `App`, `Function`: as error messages spell it (API.md §1.5)."""
        return self.value[:-1].capitalize()


@dataclass(frozen=True, slots=True)
class TopicUse:
    """A topic that a node publishes, subscribes to, or both. `type` is `pkg/msg/Type`, "" while unknown."""

    name: str
    type: str
    direction: str  # publish | subscribe | both


@dataclass(frozen=True, slots=True)
class ServiceUse:
    """A service that a node serves; `name` is the full ROS name, `type` `pkg/srv/Type`."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class ActionUse:
    """An action that a node serves; `name` is the full ROS name, `type` `pkg/action/Type`."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class GraphNode:
    """One node of the ROS graph as a scan saw it.

    `graph_key` tells the same node seen from two gateways (AGGREGATION.md §2): a hash over ROS domain, FQN and
    the GID of one of its endpoints; "" when no endpoint is known, and then it equals nothing.
    """

    name: str
    namespace: str
    topics: tuple[TopicUse, ...] = ()
    services: tuple[ServiceUse, ...] = ()
    actions: tuple[ActionUse, ...] = ()
    graph_key: str = ""

    @property
    def fqn(self) -> str:
        """Fully qualified name, `/ns/name`."""
        return f"{self.namespace.rstrip('/')}/{self.name}"


@dataclass(frozen=True, slots=True)
class Area:
    """A logical region of a machine; only a manifest (or a peer) declares one."""

    id: str
    name: str = ""
    namespace: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    translation_id: str = ""
    parent_area_id: str = ""
    source: str = "manifest"
    contributors: tuple[str, ...] = ()

    kind = Kind.AREA


@dataclass(frozen=True, slots=True)
class Component:
    """A piece of hardware: the host, an ECU, a sensor."""

    id: str
    name: str = ""
    type: str = "Component"
    namespace: str = ""
    fqn: str = ""
    area: str = ""
    description: str = ""
    variant: str = ""
    tags: tuple[str, ...] = ()
    translation_id: str = ""
    parent_component_id: str = ""
    depends_on: tuple[str, ...] = ()
    identity: Mapping[str, Any] = field(default_factory=dict)
    external: bool = False
    available: bool = True
    source: str = "runtime"
    contributors: tuple[str, ...] = ()

    kind = Kind.COMPONENT


@dataclass(frozen=True, slots=True)
class App:
    """A ROS node (or something that acts as one).

    `fqn` is the bound node; of a declared app that is not bound the node that its binding names without doubt, so that
    its logs, faults and parameters are found; else "".
    """

    id: str
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    translation_id: str = ""
    component_id: str = ""
    depends_on: tuple[str, ...] = ()
    fqn: str = ""
    is_online: bool = True
    external: bool = False
    available: bool = True
    source: str = "heuristic"
    graph_key: str = ""
    topics: tuple[TopicUse, ...] = ()
    services: tuple[ServiceUse, ...] = ()
    actions: tuple[ActionUse, ...] = ()
    contributors: tuple[str, ...] = ()
    # Who reads and writes its resources, where that is not the ROS graph; of our own apps only.
    plugin: str = ""

    kind = Kind.APP


@dataclass(frozen=True, slots=True)
class Function:
    """A capability and the apps that host it."""

    id: str
    name: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    translation_id: str = ""
    hosts: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    source: str = "runtime"
    contributors: tuple[str, ...] = ()

    kind = Kind.FUNCTION


Entity = Area | Component | App | Function
