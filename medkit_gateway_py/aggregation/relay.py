"""The answer side of a forward: a peer's answer becomes ours, piece by piece, its ids rewritten where they differ.

JSON up to 10 MiB and event streams are rewritten. A longer JSON answer, one of millions of objects, one of unknown
encoding and a part of a file go through as they are, marked by `X-Medkit-Not-Rewritten: true`: large answers are data,
and data holds no ids.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

import anyio
import httpx
import orjson

from .client import DECODE_ON_LOOP, MAX_JSON
from .decoding import has_too_many_objects
from .rewrite import Rewriter

NOT_REWRITTEN = b"x-medkit-not-rewritten"
# One event of a stream; a longer line goes through as it is.
MAX_EVENT_LINE = 1024 * 1024
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# Ours to say: our server dates its answers, our CORS rules are not the peer's, and cookies are nobody's here.
_OURS = frozenset({b"date", b"server", b"set-cookie", b"alt-svc", b"strict-transport-security"})
_NO_BODY = frozenset({204, 304})

Headers = list[tuple[bytes, bytes]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_log = logging.getLogger(__name__)


class Relay:
    """Gives one answer to one client.

    `rewriter` is None where all ids are the same; `if_none_match` is what the client has already, `request_id` what
    logs call its request.
    """

    def __init__(
        self, peer: str, url: str, rewriter: Rewriter | None, send: Send, if_none_match: str = "", request_id: str = "-"
    ) -> None:
        self._peer = peer
        self._url = url
        self._rewriter = rewriter
        self._send = send
        self._if_none_match = if_none_match
        self._request_id = request_id

    async def answer(self, response: httpx.Response, *, is_head: bool) -> None:
        """Send all of it. Raises httpx.HTTPError when the peer breaks off."""
        headers = self._headers(response)
        status = response.status_code
        kind = response.headers.get("content-type", "").split(";")[0].strip().lower()
        rewriter = self._rewriter
        if rewriter is not None and status == 304 and self._is_of_rewritten(response, rewriter):
            await self._start(status, [*_without(headers, b"etag"), *self._etag(response)])
            await self._send({"type": "http.response.body", "body": b""})
        elif rewriter is None or not _may_rewrite(kind):
            await self._start(status, headers)
            await self._pass_on(response)
        elif is_head or status in _NO_BODY:
            await self._start(status, [*_without(headers, b"content-length", b"etag"), *self._etag(response)])
            await self._send({"type": "http.response.body", "body": b""})
        elif status == 206 or response.headers.get("content-encoding", "identity").lower() != "identity":
            await self._unchanged(response, headers)
        elif kind == "text/event-stream":
            await self._start(status, _without(headers, b"content-length"))
            await self._pass_on_events(response, rewriter)
        else:
            await self._json(response, headers, rewriter)

    async def _start(self, status: int, headers: Headers) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def _pass_on(self, response: httpx.Response, first: bytes = b"") -> None:
        if first:
            await self._send({"type": "http.response.body", "body": first, "more_body": True})
        async for chunk in response.aiter_raw():
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _unchanged(self, response: httpx.Response, headers: Headers, first: bytes = b"") -> None:
        # Not louder: clients choose how often, and are told by the header.
        text = "An answer of peer '%s' has other ids than ours and is passed on as it is (request %s)"
        _log.debug(text, self._peer, self._request_id)
        await self._start(response.status_code, [*headers, (NOT_REWRITTEN, b"true")])
        await self._pass_on(response, first)

    async def _json(self, response: httpx.Response, headers: Headers, rewriter: Rewriter) -> None:
        announced = response.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > MAX_JSON:
            await self._unchanged(response, headers)
            return
        body = bytearray()
        stream = response.aiter_raw()
        async for chunk in stream:
            body += chunk
            if len(body) > MAX_JSON:
                await self._rest_unchanged(response, headers, bytes(body), stream)
                return
        if has_too_many_objects(body):
            await self._rest_unchanged(response, headers, bytes(body), stream)
            return
        if len(body) > DECODE_ON_LOOP:
            rewritten = await anyio.to_thread.run_sync(_rewritten, bytes(body), rewriter)
        else:
            rewritten = _rewritten(bytes(body), rewriter)
        length = (b"content-length", str(len(rewritten)).encode())
        headers = [*_without(headers, b"content-length", b"etag"), *self._etag(response), length]
        await self._start(response.status_code, headers)
        await self._send({"type": "http.response.body", "body": rewritten})

    async def _rest_unchanged(
        self, response: httpx.Response, headers: Headers, first: bytes, stream: AsyncIterator[bytes]
    ) -> None:
        text = "An answer of peer '%s' is longer than %d bytes and is passed on as it is (request %s)"
        _log.debug(text, self._peer, MAX_JSON, self._request_id)
        await self._start(response.status_code, [*headers, (NOT_REWRITTEN, b"true")])
        await self._send({"type": "http.response.body", "body": first, "more_body": True})
        async for chunk in stream:
            await self._send({"type": "http.response.body", "body": chunk, "more_body": True})
        await self._send({"type": "http.response.body", "body": b""})

    async def _pass_on_events(self, response: httpx.Response, rewriter: Rewriter) -> None:
        """Line by line: a line is passed on as soon as it is complete, so events and keep-alives are not held up."""
        rest = b""
        async for chunk in response.aiter_raw():
            rest += chunk
            end = rest.rfind(b"\n") + 1
            if not end and len(rest) <= MAX_EVENT_LINE:
                continue
            whole, rest = (rest[:end], rest[end:]) if end else (rest, b"")
            lines = whole.splitlines(keepends=True)
            await self._send(
                {
                    "type": "http.response.body",
                    "body": b"".join(_event_line(line, rewriter) for line in lines),
                    "more_body": True,
                }
            )
        await self._send({"type": "http.response.body", "body": rest})

    def _is_of_rewritten(self, response: httpx.Response, rewriter: Rewriter) -> bool:
        """Whether what the client has is an answer that was rewritten. A 304 need not say of what type it is."""
        made = rewriter.etag(response.headers.get("etag", "")).removeprefix("W/")
        return made in {tag.strip().removeprefix("W/") for tag in self._if_none_match.split(",")}

    def _etag(self, response: httpx.Response) -> Headers:
        etag = response.headers.get("etag")
        if etag is None or self._rewriter is None:
            return []
        return [(b"etag", self._rewriter.etag(etag).encode("latin-1"))]

    def _headers(self, response: httpx.Response) -> Headers:
        named = {
            part.strip().lower().encode("latin-1") for part in response.headers.get("connection", "").split(",") if part
        }
        headers = []
        for raw_name, value in response.headers.raw:
            name = raw_name.lower()
            if name in _HOP_BY_HOP or name in named or name in _OURS or name.startswith(b"access-control-"):
                continue
            if name == b"location":
                value = self._location(value.decode("latin-1")).encode("latin-1", "replace")
            headers.append((name, value))
        return headers

    def _location(self, location: str) -> str:
        """A path here: the peer's own address and base path mean nothing to our client."""
        base = urlsplit(self._url)
        parts = urlsplit(location)
        if parts.netloc and parts.netloc == base.netloc:
            location = parts._replace(scheme="", netloc="").geturl()
        if base.path and location.startswith(f"{base.path}/"):
            location = location.removeprefix(base.path)
        return self._rewriter.link(location) if self._rewriter is not None else location


def _may_rewrite(kind: str) -> bool:
    return kind == "application/json" or kind.endswith("+json") or kind == "text/event-stream"


def _without(headers: Headers, *names: bytes) -> Headers:
    return [(name, value) for name, value in headers if name not in names]


def _rewritten(body: bytes, rewriter: Rewriter) -> bytes:
    try:
        return orjson.dumps(rewriter.body(orjson.loads(body)))
    except (ValueError, TypeError):
        # It says JSON and is none (or nests deeper than can be written); the client shall see what we saw.
        return body


def _event_line(line: bytes, rewriter: Rewriter) -> bytes:
    if not line.startswith(b"data:"):
        return line
    text = line[5:].strip()
    try:
        rewritten = orjson.dumps(rewriter.body(orjson.loads(text)))
    except (ValueError, TypeError):
        return line
    return b"data: " + rewritten + line[len(line.rstrip(b"\r\n")) :]
