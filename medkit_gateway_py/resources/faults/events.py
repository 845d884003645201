"""The latest changes of faults, numbered, for streams to replay and to follow (API.md §7.7).

Knows nothing of HTTP. Everything here belongs to the asyncio loop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from .model import FAULT_UPDATED, FaultEvent

MAX_EVENTS = 100  # API.md §7.7

Subscriber = Callable[[int, FaultEvent], None]

_log = logging.getLogger(__name__)


class FaultEvents:
    """The buffer. Ids count from 1 in each process, and rise by one with each event.

    When it is full, the oldest event that every subscriber has been given leaves; when there is none, the oldest
    `fault_updated` that a later event of the same fault has overtaken; when there is none either, the oldest.
    """

    def __init__(self, capacity: int = MAX_EVENTS) -> None:
        self._capacity = capacity
        self._events: dict[int, FaultEvent] = {}
        self._delivered: set[int] = set()
        self._subscribers: dict[object, Subscriber] = {}
        self.newest = 0
        """The id of the latest event; 0 when there was none."""

    def add(self, event: FaultEvent) -> int:
        """Number an event, keep it, and hand it to every subscriber; gives its id."""
        self.newest += 1
        number = self.newest
        self._events[number] = event
        if self._subscribers:
            self._delivered.add(number)
        # Before anybody is told: a subscriber that reads `after` meanwhile must not see more than the bound.
        if len(self._events) > self._capacity:
            leaving = self._next_to_leave()
            del self._events[leaving]
            self._delivered.discard(leaving)
        for subscriber in tuple(self._subscribers.values()):
            try:
                subscriber(number, event)
            except Exception:
                # The others must hear of it all the same.
                _log.exception("a subscriber of fault events failed")
        return number

    def publish(self, event: FaultEvent) -> None:
        """`add`, as a fault backend calls its subscribers."""
        self.add(event)

    def after(self, last_event_id: int) -> list[tuple[int, FaultEvent]]:
        """What is kept of the events after this id, in order; nothing for an id that is not given yet.

        `newest - last_event_id - len(after)` events have left the buffer unseen.
        """
        return [(number, event) for number, event in self._events.items() if number > last_event_id]

    def subscribe(self, callback: Subscriber) -> Callable[[], None]:
        """Have `callback` called with each new event, at once and in order; it must not wait.

        Whoever subscribes and then reads `after`, without waiting in between, misses nothing and sees nothing twice.
        Gives a function that ends it; it may be called twice.
        """
        key = object()
        self._subscribers[key] = callback

        def unsubscribe() -> None:
            self._subscribers.pop(key, None)

        return unsubscribe

    def _next_to_leave(self) -> int:
        latest: dict[str, int] = {}
        oldest_delivered = overtaken = 0
        for number, event in self._events.items():
            if number in self._delivered and number != self.newest:
                oldest_delivered = number
                break
            latest[event.fault.fault_code] = number
        if oldest_delivered:
            return oldest_delivered
        for number, event in self._events.items():
            if event.event_type == FAULT_UPDATED and latest[event.fault.fault_code] > number:
                overtaken = number
                break
        return overtaken or next(iter(self._events))
