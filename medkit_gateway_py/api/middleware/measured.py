"""Counts every request and names it in its answer, whoever answers. In front of everything: refusals, too."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...aggregation.request import request_id
from ..metrics import Metrics

REQUEST_ID = b"x-request-id"


class Measured:
    """Tells `Metrics` of each request when it is over; every answer has the `X-Request-Id` that logs and peers know."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, size = "none", 0
        own = (REQUEST_ID, request_id(scope).encode())

        async def watch(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = str(message["status"])
                # A peer's answer names it, too. What is sent may be kept for the next one: it is not changed.
                headers = [one for one in message.get("headers", ()) if one[0] != REQUEST_ID]
                message = {**message, "headers": [*headers, own]}
            else:
                size += len(message.get("body", b""))
            await send(message)

        metrics, started = self._metrics, time.perf_counter()
        metrics.in_progress += 1
        try:
            await self._app(scope, receive, watch)
        finally:
            metrics.in_progress -= 1
            metrics.answered(scope["method"], scope["path"], status, time.perf_counter() - started, size)
