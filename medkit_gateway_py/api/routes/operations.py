"""Operations: services and actions listed, started, followed, cancelled (API.md §5).

Local ones go to `resources/operations.py`. An operation of a member that another gateway has is passed on to
`/apps/<member>/operations/...`, where the forwarding takes it (AGGREGATION.md §4, §8).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.routing import Away, Local, Remote, Shared
from ...entities.ids import is_valid_id
from ...entities.model import Kind
from ...errors import (
    GatewayError,
    InvalidParameter,
    InvalidRequest,
    OperationNotFound,
    PeerUnavailable,
    PreconditionNotFulfilled,
    ResourceNotFound,
)
from ...resources.executions import Execution
from ...resources.operations import ACTION, Operation, bare_id, item_answers_to, item_path, listed, owner
from .. import gathering
from ..answers import json_answer
from ..context import GatewayContext
from ..data_items import SEPARATOR, split_qualified
from ..locate import ID_RULE, locate
from ..pass_on import PassOn
from ..route_rows import Row
from ..views import Json, uri
from .handlers import Factory, Handler, Rooms, entity_id, served_here


@dataclass(frozen=True)
class Found:
    """Where an operation is: one of ours, or with `member` one of an app that another gateway has."""

    operation: Operation | None = None
    member: str = ""
    item_id: str = ""
    item: Json | None = None

    def path(self, *more: str) -> str:
        """The path of the operation at its app."""
        return uri(Kind.APP, self.member, "operations", self.item_id, *more)


def list_operations(rooms: Rooms, row: Row) -> Handler:
    """GET .../operations."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        gathered = await gathering.of_entity(context, request, served, kind, "operations")
        own = _own(context, kind, served.entity.id) if gathered.local else []
        items = listed([*context.operations.items(kind, own), *gathered.items])
        return json_answer({"items": items, **({"x-medkit": gathered.medkit} if gathered.medkit else {})})

    return handle


def get_operation(rooms: Rooms, row: Row) -> Handler:
    """GET .../operations/{operation_id}: the list's item under the id that was asked for."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        found = await _find(context, request, row, served)
        if found.operation is not None:
            item = context.operations.item(kind, found.operation)
        elif found.item is not None:
            item = found.item
        else:
            return PassOn(found.path())
        return json_answer({"item": {**item, "id": request.path_params["operation_id"]}})

    return handle


def start_execution(rooms: Rooms, row: Row) -> Handler:
    """POST .../executions: body, then entity, then operation (API.md §1.4, §5.3)."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        body = await request.body()
        document = parse_object(body)
        type_name = document.get("type")
        if type_name is not None and not isinstance(type_name, str):
            raise _field("type", "expected a string")
        served = served_here(context, request, row)
        found = await _find(context, request, row, served, starting=True)
        if found.operation is None:
            return PassOn(found.path("executions"), body)
        operation = found.operation
        aliases = ("parameters", "goal") if operation.kind == ACTION else ("parameters", "request")
        payload: Any = next((document[name] for name in aliases if document.get(name) is not None), {})
        try:
            if operation.kind != ACTION:
                return json_answer({"parameters": await context.operations.call(operation, payload, type_name or "")})
            execution = await context.operations.start(operation, payload, type_name or "")
        except GatewayError as error:
            _name(error, kind, served.entity.id, request)
            raise
        location = f"{quote(request.scope['path'])}/{execution.id}"
        return json_answer({"id": execution.id, "status": execution.status}, 202, {"location": location})

    return handle


def list_executions(rooms: Rooms, row: Row) -> Handler:
    """GET .../executions: those of an action, newest first; services have none."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        found = await _find(context, request, row, served)
        if found.operation is None:
            return PassOn(found.path("executions"))
        if found.operation.kind != ACTION:
            return json_answer({"items": []})
        known = context.operations.executions.of_action(found.operation.path)
        return json_answer({"items": [{"id": one.id} for one in known]})

    return handle


def get_execution(rooms: Rooms, row: Row) -> Handler:
    """GET .../executions/{execution_id}."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        found = await _execution(context, request, row)
        if isinstance(found, PassOn):
            return found
        return json_answer((await context.operations.executions.settled(found)).body())

    return handle


