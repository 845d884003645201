"""Event streams of an entity that another gateway has: through two hops, as they come, with our ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from medkit_gateway_py.api.sse import HEADERS
from support.fake_peer import TestGateway, running, tree_of
from support.streams import StreamClient
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


class Speaker:
    """A stream of an entity; says what it is told to."""

    def __init__(self) -> None:
        self.clients = 0
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.clients += 1
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
        leaving = asyncio.create_task(self._left(receive))
        try:
            while True:
                saying = asyncio.create_task(self.said.get())
                await asyncio.wait({saying, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if leaving.done():
                    saying.cancel()
                    return
                body = saying.result()
                if body is None:
                    return
                await send({"type": "http.response.body", "body": body, "more_body": True})
        finally:
            leaving.cancel()
            self.clients -= 1

    async def _left(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass


@asynccontextmanager
async def two_hops(path: str, **aggregation: Any) -> AsyncIterator[tuple[TestGateway, Speaker, str]]:
    """A aggregates B, which aggregates C; all have an app `cam`. Gives A, C's stream, and the id of C's app at A."""
    c, speaker = TestGateway("c", {}), Speaker()
    c.routes[f"/api/v1/apps/cam{path}"] = speaker
    async with running(c):
        b = TestGateway("b", {"c": c.url}, **aggregation)
        async with running(b):
            a = TestGateway("a", {"b": b.url}, **aggregation)
            async with running(a):
                for one in (c, b, a):
                    await one.serve_tree(tree_of(["cam"]))
                await async_eventually(lambda: len(a.federation.tree.apps) == 3, within=10)
                (far,) = [app for app in a.federation.tree.apps if app != "cam" and app != "b__cam"]
                yield a, speaker, far


EVENTS = "/cyclic-subscriptions/sub_001/events"


async def test_events_come_one_by_one_and_name_our_ids() -> None:
    async with two_hops(EVENTS) as (a, speaker, far), StreamClient(a.port, f"/api/v1/apps/{far}{EVENTS}") as client:
        assert client.status == 200
        assert b"content-type: text/event-stream\r\n" in client.head.lower()
        assert b"cache-control: no-cache\r\n" in client.head.lower()
        client.read_on()
        speaker.said.put_nowait(b":keepalive\n\n")
        await async_eventually(lambda: client.raw == b":keepalive\n\n")
        speaker.said.put_nowait(b'id: 4\nevent: x\ndata: {"entity_id":"cam","payload":{"data":"/api/v1/apps/cam"}}\n\n')
        await async_eventually(lambda: client.events)
        assert (client.events[0].id, client.events[0].event) == ("4", "x")
        # What a robot said is not touched, whatever it looks like.
        assert client.data() == [{"entity_id": far, "payload": {"data": "/api/v1/apps/cam"}}]
        # Half an event is held back until its line is whole, and no longer.
        speaker.said.put_nowait(b'data: {"entity')
        speaker.said.put_nowait(b'_id":"cam"}\n')
        await async_eventually(lambda: client.raw.endswith(f'data: {{"entity_id":"{far}"}}\n'.encode()))


async def test_a_stream_may_be_silent_for_longer_than_a_call() -> None:
    async with (
        two_hops(EVENTS, timeout_ms=700) as (a, speaker, far),
        StreamClient(a.port, f"/api/v1/apps/{far}{EVENTS}") as client,
    ):
        assert client.status == 200
        client.read_on()
        # Longer than the peer may take to answer anything else.
        await asyncio.sleep(1.5)
        speaker.said.put_nowait(b"data: 1\n\n")
        await async_eventually(lambda: client.data() == [1])


async def test_the_owner_is_let_go_when_the_client_leaves() -> None:
    async with two_hops(EVENTS) as (a, speaker, far):
        async with StreamClient(a.port, f"/api/v1/apps/{far}{EVENTS}"):
            assert speaker.clients == 1
        await async_eventually(lambda: speaker.clients == 0, within=2)


async def test_a_stream_that_breaks_off_does_so_for_the_client_too() -> None:
    async with two_hops(EVENTS) as (a, speaker, far), StreamClient(a.port, f"/api/v1/apps/{far}{EVENTS}") as client:
        client.read_on()
        speaker.said.put_nowait(None)
        await async_eventually(lambda: client.is_over)
        assert not client.ended_cleanly


async def test_many_streams_leave_room_for_commands() -> None:
    # All run on one loop: what it takes to connect is not to be the question.
    async with two_hops(EVENTS, timeout_ms=20_000) as (a, _, far):
        clients = [StreamClient(a.port, f"/api/v1/apps/{far}{EVENTS}") for _ in range(70)]
        entered = []
        try:
            for client in clients:
                entered.append(await client.__aenter__())
            assert {one.status for one in entered} == {200, 503}
            reader, writer = await asyncio.open_connection("127.0.0.1", a.port)
            writer.write(f"PUT /api/v1/apps/{far}/data/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert b" 200 " in head
            writer.close()
        finally:
            for one in entered:
                await one.__aexit__()
