"""The one implementation of event streams: bytes, places, slow clients, ends. Over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.aggregation.event_reader import EventReader, StreamEvent, StreamGarbage
from medkit_gateway_py.api import sse
from medkit_gateway_py.api.errors import ErrorBoundary
from medkit_gateway_py.api.middleware.paths import PathNormaliser
from medkit_gateway_py.api.sse import EventLog, EventStream, Streams, frame
from medkit_gateway_py.http_server import SENT_UNSEEN_S, listen
from support.streams import StreamClient, serving
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


class Cursor:
    """A plain reader of a log that says what it lost."""

    def __init__(self, log: EventLog, at: int = 0) -> None:
        self.log = log
        self.at = at

    def greeting(self) -> bytes:
        return b":\n\n"

    def take(self) -> bytes:
        batch = self.log.read(self.at)
        self.at = batch.last
        if not batch.lost_from:
            return batch.body
        lost = json.dumps({"lost": batch.lost_to - batch.lost_from + 1, "first": batch.lost_from}).encode()
        return frame(lost, event="gap") + batch.body

    def follow(self, wake: Any) -> Any:
        return self.log.follow(wake)


class Site:
    """An application with one stream."""

    def __init__(self, max_clients: int = 100, max_peers: int = 32, max_events: int = 1000, **options: Any) -> None:
        self.log = EventLog(max_events, 1 << 20)
        self.streams = Streams(max_clients, max_peers)
        self.options = options
        self.app = PathNormaliser(ErrorBoundary(self._stream))

    async def _stream(self, scope: Any, receive: Any, send: Any) -> None:
        await EventStream(self.streams, Cursor(self.log), **self.options)(scope, receive, send)

    def say(self, text: bytes) -> int:
        return self.log.append(lambda number: frame(text, event="said", number=str(number)))


async def test_the_head_and_the_first_bytes_are_exactly_these() -> None:
    site = Site()
    async with serving(site.app) as port, StreamClient(port, "/") as client:
        lines = client.head.decode().lower().split("\r\n")
        assert "content-type: text/event-stream" in lines
        assert "cache-control: no-cache" in lines
        assert "x-accel-buffering: no" in lines
        assert "transfer-encoding: chunked" in lines
        client.read_on()
        await async_eventually(lambda: client.raw == b":\n\n")
        site.say(b'{"a":1}')
        await async_eventually(lambda: client.raw == b':\n\nid: 1\nevent: said\ndata: {"a":1}\n\n')


async def test_a_silent_stream_says_that_it_lives() -> None:
    site = Site(keep_alive_s=0.05)
    async with serving(site.app) as port, StreamClient(port, "/") as client:
        client.read_on()
        await async_eventually(lambda: client.raw.startswith(b":\n\n:keepalive\n\n:keepalive\n\n"))


@given(st.lists(st.text(alphabet="ab:\n\r é"), max_size=5), st.integers(1, 7))
def test_whatever_is_framed_is_read_back_whatever_the_pieces(texts: list[str], size: int) -> None:
    sent = b"".join(
        frame(text.encode(), event="said", number=str(number)) + b":keepalive\n\n" for number, text in enumerate(texts)
    )
    reader = EventReader(10_000)
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    found = [event for piece in pieces for event in reader.feed(piece)]
    lines = [text.replace("\r\n", "\n").replace("\r", "\n").encode() for text in texts]
    assert found == [StreamEvent("said", str(number), line) for number, line in enumerate(lines)]


@pytest.mark.parametrize("piece", [b"x" * 100, b"data: " + b"x" * 100 + b"\n"])
def test_an_event_without_end_is_refused_and_not_collected(piece: bytes) -> None:
    reader = EventReader(1000)
    for _ in range(9):
        reader.feed(piece)
    with pytest.raises(StreamGarbage):
        reader.feed(piece * 2)


async def test_a_client_too_many_gets_503_and_a_place_is_free_as_soon_as_one_leaves() -> None:
    site = Site(max_clients=2)
    async with serving(site.app) as port:
        async with StreamClient(port, "/") as one, StreamClient(port, "/") as two:
            assert (one.status, two.status) == (200, 200)
            async with StreamClient(port, "/") as three:
                assert three.status == 503
                assert b"application/json" in three.head
            # Peers have places of their own.
            async with StreamClient(port, "/", {"X-Medkit-Via": "other"}) as peer:
                assert peer.status == 200
                assert site.streams.counts == {"client": 2, "peer": 1}
        await async_eventually(lambda: site.streams.counts == {"client": 0, "peer": 0}, within=2)
        async with StreamClient(port, "/") as again:
            assert again.status == 200
    assert site.log.followers == 0


async def test_the_body_of_the_refusal_is_the_contracts() -> None:
    site = Site(max_clients=0)
    async with serving(site.app) as port, StreamClient(port, "/") as client:
        body = json.loads(await asyncio.wait_for(client._reader.read(4096), 5))
        assert body == {
            "error_code": "service-unavailable",
            "message": "Maximum number of SSE clients reached. Please try again later.",
        }


async def test_head_takes_no_place() -> None:
    site = Site(max_clients=1)
    async with serving(site.app) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(3):
            writer.write(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert b" 200 " in head
            await async_eventually(lambda: site.streams.counts["client"] == 0)
        writer.close()


async def test_a_slow_client_is_told_what_it_lost_and_the_fast_ones_lose_nothing() -> None:
    site = Site(max_events=50)
    padding = b"x" * 4000
    async with (
        serving(site.app) as port,
        StreamClient(port, "/", receive_buffer=4096) as slow,
        StreamClient(port, "/") as fast,
    ):
        fast.read_on()
        for number in range(1, 3001):
            site.say(b"%d %b" % (number, padding))
            if number % 25 == 0:
                await async_eventually(lambda number=number: len(fast.events) >= number)
        assert [int(event.id) for event in fast.events] == list(range(1, 3001))
        # What is kept for the slow one is the log that all share, and not more than that.
        assert site.log.oldest == 2951
        slow.read_on()
        await async_eventually(lambda: slow.events and slow.events[-1].id == "3000", within=20)
        gaps = slow.data("gap")
        seen = [int(event.id) for event in slow.events if event.event == "said"]
        assert len(gaps) >= 1
        assert len(seen) + sum(gap["lost"] for gap in gaps) == 3000
        assert seen == sorted(seen)


async def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "WRITE_S", 0.3)
    site = Site()
    async with serving(site.app) as port, StreamClient(port, "/", receive_buffer=4096):
        started = time.monotonic()
        while site.streams.counts["client"] and time.monotonic() < started + 20:
            site.say(b"x" * 100_000)
            await asyncio.sleep(0.01)
        assert site.streams.counts["client"] == 0
        assert site.log.followers == 0


async def test_stopping_breaks_streams_off_at_once_and_without_an_end() -> None:
    site = Site()
    async with serving(site.app) as port, StreamClient(port, "/") as client:
        client.read_on()
        await async_eventually(lambda: client.raw)
        site.streams.close()
        await async_eventually(lambda: client.is_over, within=1.5)
        # A clean end would tell clients not to come back (they resume after a broken one).
        assert not client.ended_cleanly
        async with StreamClient(port, "/") as late:
            assert late.status == 503


async def test_a_stream_with_a_duration_ends_cleanly() -> None:
    site = Site(duration_s=0.1)
    async with serving(site.app) as port, StreamClient(port, "/") as client:
        client.read_on()
        await async_eventually(lambda: client.is_over)
        assert client.ended_cleanly


@given(
    st.lists(st.sampled_from([None, frozenset("a"), frozenset("b"), frozenset("ab")]), max_size=30),
    st.integers(1, 12),
    st.integers(0, 40),
    st.sampled_from([None, frozenset("a"), frozenset("b")]),
)
def test_a_reader_gets_every_kept_event_it_wants_once_and_knows_of_the_others(
    tags: list[frozenset[str] | None], kept: int, after: int, wanted: frozenset[str] | None
) -> None:
    log = EventLog(kept, 1 << 20)
    for origins in tags:
        log.append(lambda number: b"<%d>" % number, origins)
    after = min(after, log.newest)
    batch = log.read(after, wanted)
    expected = [
        number
        for number, origins in enumerate(tags, 1)
        if number > max(after, log.newest - kept) and (wanted is None or origins is None or origins & wanted)
    ]
    assert batch.body == b"".join(b"<%d>" % number for number in expected)
    assert batch.last == max(log.newest, after)
    lost = batch.lost_to - batch.lost_from + 1 if batch.lost_from else 0
    assert lost == max(0, log.newest - kept - after)


def test_a_log_is_bounded_in_bytes_and_keeps_one_event_of_any_length() -> None:
    log = EventLog(100, 1000)
    for _ in range(50):
        log.append(lambda _: b"x" * 100)
    assert log.newest - log.oldest + 1 == 10
    log.append(lambda _: b"y" * 5000)
    assert log.oldest == log.newest == 51


async def test_one_event_is_joined_once_for_all_who_stand_at_the_same_place() -> None:
    log = EventLog(100, 1 << 20)
    log.append(lambda _: b"x")
    assert log.read(0) is log.read(0)


def test_readers_at_ever_other_places_do_not_fill_the_memory() -> None:
    log = EventLog(100, 1 << 20)
    log.append(lambda _: b"x" * 1000)
    for number in range(1000):
        assert log.read(0, frozenset({f"origin-{number}"})).last == 1
    assert len(log._batches) <= sse.MAX_PLACES


def test_a_client_that_is_far_behind_gets_its_events_in_pieces_of_bounded_size() -> None:
    log = EventLog(1000, 1 << 24)
    for _ in range(100):
        log.append(lambda _: b"x" * 10_000)
    log.append(lambda _: b"y" * 200_000)
    at, seen = 0, b""
    while at < log.newest:
        batch = log.read(at)
        # An event that is longer than a piece comes alone.
        assert len(batch.body) <= sse.MAX_BATCH or batch.last == at + 1
        at, seen = batch.last, seen + batch.body
    assert seen == b"x" * 1_000_000 + b"y" * 200_000


def test_connections_know_when_what_they_send_is_never_seen() -> None:
    # A client that vanished without a word keeps its place no longer than this: the keep-alives stay unseen.
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        listener.setblocking(True)
        accepted, _ = listener.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == SENT_UNSEEN_S * 1000
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
