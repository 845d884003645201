"""One spelling of every path, and HEAD answered by the GET route (API.md §1.1)."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class PathNormaliser:
    """Takes one trailing slash away, and serves HEAD as GET without the body.

    The server has decoded the path already, so `%2F` and `/` are one from here on. A request that came as HEAD has
    `scope["medkit.head"]`, for whoever would rather pass it on as such.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its one path."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        if len(path) > 1 and path.endswith("/"):
            raw = scope.get("raw_path") or b""
            scope = {**scope, "path": path[:-1], "raw_path": raw.removesuffix(b"/")}
        if scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        ended = False

        async def receive_until_answered() -> Message:
            # Whoever streams without end must stop: this client takes no body.
            return {"type": "http.disconnect"} if ended else await receive()

        async def send_head(message: Message) -> None:
            nonlocal ended
            if message["type"] != "http.response.start":
                return
            ended = True
            await send(message)
            await send({"type": "http.response.body", "body": b""})

        await self._app({**scope, "method": "GET", "medkit.head": True}, receive_until_answered, send_head)
