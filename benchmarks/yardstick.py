"""The yardstick: uvicorn with uvloop and httptools around the smallest ASGI app that answers 1 KB of JSON.

Nothing that speaks HTTP through uvicorn is cheaper, so a ratio to it says what the gateway adds on any machine.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import uvicorn

BODY = json.dumps({"items": [], "padding": "x" * 995}).encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]


async def app(_scope: Any, _receive: Any, send: Any) -> None:
    """Answers every request alike."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


def main() -> None:
    """Serve until SIGINT or SIGTERM."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=parser.parse_args().port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
    )


if __name__ == "__main__":
    main()
