"""Configurations: ROS parameters listed, read, set and reset (API.md §6).

Nodes of our own graph are asked by `resources/configurations.py`. A parameter of a member that another gateway has is
passed on to `/apps/<member>/configurations/...`, where the forwarding takes it (AGGREGATION.md §4, §8).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.request import HOP_MARGIN_S, RequestInfo
from ...aggregation.routing import Away, Local, Shared
from ...entities.ids import is_valid_id
from ...entities.model import App, Kind
from ...errors import (
    GatewayError,
    InvalidParameter,
    InvalidRequest,
    NodeNotAvailable,
    ParameterAnswerUnusable,
    ParameterReadOnly,
    PeerUnavailable,
    ResourceNotFound,
)
from ...resources.configurations import (
    Found,
    Listing,
    NothingRemembered,
    Refused,
    Reset,
    is_unavailable,
    parameter_json,
)
from ...ros.parameter_values import ParameterError, UnknownParameter, WrongType
from .. import gathering
from ..answers import json_answer
from ..configuration_items import Members, Rows, members_of, source_ids, split_member
from ..context import GatewayContext
from ..data_items import SEPARATOR
from ..locate import ID_RULE
from ..pass_on import Facts, PassOn
from ..route_rows import Row
from ..views import uri
from .handlers import Factory, Handler, Rooms, entity_id, served_here

MAX_ID = 512
SET, RESET = "Failed to set parameter", "Failed to reset parameter"


@dataclass(frozen=True)
class Target:
    """Where a parameter is: at one of `apps`, which are nodes of ours, or at the app `member` of another gateway."""

    entity_id: str
    config_id: str
    name: str
    apps: tuple[App, ...] = ()
    member: str = ""
    qualified: bool = False
    aggregated: bool = False

    def pass_on(self, body: bytes | None = None) -> Response:
        """The request once more, to the gateway that has the member."""
        medkit = {"entity_id": self.entity_id, **({"source_app": self.member} if self.aggregated else {})}
        return PassOn(
            uri(Kind.APP, self.member, "configurations", self.name), body, Facts(self.config_id, medkit)
        )  # fmt: skip


def list_configurations(rooms: Rooms, row: Row) -> Handler:
    """GET .../configurations."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        tree = context.federation.tree
        members = members_of(tree, kind, served.entity.id)
        listing, gathered = await _ask(context, request, served, members)
        if listing.errors and not listing.answered and not gathered.bodies:
            _no_node_listed(members.entity_id, listing)
        found = Rows()
        found.add_local(listing.found, members.is_aggregated)
        found.queried += listing.answered
        for fqn, error in listing.errors.items():
            (found.unavailable if is_unavailable(error) else found.failed).append(fqn)
        for peer, body in gathered.bodies:
            found.add_peer(tree, members, peer, body)
        gathering.refuse_partial(request, unavailable_nodes=found.unavailable, failed_nodes=found.failed)
        medkit: dict[str, Any] = {
            "entity_id": members.entity_id,
            "source": "runtime",
            "aggregation_level": kind.type,
            "is_aggregated": members.is_aggregated,
        }
        if len(members.all) == 1 and members.all[0].fqn:
            medkit["ros2"] = {"node": members.all[0].fqn}
        if members.all:
            medkit["parameters"] = found.parameters
        medkit.update(source_ids=source_ids(tree, members), queried_nodes=found.queried)
        if found.unavailable or found.failed:
            medkit["partial"] = True
        for name, nodes in (("unavailable_nodes", found.unavailable), ("failed_nodes", found.failed)):
            if nodes:
                medkit[name] = nodes
        return json_answer({"items": found.items, "x-medkit": {**medkit, **gathered.medkit}})

    return handle


async def _ask(
    context: GatewayContext, request: Request, served: Local | Shared, members: Members
) -> tuple[Listing, gathering.Gathered]:
    """Our nodes and the peers at once, so that the wait is that of the slowest."""
    info = RequestInfo.from_scope(request.scope)
    remaining_s = info.remaining_s()
    # A gateway that asks us gets what there is in time, not nothing because one node is silent.
    within_s = None if remaining_s is None else max(0.1, remaining_s - HOP_MARGIN_S)
    asked = members.local if info.asks_local(context.identity.id) else ()
    nodes = asyncio.ensure_future(context.configurations.listing(asked, within_s))
    try:
        gathered = await gathering.of_entity(context, request, served, members.kind, "configurations")
        return await nodes, gathered
    finally:
        nodes.cancel()


