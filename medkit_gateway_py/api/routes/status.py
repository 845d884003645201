"""Status of apps and components (API.md §10.8). Nothing here changes it, so no links to actions are given."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ...entities.model import App, Component
from ..answers import json_answer
from ..route_rows import Row
from .handlers import Factory, Handler, Rooms, served_here


def read_status(rooms: Rooms, row: Row) -> Handler:
    """GET .../status."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        entity = served_here(context, request, row).entity
        if isinstance(entity, App):
            return json_answer({"status": await context.status.of_app(entity)})
        assert isinstance(entity, Component)
        return json_answer({"status": context.status.of_component(context.federation.tree, entity)})

    return handle


HANDLERS: dict[str, Factory] = {"readStatus": read_status}
