"""Server-sent events: the one implementation behind every stream of this gateway (API.md §1.2, §7.7, QUIRKS A1).

An event is encoded once, into an `EventLog`; each client is a cursor into it. So a slow client costs no memory of its
own: when it has fallen behind what the log keeps, it is told what it lost, and goes on with what is there. Frames end
with LF, the first one goes out with the headers, and a client that takes nothing for `WRITE_S` is cut off.

What is in the events is not decided here.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ..aggregation.request import RequestInfo, request_id
from ..errors import GatewayShutdown, ServiceUnavailable

# Exactly these values: clients compare the content type as a string (QUIRKS A1).
HEADERS = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
)
KEEP_ALIVE = b":keepalive\n\n"
KEEP_ALIVE_S = 30.0  # API.md §7.7
# A client whose connection takes nothing for so long is gone or hopeless. It may come back, and resume.
WRITE_S = 10.0
# What one write hands to the connection at most, unless a single event is longer: a slow client holds no more.
MAX_BATCH = 64 * 1024
# Places that a batch is kept for. Readers are at a few; a peer that names other origins each time makes new ones.
MAX_PLACES = 64
FULL = "Maximum number of SSE clients reached. Please try again later."

CLIENT, PEER = "client", "peer"

_log = logging.getLogger(__name__)


def frame(data: bytes, *, event: str = "", number: str = "") -> bytes:
    """One event. Data of several lines becomes several `data:` fields, as the format wants it."""
    head = f"id: {number}\n" if number else ""
    head += f"event: {event}\n" if event else ""
    if b"\n" in data or b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    return b"%bdata: %b\n\n" % (head.encode(), data)


@dataclass(frozen=True, slots=True)
class Batch:
    """What a cursor gets at once: bytes to send, the last number in them, and the first number when some are lost.

    `lost_from` is 0 when nothing was lost; else the events from it up to the one before the batch are gone.
    """

    body: bytes
    last: int
    lost_from: int = 0
    lost_to: int = 0


class EventLog:
    """The latest events of one kind of stream, encoded, with rising numbers. Belongs to the asyncio loop.

    Each event may carry the origins it is about; a reader that asks for certain origins gets those that share one.
    """

    def __init__(self, max_events: int, max_bytes: int, newest: int = 0) -> None:
        self.newest = newest
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._bytes = 0
        self._frames: dict[int, tuple[bytes, frozenset[str] | None]] = {}
        self._batches: dict[tuple[int, frozenset[str] | None], Batch] = {}
        self._followers: dict[object, Callable[[], None]] = {}

    @property
    def oldest(self) -> int:
        """The number of the oldest event that is kept; one more than `newest` when there is none."""
        return next(iter(self._frames), self.newest + 1)

    @property
    def followers(self) -> int:
        """How many streams follow."""
        return len(self._followers)

    def append(self, encode: Callable[[int], bytes], origins: Collection[str] | None = None) -> int:
        """Number and keep an event, and wake who follows; `encode` makes the frame of its number. Gives the number."""
        number = self.newest + 1
        encoded = encode(number)
        self.newest = number
        self._frames[number] = (encoded, None if origins is None else frozenset(origins))
        self._bytes += len(encoded)
        while len(self._frames) > self._max_events or (self._bytes > self._max_bytes and len(self._frames) > 1):
            gone, _ = self._frames.pop(next(iter(self._frames)))
            self._bytes -= len(gone)
        self._batches.clear()
        for wake in tuple(self._followers.values()):
            wake()
        return number

    def restart(self, newest: int) -> None:
        """Forget all events, and go on after the number `newest`."""
        self._frames.clear()
        self._batches.clear()
        self._bytes, self.newest = 0, newest

    def read(self, after: int, wanted: frozenset[str] | None = None) -> Batch:
        """The next events after a number, joined; made once for all readers that stand at the same place."""
        key = (after, wanted)
        found = self._batches.get(key)
        if found is None:
            if len(self._batches) >= MAX_PLACES:
                self._batches.clear()
            found = self._batches[key] = self._read(after, wanted)
        return found

    def _read(self, after: int, wanted: frozenset[str] | None) -> Batch:
        oldest = self.oldest
        lost = after + 1 if after + 1 < oldest else 0
        number = max(after, oldest - 1)
        parts: list[bytes] = []
        size = 0
        while number < self.newest:
            encoded, origins = self._frames[number + 1]
            if wanted is None or origins is None or not wanted.isdisjoint(origins):
                if parts and size + len(encoded) > MAX_BATCH:
                    break
                parts.append(encoded)
                size += len(encoded)
            number += 1
        return Batch(b"".join(parts), number, lost, oldest - 1 if lost else 0)

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called after each new event; gives a function that ends it."""
        key = object()
        self._followers[key] = wake

        def end() -> None:
            self._followers.pop(key, None)

        return end


