"""Root, health and versions (API.md §2.1-2.3)."""

from __future__ import annotations

import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.routing import Warn
from .. import gathering
from ..answers import json_answer
from ..context import PREFIX, SERVER_NAME, SOVD_VERSION, GatewayContext
from ..route_rows import Row
from ..route_table import ROWS
from .handlers import Factory, Handler, Rooms

# What works in this version; a flag is true only for what is served (DECISIONS 14).
_SERVED = frozenset({"discovery", "data_access", "operations", "async_actions", "configurations", "faults", "logs"})
_CAPABILITIES = (
    "discovery", "data_access", "operations", "async_actions", "configurations", "faults", "logs", "bulk_data",
    "cyclic_subscriptions", "locking", "triggers", "updates", "authentication", "scripts", "vendor_extensions",
)  # fmt: skip
WARNING_SCHEMA_VERSION = 2


def root(rooms: Rooms, row: Row) -> Handler:
    """GET / : everything in it is fixed at start."""
    context = rooms.context
    answer = root_document(context)
    answer["endpoints"] += [
        f"{method} {PREFIX}{path}" for plugin in rooms.plugins for path, methods in plugin.routes for method in methods
    ]

    async def handle(request: Request) -> Response:
        return json_answer(answer)

    return handle


def root_document(context: GatewayContext) -> dict[str, Any]:
    """The overview, with what the web UI's server page shows (CLIENTS.md §1)."""
    config = context.config
    capabilities = {
        **{name: name in _SERVED for name in _CAPABILITIES},
        "authentication": config.auth.enabled,
        "tls": config.server.tls.enabled,
        "aggregation": context.federation.enabled,
    }
    document: dict[str, Any] = {
        "name": SERVER_NAME,
        "version": context.identity.version,
        "api_base": PREFIX,
        "endpoints": endpoints(config.docs.enabled),
        "capabilities": capabilities,
        "sovd_version": SOVD_VERSION,
        "server_name": context.identity.name or SERVER_NAME,
        "server_version": context.identity.version,
        "supported_features": [name for name, served in capabilities.items() if served],
        "entry_points": {
            name: f"{PREFIX}/{name}"
            for name in ("areas", "components", "apps", "functions", "faults", "health", "version-info")
        },
    }
    if config.auth.enabled:
        document["auth"] = {
            "enabled": True,
            "algorithm": config.auth.jwt_algorithm,
            "require_auth_for": config.auth.require_auth_for,
        }
    if config.server.tls.enabled:
        document["tls"] = {"enabled": True, "min_version": config.server.tls.min_version}
    return document


def endpoints(docs: bool) -> list[str]:
    """`METHOD /api/v1/...` for every route that the contract names."""
    # The stubs of API.md §1.6 and the pages of Swagger are no operations, so they have no operation id.
    found = [f"{row.method} {PREFIX}{row.template or '/'}" for row in ROWS if row.operation_id]
    return [*found, f"GET {PREFIX}/docs", f"GET {PREFIX}/{{entity-path}}/docs"] if docs else found


def health(rooms: Rooms, row: Row) -> Handler:
    """GET /health."""

    async def handle(request: Request) -> Response:
        return json_answer(health_document(rooms.context))

    return handle


def health_document(context: GatewayContext) -> dict[str, Any]:
    """The state of this gateway. Waits for nothing and asks nobody."""
    federation = context.federation
    blocks = context.health_blocks()
    warnings = [*federation.warnings(), *context.warnings()]
    document: dict[str, Any] = {
        "status": "healthy",
        "timestamp": time.time_ns(),
        "discovery": dict(context.discovery()),
        "x-medkit-entity-cache": {
            "capacity": context.config.entity_cache.capacity,
            **federation.tree.counts(),
            # A C++ gateway that aggregates us may fetch only when this changes (AGGREGATION.md §6).
            "generation": federation.tree.version,
            "grew": False,
        },
        **{name: block for name, block in blocks.items() if name.startswith("x-medkit-")},
        "x-medkit": {
            "instance_id": context.identity.id,
            "boot_id": context.identity.boot_id,
            **{name: block for name, block in blocks.items() if not name.startswith("x-medkit-")},
        },
        "warning_schema_version": WARNING_SCHEMA_VERSION,
        "warnings": [_warning(one) for one in warnings],
    }
    if federation.enabled:
        document["peers"] = [{"name": peer.name, "url": peer.url, "status": peer.status} for peer in federation.peers]
    return document


def _warning(warning: Warn) -> dict[str, Any]:
    return {
        "code": warning.code,
        "message": warning.message,
        "entity_ids": list(warning.entity_ids),
        "ros_node_fqns": list(warning.ros_node_fqns),
        "peer_names": list(warning.peer_names),
    }


def version_info(rooms: Rooms, row: Row) -> Handler:
    """GET /version-info, the peers' items appended."""
    context = rooms.context
    own = {
        "version": SOVD_VERSION,
        "base_uri": PREFIX,
        "vendor_info": {
            # Clients check this name (API.md §2.3).
            "name": "ros2_medkit",
            "version": context.identity.version,
            "instance_id": context.identity.id,
            "boot_id": context.identity.boot_id,
        },
    }

    async def handle(request: Request) -> Response:
        gathered = await gathering.of_everyone(context, request, "/version-info")
        document: dict[str, Any] = {"items": [*([own] if gathered.local else []), *gathered.items]}
        if gathered.medkit:
            document["x-medkit"] = gathered.medkit
        return json_answer(document)

    return handle


HANDLERS: dict[str, Factory] = {"root": root, "health": health, "versionInfo": version_info}