def _no_node_listed(entity: str, listing: Listing) -> NoReturn:
    unavailable = [fqn for fqn, error in listing.errors.items() if is_unavailable(error)]
    failed = [fqn for fqn in listing.errors if fqn not in unavailable]
    worst = next((error for fqn, error in listing.errors.items() if fqn in unavailable), None)
    kind = NodeNotAvailable if worst is not None else ParameterAnswerUnusable
    raise kind(
        "Failed to list parameters from any node",
        details=str(worst or next(iter(listing.errors.values()))),
        entity_id=entity,
        unavailable_nodes=unavailable or None,
        failed_nodes=failed or None,
    )


def read_configuration(rooms: Rooms, row: Row) -> Handler:
    """GET .../configurations/{config_id}."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        config_id = _config_id(request)
        target = _address(context, row, served, config_id)
        if target.member:
            return target.pass_on()
        members = members_of(context.federation.tree, served.entity.kind, served.entity.id)
        message = f"Failed to get parameter{' from any node' if len(target.apps) > 1 else ''}"
        try:
            found = await context.configurations.read(target.apps, target.name)
        except UnknownParameter as error:
            if not target.qualified and len(members.local) < len(members.all):
                return await _read_elsewhere(context, request, served, target)
            raise _failure(error, message, target) from error
        except ParameterError as error:
            raise _failure(error, message, target) from error
        return json_answer(_document(found, target, members.is_aggregated))

    return handle


async def _read_elsewhere(
    context: GatewayContext, request: Request, served: Local | Shared, target: Target
) -> Response:
    """A parameter that none of our nodes has, of a member of another gateway."""
    kind = served.entity.kind
    gathered = await gathering.of_entity(context, request, served, kind, "configurations")
    tree, members = context.federation.tree, members_of(context.federation.tree, kind, served.entity.id)
    found = Rows()
    for peer, body in gathered.bodies:
        found.add_peer(tree, members, peer, body)
    for item in found.items:
        member, _, name = item["id"].partition(SEPARATOR)
        if item["name"] == target.name:
            owner = member if name == target.name else members.all[0].id
            return replace(target, member=owner, aggregated=members.is_aggregated).pass_on()
    failed = gathered.medkit.get("failed_peers")
    if failed:
        raise PeerUnavailable(
            "The gateways that may have this parameter are not available",
            entity_id=target.entity_id,
            id=target.config_id,
            failed_peers=failed,
        )
    raise _unknown(target)


def write_configuration(rooms: Rooms, row: Row) -> Handler:
    """PUT .../configurations/{config_id}, in the order of API.md §6.4."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        body = await request.body()
        document = parse_body(body)
        if not is_valid_id(entity_id(request, row)):
            raise InvalidParameter("Invalid entity ID", details=ID_RULE, entity_id=entity_id(request, row))
        config_id = _config_id(request)
        if "data" not in document and "value" not in document:
            raise InvalidRequest("Request body must contain a 'data' field")
        served = served_here(context, request, row)
        target = _single(context, row, served, config_id)
        if target.member:
            return target.pass_on(body)
        given = document["data"] if "data" in document else document["value"]
        try:
            found = await context.configurations.write(target.apps[0], target.name, given)
        except ParameterError as error:
            raise _failure(error, SET, target) from error
        members = members_of(context.federation.tree, served.entity.kind, served.entity.id)
        return json_answer(_document(found, target, members.is_aggregated))

    return handle


