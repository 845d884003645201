"""Getting, renewing and taking back tokens (API.md §9.1), with bodies in the form of OAuth2."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

import anyio
import orjson
from starlette.requests import Request
from starlette.responses import Response

from ...aggregation.request import request_id
from ...security.refusals import Refused, RevocationError
from ..answers import JSON, json_answer
from ..middleware.rate_limit import too_many
from ..route_rows import Row
from .handlers import Factory, Handler, Rooms

if TYPE_CHECKING:
    from ...security.authority import Authority, Grant

FORM = "application/x-www-form-urlencoded"
# A token and a few words; whoever asks for a token is a stranger still.
MAX_BODY_BYTES = 32_768
_MAX_FIELDS = 32
_STATUS = {"invalid_client": 401, "invalid_grant": 401}

_log = logging.getLogger(__name__)

Serve = Callable[[Request, "Authority"], Awaitable[Response]]


class _BadRequest(Exception):
    """400: error and description in the words of OAuth2."""

    def __init__(self, description: str, error: str = "invalid_request") -> None:
        super().__init__(description)
        self.error = error
        self.description = description


async def authorize(request: Request, authority: Authority) -> Response:
    """POST /auth/authorize: tokens for a client with its secret."""
    fields = await _fields(request, (JSON, FORM))
    _grant_type(fields, "client_credentials")
    client_id, secret = _text(fields, "client_id"), _text(fields, "client_secret")
    address = request.client.host if request.client else ""
    try:
        return _granted(authority.authorize(client_id, secret, address))
    except Refused as refused:
        # Not the id: who mistypes puts the secret there. Nor those that come too often: they would fill the log.
        if not refused.retry_after:
            named = request_id(request.scope)
            _log.warning("Refused to authorize a client at %s (request %s): %s", address, named, refused.description)
        raise


async def renew(request: Request, authority: Authority) -> Response:
    """POST /auth/token: a new access token for a refresh token."""
    fields = await _fields(request, (JSON, FORM))
    _grant_type(fields, "refresh_token")
    return _granted(authority.refresh(_text(fields, "refresh_token")))


async def revoke(request: Request, authority: Authority) -> Response:
    """POST /auth/revoke: the token counts no more; so does not one that never counted."""
    fields = await _fields(request, ())
    token = _text(fields, "token")
    try:
        await anyio.to_thread.run_sync(authority.revoke, token)
    except RevocationError as error:
        _log.error("A token could not be revoked for good (request %s): %s", request_id(request.scope), error)
        description = "The token could not be revoked for good: it may count again after a restart of the gateway"
        return _oauth_error("temporarily_unavailable", description, 503)
    return json_answer({"status": "revoked"})


def _factory(serve: Serve) -> Factory:
    def factory(rooms: Rooms, row: Row) -> Handler:
        authority = rooms.context.authority

        async def handle(request: Request) -> Response:
            if authority is None:
                return _oauth_error("resource-not-found", "Authentication is not enabled", 404)
            try:
                return await serve(request, authority)
            except _BadRequest as bad:
                return _oauth_error(bad.error, bad.description, 400)
            except Refused as refused:
                if refused.retry_after:
                    return too_many(refused.retry_after)
                return _oauth_error(refused.error, refused.description, _STATUS[refused.error])

        return handle

    return factory


def _granted(grant: Grant) -> Response:
    body = {
        "access_token": grant.access_token,
        "token_type": "Bearer",
        "expires_in": grant.expires_in,
        "scope": grant.role,
        "refresh_token": grant.refresh_token,
    }
    return json_answer(body, 200, {"Cache-Control": "no-store"})


def _oauth_error(error: str, description: str, status: int) -> Response:
    headers = {"WWW-Authenticate": 'Bearer realm="ros2_medkit_gateway"'} if status == 401 else None
    return json_answer({"error": error, "error_description": description}, status, headers)


async def _fields(request: Request, types: tuple[str, ...]) -> Mapping[str, Any]:
    """The members of the body, JSON or a form. With no `types`, everything that is no form is taken for JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if types and kind not in types:
        raise _BadRequest(f"The content type must be {' or '.join(types)}")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            raise _BadRequest(f"The body is longer than {MAX_BODY_BYTES} bytes")
    if kind == FORM:
        return _form(bytes(body))
    try:
        found = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError:
        raise _BadRequest("Malformed JSON") from None
    if not isinstance(found, dict):
        raise _BadRequest("The body must be a JSON object")
    return found


def _form(body: bytes) -> Mapping[str, Any]:
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:  # not UTF-8, or too many fields
        raise _BadRequest("Malformed form") from None
    if len(dict(pairs)) < len(pairs):
        raise _BadRequest("A field is given twice")
    return dict(pairs)


def _grant_type(fields: Mapping[str, Any], wanted: str) -> None:
    if _text(fields, "grant_type") != wanted:
        raise _BadRequest(f"The grant type must be {wanted}", "unsupported_grant_type")


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None or value == "":
        raise _BadRequest(f"Missing field: {name}")
    if not isinstance(value, str):
        raise _BadRequest(f"Field is no text: {name}")
    return value


HANDLERS: dict[str, Factory] = {
    "authorize": _factory(authorize),
    "renewToken": _factory(renew),
    "revokeToken": _factory(revoke),
}
