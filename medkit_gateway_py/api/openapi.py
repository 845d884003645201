"""The OpenAPI document of the whole API, made of the route table and the models (API.md §2.4).

Made when it is first asked for. Documents of parts are cut out of it by `sub_docs.py`.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic.json_schema import models_json_schema

from ..parameters import GatewayConfig
from .answers import JSON
from .context import PREFIX, SERVER_NAME, SOVD_VERSION, GatewayContext
from .models import MODELS
from .route_rows import FILE, TAGS, Row
from .route_table import ROWS

Json = dict[str, Any]

SCHEMA_REF = "#/components/schemas/{model}"
ERROR_REF = {"$ref": "#/components/responses/GenericError"}
_PLACEHOLDER = re.compile(r"{(\w+)}")

# Every query parameter of the table.
_QUERY: dict[str, Json] = {
    "partial": {
        "description": "`fail`: 503 instead of an answer in which gateways are missing",
        "schema": {"type": "string", "enum": ["fail"]},
    },
    "status": {
        "description": "Which faults; without it, pending and confirmed ones",
        "schema": {"type": "string", "enum": ["pending", "confirmed", "healed", "cleared", "all"]},
    },
    "include_muted": {"description": "Tell muted faults, too", "schema": {"type": "boolean"}},
    "include_clusters": {"description": "Tell clusters of faults, too", "schema": {"type": "boolean"}},
    "severity": {
        "description": "The lowest severity",
        "schema": {"type": "string", "enum": ["debug", "info", "warning", "error", "fatal"]},
    },
    "context": {"description": "A part of the logger's name", "schema": {"type": "string", "maxLength": 256}},
    "peer": {
        "description": "Only what is reached through this peer; `local`: what this gateway has itself",
        "schema": {"type": "string"},
    },
    "origin": {
        "description": "Of entities: only those in the graph of the gateway with this instance id or name. Of updates:"
        " where they come from",
        "schema": {"type": "string"},
    },
    "available": {"description": "Only those that are there, or are not", "schema": {"type": "boolean"}},
    "target-version": {"description": "The version it leads to", "schema": {"type": "string"}},
}
_CLIENT_ID: Json = {
    "name": "X-Client-Id",
    "in": "header",
    "required": True,
    "description": "Who holds the lock",
    "schema": {"type": "string", "minLength": 1, "maxLength": 256},
}
AUTHENTICATION = "Authentication"
FORM = "application/x-www-form-urlencoded"
BEARER = "bearerAuth"
_BEARER: Json = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "An access token of `POST /auth/authorize`",
}
_ETAG = {"ETag": {"description": "For `If-None-Match`", "schema": {"type": "string"}}}


def build(context: GatewayContext) -> Json:
    """The whole document; a new dictionary each time."""
    paths: dict[str, Json] = {}
    for row in ROWS:
        if row.operation_id:
            paths.setdefault(row.template or "/", {})[row.method.lower()] = _operation(row, context.config)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": SERVER_NAME,
            "version": context.identity.version,
            "x-sovd-version": SOVD_VERSION,
            "description": "One diagnostics API for the ROS 2 graph of a robot, and for those of its peers.",
            "contact": {"name": "medkit_gateway_py"},
        },
        "servers": [{"url": server_url(context), "description": "Gateway server"}],
        "tags": [{"name": tag} for tag in TAGS],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "responses": {
                "GenericError": {
                    "description": "What went wrong",
                    "content": {JSON: {"schema": {"$ref": SCHEMA_REF.format(model="GenericError")}}},
                }
            },
            **({"securitySchemes": {BEARER: _BEARER}} if context.config.auth.enabled else {}),
        },
    }


def server_url(context: GatewayContext) -> str:
    """Where the API is, from the parameters; an address that means everywhere becomes `localhost`."""
    server = context.config.server
    host = "localhost" if server.host in ("0.0.0.0", "::") else server.host
    if ":" in host:
        host = f"[{host}]"
    return f"{'https' if server.tls.enabled else 'http'}://{host}:{server.port}{PREFIX}"


def _operation(row: Row, config: GatewayConfig) -> Json:
    operation: Json = {
        "operationId": row.operation_id,
        "tags": [row.tag],
        "summary": row.summary,
        "responses": _responses(row, config),
    }
    parameters = [_path_parameter(name) for name in _PLACEHOLDER.findall(row.template)]
    parameters += [{"name": name, "in": "query", "required": False, **_QUERY[name]} for name in row.query]
    if row.client_id:
        parameters.append(_CLIENT_ID)
    if parameters:
        operation["parameters"] = parameters
    if row.body:
        content = {JSON: {"schema": _ref(row.body)}}
        if row.tag == AUTHENTICATION:
            content[FORM] = content[JSON]
        operation["requestBody"] = {"required": row.needs_body, "content": content}
    if _needs_token(row, config):
        operation["security"] = [{BEARER: []}]
    return operation


def _needs_token(row: Row, config: GatewayConfig) -> bool:
    required = config.auth.require_auth_for
    is_open = required == "none" or (required == "write" and row.method == "GET") or row.tag == AUTHENTICATION
    return config.auth.enabled and not is_open


def _path_parameter(name: str) -> Json:
    return {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}


def _responses(row: Row, config: GatewayConfig) -> Json:
    responses: Json = {}
    for status, model in ((row.status, row.response), *row.also):
        responses[str(status)] = _good(row, model)
    if row.etag:
        responses["304"] = {"description": "Not changed since", "headers": _ETAG}
    errors = [400, 404, 500, *row.errors]
    if row.method != "GET":
        errors += [403, 413]
    if _needs_token(row, config):
        errors += [401, 403]
    if row.tag == AUTHENTICATION:
        errors += [401, 429, 503]
    if config.rate_limiting.enabled:
        errors.append(429)
    if row.serve in ("later", "noDataGrouping"):
        errors.append(501)
    if row.kind is not None or row.query:
        # Of a peer that has the entity, or of bounds that are reached.
        errors += [502, 503, 504, 508]
    elif row.stream:
        # All places are taken.
        errors.append(503)
    responses.update({str(status): ERROR_REF for status in sorted(set(errors))})
    return responses


def _good(row: Row, model: str) -> Json:
    good: Json = {"description": "Success"}
    if row.stream:
        good["content"] = {"text/event-stream": {"schema": {"type": "string"}}}
    elif model == FILE:
        good["content"] = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    elif model:
        good["content"] = {JSON: {"schema": _ref(model)}}
    if row.etag:
        good["headers"] = _ETAG
    return good


def _ref(model: str) -> Json:
    return {"$ref": SCHEMA_REF.format(model=model)}


def _schemas() -> Json:
    _, definitions = models_json_schema(
        [(model, "validation") for model in MODELS.values()], ref_template="#/components/schemas/{model}"
    )
    schemas: Json = definitions["$defs"]
    for schema in schemas.values():
        for member in schema.get("properties", {}).values():
            # It only repeats the name of the member.
            member.pop("title", None)
            # Absent, not null (API.md §1.2).
            if member.get("default", ...) is None:
                del member["default"]
    return dict(sorted(schemas.items()))
