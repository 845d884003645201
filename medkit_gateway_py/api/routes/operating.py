"""Operating a fleet: peers changed, the graph of gateways, all faults counted (AGGREGATION.md §10).

Whatever changes something takes an admin, and authentication: a gateway that is open to everybody must not be told by
anybody whom to trust.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.operate import add_peer, forget_peer, found
from ...aggregation.topology import KnownPeer, topology
from ...errors import Forbidden, InvalidRequest
from ...security.principal import principal_of
from ..answers import json_answer
from ..context import PREFIX, GatewayContext
from ..route_rows import Row
from . import faults
from .handlers import Factory, Handler, Rooms
from .vendor import peer_document

# Different faults that are told one by one; the rest is in the sums.
MAX_COUNTED = 1000
# A peer and its settings.
MAX_BODY = 64 * 1024


def check_admin(context: GatewayContext, request: Request) -> None:
    """Raise Forbidden (403) for everybody but an admin, also where authentication is off."""
    if not context.config.auth.enabled:
        raise Forbidden("Peers can be changed only where auth.enabled is true, by an admin")
    principal = principal_of(request.scope)
    if principal is None or not principal.is_admin:
        raise Forbidden("Peers can be changed by an admin only")


def create_peer(rooms: Rooms, row: Row) -> Handler:
    """POST /x-medkit/peers."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        check_admin(context, request)
        peer = await add_peer(context.federation, await _body(request))
        headers = {"Location": f"{PREFIX}/x-medkit/peers/{peer.name}"}
        return json_answer(peer_document(peer.status()), 201, headers)

    return handle


def pause_peer(rooms: Rooms, row: Row) -> Handler:
    """PUT /x-medkit/peers/{name}/pause."""
    return _pausing(rooms.context, True)


def resume_peer(rooms: Rooms, row: Row) -> Handler:
    """PUT /x-medkit/peers/{name}/resume."""
    return _pausing(rooms.context, False)


def _pausing(context: GatewayContext, paused: bool) -> Handler:
    async def handle(request: Request) -> Response:
        check_admin(context, request)
        peer = found(context.federation, request.path_params["name"])
        peer.set_paused(paused)
        return json_answer(peer_document(peer.status()))

    return handle


def delete_peer(rooms: Rooms, row: Row) -> Handler:
    """DELETE /x-medkit/peers/{name}."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        check_admin(context, request)
        await forget_peer(context.federation, request.path_params["name"])
        return Response(status_code=204)

    return handle


def get_topology(rooms: Rooms, row: Row) -> Handler:
    """GET /x-medkit/topology."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        federation = context.federation
        peers = []
        for status in federation.peers:
            peer = federation.peer(status.name)
            peers.append(KnownPeer(status, peer.sections if peer is not None else None))
        return json_answer(topology(context.identity, federation.tree, peers))

    return handle


def fleet_faults(rooms: Rooms, row: Row) -> Handler:
    """GET /x-medkit/fleet/faults: what GET /faults lists, counted. Takes its query, and is partial as it is."""
    list_all = faults.HANDLERS["listAllFaults"](rooms, row)

    async def handle(request: Request) -> Response:
        answer = await list_all(request)
        return json_answer(counted(orjson.loads(bytes(answer.body))))

    return handle


def counted(listed: dict[str, Any]) -> dict[str, Any]:
    """The counts of a list of faults, with what it says of gateways whose faults are missing."""
    counts: Counter[tuple[str, str, str]] = Counter()
    for item in listed["items"]:
        medkit = item.get("x-medkit")
        peer = medkit.get("peer") if isinstance(medkit, dict) else None
        severity = item.get("severity_label")
        code = item.get("fault_code")
        counts[
            (
                peer if isinstance(peer, str) else "local",
                severity if isinstance(severity, str) else "UNKNOWN",
                code[:256] if isinstance(code, str) else "",
            )
        ] += 1
    by_peer: Counter[str] = Counter()
    by_severity: Counter[str] = Counter()
    for (peer, severity, _), count in counts.items():
        by_peer[peer] += count
        by_severity[severity] += count
    names = ("peer", "severity", "fault_code")
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    items = [{**dict(zip(names, key, strict=True)), "count": count} for key, count in ordered[:MAX_COUNTED]]
    document: dict[str, Any] = {
        "total": sum(counts.values()),
        "by_peer": dict(sorted(by_peer.items())),
        "by_severity": dict(sorted(by_severity.items())),
        "items": items,
    }
    told = listed.get("x-medkit", {})
    medkit = {name: told[name] for name in ("partial", "failed_peers", "peers", "peer_dropped_items") if name in told}
    if len(counts) > MAX_COUNTED:
        medkit["truncated"] = True
    if medkit:
        document["x-medkit"] = medkit
    return document


async def _body(request: Request) -> Any:
    raw = await request.body()
    if len(raw) > MAX_BODY:
        raise InvalidRequest("Request body is too long")
    try:
        return orjson.loads(raw)
    except ValueError as error:
        raise InvalidRequest(f"Malformed JSON: {error}") from None


HANDLERS: dict[str, Factory] = {
    "createPeer": create_peer,
    "pausePeer": pause_peer,
    "resumePeer": resume_peer,
    "deletePeer": delete_peer,
    "topology": get_topology,
    "fleetFaults": fleet_faults,
}
