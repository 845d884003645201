"""The application behind the real server: what a socket changes about paths, bodies and many readers at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import anyio
import httpx
import uvicorn

from support.api import Api, Topics, gateway

TEMPERATURE = "/powertrain/engine/temperature"


@contextlib.asynccontextmanager
async def served(api: Api) -> AsyncIterator[int]:
    """The application on a port of this machine."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(api.app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1)
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


async def raw(port: int, request: bytes) -> bytes:
    """What the server answers to these bytes, read until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    with anyio.fail_after(10):
        answer = await reader.read()
    writer.close()
    return answer


def request(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", *headers])
    return head.encode() + b"\r\n\r\n" + body


def robot() -> Api:
    return Api(gateway(topics=Topics({TEMPERATURE: {"data": 85.5}}), parameters={"server.max_body_bytes": 1024}))


def test_encoded_slashes_head_and_paths_outside_work_on_a_socket() -> None:
    async def check() -> None:
        async with served(robot()) as port:
            for topic in ("powertrain%2Fengine%2Ftemperature", "%2Fpowertrain%2fengine/temperature", TEMPERATURE[1:]):
                answer = await raw(port, request("GET", f"/api/v1/apps/temp_sensor/data/{topic}"))
                assert answer.startswith(b"HTTP/1.1 200"), answer
                assert b'"data":85.5' in answer
            head = await raw(port, request("HEAD", "/api/v1/apps/"))
            body = (await raw(port, request("GET", "/api/v1/apps"))).split(b"\r\n\r\n", 1)[1]
            assert head.split(b"\r\n\r\n", 1)[1] == b""
            assert b"content-length: %d\r\n" % len(body) in head
            for path in ("/", "/health", "/api/v2/health", "/api/v1/../health", "/api/v1x"):
                answer = await raw(port, request("GET", path))
                assert answer.startswith(b"HTTP/1.1 404"), path
                assert b'"resource-not-found"' in answer

    asyncio.run(check())


def test_a_body_that_is_too_long_is_refused_before_it_is_sent() -> None:
    async def check() -> None:
        async with served(robot()) as port:
            # The body never comes: the answer must not wait for it.
            answer = await raw(port, request("PUT", "/api/v1/apps/temp_sensor/data/x", "Content-Length: 999999"))
            assert answer.startswith(b"HTTP/1.1 413")
            chunks = b"".join(b"100\r\n" + b"x" * 256 + b"\r\n" for _ in range(8)) + b"0\r\n\r\n"
            answer = await raw(
                port, request("PUT", "/api/v1/apps/temp_sensor/data/x", "Transfer-Encoding: chunked", body=chunks)
            )
            assert answer.startswith(b"HTTP/1.1 413")
            assert b'"status":413' in answer

    asyncio.run(check())


def test_two_hundred_readers_of_one_item_all_get_it() -> None:
    async def check() -> None:
        limits = httpx.Limits(max_connections=200)
        async with served(robot()) as port, httpx.AsyncClient(limits=limits, timeout=30) as client:
            url = f"http://127.0.0.1:{port}/api/v1/apps/temp_sensor/data{TEMPERATURE}"
            answers = await asyncio.gather(*(client.get(url) for _ in range(200)))
            assert {answer.status_code for answer in answers} == {200}
            assert all(answer.json()["data"] == {"data": 85.5} for answer in answers)

    asyncio.run(check())
