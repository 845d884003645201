"""The yardstick: uvicorn with uvloop and httptools around the smallest ASGI app that answers 1 KB of JSON.

Nothing that speaks HTTP through uvicorn is cheaper, so a ratio to it says what the gateway adds on any machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from typing import Any

import uvicorn

SIZE = 1024
# An event of a fault has about so many bytes beside its time.
EVENT = 380
STREAM_END_S = 1.0


def app_of(size: int) -> Any:
    """An ASGI app that answers every request alike, with about so many bytes."""
    body = json.dumps({"items": [], "padding": "x" * max(0, size - 29)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    begin = asyncio.Event()

    async def stream(count: int, per_second: int, send: Any) -> None:
        """The plainest event stream there is: what is sent is made for each client, one after the other."""
        kind = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
        await send({"type": "http.response.start", "status": 200, "headers": kind})
        await send({"type": "http.response.body", "body": b":\n\n", "more_body": True})
        await begin.wait()
        began = time.time()
        for number in range(count):
            # All clients are told of one event at one moment.
            stamp = began + number / per_second
            await asyncio.sleep(max(0.0, stamp - time.time()))
            event = f'id: {number}\nevent: YARD\ndata: {{"timestamp":{stamp},"padding":"{"x" * EVENT}"}}\n\n'
            await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
        await asyncio.sleep(STREAM_END_S)
        begin.clear()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        if scope["path"].startswith("/stream/"):
            count, per_second = (int(part) for part in scope["path"].split("/")[2:4])
            await stream(count, per_second, send)
            return
        if scope["path"] == "/stream-begin":
            begin.set()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--bytes", type=int, default=SIZE, help="of an answer")
    own = parser.parse_args()
    uvicorn.run(
        app_of(own.bytes),
        host="127.0.0.1",
        port=own.port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main()
