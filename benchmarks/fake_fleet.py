"""Many gateways in one process, as an aggregator sees them: robots of one kind, each with as many apps as all others.

    python -m benchmarks.fake_fleet --ports 23000,23001 --apps 100 --late 1.0

Each serves `/health`, its tree, the stream of its changes, `/faults` and the data of the function `navigation`, which
all of them have. Commands come on standard input, one a line, and are answered with the monotonic time at which they
took effect: `add NUMBER NAME` and `remove NUMBER NAME` of an app, `churn PER_SECOND` (every gateway loses an app or has
it back, so often), `mode NUMBER MODE` (see `Mode`). Ends at the end of the input.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from enum import Enum
from typing import Any

import httptools
import orjson
import uvloop

API = "/api/v1"
FUNCTION = "navigation"
BOOT_ID = "1"
SIGN_OF_LIFE_S = 1.0
DATA_ITEMS = 4


class Mode(str, Enum):
    """How a gateway behaves. SLOW: calls are answered late, its tree is not; SILENT: nothing is said any more."""

    WELL = "well"
    SLOW = "slow"
    SILENT = "silent"
    DEAD = "dead"


class FakeGateway:
    """One gateway: its entities, and the connections to it."""

    def __init__(self, number: int, apps: int, late_s: float = 1.0) -> None:
        self.name = f"robot_{number:02d}"
        self.late_s = late_s
        self.mode = Mode.WELL
        self.seq = 1
        self.server: asyncio.Server | None = None
        self.connections: set[Connection] = set()
        self.streams: set[Connection] = set()
        self._apps = {name: self._app(name) for name in (f"node_{one:03d}" for one in range(apps))}
        self._spare = self._app(f"node_{apps - 1:03d}")
        fault = {"fault_code": f"LOW_BATTERY_{number}", "severity": 2, "status": "CONFIRMED", "occurrence_count": 1}
        self.faults = orjson.dumps({"items": [fault], "x-medkit": {"count": 1}})
        topics = [f"/{self.name}/topic_{one}" for one in range(DATA_ITEMS)]
        data = [{"id": topic, "name": topic, "category": "currentData"} for topic in topics]
        self.data = orjson.dumps({"items": data, "x-medkit": {"total_count": len(data)}})

    def add(self, name: str) -> None:
        """One app more."""
        self._apps[name] = self._app(name)
        self._changed()

    def remove(self, name: str) -> None:
        """One app less; nothing where there is none of this name."""
        if self._apps.pop(name, None) is not None:
            self._changed()

    def toggle(self) -> None:
        """Lose the last app, or have it back."""
        if self._apps.pop(self._spare["id"], None) is None:
            self._apps[self._spare["id"]] = self._spare
        self._changed()

    def section(self) -> dict[str, Any]:
        """Its own section, as it travels (AGGREGATION.md §6)."""
        part = {"id": f"{self.name}_computer", "name": "Computer", "type": "host", "source": "runtime"}
        function = {"id": FUNCTION, "name": "Navigation", "hosts": sorted(self._apps)[:3], "source": "manifest"}
        return {
            "id": self.name, "name": self.name, "boot_id": BOOT_ID, "seq": self.seq, "path": [self.name], "state": "up",
            "entities": {
                "areas": [{"id": "depot", "name": "Depot"}],
                "components": [part],
                "apps": list(self._apps.values()),
                "functions": [function],
            },
        }  # fmt: skip

    def document(self) -> dict[str, Any]:
        """The whole answer to a question for its tree."""
        gateway = {"id": self.name, "boot_id": BOOT_ID, "name": self.name, "version": "1.0.0"}
        return {"schema": 1, "gateway": gateway, "seq": self.seq, "origins": [self.section()]}

    def place(self) -> str:
        """Where its tree is: the id of its events, and its ETag without the quotes."""
        return f"{BOOT_ID}-{self.seq}"

    def delta(self, base: int, *, whole: bool = True) -> bytes:
        """The event that tells of the newest change; without `whole` only where the tree is."""
        changed = [self.section()] if whole else []
        data = orjson.dumps({"base": base, "seq": self.seq, "set": changed, "gone": []})
        return b"event: delta\nid: " + self.place().encode() + b"\ndata: " + data + b"\n\n"

    def _app(self, name: str) -> dict[str, Any]:
        return {
            "id": name,
            "name": name,
            "component_id": f"{self.name}_computer",
            "fqn": f"/{name}",
            "source": "heuristic",
            "graph_key": f"{self.name}{name}",
        }

    def _changed(self) -> None:
        self.seq += 1
        if self.streams and self.mode in (Mode.WELL, Mode.SLOW):
            event = self.delta(self.seq - 1)
            for stream in self.streams:
                stream.chunk(event)

    async def become(self, mode: Mode, port: int) -> None:
        """Behave so from now on. Dead: connections are reset, new ones refused."""
        self.mode = mode
        if mode is Mode.DEAD and self.server is not None:
            self.server.close()
            self.server = None
            for one in list(self.connections):
                one.abort()
        elif mode is not Mode.DEAD:
            if self.server is None:
                loop = asyncio.get_running_loop()
                self.server = await loop.create_server(lambda: Connection(self), "127.0.0.1", port)
            if mode is Mode.WELL:
                for one in list(self.connections):
                    one.resume()


class Connection(asyncio.Protocol):
    """One connection to one gateway; requests one after the other."""

    def __init__(self, gateway: FakeGateway) -> None:
        self._gateway = gateway
        self._parser = httptools.HttpRequestParser(self)
        self._transport: Any = None
        self._url = b""
        self._headers: dict[bytes, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._gateway.connections.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._gateway.connections.discard(self)
        self._gateway.streams.discard(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_begin(self) -> None:
        """Called by the parser, as are the following."""
        self._url, self._headers = b"", {}

    def on_url(self, url: bytes) -> None:
        """A piece of it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """A whole header."""
        self._headers[name.lower()] = value

    def on_message_complete(self) -> None:
        """Answer now, later or not at all."""
        gateway, path = self._gateway, self._url.partition(b"?")[0].decode().removeprefix(API)
        if gateway.mode is Mode.SILENT:
            return
        if path == "/x-medkit/tree/stream":
            self._begin_stream()
        elif path == "/x-medkit/tree":
            self._tell_tree()
        elif path == "/health":
            self._answer(b'{"status":"healthy"}')
        elif path in ("/faults", f"/functions/{FUNCTION}/data"):
            body = gateway.faults if path == "/faults" else gateway.data
            if gateway.mode is Mode.SLOW:
                asyncio.get_running_loop().call_later(gateway.late_s, self._answer, body)
            else:
                self._answer(body)
        else:
            self._answer(b"{}", b"404 Not Found")

    def chunk(self, data: bytes) -> None:
        """A piece of the stream."""
        self._transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def abort(self) -> None:
        """Reset it."""
        self._transport.abort()

    def resume(self) -> None:
        """End a connection on which something was left unanswered."""
        if self not in self._gateway.streams:
            self._transport.close()

    def _answer(self, body: bytes, status: bytes = b"200 OK", more: bytes = b"") -> None:
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n"
        if not self._transport.is_closing():
            self._transport.write(head % (status, more, len(body)) + body)

    def _tell_tree(self) -> None:
        etag = f'"{self._gateway.place()}"'.encode()
        if self._headers.get(b"if-none-match") == etag:
            self._answer(b"", b"304 Not Modified", b"ETag: " + etag + b"\r\n")
        else:
            self._answer(orjson.dumps(self._gateway.document()), more=b"ETag: " + etag + b"\r\n")

    def _begin_stream(self) -> None:
        gateway = self._gateway
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        is_there = self._headers.get(b"last-event-id", b"").decode() == gateway.place()
        self.chunk(b":\n\n" if is_there else b":\n\n" + gateway.delta(gateway.seq, whole=False))
        gateway.streams.add(self)