def cancel_execution(rooms: Rooms, row: Row) -> Handler:
    """DELETE .../executions/{execution_id} (API.md §5.6)."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        found = await _execution(context, request, row)
        if isinstance(found, PassOn):
            return found
        try:
            await context.operations.executions.cancel(found)
        except GatewayError as error:
            _name(error, kind, entity_id(request, row), request)
            raise
        return Response(status_code=204)

    return handle


def control_execution(rooms: Rooms, row: Row) -> Handler:
    """PUT .../executions/{execution_id}: body, id, execution, capability (API.md §5.7)."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        body = await request.body()
        capability = parse_object(body).get("capability")
        if capability is None:
            raise _field("capability", "missing required field")
        if not isinstance(capability, str):
            raise _field("capability", "expected a string")
        found = await _execution(context, request, row, body)
        if isinstance(found, PassOn):
            return found
        try:
            _check_capability(capability)
            await context.operations.executions.cancel(found, "Stop")
        except GatewayError as error:
            _name(error, kind, entity_id(request, row), request)
            raise
        return json_answer(
            {"id": found.id, "status": found.status}, 202, {"location": quote(request.scope["path"])}
        )  # fmt: skip

    return handle


def parse_object(body: bytes) -> Json:
    """The JSON object of a body, empty for none. Raises InvalidRequest in the words of API.md §1.4."""
    try:
        document = orjson.loads(body) if body.strip() else {}
    except ValueError as error:
        raise InvalidRequest(f"Malformed JSON: {str(error)[:200]}") from None
    if not isinstance(document, dict):
        raise _field("", "expected a JSON object")
    return document


def _field(name: str, message: str) -> InvalidRequest:
    return InvalidRequest("Request body validation failed", fields=[{"field": name, "message": message}])


def _check_capability(capability: str) -> None:
    if capability == "stop":
        return
    if capability == "execute":
        raise PreconditionNotFulfilled(
            "Cannot re-execute while operation is running. Cancel first, then start new execution."
        )
    known = capability in ("freeze", "reset")
    raise InvalidParameter(
        "Capability not supported for ROS 2 actions" if known else "Unknown capability",
        capability=capability[:256],
        supported_capabilities=["stop"],
    )


def _name(error: GatewayError, kind: Kind, entity: str, request: Request) -> None:
    """Say in an error which operation of which entity it is about (API.md §5.3)."""
    error.parameters["app_id" if kind is Kind.APP else "component_id"] = entity
    for name in ("operation_id", "execution_id"):
        if name in request.path_params:
            error.parameters[name] = request.path_params[name]


def _own(context: GatewayContext, kind: Kind, entity: str) -> list[Operation]:
    tree = context.federation.tree
    return context.operations.operations(tree, kind, entity, tree.local)


async def _execution(
    context: GatewayContext, request: Request, row: Row, body: bytes | None = None
) -> Execution | PassOn:
    """The execution of the request, by its id alone (API.md §5.5), or where it has to be asked for."""
    assert row.kind is not None
    named, execution_id = entity_id(request, row), request.path_params["execution_id"]
    if not is_valid_id(named):
        raise InvalidParameter("Invalid entity ID", details=ID_RULE, entity_id=named)
    known = context.operations.executions.get(execution_id)
    if known is not None:
        return known
    try:
        served = locate(context.federation.tree, row.kind, named)
        if isinstance(served, Shared):
            found = await _find(context, request, row, served)
            if found.operation is None:
                return PassOn(found.path("executions", execution_id), body)
    except PeerUnavailable:
        # It may be theirs, and then it is not unknown.
        raise
    except GatewayError:
        pass  # neither entity nor operation need exist; then it is the execution that is said to be unknown
    raise ResourceNotFound(
        "Execution not found",
        entity_id=named,
        operation_id=request.path_params["operation_id"],
        execution_id=execution_id,
    )


