"""Event streams of the whole gateway (API.md §7.7, AGGREGATION.md §6, §8)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.request import GATEWAY, RequestInfo
from ..gateway_events import GatewayEvents
from ..route_rows import Row
from ..sse import EventStream
from ..tree_feed import SIGN_OF_LIFE_S, TreeFeed
from .handlers import Factory, Handler, Rooms

LAST_EVENT_ID = "last-event-id"


def tree_stream(rooms: Rooms, row: Row) -> Handler:
    """GET /x-medkit/tree/stream: what changes in `/x-medkit/tree`, from the place that the follower names."""
    context = rooms.context
    whole, own = TreeFeed(context.federation), TreeFeed(context.federation, local_only=True)

    async def handle(request: Request) -> Response:
        looped = RequestInfo.from_scope(request.scope).loops(context.identity.id)
        place = request.query_params.get("base") or request.headers.get(LAST_EVENT_ID, "")
        cursor = (own if looped else whole).cursor(place.strip().strip('"'))
        return EventStream(context.streams, cursor, keep_alive_s=SIGN_OF_LIFE_S)

    return handle


def fault_stream(rooms: Rooms, row: Row) -> Handler:
    """GET /faults/stream: the faults of all gateways, or of those that the request names."""
    context = rooms.context
    # A peer that follows us tells a restart by it.
    gateway = f"{context.identity.id}/{context.identity.boot_id}".encode("latin-1", "replace")
    headers = ((GATEWAY.encode(), gateway),)

    async def handle(request: Request) -> Response:
        info = RequestInfo.from_scope(request.scope)
        cursor = rooms.fault_stream.cursor(info, request.headers.get(LAST_EVENT_ID, "").strip())
        return EventStream(context.streams, cursor, headers=headers)

    return handle


def gateway_events(rooms: Rooms, row: Row) -> Handler:
    """GET /x-medkit/events: changes of the tree and of peers, and faults, as one stream."""
    context = rooms.context
    events = GatewayEvents(context.federation, rooms.fault_stream)

    async def handle(request: Request) -> Response:
        return EventStream(context.streams, events.cursor(request.headers.get(LAST_EVENT_ID, "").strip()))

    return handle


HANDLERS: dict[str, Factory] = {
    "treeStream": tree_stream,
    "streamFaults": fault_stream,
    "gatewayEvents": gateway_events,
}
