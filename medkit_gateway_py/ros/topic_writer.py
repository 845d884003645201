"""Writing topics: strict conversion, then a publisher that stays (API.md §4.3, DECISIONS 2, 6).

Publishers are reliable and transient local with depth 10: every subscription that ROS lets match gets the message,
and one that comes later gets it, too, as long as this publisher is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks
from rclpy.exceptions import InvalidTopicNameException
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.validate_full_topic_name import validate_full_topic_name

from ..errors import GatewayError, GatewayShutdown, InvalidParameter, PublishFailed
from . import messages
from .bridge import RosBridge
from .jobs import tell

MAX_PUBLISHERS = 64  # a client that writes to ever new topics must not fill the graph
MATCH_LIMIT_S = 0.5  # a new publisher and a known subscription match at once; over a network it takes longer
# The subscription's side matches a little later than ours, and best effort is not sent again: without this pause
# 2 to 3 of 60 first messages were lost, with it none of 120, idle or loaded.
SETTLE_S = 0.05
ROS_LIMIT_S = 2.0


class TopicWriter:
    """Publishes single messages; keeps the `max_publishers` last used publishers. Runs on the asyncio loop."""

    def __init__(self, bridge: RosBridge, max_publishers: int = MAX_PUBLISHERS) -> None:
        self._bridge, self._max_publishers = bridge, max_publishers
        self._outlets: OrderedDict[tuple[str, str], asyncio.Task[_Outlet]] = OrderedDict()  # least recently used first
        self._stopped = False

    async def publish(self, topic: str, type_name: str, payload: object) -> None:
        """Publish `payload` as one message of `pkg/msg/Type` on `topic`, a full name, which need not exist yet.

        :raises InvalidParameter: `topic` is no topic name.
        :raises messages.UnknownType: the type is not installed.
        :raises messages.FieldError: the payload does not fit the type; or, with the path "type", other nodes use
            the topic with another type, and nobody would get the message.
        :raises PublishFailed: ROS refused, or does not answer.
        :raises GatewayShutdown: stopping.
        """
        if self._stopped:
            raise GatewayShutdown("The gateway is shutting down")
        _check_topic_name(topic)
        if type_name.split("/")[1:2] != ["msg"]:
            raise messages.UnknownType(type_name, "not of the form package/msg/Type")
        message = messages.from_json(messages.load(type_name), payload)
        outlet = await self._outlet(topic, type_name)
        await self._in_ros(topic, lambda: outlet.publisher.publish(message))

    async def stop(self) -> None:
        """Take no more; the publishers go with the node."""
        self._stopped = True
        for opening in self._outlets.values():
            opening.cancel()
        self._outlets.clear()

    async def _outlet(self, topic: str, type_name: str) -> _Outlet:
        """The publisher of this topic and type; concurrent writers share its making."""
        key = (topic, type_name)
        opening = self._outlets.get(key)
        if opening is None:
            opening = self._outlets[key] = asyncio.ensure_future(self._open(topic, type_name))
            self._make_room()
        self._outlets.move_to_end(key)
        try:
            return await asyncio.shield(opening)
        except GatewayError:
            self._forget(key, opening)
            raise
        except messages.FieldError:
            self._forget(key, opening)
            raise

    def _forget(self, key: tuple[str, str], opening: asyncio.Task[_Outlet]) -> None:
        if self._outlets.get(key) is opening:
            del self._outlets[key]

    def _make_room(self) -> None:
        while len(self._outlets) > self._max_publishers:
            self._close(next(iter(self._outlets)))

    def _close(self, key: tuple[str, str]) -> None:
        """Destroy a publisher as soon as it has been made."""

        def destroy(opened: asyncio.Task[_Outlet]) -> None:
            if not opened.cancelled() and opened.exception() is None:
                self._bridge.post(lambda: opened.result().close(self._bridge.node))

        self._outlets.pop(key).add_done_callback(destroy)

    async def _open(self, topic: str, type_name: str) -> _Outlet:
        outlet = _Outlet(topic, type_name, asyncio.get_running_loop())
        await self._give_up_other_type(topic, type_name)
        await self._in_ros(topic, lambda: outlet.open(self._bridge.node))
        await outlet.matched()
        return outlet

    async def _give_up_other_type(self, topic: str, type_name: str) -> None:
        """Destroy our own publisher of another type on this topic: the middleware refuses a second one beside it.

        In a task of its own, because an EventsExecutor lets go of a publisher only after the task that destroyed it.
        """
        for key, opening in list(self._outlets.items()):
            if key[0] == topic and key[1] != type_name and opening.done():
                del self._outlets[key]
                if not opening.cancelled() and opening.exception() is None:
                    outlet = opening.result()
                    await self._in_ros(topic, lambda outlet=outlet: outlet.close(self._bridge.node))

    async def _in_ros(self, topic: str, function: Any) -> Any:
        try:
            return await self._bridge.call(function, ROS_LIMIT_S)
        except (GatewayError, messages.FieldError):
            raise
        except Exception as error:  # rclpy raises RCLError, RMWError, TimeoutError, InvalidHandle, ...
            raise PublishFailed(
                "Failed to publish to topic", topic_name=topic, details=f"{type(error).__name__}: {error}"
            ) from error


class _Outlet:
    """A publisher, and the knowledge whether the subscriptions that were there first have matched it."""

    def __init__(self, topic: str, type_name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.publisher: Any = None
        self._topic, self._type_name, self._loop = topic, type_name, loop
        self._wanted = 0  # subscriptions that were there when the publisher was made
        self._best_effort = False
        self._matches = 0
        self._all_matched: asyncio.Future[None] = loop.create_future()

    def open(self, node: Any) -> None:
        """In the ros thread: check the type against what others use, make the publisher."""
        own = node.get_fully_qualified_name()
        readers = list(node.get_subscriptions_info_by_topic(self._topic))
        others = [
            info.topic_type
            for info in [*node.get_publishers_info_by_topic(self._topic), *readers]
            if f"{info.node_namespace.rstrip('/')}/{info.node_name}" != own
        ]
        if others and self._type_name not in others:
            raise messages.FieldError("type", f"the topic {self._topic} carries {', '.join(sorted(set(others)))}")
        matching = [info for info in readers if info.topic_type == self._type_name]
        self._wanted = len(matching)
        self._best_effort = any(info.qos_profile.reliability != ReliabilityPolicy.RELIABLE for info in matching)
        self.publisher = node.create_publisher(
            messages.load(self._type_name),
            self._topic,
            QoSProfile(
                history=HistoryPolicy.KEEP_LAST,
                depth=10,
                reliability=ReliabilityPolicy.RELIABLE,
                durability=DurabilityPolicy.TRANSIENT_LOCAL,
            ),
            event_callbacks=PublisherEventCallbacks(matched=self._count),
        )

    def close(self, node: Any) -> None:
        """In the ros thread: destroy the publisher."""
        node.destroy_publisher(self.publisher)

    def _count(self, info: Any) -> None:
        """In the ros thread, at each match, even after the loop has ended; must not raise (see `bridge.py`)."""
        self._matches = info.current_count
        if self._matches >= self._wanted and not self._all_matched.done():
            tell(self._loop, self._settle)

    def _settle(self) -> None:
        if not self._all_matched.done():
            self._all_matched.set_result(None)

    async def matched(self) -> None:
        """Wait, within bounds, until the subscriptions that were there before have matched."""
        if not self._wanted:
            return
        deadline = time.monotonic() + MATCH_LIMIT_S
        await asyncio.wait({self._all_matched}, timeout=MATCH_LIMIT_S)
        if self._best_effort and self._matches:
            left_s = max(0.0, deadline - time.monotonic())
            await asyncio.wait({self._loop.create_future()}, timeout=min(SETTLE_S, left_s))


def _check_topic_name(topic: str) -> None:
    try:
        validate_full_topic_name(topic)
    except (InvalidTopicNameException, ValueError) as error:
        raise InvalidParameter("Invalid topic name", topic_name=topic, details=" ".join(str(error).split())) from error
