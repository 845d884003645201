"""Fault lists (API.md §7.3, §7.4): none of our own yet, those of peers gathered with the whole envelope."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.routing import FederatedTree
from ...entities.model import App, Entity, Kind
from ...errors import InvalidParameter
from .. import gathering
from ..answers import json_answer
from ..data_items import aggregation_of
from ..route_rows import Row
from .handlers import Factory, Handler, Rooms, entity_id, served_here

STATUSES = ("pending", "confirmed", "healed", "cleared", "all")


def check_status(request: Request, **parameters: Any) -> None:
    """Raises InvalidParameter for a `status` that is none (API.md §7.3)."""
    status = request.query_params.get("status")
    if status is not None and status not in STATUSES:
        raise InvalidParameter(
            "Invalid status parameter value",
            allowed_values=list(STATUSES),
            parameter="status",
            value=status[:256],
            **parameters,
        )


def list_all_faults(rooms: Rooms, row: Row) -> Handler:
    """GET /faults."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        check_status(request)
        gathered = await gathering.of_everyone(context, request, "/faults")
        medkit = {
            "count": len(gathered.items),
            "muted_count": _sum(gathered, "muted_count"),
            "cluster_count": _sum(gathered, "cluster_count"),
            **gathered.medkit,
        }
        return json_answer({"items": gathered.items, "x-medkit": medkit})

    return handle


def list_faults(rooms: Rooms, row: Row) -> Handler:
    """GET .../faults."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        check_status(request, **{f"{kind.type}_id": entity_id(request, row)})
        gathered = await gathering.of_entity(context, request, served, kind, "faults")
        medkit = {
            **_facts(context.federation.tree, served.entity),
            "count": len(gathered.items),
            "muted_count": _sum(gathered, "muted_count"),
            "cluster_count": _sum(gathered, "cluster_count"),
            **gathered.medkit,
        }
        return json_answer({"items": gathered.items, "x-medkit": medkit})

    return handle


def _facts(tree: FederatedTree, entity: Entity) -> dict[str, Any]:
    """What is told of the entity itself, by kind."""
    if isinstance(entity, App):
        return {"entity_id": entity.id, "source_id": entity.fqn or entity.id}
    facts: dict[str, Any] = {"entity_id": entity.id, "aggregation_level": entity.kind.type, "aggregated": True}
    apps = tree.members(entity.kind, entity.id)
    if entity.kind is Kind.FUNCTION:
        facts["host_count"] = len(apps)
    else:
        facts["app_count"] = len(apps)
    if entity.kind is Kind.AREA:
        facts["component_count"] = len(tree.components_within(entity.id))
    if apps:
        facts["aggregation_sources"] = aggregation_of(tree, entity.kind, entity.id)["aggregation_sources"]
    return facts


def _sum(gathered: gathering.Gathered, name: str) -> int:
    total = 0
    for _peer, body in gathered.bodies:
        medkit = body.get("x-medkit")
        count = medkit.get(name) if isinstance(medkit, dict) else None
        if isinstance(count, int) and not isinstance(count, bool) and count > 0:
            total += count
    return total


HANDLERS: dict[str, Factory] = {"listAllFaults": list_all_faults, "listFaults": list_faults}
