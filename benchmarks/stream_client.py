"""Many clients of one event stream in one process: when each event reached each of them.

    python -m benchmarks.stream_client --url http://127.0.0.1:8080/api/v1/faults/stream --clients 200 --events 100

Prints `ready` when all streams are open, and one JSON object when every client has all events, or at `--seconds`.
Events are those with a `timestamp` (seconds since the epoch) and the text `--marked`; their delay counts from it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import time
from array import array
from typing import Any
from urllib.parse import urlsplit

import uvloop

from .client import percentile

STAMP = re.compile(rb'"timestamp":([0-9.]+)')
OPEN_S = 15.0


class Everyone:
    """What all clients share."""

    def __init__(self, wanted: int, marked: bytes) -> None:
        self.wanted = wanted
        self.marked = marked
        self.open = self.complete = self.broken = self.received = 0
        self.delays = array("d")
        self.all_open = asyncio.Event()
        self.all_complete = asyncio.Event()


class Client(asyncio.Protocol):
    """One stream. Framing is not looked at: events are told by their blank line."""

    def __init__(self, everyone: Everyone, clients: int, request: bytes) -> None:
        self._everyone, self._clients, self._request = everyone, clients, request
        self._rest = b""
        self._count = 0
        self._is_open = False
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        everyone, now = self._everyone, time.time()
        if not self._is_open:
            self._is_open = True
            everyone.open += 1
            if everyone.open == self._clients:
                everyone.all_open.set()
        *events, self._rest = (self._rest + data).split(b"\n\n")
        for event in events:
            if everyone.marked not in event:
                continue
            found = STAMP.search(event)
            if found is None:
                continue
            everyone.delays.append(now - float(found[1]))
            everyone.received += 1
            self._count += 1
            if self._count == everyone.wanted:
                everyone.complete += 1
                if everyone.complete == self._clients:
                    everyone.all_complete.set()

    def connection_lost(self, _error: Exception | None) -> None:
        self._everyone.broken += 1

    def end(self) -> None:
        """Close the connection."""
        self._transport.close()


async def listen(url: str, clients: int, events: int, seconds: float, marked: str) -> dict[str, Any]:
    """Open all streams, wait for all events, and summarise."""
    parts = urlsplit(url)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nAccept: text/event-stream\r\n\r\n".encode()
    everyone = Everyone(events, marked.encode())
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(clients):
        _, one = await loop.create_connection(
            lambda: Client(everyone, clients, request), parts.hostname or "127.0.0.1", parts.port or 80
        )
        opened.append(one)
    await asyncio.wait_for(everyone.all_open.wait(), OPEN_S)
    print("ready", flush=True)
    try:
        await asyncio.wait_for(everyone.all_complete.wait(), seconds)
    except asyncio.TimeoutError:
        pass
    broken = everyone.broken
    for one in opened:
        one.end()
    ordered = sorted(everyone.delays)
    return {
        "received": everyone.received,
        "missing": clients * events - everyone.received,
        "broken": broken,
        "p50_ms": percentile(ordered, 50) * 1e3,
        "p99_ms": percentile(ordered, 99) * 1e3,
    }


def main() -> int:
    """0: ran, whatever came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--clients", type=int, required=True)
    parser.add_argument("--events", type=int, required=True, help="for each client")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--marked", default="", help="text that an event has to have to count")
    own = parser.parse_args()
    uvloop.install()
    print(json.dumps(asyncio.run(listen(own.url, own.clients, own.events, own.seconds, own.marked))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