async def _find(
    context: GatewayContext, request: Request, row: Row, served: Local | Remote | Shared, *, starting: bool = False
) -> Found:
    """The one operation that an id means.

    Raises OperationNotFound, InvalidRequest when it could mean several, ResourceNotFound for a member that is none,
    and PeerUnavailable when the gateway that may have it does not answer. What is to be started is not looked for at
    another gateway as long as one is away that may have it, too: a command must not end up at another robot.
    """
    kind = row.kind
    assert kind is not None
    operation_id: str = request.path_params["operation_id"]
    named = served.entity.id
    own = _own(context, kind, named)
    member, item_id = split_qualified(kind, operation_id) or ("", operation_id)
    if member:
        _check_member(context, kind, named, member)
    here = [one for one in own if one.answers_to(item_id) and member in ("", one.member)]
    # The whole path says more than the short name that another operation has.
    exact = [one for one in here if one.path.lstrip("/") == item_id.strip("/")]
    here = exact or here
    there: list[Json] = []
    failed: Any = None
    if isinstance(served, Shared) and not (member and context.federation.tree.is_local_app(member)):
        gathered = await gathering.of_entity(context, request, served, kind, "operations")
        there = [one for one in gathered.items if item_answers_to(one, item_id) and owner(one)]
        there = [one for one in there if member in ("", owner(one))]
        there = [one for one in there if item_path(one).lstrip("/") == item_id.strip("/")] or there
        failed = gathered.medkit.get("failed_peers")
    if len(here) + len(there) > 1:
        raise _ambiguous(kind, named, operation_id, here, there)
    if here:
        return Found(here[0])
    if there and not (starting and failed and not member):
        return Found(None, owner(there[0]), bare_id(there[0]), there[0])
    if failed:
        raise PeerUnavailable(
            "The gateways that may provide this operation are not available",
            entity_id=named,
            operation_id=operation_id,
            failed_peers=failed,
        )
    raise OperationNotFound("Operation not found", entity_id=named, operation_id=operation_id)


def _check_member(context: GatewayContext, kind: Kind, named: str, member: str) -> None:
    tree = context.federation.tree
    if any(app.id == member for app in tree.members(kind, named)):
        return
    found = tree.resolve(Kind.APP, member)
    if isinstance(found, Away):
        raise found.error(member)
    raise ResourceNotFound("Member not found in entity", entity_id=named, member_id=member)


def _ambiguous(
    kind: Kind, named: str, operation_id: str, here: list[Operation], there: list[Json]
) -> InvalidRequest:  # fmt: skip
    candidates = [(one.member, one.id, one.path) for one in here]
    candidates += [(owner(one), bare_id(one), item_path(one)) for one in there]
    members = list(dict.fromkeys(member for member, _, _ in candidates))
    reason = "more than one member provides it" if len(members) > 1 else "it names more than one operation"
    qualifies = kind is not Kind.APP
    return InvalidRequest(
        f"Ambiguous operation id: {reason}",
        details="Use one of operation_ids",
        entity_id=named,
        operation_id=operation_id,
        ros2_paths=[path for _, _, path in candidates],
        member_ids=members if qualifies else None,
        operation_ids=[f"{member}{SEPARATOR}{item}" if qualifies else item for member, item, _ in candidates],
    )


HANDLERS: dict[str, Factory] = {
    "listOperations": list_operations,
    "getOperation": get_operation,
    "startExecution": start_execution,
    "listExecutions": list_executions,
    "getExecution": get_execution,
    "cancelExecution": cancel_execution,
    "controlExecution": control_execution,
}
