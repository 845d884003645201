"""The load generator for machines without wrk: keep-alive connections on uvloop, one request in flight on each.

    python -m benchmarks.client --url http://127.0.0.1:8080/api/v1/health --connections 16 --seconds 3

With `--body` it is a POST of that JSON. Prints one JSON object. Ends at `--seconds` or `--max-requests`, whichever is
first.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import sys
import time
from array import array
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

# A request that is still unanswered this long after the end of the run counts as an error.
DRAIN_S = 5.0


class Run:
    """What all connections share: the request, the limits, what was seen."""

    def __init__(self, request: bytes, status: int, seconds: float, max_requests: int) -> None:
        self.request = request
        self.status = status
        self.max_requests = max_requests
        self.began = time.perf_counter()
        self.ends = self.began + seconds
        self.last = self.began
        self.sent = 0
        self.errors = 0
        self.latencies = array("d")
        self.open = 0
        self.finished = asyncio.Event()


class Connection(asyncio.Protocol):
    """One request after the other, each sent when the one before was answered."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._parser = httptools.HttpResponseParser(self)
        self._transport: Any = None
        self._sent_at = 0.0
        self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._run.open += 1
        self._next()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._transport.close()

    def on_message_complete(self) -> None:
        """Called by the parser."""
        run = self._run
        now = time.perf_counter()
        self._waiting = False
        if self._parser.get_status_code() == run.status:
            run.latencies.append(now - self._sent_at)
        else:
            run.errors += 1
        run.last = now
        self._next()

    def connection_lost(self, _error: Exception | None) -> None:
        run = self._run
        # Broken off by the server, or unanswered at the end: an error. Not connected again, to keep the loop bounded.
        run.errors += self._waiting
        run.open -= 1
        if run.open == 0:
            run.finished.set()

    def end(self) -> None:
        """Close it, answered or not."""
        self._transport.close()

    def _next(self) -> None:
        run = self._run
        now = time.perf_counter()
        if now >= run.ends or run.sent >= run.max_requests:
            self._transport.close()
            return
        run.sent += 1
        self._waiting = True
        self._sent_at = now
        self._transport.write(run.request)


async def load(
    url: str, connections: int, seconds: float, headers: Sequence[str], status: int, max_requests: int, body: str = ""
) -> dict[str, Any]:
    """Run and summarise: `requests` with the right status, `seconds`, `p50_ms`, `p99_ms`, `errors`."""
    parts = urlsplit(url)
    host, port = parts.hostname or "127.0.0.1", parts.port or 80
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    method = "POST" if body else "GET"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc}", "Accept: */*", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body.encode())}"]
    request = "\r\n".join([*lines, "", ""]).encode("latin-1") + body.encode()
    run = Run(request, status, seconds, max_requests)
    loop = asyncio.get_running_loop()
    opened = []
    for _ in range(connections):
        _transport, connection = await loop.create_connection(lambda: Connection(run), host, port)
        opened.append(connection)
    try:
        await asyncio.wait_for(run.finished.wait(), seconds + DRAIN_S)
    except asyncio.TimeoutError:
        for connection in opened:
            connection.end()
        await asyncio.sleep(0.1)
    ordered = sorted(run.latencies)
    return {
        "requests": len(ordered),
        "seconds": run.last - run.began,
        "p50_ms": percentile(ordered, 50) * 1e3,
        "p99_ms": percentile(ordered, 99) * 1e3,
        "errors": run.errors,
    }


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest value that `percent` of the sorted values do not exceed; NaN of nothing."""
    if not ordered:
        return math.nan
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def main() -> int:
    """0: ran, whatever the server answered."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", required=True)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--header", action="append", default=[], metavar="'NAME: VALUE'")
    parser.add_argument("--status", type=int, default=200, help="the answer that counts; others are errors")
    parser.add_argument("--body", default="", help="JSON to POST")
    parser.add_argument("--max-requests", type=int, default=2_000_000)
    own = parser.parse_args()
    uvloop.install()
    running = load(own.url, own.connections, own.seconds, own.header, own.status, own.max_requests, own.body)
    print(json.dumps(asyncio.run(running)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
