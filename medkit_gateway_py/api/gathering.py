"""Between the routes and the fan-out: whether peers are asked at all, and what a partial answer becomes.

Asking itself is `aggregation/fan_out.py` (AGGREGATION.md §8).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from starlette.requests import Request

from ..aggregation.fan_out import FanOut, envelope, gather_entity, gather_everyone
from ..aggregation.request import RequestInfo
from ..aggregation.routing import Local, Shared
from ..entities.model import Kind
from ..errors import ServiceUnavailable
from .context import GatewayContext


@dataclass
class Gathered:
    """What peers gave.

    `local` says whether our own share is wanted, too; `items` are ready to be appended, `bodies` the whole answers by
    peer, and `medkit` goes into the answer's `x-medkit` (empty when nobody failed).
    """

    local: bool = True
    items: list[dict[str, Any]] = field(default_factory=list)
    bodies: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    medkit: dict[str, Any] = field(default_factory=dict)


async def of_entity(
    context: GatewayContext,
    request: Request,
    served: Local | Shared,
    kind: Kind,
    collection: str,
    query: bytes | None = None,
) -> Gathered:
    """The shares of peers in one collection of an entity; nothing for an entity that is served here alone.

    `query` is asked in the place of the request's own.
    """
    info = RequestInfo.from_scope(request.scope)
    if query is not None:
        info = replace(info, query=query)
    local = info.asks_local(context.identity.id)
    if isinstance(served, Local):
        return Gathered(local)
    found = await gather_entity(context.federation, info, served, kind, served.entity.id, collection)
    return _gathered(info, local, found)


async def of_everyone(context: GatewayContext, request: Request, path: str) -> Gathered:
    """What all peers have at `path` (relative to `/api/v1`)."""
    info = RequestInfo.from_scope(request.scope)
    local = info.asks_local(context.identity.id)
    if not context.federation.enabled:
        return Gathered(local)
    return _gathered(info, local, await gather_everyone(context.federation, info, path))


def refuse_partial(request: Request, **missing: Any) -> None:
    """Raise ServiceUnavailable when the client wants no answer in which the nodes or gateways of `missing` are."""
    if any(missing.values()) and RequestInfo.from_scope(request.scope).wants_partial_fail:
        found = {name: value or None for name, value in missing.items()}
        raise ServiceUnavailable("The answer would be partial: not every node answered", **found)


def _gathered(info: RequestInfo, local: bool, found: FanOut) -> Gathered:
    medkit = envelope(found)
    if found.failed and info.wants_partial_fail:
        raise ServiceUnavailable(
            "The answer would be partial: not every gateway answered", failed_peers=found.failed, peers=found.peers
        )
    return Gathered(local, found.items, found.bodies, medkit)
