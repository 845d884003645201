"""Lists, details and relations (API.md §3). They are normally answered by the snapshots in front of the routes."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ..route_rows import Row
from .handlers import Factory, Handler, Rooms, served_here


def snapshot(rooms: Rooms, row: Row) -> Handler:
    """GET of a list, a detail or a relation: with a query, or for the error that there is to tell."""

    async def handle(request: Request) -> Response:
        found = rooms.snapshots.get(request.scope["path"])
        if found is None:
            served_here(rooms.context, request, row)
            raise AssertionError(f"no snapshot of {request.scope['path']}")
        return found

    return handle


HANDLERS: dict[str, Factory] = {"snapshot": snapshot}