def parse_body(body: bytes) -> dict[str, Any]:
    """The body of a write, `{}` when there is none (API.md §1.2); InvalidRequest in the words of API.md §1.4."""
    try:
        document = orjson.loads(body) if body.strip() else {}
    except ValueError as error:
        raise InvalidRequest(f"Malformed JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        fields = [{"field": "", "message": "expected a JSON object"}]
        raise InvalidRequest("Request body validation failed", fields=fields)
    return document


def reset_configuration(rooms: Rooms, row: Row) -> Handler:
    """DELETE .../configurations/{config_id}."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        target = _single(context, row, served, _config_id(request))
        if target.member:
            return target.pass_on()
        try:
            await context.configurations.reset(target.apps[0], target.name)
        except ParameterError as error:
            raise _failure(error, RESET, target) from error
        return Response(status_code=204)

    return handle


def reset_configurations(rooms: Rooms, row: Row) -> Handler:
    """DELETE .../configurations: 204, or 207 when a node did not do it, or is another gateway's (API.md §6.5)."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        members = members_of(context.federation.tree, kind, served.entity.id)
        results = [_result(one) for one in await context.configurations.reset_all(members.local)]
        local = {app.id for app in members.local}
        results += [
            {
                "node": "",
                "app_id": app.id,
                "success": False,
                "error": "belongs to another gateway: reset the app itself",
            }
            for app in members.all
            if app.id not in local
        ]
        if all(one["success"] for one in results):
            return Response(status_code=204)
        return json_answer({"entity_id": members.entity_id, "results": results}, 207)

    return handle


def _result(one: Reset) -> dict[str, Any]:
    found: dict[str, Any] = {"node": one.app.fqn, "app_id": one.app.id, "success": not one.error}
    if one.error:
        found["error"] = one.error
    found["details"] = {"node_name": one.app.fqn, "reset_count": one.count, "failed_count": len(one.failed)}
    if one.failed:
        found["details"]["failed_parameters"] = list(one.failed)
    return found


def _config_id(request: Request) -> str:
    config_id: str = request.path_params["config_id"]
    if not 1 <= len(config_id) <= MAX_ID:
        raise InvalidParameter("Invalid parameter ID", details=f"Must be 1 to {MAX_ID} characters")
    return config_id


def _single(context: GatewayContext, row: Row, served: Local | Shared, config_id: str) -> Target:
    """The one node of a write: an entity with several needs the member in the id, also while some of them are away."""
    target = _address(context, row, served, config_id)
    tree = context.federation.tree
    members = members_of(tree, served.entity.kind, served.entity.id)
    has_more = isinstance(served, Shared) and bool(tree.missing(served.entity.kind, served.entity.id))
    if (members.is_aggregated or has_more) and not target.qualified:
        raise InvalidRequest(
            "Aggregated configuration requires app_id prefix",
            details=f"Use <app_id>{SEPARATOR}<parameter>",
            entity_id=target.entity_id,
            id=config_id,
        )
    return target


def _address(context: GatewayContext, row: Row, served: Local | Shared, config_id: str) -> Target:
    kind, entity = row.kind, served.entity.id
    assert kind is not None
    tree = context.federation.tree
    members = members_of(tree, kind, entity)
    member, name = split_member(members, tree, config_id)
    if member:
        if not tree.is_local_app(member):
            return Target(
                entity, config_id, name, member=member, qualified=True, aggregated=members.is_aggregated
            )  # fmt: skip
        apps = tuple(app for app in members.local if app.id == member)
        if not apps:
            raise ResourceNotFound("Source app not found in entity", entity_id=entity, id=config_id, source_app=member)
        return Target(entity, config_id, name, apps, qualified=True)
    prefix, colon, _ = config_id.partition(SEPARATOR)
    away = tree.resolve(Kind.APP, prefix) if colon and kind is not Kind.APP and is_valid_id(prefix) else None
    if isinstance(away, Away):
        raise away.error(prefix)
    if not members.all:
        raise ResourceNotFound("No nodes available", entity_id=entity, id=config_id)
    if len(members.all) == 1 and not members.local:
        return Target(entity, config_id, config_id, member=members.all[0].id)
    return Target(entity, config_id, config_id, members.local)


def _document(found: Found, target: Target, is_aggregated: bool) -> dict[str, Any]:
    medkit: dict[str, Any] = {
        "entity_id": target.entity_id,
        "source": "runtime",
        "parameter": parameter_json(found.parameter),
    }
    if found.app.fqn:
        medkit["ros2"] = {"node": found.app.fqn}
    if is_aggregated:
        medkit["source_app"] = found.app.id
    return {"id": target.config_id, "data": found.parameter.value.value, "x-medkit": medkit}


def _unknown(target: Target, details: str | None = None) -> ResourceNotFound:
    return ResourceNotFound("Parameter not found", entity_id=target.entity_id, id=target.config_id, details=details)


def _failure(error: ParameterError, message: str, target: Target) -> GatewayError:
    """An error of the node as an answer (API.md §6.3 to §6.5)."""
    facts: dict[str, Any] = {"details": str(error), "entity_id": target.entity_id, "id": target.config_id}
    if isinstance(error, UnknownParameter):
        return _unknown(target, str(error))
    if isinstance(error, NothingRemembered):
        return ResourceNotFound(message, **facts)
    if isinstance(error, Refused):
        return ParameterReadOnly(message, **facts) if error.read_only else InvalidParameter(message, **facts)
    if isinstance(error, WrongType):
        return InvalidParameter(message, **facts)
    return NodeNotAvailable(message, **facts) if is_unavailable(error) else ParameterAnswerUnusable(message, **facts)


HANDLERS: dict[str, Factory] = {
    "listConfigurations": list_configurations,
    "readConfiguration": read_configuration,
    "writeConfiguration": write_configuration,
    "resetConfiguration": reset_configuration,
    "resetConfigurations": reset_configurations,
}
