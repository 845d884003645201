"""Counts every request, whoever answers it. In front of everything, so refusals are counted, too."""

from __future__ import annotations

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..metrics import Metrics


class Measured:
    """Tells `Metrics` of each request when it is over."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, size = "none", 0

        async def watch(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = str(message["status"])
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
