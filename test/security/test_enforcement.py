"""Who gets through to which answer (API.md §9.3, §9.4), through the whole application."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import Message

from support.api import Api, Topics, gateway
from support.auth import auth_parameters, authority, bearer, forged, secured, token

CHALLENGE = 'Bearer realm="ros2_medkit_gateway", error="invalid_token"'
WRITER = authority()
WRITE = Api(secured(WRITER))
READER = authority(require_auth_for="all")
ALL = Api(secured(READER, require_auth_for="all"))
NONE = Api(secured(require_auth_for="none"))

TOPIC = "/apps/temp_sensor/data/powertrain/engine/temperature"
BODY = {"type": "std_msgs/msg/Float32", "data": {"data": 1.0}}


def raw(api: Api, method: str, path: str, headers: Sequence[tuple[bytes, bytes]] = (), raw_path: bytes = b"") -> int:
    """The status of a request that no client library would send. `path` is from the root, decoded."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": method, "path": path, "raw_path": raw_path or path.encode(), "query_string": b"",
        "headers": list(headers), "client": ("127.0.0.1", 1), "scheme": "http", "server": ("127.0.0.1", 8080),
        "http_version": "1.1", "root_path": "",
    }  # fmt: skip
    asyncio.run(api.app(scope, receive, send))
    status: int = sent[0]["status"]
    return status


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_write_without_a_token_is_401(method: str) -> None:
    answer = WRITE.request(method, "/apps/temp_sensor/faults")
    assert answer.status_code == 401
    assert answer.json() == {"error": "invalid_token", "error_description": "Missing Authorization header"}
    assert answer.headers["www-authenticate"] == CHALLENGE


@pytest.mark.parametrize("value", ["Basic YTpi", "Token x", "BEARER x", "Bearer", "bearerx y", "", " "])
def test_another_scheme_is_401_and_says_what_is_expected(value: str) -> None:
    answer = WRITE.request("DELETE", "/faults", headers={"Authorization": value})
    assert answer.status_code == 401
    assert answer.json() == {
        "error": "invalid_token",
        "error_description": "Invalid Authorization header format. Expected: Bearer <token>",
    }
    assert answer.headers["www-authenticate"] == CHALLENGE


def test_a_bad_token_is_401_with_its_reason() -> None:
    text = forged({"exp": 1000}, of=token(WRITER))
    answer = WRITE.request("DELETE", "/faults", headers=bearer(text))
    assert answer.status_code == 401
    assert answer.json() == {"error": "invalid_token", "error_description": "Token has expired"}
    assert answer.headers["www-authenticate"] == CHALLENGE


@pytest.mark.parametrize(
    "value", [b"Bearer \xff\xfe", b"Bearer " + b"x" * 1_000_000, b"Bearer a.b.c\x00", b"Bearer \xc3\xa4"]
)
def test_headers_that_are_no_text_or_too_long_are_401(value: bytes) -> None:
    assert raw(WRITE, "DELETE", "/api/v1/faults", [(b"authorization", value)]) == 401


def test_two_authorization_headers_are_401() -> None:
    good = b"Bearer " + token(WRITER).encode()
    for pair in ([good, b"Bearer x"], [b"Bearer x", good], [good, good]):
        assert raw(WRITE, "DELETE", "/api/v1/nothing", [(b"authorization", one) for one in pair]) == 401
    assert raw(WRITE, "DELETE", "/api/v1/nothing", [(b"authorization", good)]) == 404


def test_a_role_that_does_not_reach_is_403() -> None:
    answer = WRITE.request("PUT", TOPIC, json=BODY, headers=bearer(token(WRITER, "viewer")))
    assert answer.status_code == 403
    assert answer.json() == {"error": "insufficient_scope", "error_description": "Insufficient permissions"}
    assert "www-authenticate" not in answer.headers


def test_a_role_that_reaches_gets_through_to_the_handler() -> None:
    topics = Topics({"/powertrain/engine/temperature": {"data": 1.0}})
    api = Api(gateway(topics=topics, parameters=auth_parameters(), authority=WRITER))
    answer = api.put(TOPIC, json=BODY, headers={"Authorization": f"bearer {token(WRITER, 'operator')}"})
    assert answer.status_code == 200, answer.text
    assert len(topics.published) == 1


def test_an_unknown_path_is_403_for_a_viewer_and_404_for_an_admin() -> None:
    assert WRITE.request("POST", "/nothing", headers=bearer(token(WRITER, "viewer"))).status_code == 403
    assert WRITE.request("POST", "/nothing", headers=bearer(token(WRITER, "admin"))).status_code == 404


