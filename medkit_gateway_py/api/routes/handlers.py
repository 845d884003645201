"""What every handler module shares: the shape of a factory, and the entity of a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.routing import Local, Remote, Shared
from ...errors import PeerUnavailable
from ..context import GatewayContext
from ..documents import Documents
from ..fault_stream import FaultStream
from ..locate import locate
from ..plugin_routes import PluginRoutes
from ..route_rows import Row
from ..snapshots import Snapshots

Handler = Callable[[Request], Awaitable[Response]]


class Rooms:
    """What a factory may use: the context, the cached answers of the tree, the document."""

    def __init__(self, context: GatewayContext, snapshots: Snapshots, plugins: tuple[PluginRoutes, ...] = ()) -> None:
        self.plugins = plugins
        self.context = context
        self.snapshots = snapshots
        self.documents = Documents(context, plugins)
        self.fault_stream = FaultStream(context.federation, context.fault_events, context.streams)


Factory = Callable[[Rooms, Row], Handler]


def entity_id(request: Request, row: Row) -> str:
    """The id in the path, under the name that the contract gives it."""
    assert row.kind is not None
    found: str = request.path_params[f"{row.kind.type}_id"]
    return found


def served_here(context: GatewayContext, request: Request, row: Row) -> Local | Shared:
    """The entity of the request, by the standard sequence of API.md §1.5."""
    assert row.kind is not None
    found = locate(context.federation.tree, row.kind, entity_id(request, row))
    if isinstance(found, Remote):
        # The forwarding in front of the routes answers for it; it is only seen here when the tree changed meanwhile.
        raise PeerUnavailable(f"Peer '{found.peer}' is not available", entity_id=found.entity.id, peer=found.peer)
    return found
