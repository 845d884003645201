"""Logs: lines of nodes, and what reads of them leave out (API.md §8)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...errors import InvalidParameter, InvalidRequest
from ...resources.logs import MAX_ENTRIES, SEVERITIES, LogSettings, aggregation_of, matcher, rank
from .. import gathering
from ..answers import json_answer
from ..route_rows import Row
from .configurations import parse_body
from .handlers import Factory, Handler, Rooms, served_here

MAX_CONTEXT = 256


def list_logs(rooms: Rooms, row: Row) -> Handler:
    """GET .../logs."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        served = served_here(context, request, row)
        tree, entity = context.federation.tree, served.entity.id
        settings = context.logs.settings(kind, entity)
        severity = request.query_params.get("severity") or "debug"
        check_severity(severity)
        part = request.query_params.get("context", "")
        if len(part) > MAX_CONTEXT:
            raise InvalidParameter(f"context filter exceeds maximum length of {MAX_CONTEXT}")
        severity = max(severity, settings.severity_filter, key=rank)
        gathered = await gathering.of_entity(context, request, served, kind, "logs")
        items: list[dict[str, Any]] = []
        if gathered.local:
            matches = matcher(tree, kind, entity, tree.local)
            items = context.logs.items(matches, severity, part, settings.max_entries)
        theirs = _of_peers(gathered.items, items, severity)
        if theirs:
            items = sorted([*items, *theirs], key=lambda one: str(one["timestamp"]))[-settings.max_entries :]
        medkit = {**aggregation_of(tree, kind, entity), **gathered.medkit}
        return json_answer({"items": items, **({"x-medkit": medkit} if medkit else {})})

    return handle


def _of_peers(items: list[dict[str, Any]], ours: list[dict[str, Any]], severity: str) -> list[dict[str, Any]]:
    """Lines of peers that are bad enough and not ours too; every gateway counts for itself, so ids name the peer."""
    known = {_identity(one) for one in ours}
    found = []
    for item in items:
        if not isinstance(item.get("timestamp"), str) or rank(str(item.get("severity"))) < rank(severity):
            continue
        if _identity(item) not in known:
            found.append({**item, "id": f"{str(item['x-medkit']['peer']).partition('/')[0]}:{item.get('id')}"})
    return found


def _identity(item: dict[str, Any]) -> tuple[str, str, str]:
    context = item.get("context")
    node = context.get("node") if isinstance(context, dict) else ""
    return str(item.get("timestamp")), str(node), str(item.get("message"))


def read_log_settings(rooms: Rooms, row: Row) -> Handler:
    """GET .../logs/configuration."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        settings = context.logs.settings(kind, served_here(context, request, row).entity.id)
        return json_answer({"severity_filter": settings.severity_filter, "max_entries": settings.max_entries})

    return handle


def write_log_settings(rooms: Rooms, row: Row) -> Handler:
    """PUT .../logs/configuration: what is not given stays as it is."""
    context, kind = rooms.context, row.kind
    assert kind is not None

    async def handle(request: Request) -> Response:
        document = parse_body(await request.body())
        severity, count = document.get("severity_filter"), document.get("max_entries")
        wrong = []
        if severity is not None and not isinstance(severity, str):
            wrong.append({"field": "severity_filter", "message": "expected a string"})
        if count is not None and (isinstance(count, bool) or not isinstance(count, int)):
            wrong.append({"field": "max_entries", "message": "expected an integer"})
        if wrong:
            raise InvalidRequest("Request body validation failed", fields=wrong)
        entity = served_here(context, request, row).entity.id
        if severity is not None:
            check_severity(severity)
        if count is not None and count <= 0:
            raise InvalidParameter("max_entries must be greater than 0", max_entries=count)
        if count is not None and count > MAX_ENTRIES:
            raise InvalidParameter(f"max_entries exceeds maximum allowed value of {MAX_ENTRIES}", max_entries=count)
        before = context.logs.settings(kind, entity)
        after = LogSettings(severity or before.severity_filter, count or before.max_entries)
        context.logs.set_settings(kind, entity, after)
        return Response(status_code=204)

    return handle


def check_severity(severity: str) -> None:
    """Raises InvalidParameter for a severity that is none."""
    if severity not in SEVERITIES:
        raise InvalidParameter(
            f"Invalid severity value: must be one of {', '.join(SEVERITIES)}", severity=severity[:MAX_CONTEXT]
        )


HANDLERS: dict[str, Factory] = {
    "listLogs": list_logs,
    "readLogSettings": read_log_settings,
    "writeLogSettings": write_log_settings,
}
