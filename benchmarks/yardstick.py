"""The yardstick: uvicorn with uvloop and httptools around the smallest ASGI app that answers 1 KB of JSON.

Nothing that speaks HTTP through uvicorn is cheaper, so a ratio to it says what the gateway adds on any machine.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import uvicorn

SIZE = 1024


def app_of(size: int) -> Any:
    """An ASGI app that answers every request alike, with about so many bytes."""
    body = json.dumps({"items": [], "padding": "x" * max(0, size - 29)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
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
