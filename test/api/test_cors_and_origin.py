"""CORS (API.md §1.10) and the guard against web pages of other origins (DECISIONS 8, 11)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from medkit_gateway_py.api.middleware.cors import Cors
from medkit_gateway_py.api.middleware.origin import OriginGuard
from medkit_gateway_py.errors import Forbidden
from support.api import Api, Topics, gateway

PAGE = "http://localhost:5173"
OTHER = "http://evil.example"


def with_cors(*origins: str, topics: Topics | None = None, **more: object) -> Api:
    return Api(gateway(topics=topics, parameters={"cors.allowed_origins": list(origins), **more}))


@pytest.mark.parametrize("path", ["/health", "/apps", "/apps/ghost", "/nothing", "/apps/temp_sensor/operations"])
def test_every_answer_to_an_allowed_origin_carries_the_headers(path: str) -> None:
    headers = with_cors(PAGE).get(path, headers={"Origin": PAGE}).headers
    assert headers["access-control-allow-origin"] == PAGE
    assert headers["access-control-allow-methods"] == "GET, PUT, POST, DELETE, OPTIONS"
    allowed = headers["access-control-allow-headers"].split(", ")
    assert {"Content-Type", "Accept", "If-None-Match", "Last-Event-ID", "X-Client-Id", "X-Request-Id"} == set(allowed)
    assert headers["access-control-expose-headers"].startswith(
        "Content-Disposition, Content-Length, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After"
    )
    assert {"ETag", "X-Request-Id"} <= set(headers["access-control-expose-headers"].split(", "))
    assert "access-control-allow-credentials" not in headers


def test_a_304_carries_them_too() -> None:
    api = with_cors(PAGE)
    etag = api.get("/apps").headers["etag"]
    answer = api.get("/apps", headers={"Origin": PAGE, "If-None-Match": etag})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (304, PAGE)


def test_a_500_carries_them_too() -> None:
    answer = with_cors(PAGE, topics=Topics(broken=True)).get("/apps/drifter/data/x", headers={"Origin": PAGE})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (500, PAGE)


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ((PAGE,), PAGE, 204),
        (("*",), OTHER, 204),
        ((PAGE,), OTHER, 403),
        ((PAGE,), None, 403),
        ((), PAGE, 404),
    ],
)
def test_preflights(allowed: tuple[str, ...], origin: str | None, status: int) -> None:
    headers = {"Origin": origin} if origin else {}
    answer = with_cors(*allowed).request("OPTIONS", "/apps/temp_sensor/data/x", headers=headers)
    assert answer.status_code == status
    if status == 204:
        assert answer.headers["access-control-allow-origin"] == origin
        assert answer.headers["access-control-max-age"] == "86400"
        assert (answer.content, answer.headers["content-length"]) == (b"", "0")
    else:
        assert not [name for name in answer.headers if name.startswith("access-control")]
        assert answer.json()["parameters"] == {"status": status}


def test_a_read_of_another_origin_is_served_without_the_headers() -> None:
    answer = with_cors(PAGE).get("/apps", headers={"Origin": OTHER})
    assert answer.status_code == 200
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["vary"] == "Origin"


def test_without_cors_there_are_no_headers_at_all() -> None:
    answer = Api().get("/apps", headers={"Origin": PAGE})
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "vary"]


def test_credentials_are_allowed_when_set_and_never_with_every_origin() -> None:
    api = with_cors(PAGE, **{"cors.allow_credentials": True})
    assert api.get("/apps", headers={"Origin": PAGE}).headers["access-control-allow-credentials"] == "true"
    with pytest.raises(ValueError, match="allow_credentials"):
        Cors(Api().app, origins=["*"], methods=[], headers=[], credentials=True, max_age_s=1, auth=False)


def run(middleware: Any, method: str, headers: dict[str, str]) -> list[Message]:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request", "body": b""}

    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": method, "path": "/", "headers": raw}
    asyncio.run(middleware(scope, receive, send))
    return sent


async def peer_with_headers(scope: Scope, receive: Receive, send: Send) -> None:
    headers = [(b"access-control-allow-origin", b"*"), (b"x-kept", b"1")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


def test_a_peers_own_cors_headers_are_replaced() -> None:
    cors = Cors(
        peer_with_headers, origins=[PAGE], methods=["GET"], headers=[], credentials=False, max_age_s=1, auth=True
    )
    headers = run(cors, "GET", {"Origin": PAGE})[0]["headers"]
    assert [value for name, value in headers if name == b"access-control-allow-origin"] == [PAGE.encode()]
    assert (b"x-kept", b"1") in headers
    assert b"Authorization" in dict(headers)[b"access-control-allow-headers"]


@pytest.mark.parametrize(
    ("origin", "host", "passes"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://192.168.1.7:8080", "192.168.1.7:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://localhost:8080", "localhost:8080", True),
        ("http://LOCALHOST:8080", "localhost:8080", True),
        ("http://robot:8080", "robot:8080", True),
        ("http://robot.local", "robot.local", True),
        ("https://robot.local", "robot.local", True),
        ("http://robot.local:80", "robot.local", True),
        ("http://gateway.lan:8080", "gateway.lan:8080", True),
        (PAGE, "127.0.0.1:8080", True),
        ("http://rebound.example:8080", "rebound.example:8080", False),
        ("http://127.0.0.1:9999", "127.0.0.1:8080", False),
        ("http://localhost:8080", "127.0.0.1:8080", False),
        (OTHER, "127.0.0.1:8080", False),
        ("null", "127.0.0.1:8080", False),
        ("", "127.0.0.1:8080", False),
        ("http://127.0.0.1:8080", "", False),
        ("http://user@127.0.0.1:8080", "127.0.0.1:8080", False),
        ("http://127.0.0.1:8080/x", "127.0.0.1:8080", False),
        ("http://127.0.0.1:port", "127.0.0.1:8080", False),
        ("file://", "127.0.0.1:8080", False),
        ("http://robot.evil.example:8080", "robot.evil.example:8080", False),
    ],
)
def test_a_command_passes_from_our_own_page_or_an_allowed_one_only(origin: str, host: str, passes: bool) -> None:
    guard = OriginGuard(peer_with_headers, origins=[PAGE], allowed_hosts=["Gateway.lan"], hostname="robot.lab.example")
    headers = {"Origin": origin, "Host": host}
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        if passes:
            assert run(guard, method, headers)[0]["status"] == 200
        else:
            with pytest.raises(Forbidden):
                run(guard, method, headers)
    for method in ("GET", "HEAD", "OPTIONS"):
        assert run(guard, method, headers)[0]["status"] == 200


def test_a_command_without_an_origin_passes_under_any_host() -> None:
    topics = Topics()
    body = {"type": "std_msgs/msg/Float32", "data": {"data": 1.0}}
    answer = Api(gateway(topics=topics)).put("/apps/drifter/data/x", json=body, headers={"Host": "gateway-b:8080"})
    assert answer.status_code == 200
    assert topics.published


def test_a_refused_command_is_403_in_the_form_of_errors_and_does_nothing() -> None:
    topics = Topics()
    body = {"type": "std_msgs/msg/Float32", "data": {"data": 1.0}}
    answer = Api(gateway(topics=topics)).put("/apps/drifter/data/x", json=body, headers={"Origin": OTHER})
    assert answer.status_code == 403
    assert answer.json()["error_code"] == "forbidden"
    assert topics.published == []
    # Before anything is looked up: a page learns nothing.
    assert Api().put("/apps/ghost/data/x", json=body, headers={"Origin": OTHER}).status_code == 403
