"""The routes that give tokens and take them back (API.md §9.1)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.api import Api
from support.auth import SECRET, authority, bearer, secured

api = Api(secured())
ADMIN = {"grant_type": "client_credentials", "client_id": "admin", "client_secret": "pass-of-admin-x"}


def post(path: str, one: Api = api, **options: Any) -> httpx.Response:
    return one.request("POST", f"/auth/{path}", **options)


def error(answer: httpx.Response) -> tuple[int, str]:
    """Status and error of an answer in the form of OAuth2."""
    assert set(answer.json()) == {"error", "error_description"}, answer.text
    return answer.status_code, answer.json()["error"]


@pytest.mark.parametrize("form", ["json", "data"])
def test_a_client_gets_tokens_for_its_secret(form: str) -> None:
    answer = post("authorize", **{form: ADMIN})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "scope", "refresh_token"}
    assert (body["token_type"], body["expires_in"], body["scope"]) == ("Bearer", 3600, "admin")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("form", ["json", "data"])
def test_a_refresh_token_renews_the_access_token(form: str) -> None:
    first = post("authorize", json=ADMIN).json()
    answer = post("token", **{form: {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}})
    assert answer.status_code == 200
    body = answer.json()
    assert set(body) == {"access_token", "token_type", "expires_in", "scope", "refresh_token"}
    assert body["refresh_token"] == first["refresh_token"]
    assert body["access_token"] != first["access_token"]


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("authorize", {**ADMIN, "client_secret": "wrong"}, 401, "invalid_client"),
        ("authorize", {**ADMIN, "client_id": "nobody"}, 401, "invalid_client"),
        ("authorize", {**ADMIN, "grant_type": "password"}, 400, "unsupported_grant_type"),
        ("authorize", {**ADMIN, "client_id": None}, 400, "invalid_request"),
        ("authorize", {**ADMIN, "client_secret": ""}, 400, "invalid_request"),
        ("authorize", {**ADMIN, "client_secret": 5}, 400, "invalid_request"),
        ("authorize", {**ADMIN, "grant_type": None}, 400, "invalid_request"),
        ("authorize", {}, 400, "invalid_request"),
        ("authorize", [], 400, "invalid_request"),
        ("token", {"grant_type": "refresh_token", "refresh_token": "x"}, 401, "invalid_grant"),
        ("token", {"grant_type": "refresh_token"}, 400, "invalid_request"),
        ("token", {"grant_type": "client_credentials", "refresh_token": "x"}, 400, "unsupported_grant_type"),
        ("revoke", {}, 400, "invalid_request"),
        ("revoke", {"token": None}, 400, "invalid_request"),
        ("revoke", "text", 400, "invalid_request"),
    ],
)
def test_what_is_wrong_is_said_as_oauth_says_it(path: str, body: Any, status: int, code: str) -> None:
    answer = post(path, Api(secured()), json=body)
    assert error(answer) == (status, code)
    assert ("www-authenticate" in answer.headers) == (status == 401)


@pytest.mark.parametrize("path", ["authorize", "token"])
@pytest.mark.parametrize("kind", ["text/plain", "multipart/form-data", "application/jsonx", ""])
def test_another_content_type_is_refused(path: str, kind: str) -> None:
    answer = post(path, content=json.dumps(ADMIN), headers={"content-type": kind} if kind else {})
    assert error(answer) == (400, "invalid_request")


@pytest.mark.parametrize("path", ["authorize", "token", "revoke"])
@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", b"{"),
        ("application/json", b"\xff"),
        ("application/json", b"[" * 20_000),
        ("application/json", b'"' + b"x" * 40_000 + b'"'),
        ("application/x-www-form-urlencoded", b"\xff=%ff"),
        ("application/x-www-form-urlencoded", b"a=1&" * 40),
        ("application/x-www-form-urlencoded", b"client_id=a&client_id=b"),
        ("application/x-www-form-urlencoded", b""),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(path: str, kind: str, body: bytes) -> None:
    assert error(post(path, content=body, headers={"content-type": kind})) == (400, "invalid_request")


def test_a_body_that_is_too_long_is_refused_whatever_it_says() -> None:
    for form in ("json", "data"):
        assert error(post("authorize", **{form: {**ADMIN, "more": "x" * 33_000}})) == (400, "invalid_request")
        assert post("authorize", **{form: {**ADMIN, "more": "x" * 30_000}}).status_code == 200


@given(st.binary(max_size=200), st.sampled_from(["application/json", "application/x-www-form-urlencoded"]))
def test_no_body_is_too_strange(body: bytes, kind: str) -> None:
    for path in ("authorize", "token", "revoke"):
        assert post(path, content=body, headers={"content-type": kind}).status_code == 400


def test_a_content_type_may_have_parameters() -> None:
    kind = "Application/JSON; charset=utf-8"
    assert post("authorize", content=json.dumps(ADMIN), headers={"content-type": kind}).status_code == 200


@pytest.mark.parametrize("form", ["json", "data"])
def test_a_revoked_token_opens_nothing_any_more(tmp_path: Path, form: str) -> None:
    one = Api(secured(authority(tmp_path)))
    access = post("authorize", one, json=ADMIN).json()["access_token"]
    assert one.request("DELETE", "/nothing", headers=bearer(access)).status_code == 404
    answer = post("revoke", one, **{form: {"token": access, "token_type_hint": "access_token"}})
    assert (answer.status_code, answer.json()) == (200, {"status": "revoked"})
    assert one.request("DELETE", "/nothing", headers=bearer(access)).status_code == 401


@pytest.mark.parametrize("text", ["x", "a.b.c", "ä", "x" * 20_000])
def test_revoking_what_is_no_token_is_no_error(text: str) -> None:
    answer = post("revoke", json={"token": text})
    assert (answer.status_code, answer.json()) == (200, {"status": "revoked"})


def test_a_revocation_that_cannot_be_kept_is_an_error_and_holds_for_now() -> None:
    one = Api(secured())  # without a state directory
    access = post("authorize", one, json=ADMIN).json()["access_token"]
    assert error(post("revoke", one, json={"token": access})) == (503, "temporarily_unavailable")
    assert one.request("DELETE", "/nothing", headers=bearer(access)).status_code == 401


def test_guessing_ends_in_429_with_the_time_to_wait() -> None:
    one = Api(secured())
    answers = [post("authorize", one, json={**ADMIN, "client_secret": f"guess {n}"}) for n in range(21)]
    assert [answer.status_code for answer in answers] == [401] * 20 + [429]
    assert answers[-1].json()["error_code"] == "rate-limit-exceeded"
    assert int(answers[-1].headers["retry-after"]) >= 1
    assert post("authorize", one, json=ADMIN).status_code == 429


def test_neither_secrets_nor_tokens_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    access = post("authorize", json=ADMIN).json()["access_token"]
    post("authorize", json={**ADMIN, "client_secret": "a-wrong-secret", "client_id": "a-secret-as-id"})
    api.request("DELETE", "/nothing", headers=bearer(access + "x"))
    for secret in ("pass-of-admin-x", access, SECRET, "a-wrong-secret", "a-secret-as-id"):
        assert secret not in caplog.text
    assert "Refused to authorize" in caplog.text


def test_without_authentication_the_routes_say_so() -> None:
    for path in ("authorize", "token", "revoke"):
        answer = post(path, Api(), content=b"{")
        assert answer.status_code == 404
        assert answer.json() == {
            "error": "resource-not-found",
            "error_description": "Authentication is not enabled",
        }


def test_the_root_tells_how_to_authenticate() -> None:
    root = Api(secured(require_auth_for="all", jwt_algorithm="HS256"))
    access = post("authorize", root, json=ADMIN).json()["access_token"]
    body = root.get("", headers=bearer(access)).json()
    assert body["auth"] == {"enabled": True, "algorithm": "HS256", "require_auth_for": "all"}
    assert body["capabilities"]["authentication"] is True
    assert "auth" not in Api().get("").json()


def test_the_document_says_which_operations_need_a_token() -> None:
    document = api.get("/docs").json()
    assert document["components"]["securitySchemes"]["bearerAuth"]["scheme"] == "bearer"
    paths = document["paths"]
    assert paths["/apps/{app_id}/data/{data_id}"]["put"]["security"] == [{"bearerAuth": []}]
    assert {"401", "403"} <= set(paths["/apps/{app_id}/data/{data_id}"]["put"]["responses"])
    assert "security" not in paths["/apps"]["get"]
    assert "security" not in paths["/auth/authorize"]["post"]
    assert set(paths["/auth/authorize"]["post"]["requestBody"]["content"]) == {
        "application/json",
        "application/x-www-form-urlencoded",
    }
    assert "securitySchemes" not in Api().get("/docs").json()["components"]
