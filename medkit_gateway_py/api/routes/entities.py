"""Lists, details and relations (API.md §3). They are normally answered by the snapshots in front of the routes."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.routing import FederatedTree
from ...entities.model import Kind
from ..answers import Snapshot, to_json
from ..filters import Filter, filter_of
from ..route_rows import Row
from ..views import list_document
from .handlers import Factory, Handler, Rooms, served_here


def snapshot(rooms: Rooms, row: Row) -> Handler:
    """GET of a list, a detail or a relation: with a query, or for the error that there is to tell."""

    kind = row.kind
    assert kind is not None
    is_list = row.template == f"/{kind.value}"

    async def handle(request: Request) -> Response:
        wanted = filter_of(request.query_params.multi_items()) if is_list else None
        if wanted is not None:
            return Snapshot(to_json(_filtered(rooms.context.federation.tree, kind, wanted)))
        found = rooms.snapshots.get(request.scope["path"])
        if found is None:
            served_here(rooms.context, request, row)
            raise AssertionError(f"no snapshot of {request.scope['path']}")
        return found

    return handle


def _filtered(tree: FederatedTree, kind: Kind, wanted: Filter) -> dict[str, Any]:
    return list_document(tree, kind, lambda entity: wanted.keeps(tree, entity))


HANDLERS: dict[str, Factory] = {"snapshot": snapshot}
