"""The OpenAPI document, whole and in parts, and the Swagger UI that shows it (API.md §2.4, DECISIONS 8)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import anyio
from starlette.requests import Request
from starlette.responses import Response

from ...errors import NotImplementedHere, ResourceNotFound
from ...resources.operations import listed
from ..answers import json_answer
from ..context import PREFIX, SERVER_NAME
from ..route_rows import Row
from ..sub_docs import Part, describe
from .handlers import Factory, Handler, Rooms

# Where the files of Swagger UI come from: a package that carries them, so that none is copied into this one.
ASSETS_PACKAGE = "fastapi_offline"
ASSETS = {"swagger-ui.css": "text/css; charset=utf-8", "swagger-ui-bundle.js": "text/javascript; charset=utf-8"}
INIT_SCRIPT = "medkit-init.js"
# Swagger UI sets styles of elements, and shows images as data; everything else comes from here.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{SERVER_NAME}</title>
<link rel="stylesheet" href="{PREFIX}/swagger-ui/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="{PREFIX}/swagger-ui/swagger-ui-bundle.js"></script>
<script src="{PREFIX}/swagger-ui/{INIT_SCRIPT}"></script>
</body>
</html>
"""
# The document names the address to listen on; the page uses the one it was loaded from.
_INIT = f"""\
"use strict";
fetch("{PREFIX}/docs")
  .then((answer) => answer.json())
  .then((spec) => {{
    spec.servers = [{{ url: window.location.origin + "{PREFIX}", description: "This gateway" }}];
    SwaggerUIBundle({{ dom_id: "#swagger-ui", spec: spec, docExpansion: "none", validatorUrl: null }});
  }});
"""


def docs(rooms: Rooms, row: Row) -> Handler:
    """GET /docs and /{path}/docs."""
    context = rooms.context
    documents = rooms.documents

    def ids(part: Part) -> Sequence[str]:
        assert part.entity is not None
        tree = context.federation.tree
        if part.collection == "data":
            return [item["id"] for item in context.data.items(tree, part.kind, part.entity.id, tree.local)]
        own = context.operations.operations(tree, part.kind, part.entity.id, tree.local)
        return [item["id"] for item in listed(context.operations.items(part.kind, own))]

    async def handle(request: Request) -> Response:
        if not context.config.docs.enabled:
            raise NotImplementedHere("Capability description is disabled")
        whole, root = await documents.whole()
        path = request.path_params.get("path", "")
        if not path:
            return root
        return json_answer(describe(whole, context.federation.tree, path, ids))

    return handle


def swagger_page(rooms: Rooms, row: Row) -> Handler:
    """GET /swagger-ui: the page. Its scripts are files, so that the policy needs no exception for them."""
    enabled = rooms.context.config.docs.enabled

    async def handle(request: Request) -> Response:
        if not enabled or assets_folder() is None:
            raise NotImplementedHere("Swagger UI is not available", details=f"needs the package {ASSETS_PACKAGE}")
        return Response(_PAGE, media_type="text/html", headers={"Content-Security-Policy": POLICY})

    return handle


def swagger_asset(rooms: Rooms, row: Row) -> Handler:
    """GET /swagger-ui/{asset}: one of three files, read once."""
    read: dict[str, Response] = {
        INIT_SCRIPT: Response(_INIT, headers={"Content-Type": ASSETS["swagger-ui-bundle.js"]}),
    }

    async def handle(request: Request) -> Response:
        name: str = request.path_params["asset"]
        folder = assets_folder()
        if name not in read and name in ASSETS and folder is not None:
            content = await anyio.Path(folder / name).read_bytes()
            headers = {"Content-Type": ASSETS[name], "Cache-Control": "max-age=3600"}
            read[name] = Response(content, headers=headers)
        if name not in read:
            raise ResourceNotFound("Resource not found", status=404)
        return read[name]

    return handle


def assets_folder() -> Path | None:
    """The folder with the files of Swagger UI, None when the package is not installed. Imports nothing."""
    spec = importlib.util.find_spec(ASSETS_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations))) / "static"
    return folder if all((folder / name).is_file() for name in ASSETS) else None


HANDLERS: dict[str, Factory] = {"docs": docs, "swaggerPage": swagger_page, "swaggerAsset": swagger_asset}
