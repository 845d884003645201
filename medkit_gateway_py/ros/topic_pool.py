"""One topic that is being read: its subscription, its last message, and those who wait for a first one.

Used by `topics.py`, which decides what to read, how long, and when to let go.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import anyio.to_thread
from rclpy.serialization import deserialize_message

from ..errors import SubscribeFailed
from . import messages
from .bridge import RosBridge
from .jobs import tell
from .topic_qos import TopicFacts, inspect

_LOG = logging.getLogger(__name__)

BIG_MESSAGE_BYTES = 256 * 1024  # longer ones are converted in a worker thread, the loop has others to serve


class Entry:
    """A topic in the pool: what the graph said about it, and its subscription."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        self.facts = TopicFacts("", 0, 0, False, False, False)
        self.subscription: Subscription | None = None
        self.looked_at = self.last_read = time.monotonic()
        self.graph_events = -1
        self._last_of: Subscription | None = None  # whose last message the next subscription takes over

    @property
    def is_waited_for(self) -> bool:
        return self.subscription is not None and self.subscription.readers_waiting > 0

    def refresh(self, bridge: RosBridge, loop: asyncio.AbstractEventLoop, may_subscribe: bool) -> bool:
        """In the ros thread: look at the graph, and subscribe for the first time.

        True: what is published has changed, the old subscription is gone, and `subscribe` must be called from a
        later task. An EventsExecutor lets go of a subscription only after the task that destroyed it, and until
        then the middleware refuses a new one of another type.

        The subscription is stored here and not returned, so that a caller who gave up cannot lose it.
        """
        before = self.subscription
        self.facts = facts = inspect(bridge.node, self.topic, own_subscriptions=1 if before else 0)
        if not facts.publisher_count:
            return False  # a publisher that comes back finds the subscription still there
        if before is not None and not facts.wants_other_subscription_than(before.facts):
            return False
        if before is not None:
            self.unsubscribe(bridge)
            self._last_of = before if before.facts.type == facts.type else None
            return facts.importable
        if facts.importable and may_subscribe:
            self.subscribe(bridge, loop)
        return False

    def subscribe(self, bridge: RosBridge, loop: asyncio.AbstractEventLoop) -> None:
        """In the ros thread: subscribe as `facts` ask for.

        :raises SubscribeFailed: ROS refused.
        """
        if self.subscription is not None:
            return
        made = Subscription(self.topic, self.facts, loop)
        if self._last_of is not None:
            made.latest, self._last_of = self._last_of.latest, None
        try:
            made.handle = bridge.node.create_subscription(
                made.message_class, self.topic, made.received, self.facts.qos, raw=True
            )
        except Exception as error:  # rclpy raises RCLError, RMWError, and type errors of broken type supports
            raise SubscribeFailed(
                "Failed to subscribe to topic", topic=self.topic, details=f"{type(error).__name__}: {error}"
            ) from error
        bridge.mark_on_demand(self.topic, True)
        self.subscription = made

    def unsubscribe(self, bridge: RosBridge) -> None:
        """In the ros thread: destroy the subscription, if there is one."""
        if self.subscription is not None:
            handle, self.subscription = self.subscription.handle, None
            bridge.mark_on_demand(self.topic, False)
            bridge.node.destroy_subscription(handle)


class Subscription:
    """A subscription and its last message. `received` runs in the ros thread, everything else on the loop."""

    def __init__(self, topic: str, facts: TopicFacts, loop: asyncio.AbstractEventLoop) -> None:
        self.facts = facts
        self.message_class = messages.load(facts.type)
        self.handle: Any = None
        self.latest: tuple[int, bytes] | None = None  # arrival in ns since the epoch, serialised message
        self.readers_waiting = 0
        self._topic, self._loop = topic, loop
        self._arrival: asyncio.Future[None] | None = None
        self._converted_from: tuple[int, bytes] | None = None
        self._converted: asyncio.Future[dict[str, Any] | None] | None = None
        self._complained = False

    def received(self, serialised: bytes) -> None:
        """In the ros thread."""
        self.latest = (time.time_ns(), serialised)
        if self.readers_waiting:
            tell(self._loop, self.wake)

    def wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    async def arrival(self, timeout_s: float) -> bool:
        """Wait for a message; `readers_waiting` must have been counted up before, so that it cannot be missed."""
        if self.latest is None:
            if self._arrival is None or self._arrival.done():
                self._arrival = self._loop.create_future()
            await asyncio.wait({self._arrival}, timeout=timeout_s)
        return self.latest is not None

    async def value(self) -> tuple[int, dict[str, Any]] | None:
        """Arrival time and JSON of the last message, converted once; None when it cannot be read."""
        latest = self.latest
        if latest is None:
            return None
        converted = self._converted
        if self._converted_from is not latest or converted is None:
            converted = self._loop.create_future()
            self._converted_from, self._converted = latest, converted
            if len(latest[1]) <= BIG_MESSAGE_BYTES:
                converted.set_result(self._convert(latest[1]))
            else:
                _forward(
                    asyncio.ensure_future(anyio.to_thread.run_sync(self._convert, latest[1], abandon_on_cancel=True)),
                    converted,
                )
        value = converted.result() if converted.done() else await asyncio.shield(converted)
        return None if value is None else (latest[0], value)

    def _convert(self, serialised: bytes) -> dict[str, Any] | None:
        try:
            return messages.to_json(deserialize_message(serialised, self.message_class))
        except Exception as error:  # a publisher with another definition of the type, a broken string, anything
            if not self._complained:
                _LOG.warning("messages of %s cannot be read as %s: %s", self._topic, self.facts.type, error)
                self._complained = True
            return None


def _forward(task: asyncio.Future[Any], answer: asyncio.Future[Any]) -> None:
    """Give the task's outcome to all who wait for `answer`, whoever of them started the task."""

    def finish(done: asyncio.Future[Any]) -> None:
        if not answer.done():
            answer.set_result(None if done.cancelled() or done.exception() else done.result())

    task.add_done_callback(finish)
