"""The one place where errors become HTTP (API.md §1.3, §1.4, §1.6)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..aggregation.request import request_id
from ..errors import GatewayError, InvalidRequest
from .answers import json_answer

log = logging.getLogger(__name__)

# Kinds of pydantic's errors, by the beginning of their names, in the words of API.md §1.4.
_FIELD_MESSAGES = (
    ("missing", "missing required field"),
    ("string_pattern", "value not in allowed set"),
    ("string_", "expected a string"),
    ("bool_", "expected a boolean"),
    ("int_", "expected an integer"),
    ("float_", "expected a number"),
    ("list_", "expected an array"),
    ("tuple_", "expected an array"),
    ("enum", "value not in allowed set"),
    ("literal_error", "value not in allowed set"),
    ("dict_", "expected a JSON object"),
    ("model_", "expected a JSON object"),
)


def error_answer(error: GatewayError) -> Response:
    """The answer for an error of ours; the status stays within 400 to 599."""
    return json_answer(error.body(), min(max(error.status, 400), 599), error.headers)


def generic_answer(status: int = 404) -> Response:
    """The body for a status that no route gave: unknown path, wrong method, body too large (API.md §1.6)."""
    body = {"error_code": "resource-not-found", "message": "Resource not found", "parameters": {"status": status}}
    return json_answer(body, status)


def internal_answer() -> Response:
    """500 without a word of what happened; that is in the log."""
    return json_answer(
        {
            "error_code": "internal-error",
            "message": "Internal server error",
            "parameters": {"details": "An internal error occurred"},
        },
        500,
    )


def field_errors(errors: Iterable[Mapping[str, Any]]) -> GatewayError:
    """Errors of pydantic as API.md §1.4 words them."""
    found = list(errors)
    for one in found:
        if one["type"] == "json_invalid":
            return InvalidRequest(f"Malformed JSON: {one.get('ctx', {}).get('error', 'not JSON')}")
    fields = [{"field": _field_name(one["loc"]), "message": _field_message(one["type"])} for one in found]
    return InvalidRequest("Request body validation failed", fields=fields)


def _field_name(location: Iterable[str | int]) -> str:
    parts = [str(part) for part in location]
    return ".".join(parts[1:] if parts[:1] == ["body"] else parts)


def _field_message(kind: str) -> str:
    return next((message for start, message in _FIELD_MESSAGES if kind.startswith(start)), "value not in allowed set")


def install(app: FastAPI) -> None:
    """Replace FastAPI's own error answers: no 405, no 422, no `detail` bodies."""

    async def on_gateway_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, GatewayError)
        return error_answer(error)

    async def on_http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        # A wrong method is an unknown route (API.md §1.1).
        return generic_answer(404 if error.status_code == 405 else error.status_code)

    async def on_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return error_answer(field_errors(error.errors()))

    async def on_bug(request: Request, error: Exception) -> Response:
        return internal_answer()

    app.add_exception_handler(GatewayError, on_gateway_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(Exception, on_bug)


def quiet_unfinished() -> None:
    """Keep the server from logging answers without an end: that is how a stream or a forward breaks off, on purpose."""
    logging.getLogger("uvicorn.error").addFilter(_is_no_unfinished)


def _is_no_unfinished(record: logging.LogRecord) -> bool:
    return record.msg != "ASGI callable returned without completing response."


class ErrorBoundary:
    """Turns what middleware raises into answers, and logs what nobody expected."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except GatewayError as error:
            # After the first byte there is no other status to give. The answer stays unfinished, and the server
            # breaks the connection for it, so that nobody takes the half for the whole.
            if started:
                log.warning("%s ended early: %s", _named(scope), error.message)
            else:
                await error_answer(error)(scope, receive, send)
        except ClientDisconnect:
            log.debug("%s: the client left", _named(scope))
        except Exception:
            log.exception("%s failed", _named(scope))
            if not started:
                await internal_answer()(scope, receive, send)


def _named(scope: Scope) -> str:
    return f"{scope['method']} {scope['path']} (request {request_id(scope)})"
