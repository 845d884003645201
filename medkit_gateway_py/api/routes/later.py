"""Routes that exist and serve nothing yet, or never: 501, 405 and 404 with the words of the contract (DECISIONS 14)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from ...errors import GatewayError, InvalidRequest, NotImplementedHere
from ..answers import json_answer
from ..errors import error_answer
from ..route_rows import Row
from .handlers import Factory, Handler, Rooms, served_here


class MethodNotAllowed(InvalidRequest):
    """405: one of the two stubs of API.md §1.6."""

    status = 405


def later(rooms: Rooms, row: Row) -> Handler:
    """501, after the entity has been looked at where the finished route will do so first."""

    async def handle(request: Request) -> Response:
        if row.checks_entity:
            served_here(rooms.context, request, row)
        raise NotImplementedHere(row.message)

    return handle


def no_data_grouping(rooms: Rooms, row: Row) -> Handler:
    """501 for data-categories and data-groups, whatever the entity (API.md §4.4)."""
    feature = row.template.rsplit("/", 1)[1]
    return _always(
        NotImplementedHere(f"{feature.replace('-', ' ').capitalize()} are not implemented for ROS 2", feature=feature)
    )


def no_upload(rooms: Rooms, row: Row) -> Handler:
    """405 for uploads to areas and functions, whatever the id."""
    return _always(MethodNotAllowed("Bulk data upload is only supported for components and apps"))


def no_deletion(rooms: Rooms, row: Row) -> Handler:
    """405 for deletions in areas and functions, whatever the id."""
    return _always(MethodNotAllowed("Bulk data deletion is only supported for components and apps"))


def no_fault_triggers(rooms: Rooms, row: Row) -> Handler:
    """404 without a data plugin (API.md §10.5)."""
    body = {"error_code": "resource-not-found", "message": "fault-trigger engine is not enabled"}

    async def handle(request: Request) -> Response:
        return json_answer(body, 404)

    return handle


def _always(error: GatewayError) -> Handler:
    async def handle(request: Request) -> Response:
        return error_answer(error)

    return handle


HANDLERS: dict[str, Factory] = {
    "later": later,
    "noDataGrouping": no_data_grouping,
    "noUpload": no_upload,
    "noDeletion": no_deletion,
    "noFaultTriggers": no_fault_triggers,
}
