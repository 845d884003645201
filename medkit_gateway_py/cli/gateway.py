"""A gateway as the commands see it: one HTTP client, and every failure as a sentence with an exit code.

Nothing here prints; `CommandFailed` is shown, and turned into the exit code, in one place (`app.py`).
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

PREFIX = "/api/v1"
# Exit codes, so that a script can tell cases apart. 2 is wrong usage, as the command line parser gives it.
OK, FINDINGS, USAGE, UNREACHABLE, DENIED, FAILED = range(6)
# More than the keep-alive comments of every stream are apart.
STREAM_SILENCE_S = 90.0
MAX_EVENT = 1_048_576  # bytes of one event; more is no event of a gateway


class CommandFailed(Exception):
    """A command cannot go on: why, in a sentence, and the exit code."""

    def __init__(self, message: str, exit_code: int = FAILED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


@dataclass(frozen=True)
class Address:
    """Where a gateway is, and how to talk to it. `url` has no path, or the base path of a proxy before `/api/v1`."""

    url: str
    token: str = ""
    ca_file: str = ""
    timeout_s: float = 10.0

    def __post_init__(self) -> None:
        try:
            parsed = httpx.URL(self.url)
        except httpx.InvalidURL as error:
            raise CommandFailed(f"{self.url!r} is no URL: {error}", USAGE) from None
        if parsed.scheme not in ("http", "https") or not parsed.host:
            raise CommandFailed(f"{self.url!r} is no URL of a gateway: it begins with http:// or https://", USAGE)


class Gateway:
    """One gateway.

    with Gateway(Address("http://robot1:8080")) as gateway:
        gateway.items("/apps")

    :raises CommandFailed: from every method; UNREACHABLE, DENIED (401, 403) or FAILED.
    """

    def __init__(self, address: Address) -> None:
        self.address = address
        verify: Any = True
        if address.ca_file:
            try:
                verify = ssl.create_default_context(cafile=address.ca_file)
            except (OSError, ssl.SSLError) as error:
                raise CommandFailed(f"--ca-file {address.ca_file} cannot be used: {error}", USAGE) from None
        headers = {"accept": "application/json"}
        if address.token:
            headers["authorization"] = f"Bearer {address.token}"
        self._client = httpx.Client(
            base_url=address.url.rstrip("/").removesuffix(PREFIX) + PREFIX,
            headers=headers,
            timeout=httpx.Timeout(address.timeout_s, connect=min(address.timeout_s, 5.0)),
            verify=verify,
            trust_env=False,
        )

    def __enter__(self) -> Gateway:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def get(self, path: str, **query: str) -> dict[str, Any]:
        """The body of a GET below `/api/v1`."""
        answer = self._send("GET", path, query)
        return self._object(answer)

    def try_get(self, path: str, **query: str) -> dict[str, Any] | None:
        """As `get`; None where the gateway has no such thing (404, 501)."""
        answer = self._send("GET", path, query, tolerated=(404, 501))
        return self._object(answer) if answer.is_success else None

    def items(self, path: str, **query: str) -> list[dict[str, Any]]:
        """The items of a list."""
        found = self.get(path, **query).get("items")
        return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []

    def preflight(self, path: str, origin: str, method: str = "GET") -> httpx.Response:
        """The answer to what a browser asks before a page of `origin` may call."""
        headers = {"origin": origin, "access-control-request-method": method}
        return self._request("OPTIONS", path, headers=headers)

    def events(self, path: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """`(id, event, data)` of an event stream, until the gateway ends it."""
        try:
            headers = {"accept": "text/event-stream"}
            with self._client.stream(
                "GET", path, headers=headers, timeout=httpx.Timeout(STREAM_SILENCE_S, connect=5.0)
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    self._check(answer, ())
                yield from _events(answer.iter_lines())
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _send(self, method: str, path: str, query: dict[str, str], tolerated: tuple[int, ...] = ()) -> httpx.Response:
        answer = self._request(method, path, params={name: value for name, value in query.items() if value})
        self._check(answer, tolerated)
        return answer

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **options)
        except httpx.TransportError as error:
            raise self._unreachable(error) from None

    def _check(self, answer: httpx.Response, tolerated: tuple[int, ...]) -> None:
        if answer.is_success or answer.status_code in tolerated:
            return
        code = DENIED if answer.status_code in (401, 403) else FAILED
        hint = " Give a token with --token or MEDKIT_TOKEN." if answer.status_code == 401 else ""
        raise CommandFailed(f"{answer.request.url} answered {answer.status_code}: {_reason(answer)}.{hint}", code)

    def _object(self, answer: httpx.Response) -> dict[str, Any]:
        try:
            body = answer.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise CommandFailed(f"{answer.request.url} did not answer with a JSON object: is it a gateway?")
        return body

    def _unreachable(self, error: httpx.TransportError) -> CommandFailed:
        return CommandFailed(f"No gateway answers at {self.address.url}: {_why(error)}.", UNREACHABLE)


def _why(error: httpx.TransportError) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error).rstrip(".") or type(error).__name__


def _reason(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return answer.reason_phrase or "no reason given"
    if isinstance(body, dict):
        said = body.get("message") or body.get("error_description") or body.get("error")
        details = body.get("parameters", {}).get("details") if isinstance(body.get("parameters"), dict) else None
        if isinstance(said, str):
            return f"{said} ({details})" if isinstance(details, str) else said
    return answer.reason_phrase or "no reason given"


def _events(lines: Iterator[str]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Events of the lines of a stream (WHATWG HTML, server-sent events); what holds no JSON object is left out."""
    number, name, data, size = "", "", [], 0
    for line in lines:
        size += len(line)
        if size > MAX_EVENT:
            raise CommandFailed("The event stream holds an event that is too long")
        if line:
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "id":
                number = value
            elif field == "event":
                name = value
            elif field == "data":
                data.append(value)
            continue
        if data:
            try:
                body = json.loads("\n".join(data))
            except ValueError:
                body = None
            if isinstance(body, dict):
                yield number, name or "message", body
        name, data, size = "", [], 0