class Fleet:
    """All gateways, and what they do by themselves."""

    def __init__(self, gateways: list[FakeGateway], ports: list[int]) -> None:
        self.gateways = gateways
        self._ports = ports
        self._churn = 0.0

    async def run(self) -> None:
        """Serve until the input ends."""
        for gateway, port in zip(self.gateways, self._ports, strict=True):
            await gateway.become(Mode.WELL, port)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        alive = asyncio.create_task(self._signs_of_life())
        churn = asyncio.create_task(self._change())
        print("ready", flush=True)
        async for line in reader:
            await self._obey(line.decode().split())
            print(time.monotonic(), flush=True)
        alive.cancel()
        churn.cancel()

    async def _obey(self, words: list[str]) -> None:
        if words[0] == "churn":
            self._churn = float(words[1])
            return
        number = int(words[1])
        gateway = self.gateways[number]
        if words[0] == "add":
            gateway.add(words[2])
        elif words[0] == "remove":
            gateway.remove(words[2])
        elif words[0] == "mode":
            await gateway.become(Mode(words[2]), self._ports[number])

    async def _signs_of_life(self) -> None:
        while True:
            await asyncio.sleep(SIGN_OF_LIFE_S)
            for gateway in self.gateways:
                if gateway.mode is not Mode.SILENT:
                    for stream in gateway.streams:
                        stream.chunk(b":\n\n")

    async def _change(self) -> None:
        """Each gateway as often as `churn` says, spread over the time between."""
        number = 0
        while True:
            if not self._churn:
                await asyncio.sleep(0.05)
                continue
            self.gateways[number % len(self.gateways)].toggle()
            number += 1
            await asyncio.sleep(1 / self._churn / len(self.gateways))


def main() -> int:
    """0 when the input ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ports", required=True, help="one of each gateway, with commas between")
    parser.add_argument("--apps", type=int, required=True, help="of each gateway")
    parser.add_argument("--late", type=float, default=1.0, help="seconds that a slow one takes")
    own = parser.parse_args()
    ports = [int(port) for port in own.ports.split(",")]
    gateways = [FakeGateway(number, own.apps, own.late) for number in range(len(ports))]
    uvloop.install()
    try:
        asyncio.run(Fleet(gateways, ports).run())
    except KeyboardInterrupt:
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
