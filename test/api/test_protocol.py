"""The bound on headers, on a socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import AsyncIterator

import anyio
import pytest
import uvicorn

from medkit_gateway_py.api.protocol import MAX_HEADER_BYTES, BoundedProtocol
from support.api import Api

HEAD = b"GET /api/v1/apps HTTP/1.1\r\nHost: x\r\n"


@contextlib.asynccontextmanager
async def served() -> AsyncIterator[int]:
    """The application behind the protocol, on a port of this machine."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(
        Api().app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    task = asyncio.ensure_future(server.serve(sockets=[listener]))
    with anyio.fail_after(10):
        while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
            await asyncio.sleep(0.01)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        with anyio.fail_after(10):
            await task


async def ask(port: int, *pieces: bytes) -> bytes:
    """What is answered to these pieces, sent one after the other; read until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    with anyio.fail_after(10), contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        answer = await reader.read()
    writer.close()
    return answer


def test_headers_within_the_bound_are_served() -> None:
    async def check() -> None:
        async with served() as port:
            cookie = b"Cookie: " + b"x" * (MAX_HEADER_BYTES - 200) + b"\r\nConnection: close\r\n\r\n"
            assert (await ask(port, HEAD + cookie)).startswith(b"HTTP/1.1 200")
            halves = HEAD + cookie[:30_000], cookie[30_000:]
            assert (await ask(port, *halves)).startswith(b"HTTP/1.1 200")

    asyncio.run(check())


@pytest.mark.parametrize(
    "request_",
    [
        b"BREW /api/v1/apps HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PUT /api/v1/apps HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        HEAD + b"Cookie: " + b"x" * MAX_HEADER_BYTES + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_is_no_request_is_told_so_in_json(request_: bytes) -> None:
    async def check() -> None:
        async with served() as port:
            head, _, body = (await ask(port, request_)).partition(b"\r\n\r\n")
            lines = head.lower().split(b"\r\n")
            assert lines[0] == b"http/1.1 400 bad request"
            assert {b"content-type: application/json", b"connection: close"} <= set(lines)
            assert b"content-length: %d" % len(body) in lines
            error = json.loads(body)
            assert (error["error_code"], type(error["message"])) == ("invalid-request", str)

    asyncio.run(check())


def test_who_asks_for_another_protocol_is_served_as_ever_and_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with served() as port:
            upgrade = b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
            last = HEAD + b"Connection: close\r\n\r\n"
            assert (await ask(port, HEAD + upgrade, last)).startswith(b"HTTP/1.1 200")

    with caplog.at_level(logging.INFO):
        asyncio.run(check())
    assert "pgrade" not in caplog.text and "WebSocket" not in caplog.text


def test_headers_that_never_end_are_refused_once(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        async with served() as port:
            many = [b"X-%d: " % n + b"x" * 9_000 + b"\r\n" for n in range(60)]
            long = [b"Authorization: Bearer ", *[b"x" * 30_000] * 20]
            for pieces in (many, long):
                answer = await ask(port, HEAD, *pieces)
                # Who still writes when the connection is closed may lose the answer.
                assert answer == b"" or (answer.startswith(b"HTTP/1.1 400") and answer.count(b"HTTP/1.1") == 1)
            assert (await ask(port, HEAD + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")

    caplog.set_level(logging.WARNING, "medkit_gateway_py")
    asyncio.run(check())
    assert caplog.text.count("was refused") == 2


def test_each_request_of_a_connection_has_its_own_bound_and_bodies_have_none() -> None:
    async def check() -> None:
        async with served() as port:
            one = HEAD + b"Cookie: " + b"x" * 40_000 + b"\r\n"
            last = one + b"Connection: close\r\n\r\n"
            assert (await ask(port, one + b"\r\n", one + b"\r\n", last)).count(b"HTTP/1.1 200") == 3
            body = b"x" * 300_000
            put = b"PUT /api/v1/apps/temp_sensor/data/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            put += b"Content-Length: %d\r\n\r\n" % len(body)
            assert b"invalid-request" in await ask(port, put, body[:100_000], body[100_000:])

    asyncio.run(check())


async def open_until(port: int, *pieces: bytes, every_s: float = 0.05) -> tuple[float, bytes]:
    """How long the server keeps a connection that sends these pieces, one at a time, and what it said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = asyncio.get_running_loop().time()
    answer = asyncio.ensure_future(reader.read())
    with anyio.fail_after(10), contextlib.suppress(ConnectionError):
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.wait({answer}, timeout=every_s)
            if answer.done():
                break
        found = await answer
    writer.close()
    return asyncio.get_running_loop().time() - began, found


def test_a_connection_that_does_not_send_its_request_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "headers_s", 0.5)
    monkeypatch.setattr(BoundedProtocol, "body_silence_s", 0.5)
    whole = HEAD + b"\r\n"

    async def check() -> None:
        async with served() as port:
            for pieces in (
                (),
                (b"GET",),
                tuple(bytes([one]) for one in HEAD * 20),  # a byte now and then
                (whole, b"GET"),  # the second request of a connection
                (b"PUT /api/v1/apps/x/data/y HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",),
            ):
                took, _ = await open_until(port, *pieces)
                assert 0.3 < took < 5.0, pieces

    asyncio.run(check())


def test_a_slow_request_that_comes_along_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BoundedProtocol, "headers_s", 5.0)
    monkeypatch.setattr(BoundedProtocol, "body_silence_s", 1.0)
    head = b"PUT /api/v1/apps/x/configurations/y HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 30\r\n\r\n"

    async def check() -> None:
        async with served() as port:
            # It takes longer than a silence may, and never is silent for so long.
            took, answer = await open_until(port, head, *[b" "] * 30, every_s=0.06)
            assert took > 1.5
            assert answer.startswith(b"HTTP/1.1 4")

    asyncio.run(check())
