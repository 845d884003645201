"""CORS exactly as API.md §1.10 has it, which no library does: 204 or 403 for preflights, headers on every answer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..errors import generic_answer

ANY = "*"
EXPOSED = (
    "Content-Disposition",
    "Content-Length",
    "X-RateLimit-Limit",
    "X-RateLimit-Remaining",
    "X-RateLimit-Reset",
    "Retry-After",
    "ETag",
    "X-Request-Id",
)
# What our clients send beside the configured headers (DECISIONS 8, CLIENTS.md §0).
ALWAYS_ALLOWED = ("If-None-Match", "Last-Event-ID", "X-Client-Id", "X-Request-Id")


class Cors:
    """Answers preflights and adds the CORS headers. Use it only when an origin is allowed at all."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        origins: Sequence[str],
        methods: Sequence[str],
        headers: Sequence[str],
        credentials: bool,
        max_age_s: int,
        auth: bool,
    ) -> None:
        if ANY in origins and credentials:
            raise ValueError("cors.allowed_origins with '*' cannot be combined with cors.allow_credentials")
        self._app = app
        self._origins = frozenset(origins)
        allowed = _with_missing(headers, (*ALWAYS_ALLOWED, *(("Authorization",) if auth else ())))
        self._headers = [
            (b"access-control-allow-methods", ", ".join(methods).encode()),
            (b"access-control-allow-headers", ", ".join(allowed).encode()),
            (b"access-control-expose-headers", ", ".join(EXPOSED).encode()),
            (b"vary", b"Origin"),
        ]
        if credentials:
            self._headers.append((b"access-control-allow-credentials", b"true"))
        self._max_age = (b"access-control-max-age", str(max_age_s).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer OPTIONS, pass on everything else."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
        allowed = origin is not None and is_allowed(origin.decode("latin-1"), self._origins)
        if scope["method"] == "OPTIONS":
            if not allowed or origin is None:
                await generic_answer(403)(scope, receive, send)
                return
            headers = [*self._for(origin), self._max_age, (b"content-length", b"0")]
            await send({"type": "http.response.start", "status": 204, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                # A peer's own CORS headers are for its clients, not for ours.
                kept = [one for one in message.get("headers", ()) if not one[0].lower().startswith(b"access-control-")]
                kept += self._for(origin) if allowed and origin is not None else [(b"vary", b"Origin")]
                message = {**message, "headers": kept}
            await send(message)

        await self._app(scope, receive, add)

    def _for(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        return [(b"access-control-allow-origin", origin), *self._headers]


def is_allowed(origin: str, origins: Iterable[str]) -> bool:
    """Whether a page of this origin may use the gateway; `*` is every origin."""
    return ANY in origins or origin in origins


def _with_missing(names: Sequence[str], wanted: Sequence[str]) -> list[str]:
    present = {name.lower() for name in names}
    return [*names, *(name for name in wanted if name.lower() not in present)]
