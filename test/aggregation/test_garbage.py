"""A peer whose tree is good and whose every other answer is rubbish: lists stay whole but for it, forwards say so.

What the client alone makes of rubbish is in `test_client_faults.py`, of certificates in `test_hostile_peer.py`.
"""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import orjson
import pytest

from support.fake_peer import FaultyServer, Handler, TestGateway, always, head_of, http, running, tree_of
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio
TREE = http(
    b'{"schema":1,"gateway":{"id":"p","boot_id":"1"},"seq":1,"origins":[{"id":"p","boot_id":"1","seq":1,'
    b'"path":["p"],"entities":{"apps":[{"id":"cam"}]}}]}'
)
JSON = "Content-Type: application/json"


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head_of(reader)
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"items":[')
    while True:
        writer.write(b"1," * 30_000)
        await writer.drain()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def broken_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await head_of(reader)
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{"items":[')
    await writer.drain()
    writer.transport.abort()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


RUBBISH: dict[str, Handler] = {
    "no object": always(http(b"[1]", "200 OK", JSON)),
    "no list": always(http(b'{"items":{"a":1}}', "200 OK", JSON)),
    "a number for a list": always(http(b'{"items":7,"x-medkit":[]}', "200 OK", JSON)),
    "a huge list": always(http(b'{"items":[' + b"{}," * 4_000_000 + b"{}]}", "200 OK", JSON)),
    "millions of objects": always(http(b'{"items":[' + b"{}," * 3_000_000 + b"{}]}", "200 OK", JSON)),
    "more items than anybody has": always(http(b'{"items":[' + b"7," * 150_000 + b"7]}", "200 OK", JSON)),
    "nested too deeply": always(http(b"[" * 100_000, "200 OK", JSON)),
    "an endless body": endless,
    "a slow drip": dripping,
    "bad gzip": always(http(b"\x1f\x8b no gzip", "200 OK", JSON, "Content-Encoding: gzip")),
    "a bomb": always(http(gzip.compress(b'{"items":[' + b" " * 50_000_000), "200 OK", JSON, "Content-Encoding: gzip")),
    "a redirect": always(http(b"", "302 Found", "Location: http://127.0.0.1:1/")),
    "HTML": always(http(b"<html>", "200 OK", "Content-Type: text/html")),
    "a reset in the middle": broken_off,
    "silence": silent,
    "an error": always(http(b"oops", "500 Internal Server Error")),
    "no HTTP": always(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "two lengths": always(http(b'{"items":[]}', "200 OK", "Content-Length: 3")),
    "wrong UTF-8": always(http(b'{"items":["\xff\xfe"]}', "200 OK", JSON)),
}


@asynccontextmanager
async def beside_rubbish(rubbish: Handler) -> AsyncIterator[tuple[TestGateway, httpx.AsyncClient]]:
    """A gateway with the peer `bad`, which has `cam`, and the peer `good`, which has `nav`."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await head_of(reader)
        if b"/x-medkit/tree " in head:
            writer.write(TREE)
            await writer.drain()
        elif b"/x-medkit/tree" in head:
            writer.write(http(b"{}", "404 Not Found"))
            await writer.drain()
        else:
            again = asyncio.StreamReader()
            again.feed_data(head)
            await rubbish(again, writer)

    good = TestGateway("good", {})
    async with running(good), FaultyServer(handle) as bad:
        await good.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {"bad": bad.url, "good": good.url}, timeout_ms=400)
        async with running(a), httpx.AsyncClient(timeout=20) as client:
            await async_eventually(lambda: {"cam", "nav"} <= set(a.federation.tree.apps))
            yield a, client


async def list_without_it(a: TestGateway, client: httpx.AsyncClient) -> None:
    """A list has what the others gave, and says who is missing."""
    started = time.monotonic()
    answer = await client.get(f"{a.url}/api/v1/faults")
    assert time.monotonic() - started < 3
    assert answer.status_code == 200
    assert [item["fault_code"] for item in answer.json()["items"]] == ["FAULT_OF_a", "FAULT_OF_good"]
    medkit = answer.json()["x-medkit"]
    assert (medkit["partial"], medkit["failed_peers"]) == (True, ["bad"])
    assert medkit["peers"]["bad"]["error"]


@pytest.mark.parametrize("kind", RUBBISH)
async def test_rubbish_is_missing_from_lists_and_ends_forwards_and_hurts_nobody(kind: str) -> None:
    async with beside_rubbish(RUBBISH[kind]) as (a, client):
        await list_without_it(a, client)
        url = f"{a.url}/api/v1/apps/cam/data/x"
        if kind in ("an endless body", "a slow drip"):
            # Downloads may be long: it goes on for as long as the client wants, and ends when the client leaves.
            async with client.stream("GET", url) as stream:
                assert stream.status_code == 200
                await stream.aiter_raw().__anext__()
        elif kind in ("a reset in the middle", "two lengths"):
            try:
                assert (await client.get(url)).status_code == 502
            except httpx.RemoteProtocolError:
                pass  # it had begun; the half must not be taken for the whole
        else:
            async with client.stream("GET", url) as answer:
                body = b"".join([piece async for piece in answer.aiter_raw()])
            expected = {"silence": 504, "no HTTP": 502, "a redirect": 302, "an error": 500}
            assert answer.status_code == expected.get(kind, 200)
            if answer.status_code in (502, 504):
                assert orjson.loads(body)["parameters"]["peer"] == "bad"
        good = await client.get(f"{a.url}/api/v1/apps/nav/data/x")
        assert (good.status_code, good.json()["data"]["gateway"]) == (200, "good")
