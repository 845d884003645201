"""Many peers in one thread: small servers that tell a tree, and some that say nothing. For tests of whole gateways.

Each good one has a single app, whose id a test changes, polls with ETags, and has no stream of changes. Slow ones are
so in one `manner` each.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from .fake_peer import head_of, http, listen

# How to be slow: nothing is ever said; each answer begins after `late_s`; answers begin at once and come byte by byte,
# but for the tree, or only the tree; a gateway that has no tree, and whose health begins after `late_s`.
SILENT, LATE, DRIPPING, DRIPPING_TREE, SLOW_HEALTH = "silent", "late", "dripping", "dripping_tree", "slow_health"
DRIP_S = 0.05


@dataclass
class FakeGateway:
    """One peer: its name, the id of its app, and how many bytes it was sent."""

    name: str
    app: str = ""
    seq: int = 1
    manner: str = ""
    late_s: float = 0.0
    received: int = 0
    requests: list[str] = field(default_factory=list)
    url: str = ""

    def change(self, app: str) -> None:
        """From now on it has this app instead."""
        self.app = app
        self.seq += 1

    def tree(self) -> bytes:
        """Its answer to a poll."""
        origin = {"id": self.name, "boot_id": "1", "seq": self.seq, "path": [self.name]}
        section = {**origin, "entities": {"apps": [{"id": self.app, "fqn": f"/{self.app}"}]}}
        gateway = {"id": self.name, "boot_id": "1"}
        return json.dumps({"schema": 1, "gateway": gateway, "seq": self.seq, "origins": [section]}).encode()

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        # Cancelled when the test is over, and then it has nothing to tell.
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = (await head_of(reader)).decode("latin-1").lower()
                request = head.split("\r\n", 1)[0].rsplit(" ", 1)[0]
                self.requests.append(request)
                if self.manner == SILENT:
                    await reader.read()
                    return
                await self._take_body(head, reader)
                answer = self._answer(request, head)
                if self.manner == LATE or (self.manner == SLOW_HEALTH and request.endswith("/health")):
                    await asyncio.sleep(self.late_s)
                is_tree = request.endswith("/x-medkit/tree")
                if self.manner == (DRIPPING_TREE if is_tree else DRIPPING):
                    await self._drip(answer, writer)
                else:
                    writer.write(answer)
                await writer.drain()
        writer.close()

    async def _drip(self, answer: bytes, writer: asyncio.StreamWriter) -> None:
        """The head at once; of the body one byte now and then, until nobody takes it any more."""
        head, _, body = answer.partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        for byte in body:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(DRIP_S)

    async def _take_body(self, head: str, reader: asyncio.StreamReader) -> None:
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        left = int(fields.get("content-length", 0))
        while left > 0:
            piece = await reader.read(min(left, 1 << 20))
            if not piece:
                raise ConnectionResetError
            left -= len(piece)
            self.received += len(piece)

    def _answer(self, request: str, head: str) -> bytes:
        return self._bytes(request, head).replace(b"Connection: close", b"X-A: b")

    def _bytes(self, request: str, head: str) -> bytes:
        if self.manner == SLOW_HEALTH:
            return self._other_kind(request)
        if request.endswith("/x-medkit/tree"):
            etag = f'"1-{self.seq}"'
            if f"if-none-match: {etag}" in head:
                return f"HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n\r\n".encode()
            return http(self.tree(), "200 OK", f"ETag: {etag}")
        if request.startswith("post"):
            return http(b"{}")
        if request.endswith("/faults"):
            return http(b'{"items":[{"fault_code":"X"}]}')
        if request.endswith("/data"):
            return http(b'{"items":[]}')
        return http(b"{}", "404 Not Found")

    def _other_kind(self, request: str) -> bytes:
        if "/x-medkit/" in request:
            return http(b"{}", "404 Not Found")
        if request.endswith("/health"):
            return http(json.dumps({"status": "healthy", "x-medkit-entity-cache": {"generation": self.seq}}).encode())
        facts = {"source": "heuristic", "is_online": True, "ros2": {"node": f"/{self.app}"}}
        app = {"id": self.app, "name": self.app, "type": "app", "x-medkit": facts}
        return http(json.dumps({"items": [app] if request.endswith("/apps") else []}).encode())


@contextlib.contextmanager
def fake_fleet(*gateways: FakeGateway) -> Iterator[None]:
    """Serve them all, each on a port of its own, in a thread."""
    sockets: list[socket.socket] = []
    for gateway in gateways:
        sockets.append(listen())
        gateway.url = f"http://127.0.0.1:{sockets[-1].getsockname()[1]}"
    loop = asyncio.new_event_loop()

    async def start() -> list[asyncio.Server]:
        pairs = zip(gateways, sockets, strict=True)
        return [await asyncio.start_server(one.handle, sock=sock, limit=1 << 21) for one, sock in pairs]

    servers = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:

        def stop() -> None:
            for server in servers:
                server.close()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.call_later(0.1, loop.stop)

        loop.call_soon_threadsafe(stop)
        thread.join(5)