class Source(Protocol):
    """Where one stream's bytes come from."""

    def greeting(self) -> bytes:
        """What goes out with the headers; not empty, so that proxies and clients see the stream begin."""

    def take(self) -> bytes | None:
        """What is new since the last call, b"" when there is nothing, None when the stream has come to its end."""

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Have `wake` called when `take` may have something; gives a function that ends it, and lets go of all."""


class Streams:
    """Every open stream of this gateway: bounded in number, and ended together when the gateway stops."""

    def __init__(self, max_clients: int = 100, max_peers: int = 32) -> None:
        self._limits = {CLIENT: max_clients, PEER: max_peers}
        self._counts: Counter[str] = Counter()
        self._open: set[_Stream] = set()
        self._closed = False
        self._on_close: list[Callable[[], None]] = []

    def on_close(self, callback: Callable[[], None]) -> None:
        """Have `callback` called when the gateway stops, before streams are broken off."""
        self._on_close.append(callback)

    @property
    def counts(self) -> dict[str, int]:
        """Open streams by who holds them."""
        return {kind: self._counts[kind] for kind in self._limits}

    def close(self) -> None:
        """Break off every stream, so that clients connect again elsewhere or later; new ones are refused."""
        self._closed = True
        for callback in self._on_close:
            callback()
        for stream in tuple(self._open):
            stream.break_off()

    @contextmanager
    def _slot(self, kind: str, stream: _Stream) -> Iterator[None]:
        if self._closed:
            raise GatewayShutdown("The gateway is stopping")
        if self._counts[kind] >= self._limits[kind]:
            raise ServiceUnavailable(FULL)
        self._counts[kind] += 1
        self._open.add(stream)
        try:
            yield
        finally:
            self._counts[kind] -= 1
            self._open.discard(stream)


class EventStream(Response):
    """The answer of a stream route. Raises ServiceUnavailable (503) when all places are taken.

    `keep_alive_s` is the longest silence. With `duration_s` the stream comes to a clean end after so long.
    """

    def __init__(
        self,
        streams: Streams,
        source: Source,
        *,
        keep_alive_s: float = KEEP_ALIVE_S,
        duration_s: float | None = None,
        headers: Collection[tuple[bytes, bytes]] = (),
    ) -> None:
        self.status_code = 200
        self.background = None
        self.body = b""
        self.raw_headers = [*HEADERS, *headers]
        self._streams = streams
        self._source = source
        self._keep_alive_s = keep_alive_s
        self._duration_s = duration_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one client until it leaves."""
        kind = PEER if RequestInfo.from_scope(scope).via else CLIENT
        stream = _Stream(self._source, self._keep_alive_s, receive, send, request_id(scope))
        with self._streams._slot(kind, stream):
            await stream.run(list(self.raw_headers), self._duration_s)


class _Stream:
    """One client's stream while it is open."""

    def __init__(self, source: Source, keep_alive_s: float, receive: Receive, send: Send, request_id: str) -> None:
        self._request_id = request_id
        self._source = source
        self._keep_alive_s = keep_alive_s
        self._receive = receive
        self._send = send
        self._waiter: asyncio.Future[None] | None = None
        self._has_left = False
        self._is_broken = False
        self._is_over = False
        self._is_silent = False

    def break_off(self) -> None:
        """End it without an end: the client shall know that more was to come."""
        self._is_broken = True
        self._wake()

    async def run(self, headers: list[tuple[bytes, bytes]], duration_s: float | None) -> None:
        """Send until the client leaves or takes nothing, the source ends, time is up, or `break_off`."""
        loop = asyncio.get_running_loop()
        unfollow = self._source.follow(self._wake)
        listener = asyncio.create_task(self._listen())
        over = loop.call_later(duration_s, self._time_is_up) if duration_s is not None else None
        try:
            await self._write({"type": "http.response.start", "status": 200, "headers": headers})
            await self._body(self._source.greeting())
            while not (self._has_left or self._is_broken or self._is_over):
                new = self._source.take()
                if new is None:
                    break
                if not new and await self._wait(loop):
                    new = KEEP_ALIVE
                if new:
                    await self._body(new)
            if not (self._has_left or self._is_broken):
                await self._write({"type": "http.response.body", "body": b""})
        finally:
            # Whoever returns without the last piece of a body has the server cut the connection.
            unfollow()
            listener.cancel()
            if over is not None:
                over.cancel()

    async def _body(self, body: bytes) -> None:
        await self._write({"type": "http.response.body", "body": body, "more_body": True})

    async def _write(self, message: dict[str, object]) -> None:
        with anyio.move_on_after(WRITE_S) as scope:
            await self._send(message)
        if scope.cancelled_caught:
            text = "A client of an event stream took nothing for %.0f s and was cut off (request %s)"
            _log.info(text, WRITE_S, self._request_id)
            self._is_broken = True

    async def _wait(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Wait for something new; True when it is time for a sign of life instead."""
        self._waiter, self._is_silent = loop.create_future(), False
        timer = loop.call_later(self._keep_alive_s, self._silent_too_long)
        try:
            await self._waiter
        finally:
            self._waiter = None
            timer.cancel()
        return self._is_silent and not (self._has_left or self._is_broken or self._is_over)

    def _silent_too_long(self) -> None:
        self._is_silent = True
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _listen(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._has_left = True
        self._wake()

    def _time_is_up(self) -> None:
        self._is_over = True
        self._wake()
