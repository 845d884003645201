"""The HTTP application: middleware in the order of API.md §1.9 around a FastAPI that has the routes of the table."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from ..aggregation.forward import ForwardMiddleware
from ..security.principal import Principal
from . import errors, plugin_routes
from .context import PREFIX, SERVER_NAME, GatewayContext
from .metrics import Metrics, page_of
from .middleware.authentication import Authentication, identify
from .middleware.body_limit import BodyLimit
from .middleware.cors import Cors
from .middleware.fault_alias import FaultAlias
from .middleware.measured import Measured
from .middleware.origin import OriginGuard
from .middleware.paths import PathNormaliser
from .middleware.rate_limit import RateLimit
from .plugin_routes import PluginRoutes
from .route_table import ROWS
from .routes import (
    auth,
    configurations,
    data,
    docs,
    entities,
    faults,
    later,
    logs,
    operating,
    operations,
    server,
    status,
    streams,
    vendor,
)
from .routes.handlers import Factory, Rooms
from .snapshots import SnapshotMiddleware, Snapshots

if TYPE_CHECKING:
    from ..security.authority import Authority

_MODULES = (
    server,
    entities,
    docs,
    data,
    operations,
    configurations,
    logs,
    status,
    faults,
    streams,
    vendor,
    auth,
    operating,
    later,
)


def create_app(context: GatewayContext, plugins: tuple[PluginRoutes, ...] = ()) -> ASGIApp:
    """The whole application. Raises ValueError for settings that must not be served: CORS for everybody with
    credentials, authentication without anybody who checks."""
    snapshots = Snapshots(context.federation)
    metrics = Metrics(context)
    app = _routes(Rooms(context, snapshots, plugins), plugins)
    app.router.routes.append(Route("/metrics", page_of(metrics), methods=["GET"]))
    config = context.config
    inner: ASGIApp = BodyLimit(app, config.server.max_body_bytes)
    if context.federation.enabled:
        # In front of the body limit: uploads to other gateways are theirs to judge.
        inner = ForwardMiddleware(inner, context.federation)
    # Where a request for another path starts over, see `pass_on.py`.
    app.state.entry = inner
    inner = FaultAlias(inner, context.federation)
    inner = SnapshotMiddleware(inner, snapshots)
    if config.auth.enabled and context.authority is None:
        raise ValueError("auth.enabled is true, and nobody checks tokens")
    authority = context.authority
    if authority is not None:
        inner = Authentication(inner, authority)
    if config.rate_limiting.enabled:
        inner = RateLimit(inner, config.rate_limiting, _peers_of(authority))
    inner = OriginGuard(inner, origins=config.cors.allowed_origins, allowed_hosts=config.server.allowed_hosts)
    inner = errors.ErrorBoundary(inner)
    if config.cors.allowed_origins:
        inner = Cors(
            inner,
            origins=config.cors.allowed_origins,
            methods=config.cors.allowed_methods,
            headers=config.cors.allowed_headers,
            credentials=config.cors.allow_credentials,
            max_age_s=config.cors.max_age_seconds,
            auth=config.auth.enabled,
        )
    return PathNormaliser(Measured(inner, metrics))


def _peers_of(authority: Authority | None) -> Callable[[Scope], bool]:
    """Whether a request comes from another gateway that has a token for it (AGGREGATION.md §9)."""

    def is_peer(scope: Scope) -> bool:
        identity = identify(scope, authority) if authority is not None else None
        return isinstance(identity, Principal) and identity.is_peer

    return is_peer


def _routes(rooms: Rooms, plugins: tuple[PluginRoutes, ...]) -> FastAPI:
    """FastAPI with every row of the table, and none of its own answers to errors."""
    app = FastAPI(
        title=SERVER_NAME,
        version=rooms.context.identity.version,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    errors.install(app)
    factories: dict[str, Factory] = {key: factory for module in _MODULES for key, factory in module.HANDLERS.items()}
    for row in ROWS:
        # Plain routes: handlers take the request itself, and FastAPI's solving of parameters costs each one 45 us.
        handler = factories[row.serve](rooms, row)
        app.router.routes.append(Route(f"{PREFIX}{row.path}", handler, methods=[row.method]))
    for plugin in plugins:
        for path, methods in plugin.routes:
            endpoint = plugin_routes.handler(rooms.context, plugin, path)
            app.router.routes.append(Route(f"{PREFIX}{path}", endpoint, methods=list(methods)))
    return app