@pytest.mark.parametrize("path", ["", "/health", "/apps", "/apps/temp_sensor", "/docs", "/x-medkit/tree"])
def test_reading_is_open_unless_everything_needs_a_token(path: str) -> None:
    assert WRITE.get(path).status_code == 200
    assert ALL.get(path).status_code == 401
    assert ALL.request("HEAD", path).status_code == 401
    # The second one comes from the cache.
    for _ in range(2):
        assert ALL.get(path, headers=bearer(token(READER, "viewer"))).status_code == 200
    assert ALL.get(path).status_code == 401
    assert ALL.get(path, headers={"If-None-Match": "*"}).status_code == 401


def test_the_page_of_numbers_needs_a_token_where_everything_does() -> None:
    viewer = [(b"authorization", b"Bearer " + token(READER, "viewer").encode())]
    assert [raw(WRITE, "GET", "/metrics"), raw(ALL, "GET", "/metrics"), raw(ALL, "GET", "/metrics", viewer)] == [
        200,
        401,
        200,
    ]


def test_what_is_open_stays_open_with_a_bad_token() -> None:
    assert WRITE.get("/apps", headers=bearer("x")).status_code == 200
    assert WRITE.get("/apps", headers={"Authorization": "Basic x"}).status_code == 200
    assert NONE.put(TOPIC, json=BODY, headers=bearer("x")).status_code == 200
    assert NONE.put(TOPIC, json=BODY).status_code == 200


def test_the_routes_for_tokens_are_always_open() -> None:
    for path in ("authorize", "token", "revoke", "authorize/"):
        assert ALL.request("POST", f"/auth/{path}", json={}).status_code == 400
    assert ALL.request("POST", "/auth/a/b").status_code == 401
    assert ALL.request("POST", "/auth/", json={}).status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/api/v1/faults", "/api/v1/faults/", "/api/v1//faults", "/api/v1/faults//", "//api/v1/faults",
        "/api/v1/./faults",
        "/api/v1/auth/../faults", "/api/v1/auth/authorize/../../faults", "/API/V1/faults", "/api/v1/faults%2f",
        "/api/v1/auth/x/../../faults", "/api/v1/faults;/auth/authorize", "/api/v1/faults?/api/v1/auth/x", "/", "*",
        "/api/v1/auth\\..\\faults", "/api/v1/auth/x/", "/metrics",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["DELETE", "delete", "PROPFIND", "PATCH", "TRACE"])
def test_no_spelling_of_a_path_or_method_goes_around_the_token(path: str, method: str) -> None:
    status = raw(WRITE, method, path)
    # One segment below /auth is open, and nothing but the three routes is there.
    assert status == (404 if path == "/api/v1/auth/x/" else 401)
    assert raw(ALL, method, path) == status


def test_a_header_does_not_change_the_method() -> None:
    for name in (b"x-http-method-override", b"x-http-method", b"x-method-override"):
        assert raw(ALL, "GET", "/api/v1/apps", [(name, b"OPTIONS")]) == 401
        assert raw(WRITE, "DELETE", "/api/v1/faults", [(name, b"GET")]) == 401
        assert raw(WRITE, "OPTIONS", "/api/v1/faults", [(name, b"DELETE")]) == 404


def test_an_encoded_slash_separates_like_any_other() -> None:
    viewer = [(b"authorization", b"Bearer " + token(WRITER, "viewer").encode())]
    for encoded in (b"/api/v1/apps%2Ftemp_sensor%2fconfigurations/x", b"%2fapi%2fv1/apps/temp_sensor/configurations/x"):
        path = encoded.decode().replace("%2F", "/").replace("%2f", "/")
        assert raw(WRITE, "DELETE", path, viewer, encoded) == 403
        assert raw(WRITE, "DELETE", path, [], encoded) == 401


def test_preflights_and_cors_headers_come_before_the_token() -> None:
    page = "http://page"
    api = Api(secured(READER, {"cors.allowed_origins": [page]}, require_auth_for="all"))
    preflight = api.request("OPTIONS", "/apps", headers={"Origin": page, "Access-Control-Request-Method": "PUT"})
    assert preflight.status_code == 204
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    refused = api.get("/apps", headers={"Origin": page})
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, page)


def test_an_application_without_anybody_who_checks_is_not_built() -> None:
    with pytest.raises(ValueError, match="nobody checks tokens"):
        Api(gateway(parameters=auth_parameters()))
