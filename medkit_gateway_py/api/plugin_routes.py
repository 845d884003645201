"""Routes of plugins (API.md §10.10): an APIRouter of a plugin, served below `/api/v1` from the plugin's thread.

Requests and answers are handed over whole, because they cross into another thread and back; the plugin's own errors
become the contract's bodies there. What a router may not have is refused as a whole, with a reason for `/health`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Scope

from ..aggregation.routing import Remote
from ..entities.model import Kind
from ..errors import PayloadTooLarge, PluginFailed
from ..plugins.api import BadValue, NotFound, PluginError, Unavailable
from ..plugins.thread import PluginThread
from ..resources.plugins import Plugins
from .context import PREFIX, GatewayContext
from .errors import error_answer, field_errors
from .locate import locate
from .route_table import ROWS

ROUTE_S = 10.0
MAX_BODY = 1_048_576  # bytes of a request, and of an answer
# Headers that a plugin's answer may set; all others are the gateway's.
PASSED = frozenset({b"content-type", b"content-disposition", b"cache-control", b"etag", b"location", b"retry-after"})
_CODES = {400: "invalid-request", 403: "forbidden", 404: "resource-not-found", 503: "service-unavailable"}
_ERRORS: tuple[tuple[type[PluginError], int], ...] = ((NotFound, 404), (BadValue, 400), (Unavailable, 503))


@dataclass(frozen=True)
class PluginRoutes:
    """A usable router: the plugin, its application, `(path, methods)` of each route, and its OpenAPI document."""

    name: str
    thread: PluginThread
    app: FastAPI
    routes: tuple[tuple[str, tuple[str, ...]], ...]
    document: Mapping[str, Any]


def usable(plugins: Plugins, routers: Mapping[str, tuple[PluginThread, Any]]) -> tuple[PluginRoutes, ...]:
    """The routers that can be served; the others are refused."""
    found: list[PluginRoutes] = []
    taken = {(row.method, row.template) for row in ROWS}
    for name, (thread, router) in routers.items():
        try:
            routes = _check(name, router, taken)
            app = _application(name, router)
            document = app.openapi()
            json.dumps(document)
        except Exception as error:  # a router of a plugin may hold anything
            reason = str(error) if isinstance(error, _Unusable) else f"{type(error).__name__}: {error}"
            plugins.refuse(name, f"its routes cannot be served: {reason}")
            continue
        taken.update((method, path) for path, methods in routes for method in methods)
        found.append(PluginRoutes(name, thread, app, routes, document))
    return tuple(found)


class _Unusable(Exception):
    pass


def _check(name: str, router: Any, taken: set[tuple[str, str]]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(router, APIRouter):
        raise _Unusable(f"router() gave a {type(router).__name__}, not a fastapi.APIRouter")
    found = []
    for route in router.routes:
        if not isinstance(route, APIRoute):
            raise _Unusable(f"{getattr(route, 'path', route)!r} is no ordinary route")
        path, methods = route.path, tuple(sorted(route.methods or ()))
        vendor = [part for part in path.split("/") if part.startswith("x-")]
        if not path.startswith("/") or not vendor or "x-medkit" in vendor:
            raise _Unusable(f"{path}: a path needs a segment that begins with x- and is not x-medkit")
        if any(":" in part for part in path.split("/")):
            raise _Unusable(f"{path}: converters are not supported")
        for method in methods:
            if (method, path) in taken:
                raise _Unusable(f"{method} {path} is served already")
        found.append((path, methods))
    return tuple(found)


def _application(name: str, router: APIRouter) -> FastAPI:
    """The router as an application of its own, whose errors have the contract's form."""
    app = FastAPI(title=name, openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    app.include_router(router)

    async def on_http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        code = _CODES.get(error.status_code, "vendor-error")
        return JSONResponse({"error_code": code, "message": str(error.detail)}, error.status_code)

    async def on_invalid(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_answer(field_errors(error.errors()))

    async def on_plugin(_request: Request, error: Exception) -> Response:
        status = next((status for kind, status in _ERRORS if isinstance(error, kind)), 500)
        return JSONResponse({"error_code": _CODES.get(status, "vendor-error"), "message": str(error)}, status)

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(PluginError, on_plugin)
    return app


def handler(context: GatewayContext, plugin: PluginRoutes, path: str) -> Any:
    """The endpoint of one of its routes. An entity in the path must exist, as it must everywhere (API.md §1.5)."""
    head, _, rest = path.strip("/").partition("/")
    kind = next((kind for kind in Kind if kind.value == head and rest.startswith("{")), None)
    placeholder = rest.partition("}")[0].removeprefix("{") if kind is not None else ""

    async def handle(request: Request) -> Response:
        if kind is not None:
            served = locate(context.federation.tree, kind, request.path_params[placeholder])
            assert not isinstance(served, Remote)  # forwarded before it comes here
        body = await request.body()
        if len(body) > MAX_BODY:
            raise PayloadTooLarge(f"A request to a plugin is at most {MAX_BODY} bytes", limit=MAX_BODY)
        scope = _scope(request.scope)

        async def work(_plugin: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
            return await _answer_of(plugin.app, scope, body)

        try:
            status, headers, content = await plugin.thread.call(f"{request.method} {path}", work, ROUTE_S)
        except PluginError as error:
            raise PluginFailed(str(error)) from None
        answer = Response(content, status)
        answer.raw_headers = [*headers, (b"content-length", str(len(content)).encode())]
        return answer

    return handle


def _scope(scope: Scope) -> Scope:
    """What the plugin's application sees: its own paths, and none of our credentials."""
    path = scope["path"].removeprefix(PREFIX)
    headers = [(name, value) for name, value in scope["headers"] if name not in (b"authorization", b"cookie")]
    kept = ("type", "asgi", "http_version", "method", "scheme", "query_string", "client", "server")
    raw = scope.get("raw_path") or scope["path"].encode()
    return {
        **{key: scope[key] for key in kept if key in scope},
        "path": path,
        "raw_path": raw.removeprefix(PREFIX.encode()),
        "root_path": "",
        "headers": headers,
    }


async def _answer_of(app: FastAPI, scope: Scope, body: bytes) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Runs in the plugin's thread."""
    parts: list[bytes] = []
    start: Message = {"status": 500, "headers": []}
    given = False
    size = 0

    async def receive() -> Message:
        nonlocal given
        if given:
            return {"type": "http.disconnect"}
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        nonlocal start, size
        if message["type"] == "http.response.start":
            start = message
        elif message["type"] == "http.response.body":
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                raise ValueError(f"its answer is longer than {MAX_BODY} bytes")
            parts.append(message.get("body", b""))

    await app(scope, receive, send)
    headers = [(name.lower(), value) for name, value in start["headers"] if name.lower() in PASSED]
    return start["status"], headers, b"".join(parts)


def add_to_document(document: dict[str, Any], plugins: tuple[PluginRoutes, ...]) -> None:
    """Put the operations of plugins into our OpenAPI document, schemas and operation ids under the plugin's name."""
    for plugin in plugins:
        names = list(plugin.document.get("components", {}).get("schemas", {}))
        theirs = _renamed(plugin.document, {name: f"{plugin.name}_{name}" for name in names})
        document["tags"].append({"name": plugin.name})
        for path, operations in theirs.get("paths", {}).items():
            known = document["paths"].setdefault(path, {})
            for method, operation in operations.items():
                operation["tags"] = [plugin.name]
                operation["operationId"] = f"{plugin.name}_{operation.get('operationId', method)}"
                operation["responses"] = _responses(operation.get("responses", {}))
                known[method] = operation
        document["components"]["schemas"].update(
            {f"{plugin.name}_{name}": theirs["components"]["schemas"][name] for name in names}
        )


def _responses(theirs: dict[str, Any]) -> dict[str, Any]:
    """Theirs, but with our bodies for what is wrong with a request, and for what can go wrong on the way."""
    error = {"$ref": "#/components/responses/GenericError"}
    kept = {status: answer for status, answer in theirs.items() if status != "422"}
    return {**{str(status): error for status in (400, 404, 413, 500, 502, 503, 504)}, **kept}


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    prefix = "#/components/schemas/"
    if isinstance(value, dict):
        return {
            key: prefix + names[member.removeprefix(prefix)]
            if key == "$ref" and isinstance(member, str) and member.removeprefix(prefix) in names
            else _renamed(member, names)
            for key, member in value.items()
        }
    return [_renamed(one, names) for one in value] if isinstance(value, list) else value
