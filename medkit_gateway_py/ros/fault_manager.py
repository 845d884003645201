"""The services and the event topic of a fault manager node (API.md §7.1). What is in their messages is not known here.

The package of their types, `ros2_medkit_msgs`, need not be installed: `interfaces` says whether it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from ..entities.model import GraphNode
from . import messages
from .bridge import RosBridge
from .services import NoAnswer, NoServer, NotSent, ServiceCaller

__all__ = ["FaultManagerLink", "Interfaces", "NoAnswer", "NoServer", "NotSent", "find_interfaces", "is_present"]

PACKAGE = "ros2_medkit_msgs"
SERVICES = {
    "report_fault": "ReportFault",
    "list_faults": "ListFaults",
    "get_fault": "GetFault",
    "clear_fault": "ClearFault",
}
EVENTS = "events"
QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
ROS_LIMIT_S = 2.0

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Interfaces:
    """Classes of the services by their names below the node, and that of the events."""

    services: Mapping[str, Any]
    event: Any


def find_interfaces() -> Interfaces | None:
    """The installed types, None when the package (or one of the types) is not there."""
    try:
        return Interfaces(
            {name: messages.load(f"{PACKAGE}/srv/{kind}") for name, kind in SERVICES.items()},
            messages.load(f"{PACKAGE}/msg/FaultEvent"),
        )
    except messages.UnknownType as error:
        _LOG.debug("no fault manager can be used: %s", error)
        return None


def base_name(namespace: str) -> str:
    """What the names of services and topics begin with: namespace "" gives `/fault_manager`."""
    parts = [part for part in namespace.split("/") if part]
    return "/" + "/".join([*parts, "fault_manager"])


def is_present(nodes: Iterable[GraphNode], namespace: str) -> bool:
    """Whether all services that are needed are in the graph."""
    served = {use.name for node in nodes for use in node.services}
    return all(f"{base_name(namespace)}/{name}" in served for name in SERVICES)


class FaultManagerLink:
    """Calls one fault manager and hears its events; runs on the asyncio loop.

    :param timeout_s: of one call, waiting for the service included.
    """

    def __init__(
        self, bridge: RosBridge, services: ServiceCaller, interfaces: Interfaces, namespace: str, timeout_s: float
    ) -> None:
        self._bridge, self._services, self._interfaces = bridge, services, interfaces
        self._base, self._timeout_s = base_name(namespace), timeout_s
        self._handle: Any = None

    async def call(self, name: str, **fields: Any) -> Any:
        """Call one of SERVICES with these fields of its request; its response.

        :raises NoServer, NoAnswer, NotSent: as `ServiceCaller.request`.
        """
        service_class = self._interfaces.services[name]
        request = service_class.Request()
        for field, value in fields.items():
            setattr(request, field, value)
        return await self._services.request(f"{self._base}/{name}", PACKAGE, service_class, request, self._timeout_s)

    async def listen(self, heard: Callable[[Any], None]) -> None:
        """Have `heard` called in the ros thread with every event from now on. Raises what rclpy raises."""
        await self._bridge.call(lambda: self._subscribe(heard), ROS_LIMIT_S)

    async def stop(self) -> None:
        """Hear no more, some time soon."""
        self._bridge.post(self._unsubscribe)

    def _subscribe(self, heard: Callable[[Any], None]) -> None:
        topic = f"{self._base}/{EVENTS}"
        self._handle = self._bridge.node.create_subscription(self._interfaces.event, topic, heard, QOS)
        self._bridge.mark_on_demand(topic, True)

    def _unsubscribe(self) -> None:
        if self._handle is not None:
            handle, self._handle = self._handle, None
            self._bridge.node.destroy_subscription(handle)
            self._bridge.mark_on_demand(f"{self._base}/{EVENTS}", False)
