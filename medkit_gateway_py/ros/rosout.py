"""Log lines of all nodes, as they come on `/rosout` (API.md §8.1). What is kept of them is not known here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import Log
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from .bridge import RosBridge

TOPIC = "/rosout"
# Volatile: a line that was logged before the gateway came is not offered by everybody.
QOS = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
ROS_LIMIT_S = 2.0

_LOG = logging.getLogger(__name__)

# Seconds and nanoseconds, level, logger, message, function, file, line.
Heard = Callable[[int, int, int, str, str, str, str, int], None]


class Rosout:
    """One subscription; `heard` is called in the ros thread for every line, and must be quick."""

    def __init__(self, bridge: RosBridge, heard: Heard) -> None:
        self._bridge, self._heard = bridge, heard
        self._subscription: Any = None

    async def start(self) -> None:
        """Subscribe. Without a subscription there are no logs, and everything else works."""
        try:
            await self._bridge.call(self._subscribe, ROS_LIMIT_S)
        except Exception as error:  # rclpy raises RCLError, RMWError, ...
            _LOG.warning("no logs: cannot subscribe to %s: %s", TOPIC, error)

    async def stop(self) -> None:
        """Unsubscribe, some time soon."""
        self._bridge.post(self._unsubscribe)

    def _subscribe(self) -> None:
        self._subscription = self._bridge.node.create_subscription(Log, TOPIC, self._take, QOS)
        self._bridge.mark_on_demand(TOPIC, True)  # not what the gateway's node is about

    def _unsubscribe(self) -> None:
        if self._subscription is not None:
            self._bridge.node.destroy_subscription(self._subscription)
            self._subscription = None
            self._bridge.mark_on_demand(TOPIC, False)

    def _take(self, log: Any) -> None:
        level = log.level if isinstance(log.level, int) else ord(log.level)
        stamp = log.stamp
        self._heard(stamp.sec, stamp.nanosec, level, log.name, log.msg, log.function, log.file, log.line)
