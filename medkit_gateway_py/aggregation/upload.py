"""The request side of a forward: the client's body in small pieces, and word when the client leaves.

Reads `receive` of ASGI from one place only; never keeps more than one piece.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import anyio
import orjson

from ..errors import InvalidRequest, PayloadTooLarge
from .request import NO_FAN_OUT, ORIGINS

# A client that sends nothing for so long has gone, whatever its connection says.
CLIENT_IDLE_S = 60.0
# A peer that takes nothing for so long has gone, too.
PEER_IDLE_S = 45.0
# Bodies that are rewritten create triggers or subscriptions; a megabyte is a thousand times what that takes.
MAX_REWRITTEN = 1024 * 1024

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientLeft(Exception):
    """The client closed its connection before its request was complete."""


class Upload:
    """The body of one request."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive) -> None:
        headers = {bytes(name).lower(): bytes(value) for name, value in scope["headers"]}
        self.has_body = b"transfer-encoding" in headers or headers.get(b"content-length", b"0").strip() != b"0"
        self.has_left = False
        self.accept_encoding = headers.get(b"accept-encoding", b"identity")
        own = (NO_FAN_OUT.encode(), ORIGINS.encode())
        self.own_headers = [(name, headers[name]) for name in own if name in headers]
        self._receive = receive
        self._taken = anyio.Event()
        if not self.has_body:
            self._taken.set()

    async def client_left(self) -> None:
        """Return when the client has closed its connection; waits for the body to be taken first."""
        await self._taken.wait()
        while not self.has_left:
            self.has_left = (await self._receive())["type"] == "http.disconnect"

    async def stream(self, waiting: anyio.CancelScope, first_byte_s: float) -> AsyncIterator[bytes]:
        """The pieces. Moves the deadline of `waiting`: the peer's time for its answer begins when it has all.

        Raises ClientLeft.
        """
        more = True
        while more:
            waiting.deadline = anyio.current_time() + CLIENT_IDLE_S
            message = await self._receive()
            if message["type"] == "http.disconnect":
                self.has_left = True
                self._taken.set()
                raise ClientLeft
            more = message.get("more_body", False)
            waiting.deadline = anyio.current_time() + PEER_IDLE_S
            if message.get("body"):
                yield message["body"]
        waiting.deadline = anyio.current_time() + first_byte_s
        self._taken.set()

    async def rewritten(self, rewrite: Callable[[Any], Any]) -> bytes:
        """The whole body, rewritten when it is JSON. Raises PayloadTooLarge, InvalidRequest when it does not come."""
        body = bytearray()
        waiting = anyio.CancelScope()
        with anyio.move_on_after(CLIENT_IDLE_S) as total:
            async for piece in self.stream(waiting, CLIENT_IDLE_S):
                body += piece
                if len(body) > MAX_REWRITTEN:
                    raise PayloadTooLarge("Request body is too large", limit=MAX_REWRITTEN)
        if total.cancelled_caught:
            raise InvalidRequest("The request body did not come in time")
        try:
            return orjson.dumps(rewrite(orjson.loads(bytes(body))))
        except ValueError:
            # Not JSON: the owner says so in its own words.
            return bytes(body)
