"""Faults: lists, detail, clearing (API.md §7.3 to §7.6).

Local ones are the fault backend's. What peers have of an entity that several gateways share is gathered for lists; for
one fault, the gateways that list it are asked (AGGREGATION.md §4, §8).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...aggregation import forward
from ...aggregation.deletion import Deletion, delete_at
from ...aggregation.fan_out import marked
from ...aggregation.request import RequestInfo
from ...aggregation.routing import FederatedTree, Local, Shared
from ...entities.model import App, Entity, Kind
from ...errors import InvalidParameter, PeerUnavailable, ResourceNotFound
from ...resources.faults.documents import detail, list_item
from ...resources.faults.engine import MAX_CODE
from ...resources.faults.model import CLEARED, FaultRecord
from ...resources.faults.scope import DEFAULT_STATUSES, FILTERS, is_in_scope, owned_sources, source_of
from .. import gathering
from ..answers import json_answer
from ..context import PREFIX, GatewayContext
from ..data_items import aggregation_of
from ..fault_items import distinct
from ..route_rows import Row
from .handlers import Factory, Handler, Rooms, entity_id, served_here

LOCAL_ONLY = {"X-Medkit-Local-Only": "true"}
_EVERY_STATUS = b"status=all"


class AtPeer(Response):
    """Answers by sending the request to a path of one peer."""

    def __init__(self, context: GatewayContext, peer: str, path: str, entity_id: str) -> None:
        super().__init__()
        self._federation = context.federation
        self._peer, self._path, self._entity_id = peer, path, entity_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward it."""
        await forward.forward(
            self._federation, scope, receive, send, peer=self._peer, path=self._path, entity_id=self._entity_id
        )


def statuses_of(request: Request, **parameters: Any) -> Sequence[str]:
    """The statuses that `?status=` means. Raises InvalidParameter for a `status` that is none (API.md §7.3)."""
    status = request.query_params.get("status")
    if status is None:
        return DEFAULT_STATUSES
    if status not in FILTERS:
        raise InvalidParameter(
            "Invalid status parameter value",
            allowed_values=list(FILTERS),
            parameter="status",
            value=status[:256],
            **parameters,
        )
    return FILTERS[status]


def list_all_faults(rooms: Rooms, row: Row) -> Handler:
    """GET /faults."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        statuses = statuses_of(request)
        muted, clusters = _flag(request, "include_muted"), _flag(request, "include_clusters")
        gathered = await gathering.of_everyone(context, request, "/faults")
        items = gathered.items
        medkit: dict[str, Any] = {
            "count": 0,
            "muted_count": _sum(gathered, "muted_count"),
            "cluster_count": _sum(gathered, "cluster_count"),
        }
        if muted:
            medkit["muted_faults"] = _joined(gathered, "muted_faults")
        if clusters:
            medkit["clusters"] = _joined(gathered, "clusters")
        if gathered.local:
            listing = await context.faults.list(statuses, muted, clusters)
            items = distinct(context.federation.tree, [list_item(fault) for fault in listing.faults], items)
            medkit["muted_count"] += listing.muted_count
            medkit["cluster_count"] += listing.cluster_count
            if muted:
                medkit["muted_faults"] = [*map(dict, listing.muted), *medkit["muted_faults"]]
            if clusters:
                medkit["clusters"] = [*map(dict, listing.clusters), *medkit["clusters"]]
        medkit["count"] = len(items)
        return json_answer({"items": items, "x-medkit": {**medkit, **gathered.medkit}})

    return handle


def clear_all_faults(rooms: Rooms, row: Row) -> Handler:
    """DELETE /faults: those of this gateway only, whatever they belong to."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        listing = await context.faults.list(statuses_of(request), include_muted=True)
        codes = [fault.fault_code for fault in listing.faults]
        codes += [one["fault_code"] for one in listing.muted if isinstance(one.get("fault_code"), str)]
        if codes:
            await context.faults.clear(list(dict.fromkeys(codes)), skip_correlation_auto_clear=False)
        return Response(status_code=204, headers=LOCAL_ONLY)

    return handle


def list_faults(rooms: Rooms, row: Row) -> Handler:
    """GET .../faults."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        statuses = statuses_of(request, **{f"{kind.type}_id": entity_id(request, row)})
        gathered = await gathering.of_entity(context, request, served, kind, "faults")
        tree, items = context.federation.tree, gathered.items
        muted, clusters = _sum(gathered, "muted_count"), _sum(gathered, "cluster_count")
        if gathered.local:
            owned = owned_sources(tree, kind, served.entity.id, tree.local)
            listing = await context.faults.list(statuses)
            own = [list_item(fault) for fault in listing.faults if is_in_scope(fault, owned)]
            items = distinct(tree, own, items)
            muted, clusters = muted + listing.muted_count, clusters + listing.cluster_count
        medkit = {
            **_facts(tree, served.entity),
            "count": len(items),
            "muted_count": muted,
            "cluster_count": clusters,
            **gathered.medkit,
        }
        return json_answer({"items": items, "x-medkit": medkit})

    return handle


def get_fault(rooms: Rooms, row: Row) -> Handler:
    """GET .../faults/{fault_code}."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        code = _code(request)
        record = await _own(context, kind, served.entity.id, code)
        if record is not None:
            return json_answer(detail(record, kind, served.entity.id))
        owners, failed = await _owners(context, request, served, kind, code)
        if owners:
            return AtPeer(context, owners[0].peer, owners[0].path, served.entity.id)
        raise _missing(kind, request, row, code, failed)

    return handle


