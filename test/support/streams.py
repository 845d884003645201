"""Clients of event streams over real sockets, byte by byte, and a server for streams without a gateway around them."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from medkit_gateway_py.aggregation.event_reader import EventReader, StreamEvent

from .fake_peer import listen
from .waiting import async_eventually

App = Callable[[Any, Any, Any], Any]


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[int]:
    """An ASGI application on uvicorn as the gateway runs it; gives the port."""
    bound = listen()
    config = uvicorn.Config(app, interface="asgi3", lifespan="off", log_config=None, access_log=False)
    config.timeout_graceful_shutdown = 1
    server = uvicorn.Server(config)
    task = asyncio.create_task(server._serve(sockets=[bound]))
    await async_eventually(lambda: server.started)
    try:
        yield bound.getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        await asyncio.wait_for(task, 5)


@dataclass
class StreamClient:
    """One connection with one stream on it. `head` is the head of the answer, `events` what came so far."""

    port: int
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    receive_buffer: int = 0
    head: bytes = b""
    raw: bytes = b""
    events: list[StreamEvent] = field(default_factory=list)
    is_over: bool = False
    ended_cleanly: bool = False

    async def __aenter__(self) -> StreamClient:
        """Connect and read the head."""
        one = socket.socket()
        if self.receive_buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.receive_buffer)
        one.setblocking(False)
        await asyncio.get_running_loop().sock_connect(one, ("127.0.0.1", self.port))
        self._reader, self._writer = await asyncio.open_connection(sock=one, limit=4096)
        lines = [f"GET {self.path} HTTP/1.1", "Host: localhost", "Accept: text/event-stream"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        self._writer.write("\r\n".join([*lines, "", ""]).encode())
        self.head = await asyncio.wait_for(self._reader.readuntil(b"\r\n\r\n"), 10)
        self._task: asyncio.Task[None] | None = None
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
        self._writer.transport.abort()

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    def read_on(self) -> None:
        """Read for as long as it lasts, in the background."""
        self._task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        parser = EventReader(1 << 24)
        while True:
            try:
                size = int((await self._reader.readuntil(b"\r\n")).strip(), 16)
                piece = await self._reader.readexactly(size + 2)
            except (asyncio.IncompleteReadError, ConnectionError):
                break
            if size == 0:
                self.ended_cleanly = True
                break
            self.raw += piece[:-2]
            self.events += parser.feed(piece[:-2])
        self.is_over = True

    def names(self) -> list[str]:
        """The types of all events."""
        return [event.event for event in self.events]

    def data(self, name: str = "") -> list[Any]:
        """The decoded data of all events of a type, or of all."""
        return [json.loads(event.data) for event in self.events if not name or event.event == name]
