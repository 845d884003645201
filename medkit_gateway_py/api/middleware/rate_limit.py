"""Requests per minute, by client and route and of all together (API.md §9.6), with the headers that say what is left.

A client is an address. Other gateways that show a token with the permission `peer` are not counted as clients.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...parameters.access import endpoint_limit, path_segments
from ...parameters.sections import RateLimiting
from ...security.buckets import Bucket, Buckets
from ..answers import json_answer

_ALL = "all"


class RateLimit:
    """429 beyond the limits. `is_exempt(scope)`: whether the limit of single clients does not hold."""

    def __init__(
        self,
        app: ASGIApp,
        limits: RateLimiting,
        is_exempt: Callable[[Scope], bool] = lambda scope: False,
        *,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._limits = limits
        self._is_exempt = is_exempt
        self._wall_clock = wall_clock
        self._endpoints = [found for text in limits.endpoint_limits if (found := endpoint_limit(text)) is not None]
        self._all = Buckets(clock=clock)
        self._clients = Buckets(
            max_idle_s=limits.client_max_idle_seconds,
            cleanup_interval_s=limits.client_cleanup_interval_seconds,
            clock=clock,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count the request, and pass it on or refuse it."""
        if scope["type"] != "http" or scope["method"] == "OPTIONS":
            await self._app(scope, receive, send)
            return
        total = self._all.get(_ALL, self._limits.global_requests_per_minute)
        bucket = total if self._is_exempt(scope) else self._client_bucket(scope)
        for one in (bucket, total):
            if one.is_empty:
                await self._refuse(one, scope, receive, send)
                return
        total.tokens -= 1.0
        if bucket is not total:
            bucket.tokens -= 1.0
        headers = [(name.lower().encode(), value.encode()) for name, value in self._headers(bucket).items()]

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                # Those of another gateway are about its own limits.
                kept = [one for one in message.get("headers", ()) if not one[0].lower().startswith(b"x-ratelimit-")]
                message = {**message, "headers": [*kept, *headers]}
            await send(message)

        await self._app(scope, receive, add)

    def _client_bucket(self, scope: Scope) -> Bucket:
        client = scope.get("client")
        address = client[0] if client else ""
        segments = path_segments(scope["path"]) if self._endpoints else ()
        for number, endpoint in enumerate(self._endpoints):
            if endpoint.matches(segments):
                key: Hashable = (address, number)
                return self._clients.get(key, endpoint.per_minute)
        return self._clients.get((address, None), self._limits.client_requests_per_minute)

    async def _refuse(self, bucket: Bucket, scope: Scope, receive: Receive, send: Send) -> None:
        headers = self._headers(bucket)
        reset = int(headers["X-RateLimit-Reset"])
        answer = too_many(bucket.wait_s, headers, limit=bucket.limit, reset=reset)
        await answer(scope, receive, send)

    def _headers(self, bucket: Bucket) -> dict[str, str]:
        return {
            "X-RateLimit-Limit": str(bucket.limit),
            "X-RateLimit-Remaining": str(bucket.remaining),
            "X-RateLimit-Reset": str(math.ceil(self._wall_clock() + bucket.full_in_s)),
        }


def too_many(seconds: int, headers: dict[str, str] | None = None, **parameters: int) -> Response:
    """The answer 429, which tells after how many seconds to come again."""
    body = {
        "error_code": "rate-limit-exceeded",
        "message": f"Too many requests. Please retry after {seconds} seconds.",
        "parameters": {"retry_after": seconds, **parameters},
    }
    return json_answer(body, 429, {**(headers or {}), "Retry-After": str(seconds)})
