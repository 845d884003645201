"""Reading topics: subscriptions that stay, of which only the last message is kept (API.md §4.2, DECISIONS 6, 7).

The first read of a topic subscribes and waits for a message; later reads answer from memory. Messages stay
serialised until somebody reads them, and a message is converted once however many readers it has. A read enters
the ROS thread at most once a second a topic, to see whether publishers, their QoS or the type have changed.

Writing is in `topic_writer.py`; what a topic has to do with an entity is not known here.

All methods run on the asyncio loop, unless they say otherwise.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Protocol

from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_full_topic_name import validate_full_topic_name

from ..errors import ColdWaitCapExceeded, GatewayError, GatewayShutdown, ServiceUnavailable, SubscribeFailed
from . import messages
from .bridge import RosBridge
from .topic_pool import Entry, Subscription
from .topic_qos import TopicFacts
from .topic_writer import TopicWriter

__all__ = ["TopicReader", "TopicReading", "TopicWriter"]

FRESH_S = 1.0  # what the graph said about a topic is believed this long,
FRESH_AFTER_EVENT_S = 0.1  # or this long when the graph has changed since
IDLE_S = 60.0  # a subscription nobody reads costs a decode-free callback per message: not 15 min of them
ROS_LIMIT_S = 2.0  # a look at the graph and a subscription take 1 ms


class ReaderLimits(Protocol):
    """The parameters `data_provider.*` (API.md §11)."""

    @property
    def max_pool_size(self) -> int: ...
    @property
    def cold_wait_cap(self) -> int: ...
    @property
    def idle_safety_net_sec(self) -> int: ...
    @property
    def idle_sweep_tick_sec(self) -> int: ...


@dataclass(frozen=True)
class TopicReading:
    """What a read found. `value` is shared with other readers of the same message: not to be changed."""

    topic: str
    type: str = ""
    value: dict[str, Any] | None = None
    timestamp_ns: int | None = None  # when the message came in, nanoseconds since the epoch
    publisher_count: int = 0
    subscriber_count: int = 0  # this gateway's own reading subscription is not counted
    status: str = "metadata_only"  # data | metadata_only


class TopicReader:
    """A pool of subscriptions.

    A subscription closes when nobody has read it for the shorter of `idle_safety_net_sec` and 60 s (looked at every
    `idle_sweep_tick_sec`; 0 in either: never), or when it is the least recently read of more than `max_pool_size`.
    """

    def __init__(self, bridge: RosBridge, limits: ReaderLimits) -> None:
        self._bridge, self._limits = bridge, limits
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # least recently read first
        self._looks: dict[str, asyncio.Task[Entry]] = {}
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self._cold_waits = 0
        self._hits = self._misses = self._evictions = self._remakes = 0
        self._unsupported: set[str] = set()

    async def read(self, topic: str, timeout_s: float) -> TopicReading:
        """The last message of `topic`, a full name; waits at most `timeout_s` seconds for a first one.

        Without a publisher, without such a topic, or with a type that is not installed: at once, metadata only.

        :raises ColdWaitCapExceeded: too many other topics are being waited for.
        :raises SubscribeFailed: ROS refused the subscription, or does not answer.
        :raises GatewayShutdown: stopping.
        """
        if self._stopped:
            raise GatewayShutdown("The gateway is shutting down")
        if not _is_topic_name(topic):
            return TopicReading(topic)
        entry = self._entries.get(topic)
        # A look in progress may be between two subscriptions.
        if entry is None or topic in self._looks or self._is_stale(entry):
            entry = await self._look(topic)
        else:
            self._entries.move_to_end(topic)
        entry.last_read = time.monotonic()
        facts, subscription = entry.facts, entry.subscription
        if not facts.publisher_count or not facts.importable:
            self._misses += 1
            return _without_value(topic, facts)
        if subscription is not None and subscription.latest is not None:
            self._hits += 1
        else:
            self._misses += 1
            if subscription is None:  # the cap was reached before the topic was subscribed to
                raise self._cap_exceeded(topic)
            if not await self._wait(topic, subscription, timeout_s):
                return _without_value(topic, facts)
        found = await subscription.value()
        if found is None:
            return _without_value(topic, facts)
        timestamp_ns, value = found
        return TopicReading(
            topic, facts.type, value, timestamp_ns, facts.publisher_count, facts.subscriber_count, "data"
        )

    def type_info(self, type_name: str) -> dict[str, Any] | None:
        """`{"schema", "default_value"}` of a message type, None when it is not installed. Shared: do not change."""
        info = _type_info(type_name)
        if info is None:
            self._note_unsupported(type_name)
        return info

    def health(self) -> dict[str, Any]:
        """The members of `x-medkit-data-provider` (API.md §2.2)."""
        return {
            "pool_size": len(self._entries),
            "pool_cap": self._limits.max_pool_size,
            "pool_hits": self._hits,
            "pool_misses": self._misses,
            "evictions_total": self._evictions,
            "type_change_events": self._remakes,
            "graph_events_received": self._bridge.graph_events,
            "concurrent_cold_waits": self._cold_waits,
            "cold_wait_cap": self._limits.cold_wait_cap,
            "unsupported_type_count": len(self._unsupported),
        }

    async def stop(self) -> None:
        """Close every subscription; who still waits gets GatewayShutdown."""
        self._stopped = True
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for topic in list(self._entries):
            self._drop(topic)

    def _is_stale(self, entry: Entry) -> bool:
        age_s = time.monotonic() - entry.looked_at
        return age_s > FRESH_S or (age_s > FRESH_AFTER_EVENT_S and entry.graph_events != self._bridge.graph_events)

    async def _look(self, topic: str) -> Entry:
        """The entry of `topic`, up to date; concurrent readers share one look."""
        look = self._looks.get(topic)
        if look is None:
            look = asyncio.ensure_future(self._look_now(topic))
            self._looks[topic] = look
            look.add_done_callback(lambda done: self._looks.pop(topic, None))
        return await asyncio.shield(look)

    async def _look_now(self, topic: str) -> Entry:
        entry = self._entries.get(topic)
        if entry is None:
            entry = self._entries[topic] = Entry(topic)
            self._make_room()
        self._entries.move_to_end(topic)
        may_subscribe = self._cold_waits < self._limits.cold_wait_cap
        loop = asyncio.get_running_loop()
        graph_events = self._bridge.graph_events
        try:
            if await self._bridge.call(lambda: entry.refresh(self._bridge, loop, may_subscribe), ROS_LIMIT_S):
                self._remakes += 1
                await self._bridge.call(lambda: entry.subscribe(self._bridge, loop), ROS_LIMIT_S)
        except (TimeoutError, ServiceUnavailable) as error:
            raise SubscribeFailed("Failed to subscribe to topic", topic=topic, details=str(error)) from error
        finally:
            if entry.subscription is None and self._entries.get(topic) is entry:
                del self._entries[topic]
        entry.looked_at, entry.graph_events = time.monotonic(), graph_events
        if entry.facts.type and not entry.facts.importable:
            self._note_unsupported(entry.facts.type)
        self._sweep_later()
        return entry

    async def _wait(self, topic: str, subscription: Subscription, timeout_s: float) -> bool:
        """Wait for a first message together with all other readers of the topic; whether one came."""
        if not subscription.readers_waiting:
            if self._cold_waits >= self._limits.cold_wait_cap:
                raise self._cap_exceeded(topic)
            self._cold_waits += 1
        subscription.readers_waiting += 1
        try:
            came = await subscription.arrival(timeout_s)
        finally:
            subscription.readers_waiting -= 1
            if not subscription.readers_waiting:
                self._cold_waits -= 1
        if self._stopped:
            raise GatewayShutdown("The gateway is shutting down")
        return came

    def _cap_exceeded(self, topic: str) -> GatewayError:
        return ColdWaitCapExceeded(
            "Too many topics are being waited for", topic=topic, cold_wait_cap=self._limits.cold_wait_cap
        )

    def _note_unsupported(self, type_name: str) -> None:
        if len(self._unsupported) < 1000:  # a count for dashboards, not a memory
            self._unsupported.add(type_name)

    def _make_room(self) -> None:
        """Close the least recently read subscriptions beyond the cap; those somebody waits for are spared."""
        excess = len(self._entries) - self._limits.max_pool_size
        for topic, entry in list(self._entries.items()):
            if excess <= 0:
                return
            if topic not in self._looks and not entry.is_waited_for:
                self._drop(topic)
                self._evictions += 1
                excess -= 1

    def _sweep_later(self) -> None:
        tick_s = self._limits.idle_sweep_tick_sec
        if self._sweep_timer is None and tick_s > 0 and self._limits.idle_safety_net_sec > 0 and not self._stopped:
            self._sweep_timer = asyncio.get_running_loop().call_later(tick_s, self._sweep)

    def _sweep(self) -> None:
        self._sweep_timer = None
        oldest = time.monotonic() - min(IDLE_S, self._limits.idle_safety_net_sec)
        for topic, entry in list(self._entries.items()):
            if entry.last_read < oldest and topic not in self._looks and not entry.is_waited_for:
                self._drop(topic)
                self._evictions += 1
        if self._entries:
            self._sweep_later()

    def _drop(self, topic: str) -> None:
        entry = self._entries.pop(topic)
        self._bridge.post(lambda: entry.unsubscribe(self._bridge))
        if entry.subscription is not None:
            entry.subscription.wake()


def _without_value(topic: str, facts: TopicFacts) -> TopicReading:
    return TopicReading(
        topic, facts.type, publisher_count=facts.publisher_count, subscriber_count=facts.subscriber_count
    )


@functools.lru_cache(maxsize=4096)
def _is_topic_name(topic: str) -> bool:
    try:
        return bool(validate_full_topic_name(topic))
    except (InvalidTopicNameException, ValueError):
        return False


@functools.lru_cache(maxsize=1024)
def _type_info(type_name: str) -> dict[str, Any] | None:
    try:
        message_class = messages.load(type_name)
        return {"schema": messages.schema(message_class), "default_value": messages.default_value(message_class)}
    except (messages.UnknownType, AttributeError):  # AttributeError: the class of a service or an action
        return None
