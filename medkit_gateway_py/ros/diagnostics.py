"""Statuses of all nodes, as they come on `/diagnostics`. What they mean is not known here.

A robot can publish a thousand statuses a second: each message is deserialised once, and whoever listens decides in the
ros thread what is new about it, so that the others never leave it.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message

from . import messages
from .bridge import RosBridge

TYPE = "diagnostic_msgs/msg/DiagnosticArray"
# A second of a thousand messages: the ros thread may be held up that long without losing one.
QOS = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.VOLATILE)
# A status of a thousand characters takes 2 us to deserialise; 1 MiB holds the ros thread for 20 ms.
MAX_MESSAGE_BYTES = 1024 * 1024
ROS_LIMIT_S = 2.0

_LOG = logging.getLogger(__name__)

Heard = Callable[[Any, str], None]


class Diagnostics:
    """One subscription a topic; `heard(status, topic)` is called in the ros thread for every status."""

    def __init__(self, bridge: RosBridge, topics: Sequence[str], heard: Heard) -> None:
        self._bridge, self._topics, self._heard = bridge, tuple(dict.fromkeys(topics)), heard
        self._handles: list[tuple[str, Any]] = []
        self._class: Any = None
        self.problem = ""
        self.messages = self.unreadable = 0
        self._complained = False

    async def start(self) -> None:
        """Subscribe. What cannot be subscribed to is told in `problem`, and everything else works."""
        try:
            await self._bridge.call(self._subscribe, ROS_LIMIT_S)
        except Exception as error:  # rclpy raises RCLError, InvalidTopicNameException, ...
            self.problem = f"cannot subscribe: {error}"
            _LOG.warning("no faults from diagnostics: %s", self.problem)

    async def stop(self) -> None:
        """Unsubscribe, some time soon."""
        self._bridge.post(self._unsubscribe)

    def _subscribe(self) -> None:
        self._class = messages.load(TYPE)
        for topic in self._topics:
            heard = functools.partial(self._take, topic)
            handle = self._bridge.node.create_subscription(self._class, topic, heard, QOS, raw=True)
            self._bridge.mark_on_demand(topic, True)  # not what the gateway's node is about
            self._handles.append((topic, handle))

    def _unsubscribe(self) -> None:
        while self._handles:
            topic, handle = self._handles.pop()
            self._bridge.node.destroy_subscription(handle)
            self._bridge.mark_on_demand(topic, False)

    def _take(self, topic: str, serialised: bytes) -> None:
        self.messages += 1
        if len(serialised) > MAX_MESSAGE_BYTES:
            self._skip(topic, f"a message of {len(serialised)} bytes, more than {MAX_MESSAGE_BYTES}")
            return
        try:
            array = deserialize_message(serialised, self._class)
        except Exception as error:  # a publisher with another definition of the type
            self._skip(topic, f"a message that cannot be read: {error}")
            return
        for status in array.status:
            try:
                self._heard(status, topic)
            except Exception as error:  # one odd status must not hide the others
                self._skip(topic, f"a status that cannot be used: {type(error).__name__}: {error}")

    def _skip(self, topic: str, reason: str) -> None:
        self.unreadable += 1
        if not self._complained:
            self._complained = True
            _LOG.warning("%s: skipped %s; said once", topic, reason)
