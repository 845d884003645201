"""A request for an entity, sent once more to the path of the member that has what is asked for (AGGREGATION.md §8).

The member may be at another gateway: the forwarding is in front of that path. What comes back is the member's answer;
`Facts` give it the ids of the entity that was asked, so that clients find what they asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

# A longer answer goes through as it is. Rewriting holds all of it in memory, and so much data has no small id to mend.
MAX_REWRITTEN = 10 * 1024 * 1024


@dataclass(frozen=True)
class Facts:
    """What the good answer of an item says in place of the member's words: `id`, and members of its `x-medkit`."""

    id: str
    medkit: dict[str, Any]

    def of(self, body: bytes) -> bytes:
        """The answer with these in it; `body` itself when it is no object."""
        try:
            document = orjson.loads(body)
        except ValueError:
            return body
        if not isinstance(document, dict):
            return body
        medkit = document.get("x-medkit")
        document["id"] = self.id
        document["x-medkit"] = {**(medkit if isinstance(medkit, dict) else {}), **self.medkit}
        return orjson.dumps(document)


class PassOn(Response):
    """Answers by sending the request through the whole application again, to another path.

    `body` is that of the request when it has been read already; None when it has not.
    """

    def __init__(self, path: str, body: bytes | None = None, facts: Facts | None = None) -> None:
        super().__init__()
        self._path = path
        self._read = body
        self._facts = facts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start over."""
        scope = {**scope, "path": self._path, "raw_path": quote(self._path).encode(), "path_params": {}}
        if self._facts is not None:
            send = _Mend(self._facts, send)
        await scope["app"].state.entry(scope, self._again(receive), send)

    def _again(self, receive: Receive) -> Receive:
        unread = self._read

        async def again() -> Message:
            nonlocal unread
            if unread is None:
                return await receive()
            body, unread = unread, None
            return {"type": "http.request", "body": body, "more_body": False}

        return again


class _Mend:
    """An ASGI `send` that holds a good JSON answer back until all of it is there."""

    def __init__(self, facts: Facts, send: Send) -> None:
        self._facts = facts
        self._send = send
        self._start: Message | None = None
        self._body = bytearray()

    async def __call__(self, message: Message) -> None:
        """Take the next message of the answer."""
        if message["type"] == "http.response.start" and _is_good_json(message):
            self._start = message
            return
        if message["type"] != "http.response.body" or self._start is None:
            await self._send(message)
            return
        self._body += message.get("body", b"")
        if len(self._body) <= MAX_REWRITTEN:
            if message.get("more_body", False):
                return
            # Nothing came after HEAD, and its Content-Length would be that of the member's answer.
            body = self._facts.of(bytes(self._body))
            headers = [(name, value) for name, value in self._start["headers"] if name.lower() != b"content-length"]
            if body:
                headers.append((b"content-length", str(len(body)).encode()))
            self._start = {**self._start, "headers": headers}
            message = {"type": "http.response.body", "body": body}
        else:
            message = {**message, "body": bytes(self._body)}
        await self._send(self._start)
        self._start = None
        await self._send(message)


def _is_good_json(start: Message) -> bool:
    kinds = [value for name, value in start.get("headers", ()) if name.lower() == b"content-type"]
    return start["status"] == 200 and any(kind.startswith(b"application/json") for kind in kinds)
