"""JSON answers as bytes: compact, never NaN, with an ETag where the body is a cached snapshot."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

JSON = "application/json"


def to_json(value: Any) -> bytes:
    """Compact JSON. NaN and infinities become null (DECISIONS 4)."""
    return orjson.dumps(value)


def json_answer(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """An answer with a JSON body."""
    return Response(to_json(value), status, headers, JSON)


class Snapshot(Response):
    """A finished 200 answer with an ETag, 304 for those who have it already. One object serves many requests."""

    def __init__(self, body: bytes, etag: str = "") -> None:
        self.etag = etag or f'"{hashlib.blake2b(body, digest_size=8).hexdigest()}"'
        super().__init__(body, 200, {"etag": self.etag, "cache-control": "no-cache"}, JSON)
        self._not_modified = [(name, value) for name, value in self.raw_headers if name in (b"etag", b"cache-control")]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. The header lists are copied, because middleware adds to them."""
        if matches(scope, self.etag):
            await send({"type": "http.response.start", "status": 304, "headers": list(self._not_modified)})
            await send({"type": "http.response.body", "body": b""})
            return
        await send({"type": "http.response.start", "status": 200, "headers": list(self.raw_headers)})
        await send({"type": "http.response.body", "body": self.body})


def matches(scope: Scope, etag: str) -> bool:
    """Whether `If-None-Match` names this ETag: `*`, a list, weak ones too (RFC 9110 §13.1.2)."""
    for name, value in scope["headers"]:
        if name == b"if-none-match":
            for one in value.decode("latin-1").split(","):
                if one.strip().removeprefix("W/") in (etag, "*"):
                    return True
    return False
