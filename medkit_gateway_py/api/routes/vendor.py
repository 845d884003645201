"""What gateways tell each other and operators: `/x-medkit/tree`, `/x-medkit/peers` (AGGREGATION.md §6, §10)."""

from __future__ import annotations

import dataclasses
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.request import RequestInfo
from ...errors import ResourceNotFound
from ..answers import Snapshot, json_answer
from ..route_rows import Row
from .handlers import Factory, Handler, Rooms

# The current one, whole and local; older ones are not asked for again.
MAX_TREES = 2


def tree(rooms: Rooms, row: Row) -> Handler:
    """GET /x-medkit/tree: our section, and those we pass on. To a gateway that we heard of it from: ours alone."""
    context = rooms.context
    known: dict[str, Snapshot] = {}

    async def handle(request: Request) -> Response:
        looped = RequestInfo.from_scope(request.scope).loops(context.identity.id)
        etag, body = context.federation.tree_document(local_only=looped)
        if etag not in known:
            if len(known) >= MAX_TREES:
                known.clear()
            known[etag] = Snapshot(body, etag)
        return known[etag]

    return handle


def list_peers(rooms: Rooms, row: Row) -> Handler:
    """GET /x-medkit/peers."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        items = [peer_document(peer) for peer in context.federation.peers]
        return json_answer({"items": items, "x-medkit": {"total_count": len(items)}})

    return handle


def get_peer(rooms: Rooms, row: Row) -> Handler:
    """GET /x-medkit/peers/{name}."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        name = request.path_params["name"]
        for peer in context.federation.peers:
            if peer.name == name:
                return json_answer(peer_document(peer))
        raise ResourceNotFound("Peer not found", peer=name)

    return handle


def peer_document(peer: Any) -> dict[str, Any]:
    """A peer's status as JSON. What is not known is left out."""
    facts = dataclasses.asdict(peer)
    # Where it was found: static, mdns, registry, or added by an operator.
    facts["origin"] = facts.pop("source")
    return {name: value for name, value in facts.items() if value is not None and value != ""}


HANDLERS: dict[str, Factory] = {"tree": tree, "listPeers": list_peers, "getPeer": get_peer}