def clear_fault(rooms: Rooms, row: Row) -> Handler:
    """DELETE .../faults/{fault_code}: here, and at every gateway that shares the entity and has the fault."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        code = _code(request)
        info = RequestInfo.from_scope(request.scope)
        record = await _own(context, kind, served.entity.id, code) if info.asks_local(context.identity.id) else None
        if record is not None:
            await context.faults.clear([code])
        owners, failed = await _owners(context, request, served, kind, code, over=record is None)
        if record is None and not owners:
            raise _missing(kind, request, row, code, failed)
        problems = await delete_at(context.federation, info, owners)
        if problems:
            raise _not_cleared(served.entity.id, problems, fault_code=code)
        return Response(status_code=204)

    return handle


def clear_faults(rooms: Rooms, row: Row) -> Handler:
    """DELETE .../faults: all pending and confirmed ones, also those of gateways that share the entity."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        tree, entity = context.federation.tree, served.entity.id
        info = RequestInfo.from_scope(request.scope)
        if info.asks_local(context.identity.id):
            owned = owned_sources(tree, kind, entity, tree.local)
            listing = await context.faults.list(DEFAULT_STATUSES)
            codes = [fault.fault_code for fault in listing.faults if is_in_scope(fault, owned)]
            if codes:
                await context.faults.clear(codes)
        if isinstance(served, Shared) and not info.is_local_only(context.identity.id):
            problems = await delete_at(context.federation, info, _shares(info, served, kind, "faults"))
            if info.origins is None:
                problems.update(dict.fromkeys(tree.missing(kind, entity), "not reachable"))
            if problems:
                raise _not_cleared(entity, problems)
        return Response(status_code=204)

    return handle


def _flag(request: Request, name: str) -> bool:
    return request.query_params.get(name, "").lower() in ("true", "1")


def _code(request: Request) -> str:
    code: str = request.path_params["fault_code"]
    if not 1 <= len(code) <= MAX_CODE:
        raise InvalidParameter("Invalid fault code", details=f"Must be 1 to {MAX_CODE} characters")
    return code


async def _own(context: GatewayContext, kind: Kind, entity: str, code: str) -> FaultRecord | None:
    """A fault of ours that is in the scope of the entity."""
    tree = context.federation.tree
    record = await context.faults.get(code)
    if record is None or not is_in_scope(record.fault, owned_sources(tree, kind, entity, tree.local)):
        return None
    return record


async def _owners(
    context: GatewayContext, request: Request, served: Local | Shared, kind: Kind, code: str, over: bool = True
) -> tuple[list[Deletion], list[str]]:
    """Where peers have a fault of a shared entity, and who did not answer; `over`: cleared ones count, too."""
    if isinstance(served, Local):
        return [], []
    gathered = await gathering.of_entity(context, request, served, kind, "faults", _EVERY_STATUS)
    peers = {
        str(item["x-medkit"]["peer"]).partition("/")[0]
        for item in gathered.items
        if item.get("fault_code") == code and (over or item.get("status") != CLEARED)
    }
    shares = _shares(RequestInfo.from_scope(request.scope), served, kind, f"faults/{quote(code, safe='')}")
    return [one for one in shares if one.peer in peers], gathered.medkit.get("failed_peers") or []


def _shares(info: RequestInfo, served: Shared, kind: Kind, rest: str) -> list[Deletion]:
    found = []
    for share in served.contributions:
        origins = tuple(one for one in share.origins if info.origins is None or one in info.origins)
        if origins:
            found.append(Deletion(share.peer, f"{PREFIX}/{kind.value}/{share.remote_id}/{rest}", origins))
    return found


def _missing(
    kind: Kind, request: Request, row: Row, code: str, failed: Sequence[str]
) -> PeerUnavailable | ResourceNotFound:
    """The same whether there is no such fault or it is another entity's (API.md §7.5)."""
    named: dict[str, Any] = {f"{kind.type}_id": entity_id(request, row)}
    if failed:
        return PeerUnavailable(
            "The gateways that may have this fault are not available",
            entity_id=entity_id(request, row),
            fault_code=code,
            failed_peers=list(failed),
        )
    return ResourceNotFound(
        "Fault not found",
        details="No fault with this code belongs to this entity",
        fault_code=code,
        **named,
    )


def _not_cleared(entity: str, problems: dict[str, str], **more: Any) -> PeerUnavailable:
    reasons = "; ".join(f"{peer}: {reason}" for peer, reason in sorted(problems.items()))
    return PeerUnavailable(
        "Not every gateway that has a share of this entity cleared it",
        details=reasons,
        entity_id=entity,
        failed_peers=sorted(problems),
        **more,
    )


def _facts(tree: FederatedTree, entity: Entity) -> dict[str, Any]:
    """What is told of the entity itself, by kind."""
    if isinstance(entity, App):
        return {"entity_id": entity.id, "source_id": source_of(entity)}
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


def _joined(gathered: gathering.Gathered, name: str) -> list[dict[str, Any]]:
    """What peers tell in a list of their `x-medkit`, one after the other."""
    found: list[dict[str, Any]] = []
    for peer, body in gathered.bodies:
        medkit = body.get("x-medkit")
        told = medkit.get(name) if isinstance(medkit, dict) else None
        for one in told if isinstance(told, list) else ():
            if isinstance(one, dict):
                found.append(marked(one, peer))
    return found


def _sum(gathered: gathering.Gathered, name: str) -> int:
    total = 0
    for _peer, body in gathered.bodies:
        medkit = body.get("x-medkit")
        count = medkit.get(name) if isinstance(medkit, dict) else None
        if isinstance(count, int) and not isinstance(count, bool) and count > 0:
            total += count
    return total


HANDLERS: dict[str, Factory] = {
    "listAllFaults": list_all_faults,
    "clearAllFaults": clear_all_faults,
    "listFaults": list_faults,
    "getFault": get_fault,
    "clearFault": clear_fault,
    "clearFaults": clear_faults,
}
