"""Tokens on requests: who sent it, and whether it may (API.md §9.3, §9.4). In front of everything that has an answer.

The path is the one that routes see: decoded, without its last slash, HEAD as GET. So a client learns of an unknown
path only when its role could use one (API.md §1.9). What a handler passes on inside this gateway does not come by here
again.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ...security.principal import Principal, set_principal
from ...security.refusals import TokenRefused
from ...security.roles import allowed
from ..answers import json_answer
from ..context import PREFIX

if TYPE_CHECKING:
    from ...security.authority import Authority

CHALLENGE = 'Bearer realm="ros2_medkit_gateway", error="invalid_token"'
_SCHEMES = (b"Bearer ", b"bearer ")
_HARMLESS = frozenset({"GET", "HEAD", "OPTIONS"})
_PUBLIC = re.compile(rf"{re.escape(PREFIX)}/auth/[^/]+")
_KEY = "medkit.identity"

# A client, why its token is refused, or None without a token.
Identity = Principal | TokenRefused | None


class Authentication:
    """401 without a good token where one is needed, 403 where its role does not reach."""

    def __init__(self, app: ASGIApp, authority: Authority) -> None:
        self._app = app
        self._authority = authority

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "http":
            identity = identify(scope, self._authority)
            if isinstance(identity, Principal):
                set_principal(scope, identity)
            # What is public is public with a bad token, too: clients that always send theirs keep reading.
            refusal = self._refusal(scope, identity) if self._needs_token(scope["method"], scope["path"]) else None
            if refusal is not None:
                await refusal(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _needs_token(self, method: str, path: str) -> bool:
        required = self._authority.require_for
        # Whatever is no reading is a write: a method that nobody knows may mean something to the gateway behind us.
        is_open = required == "none" or method == "OPTIONS" or (required == "write" and method in _HARMLESS)
        return not is_open and _PUBLIC.fullmatch(path) is None

    def _refusal(self, scope: Scope, identity: Identity) -> Response | None:
        if identity is None:
            return _unauthorized("Missing Authorization header")
        if isinstance(identity, TokenRefused):
            return _unauthorized(str(identity))
        if not allowed(identity, scope["method"], scope["path"]):
            body = {"error": "insufficient_scope", "error_description": "Insufficient permissions"}
            return json_answer(body, 403)
        return None


def identify(scope: Scope, authority: Authority) -> Identity:
    """Who sent a request. Found out once for each; whoever asks again gets the same."""
    if _KEY not in scope:
        scope[_KEY] = _identity(scope, authority)
    identity: Identity = scope[_KEY]
    return identity


def _identity(scope: Scope, authority: Authority) -> Identity:
    given = [value for name, value in scope["headers"] if name == b"authorization"]
    if not given:
        return None
    # Two of them: another gateway might take the one that was not checked here.
    if len(given) > 1 or not given[0].startswith(_SCHEMES):
        return TokenRefused("Invalid Authorization header format. Expected: Bearer <token>")
    try:
        return authority.principal(given[0][len(_SCHEMES[0]) :].strip(b" ").decode("latin-1"))
    except TokenRefused as refused:
        return refused


def _unauthorized(description: str) -> Response:
    body = {"error": "invalid_token", "error_description": description}
    return json_answer(body, 401, {"WWW-Authenticate": CHALLENGE})
