"""Data: topics listed, read and written (API.md §4, DECISIONS 2, 4, 7).

Local topics go to `resources/data.py`. An item of a member that another gateway has is passed on to
`/apps/<member>/data/...`, where the forwarding takes it (AGGREGATION.md §4, §8).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.fan_out import qualify_duplicates
from ...aggregation.routing import Away, Local, Shared
from ...entities.model import Kind
from ...errors import (
    ColdWaitCapExceeded,
    InvalidParameter,
    InvalidRequest,
    PeerUnavailable,
    ResourceNotFound,
)
from ...plugins.api import DataItem
from ...resources.data import full_topic, plugin_value
from .. import gathering
from ..answers import json_answer
from ..context import GatewayContext
from ..data_items import SEPARATOR, aggregation_of, owners, split_qualified, uses
from ..pass_on import Facts, PassOn
from ..route_rows import Row
from ..views import uri
from .handlers import Factory, Handler, Rooms, served_here

_TYPE = re.compile(r"[^/\s]+/msg/[^/\s]+")


@dataclass(frozen=True)
class Target:
    """Where an item is: a topic of ours, or with `member` one of an app that another gateway has."""

    entity_id: str
    topic: str
    data_id: str
    member: str = ""

    def pass_on(self) -> Response:
        """The request once more, to the gateway that has the member."""
        facts = Facts(self.data_id, {"entity_id": self.entity_id})
        return PassOn(uri(Kind.APP, self.member, "data", self.topic.lstrip("/")), facts=facts)


def list_data(rooms: Rooms, row: Row) -> Handler:
    """GET .../data."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        tree = context.federation.tree
        entity_id = served.entity.id
        gathered = await gathering.of_entity(context, request, served, kind, "data")
        items = context.data.items(tree, kind, entity_id, tree.local) if gathered.local else []
        items = qualify_duplicates([*items, *gathered.items])
        medkit = {
            "entity_id": entity_id,
            **aggregation_of(tree, kind, entity_id),
            "total_count": len(items),
            **gathered.medkit,
        }
        return json_answer({"items": items, "x-medkit": medkit})

    return handle


