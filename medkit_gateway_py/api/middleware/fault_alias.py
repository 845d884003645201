"""A fault of an app is found under the id that the Foxglove extension makes of a node's name (CLIENTS.md §3).

Its dashboard writes `-` for `_`, and so could neither show nor clear a fault. Only these two requests are helped:
everywhere else an unknown id stays unknown, because a command must not reach what was not named.
"""

from __future__ import annotations

import re
from urllib.parse import quote

from starlette.types import ASGIApp, Receive, Scope, Send

from ...aggregation.federation import Federation
from ...entities.model import Kind

_FAULT = re.compile(r"(?P<head>/api/v1/apps/)(?P<id>[A-Za-z0-9_-]{1,256})(?P<tail>/faults/[^/]+)")


class FaultAlias:
    """Puts the app's own id into the path, when the given one is nobody's and one app differs in `-` and `_` alone."""

    def __init__(self, app: ASGIApp, federation: Federation) -> None:
        self._app = app
        self._federation = federation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, under another path where that helps."""
        if scope["type"] == "http" and scope["method"] in ("GET", "DELETE"):
            match = _FAULT.fullmatch(scope["path"])
            found = self._meant(match["id"]) if match is not None else ""
            if match is not None and found:
                path = f"{match['head']}{found}{match['tail']}"
                scope = {**scope, "path": path, "raw_path": quote(path).encode()}
        await self._app(scope, receive, send)

    def _meant(self, app_id: str) -> str:
        tree = self._federation.tree
        if tree.resolve(Kind.APP, app_id) is not None or tree.kind_of(app_id) is not None:
            return ""
        wanted = app_id.replace("-", "_")
        found = [one for one in tree.apps if one.replace("-", "_") == wanted]
        return found[0] if len(found) == 1 else ""