def read_data(rooms: Rooms, row: Row) -> Handler:
    """GET .../data/{data_id}."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        plugin = _of_plugin(context, request, row, served)
        if plugin is not None:
            value = await context.plugins.read_data(*plugin)
            return json_answer(plugin_value(plugin[0], served.entity.id, request.path_params["data_id"], value, "data"))
        target = await _find(context, request, row, served, writing=False)
        if target.member:
            return target.pass_on()
        try:
            return json_answer(await context.data.read(target.entity_id, target.topic, target.data_id))
        except ColdWaitCapExceeded as error:
            error.parameters.update(entity_id=target.entity_id, topic_name=target.topic)
            raise

    return handle


def write_data(rooms: Rooms, row: Row) -> Handler:
    """PUT .../data/{data_id}: entity, then JSON, fields, type, and at last the topic (API.md §4.3)."""
    context = rooms.context

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        plugin = _of_plugin(context, request, row, served)
        if plugin is not None:
            return await _write_plugin(context, request, served.entity.id, *plugin)
        target = await _find(context, request, row, served, writing=True)
        if target.member:
            return target.pass_on()
        type_name, payload = parse_write(await request.body())
        try:
            return json_answer(
                await context.data.write(target.entity_id, target.topic, type_name, payload, target.data_id)
            )
        except (ValueError, LookupError) as error:
            # Of `ros/messages.py`: FieldError for a payload that does not fit, UnknownType. This room must not import
            # what imports ROS; both say why in `reason`, and any other error is a bug.
            if not hasattr(error, "reason"):
                raise
            raise InvalidParameter(
                "Failed to publish to topic",
                details=str(error),
                field=getattr(error, "path", None) or None,
                type=type_name,
                entity_id=target.entity_id,
                topic_name=target.topic,
            ) from error

    return handle


def _of_plugin(
    context: GatewayContext, request: Request, row: Row, served: Local | Shared
) -> tuple[str, DataItem] | None:
    """The app and the item when a plugin has it. Raises InvalidRequest when several of its apps do."""
    assert row.kind is not None
    data_id: str = request.path_params["data_id"]
    entity = served.entity
    found = context.plugins.find_data(context.federation.tree, row.kind, entity.id, data_id)
    if len(found) > 1:
        raise _ambiguous(
            "more than one member provides it", entity.id, data_id.strip("/"), [app for app, _ in found]
        )  # fmt: skip
    if not found and row.kind is Kind.APP and context.plugins.app(entity.id) is not None:
        raise ResourceNotFound("Data item not found", entity_id=entity.id, data_id=data_id)
    return found[0] if found else None


async def _write_plugin(
    context: GatewayContext, request: Request, entity_id: str, app_id: str, item: DataItem
) -> Response:
    """`{"data": value}`, with or without a `type`: what a plugin has, has none."""
    try:
        document = orjson.loads(await request.body())
    except ValueError as error:
        raise InvalidRequest("Request body is not valid JSON", details=str(error)[:200]) from None
    if not isinstance(document, dict):
        raise InvalidRequest("Request body is not valid JSON", details="expected a JSON object")
    if "data" not in document:
        raise InvalidRequest("data: missing required field")
    if not item.writable:
        raise InvalidParameter("This data item cannot be written", entity_id=entity_id, data_id=item.id)
    await context.plugins.write_data(app_id, item, document["data"])
    return json_answer(
        plugin_value(app_id, entity_id, request.path_params["data_id"], document["data"], "published")
    )  # fmt: skip


def parse_write(body: bytes) -> tuple[str, Any]:
    """Type and payload of a write. Raises InvalidRequest or InvalidParameter in the words that clients check."""
    try:
        document = orjson.loads(body) if body else {}
    except ValueError as error:
        raise InvalidRequest("Request body is not valid JSON", details=str(error)[:200]) from None
    if not isinstance(document, dict):
        raise InvalidRequest("Request body is not valid JSON", details="expected a JSON object")
    wrapped = document.get("value")
    if "type" not in document and isinstance(wrapped, dict):
        # The web UI sends {"value": {"type", "data"}} (CLIENTS.md §1).
        document = wrapped
    missing = [name for name in ("type", "data") if document.get(name) is None]
    if missing:
        raise InvalidRequest("; ".join(f"{name}: missing required field" for name in missing))
    type_name = document["type"]
    if not isinstance(type_name, str):
        raise InvalidRequest("type: expected a string")
    if len(type_name) > 256 or _TYPE.fullmatch(type_name) is None:
        raise InvalidParameter(
            "Invalid message type format",
            details="Expected package/msg/Type, for example std_msgs/msg/String",
            type=type_name[:256],
        )
    return type_name, document["data"]


async def _find(
    context: GatewayContext, request: Request, row: Row, served: Local | Shared, *, writing: bool
) -> Target:
    kind = row.kind
    assert kind is not None
    data_id: str = request.path_params["data_id"]
    if not data_id.strip("/"):
        raise ResourceNotFound("Resource not found", status=404)
    entity_id = served.entity.id
    qualified = split_qualified(kind, data_id)
    if qualified is not None:
        return _member_item(context, kind, entity_id, *qualified)
    topic = full_topic(data_id)
    target = Target(entity_id, topic, topic)
    if isinstance(served, Local):
        return target
    tree = context.federation.tree
    here = [app.id for app in tree.members(kind, entity_id) if tree.is_local_app(app.id) and uses(app, topic)]
    if here and not writing:
        return target
    gathered = await gathering.of_entity(context, request, served, kind, "data")
    there = owners(gathered.items, topic)
    candidates = [*here[:1], *there]
    if writing and len(candidates) > 1:
        raise _ambiguous("more than one member provides it", entity_id, topic, candidates)
    if here:
        return target
    failed = gathered.medkit.get("failed_peers")
    if there and not (writing and failed):
        return Target(entity_id, topic, topic, there[0])
    if writing and failed:
        # It may be theirs: a command must not end up at another robot.
        raise PeerUnavailable(
            "The gateways that may provide this item are not available",
            entity_id=entity_id,
            topic_name=topic,
            failed_peers=failed,
        )
    if writing and not served.local:
        # Nothing of it is in our graph, so a topic made here would reach none of its owners.
        members = [app.id for app in tree.members(kind, entity_id)]
        raise _ambiguous("no member provides it yet, and several gateways could", entity_id, topic, members)
    return target


def _ambiguous(reason: str, entity_id: str, topic: str, members: list[str]) -> InvalidRequest:
    return InvalidRequest(
        f"Ambiguous data id: {reason}",
        details="Use one of data_ids, or the item of the app",
        entity_id=entity_id,
        data_ids=[f"{member}{SEPARATOR}{topic}" for member in members],
        member_ids=members,
    )


def _member_item(context: GatewayContext, kind: Kind, entity_id: str, member: str, topic: str) -> Target:
    tree = context.federation.tree
    known = next((app for app in tree.members(kind, entity_id) if app.id == member), None)
    if known is None:
        owner = tree.resolve(Kind.APP, member)
        if isinstance(owner, Away):
            raise owner.error(member)
        raise ResourceNotFound("Member not found in entity", entity_id=entity_id, member_id=member)
    if not tree.is_local_app(member):
        return Target(entity_id, topic, f"{member}{SEPARATOR}{topic}", member)
    if not uses(known, topic):
        raise ResourceNotFound(
            "Data item not provided by member", entity_id=entity_id, member_id=member, topic_name=topic
        )
    return Target(entity_id, topic, f"{member}{SEPARATOR}{topic}")


HANDLERS: dict[str, Factory] = {"listData": list_data, "readData": read_data, "writeData": write_data}
