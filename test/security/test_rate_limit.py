"""Requests per minute (API.md §9.6)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.api.middleware.rate_limit import RateLimit
from medkit_gateway_py.parameters import check
from medkit_gateway_py.security.buckets import REFILL_S, Buckets
from support.api import Api, gateway
from support.auth import authority, bearer, secured

NOW = 1_700_000_000.5


class Limited:
    """The limiter before an application that says 200, with a clock that stands still."""

    def __init__(self, exempt: bool = False, **limits: Any) -> None:
        checked = check({"rate_limiting.enabled": True, **{f"rate_limiting.{k}": v for k, v in limits.items()}})
        assert checked.config.rate_limiting.enabled, checked.findings
        self.now = 0.0
        self.served = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            self.served += 1
            headers = [(b"x-ratelimit-limit", b"of a peer"), (b"content-type", b"text/plain")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b""})

        self.app = RateLimit(
            app, checked.config.rate_limiting, lambda scope: exempt, clock=lambda: self.now, wall_clock=lambda: NOW
        )

    def get(self, path: str = "/api/v1/apps", client: str = "10.0.0.1", method: str = "GET") -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, client=(client, 1))
            async with httpx.AsyncClient(transport=transport, base_url="http://x") as one:
                return await one.request(method, path)

        return asyncio.run(call())

    def statuses(self, count: int, **options: Any) -> list[int]:
        return [self.get(**options).status_code for _ in range(count)]


def test_every_answer_says_what_is_left() -> None:
    limited = Limited(client_requests_per_minute=3)
    answers = [limited.get() for _ in range(3)]
    found = [[answer.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining", "reset")] for answer in answers]
    assert found == [["3", "2", "1700000021"], ["3", "1", "1700000041"], ["3", "0", "1700000061"]]


def test_beyond_the_limit_it_is_429_in_the_words_of_the_contract() -> None:
    limited = Limited(client_requests_per_minute=3)
    assert limited.statuses(3) == [200] * 3
    answer = limited.get()
    assert answer.status_code == 429
    assert answer.json() == {
        "error_code": "rate-limit-exceeded",
        "message": "Too many requests. Please retry after 20 seconds.",
        "parameters": {"retry_after": 20, "limit": 3, "reset": 1700000061},
    }
    assert answer.headers["retry-after"] == "20"
    assert [answer.headers[f"x-ratelimit-{name}"] for name in ("limit", "remaining")] == ["3", "0"]
    assert limited.served == 3


def test_who_waits_as_long_as_told_gets_through() -> None:
    limited = Limited(client_requests_per_minute=3)
    limited.statuses(4)
    limited.now += 19.9
    assert limited.get().status_code == 429
    limited.now += 0.1
    assert limited.statuses(2) == [200, 429]
    limited.now += REFILL_S
    assert limited.statuses(4) == [200, 200, 200, 429]


def test_each_client_has_its_own_limit_and_all_share_one() -> None:
    limited = Limited(client_requests_per_minute=3, global_requests_per_minute=5)
    assert limited.statuses(4) == [200, 200, 200, 429]
    assert limited.statuses(3, client="10.0.0.2") == [200, 200, 429]
    refused = limited.get(client="10.0.0.3")
    assert (refused.status_code, refused.headers["x-ratelimit-limit"]) == (429, "5")
    # What all together were refused was not taken from the client.
    limited.now += 12.0
    assert limited.statuses(2, client="10.0.0.3") == [200, 429]


def test_routes_have_limits_of_their_own_by_the_first_pattern_that_matches() -> None:
    patterns = ["/api/v1/apps/*/data:2", "/api/v1/*/x/data:1", "/api/v1/health:1"]
    limited = Limited(client_requests_per_minute=3, endpoint_limits=patterns)
    assert limited.statuses(3, path="/api/v1/apps/x/data") == [200, 200, 429]
    assert limited.statuses(1, path="/api/v1/apps/other/data") == [429]
    assert limited.statuses(2, path="/api/v1/areas/x/data") == [200, 429]
    assert limited.statuses(1, path="/api/v1/apps/x/data", client="10.0.0.2") == [200]
    # Neither more segments nor fewer.
    assert limited.statuses(4, path="/api/v1/apps/x/data/y") == [200, 200, 200, 429]


def test_preflights_are_not_counted() -> None:
    limited = Limited(client_requests_per_minute=1)
    assert limited.statuses(5, method="OPTIONS") == [200] * 5
    assert "x-ratelimit-remaining" not in limited.get(method="OPTIONS").headers
    assert limited.statuses(2) == [200, 429]


def test_another_gateway_counts_for_all_together_only() -> None:
    limited = Limited(exempt=True, client_requests_per_minute=1, global_requests_per_minute=3)
    assert limited.statuses(4) == [200, 200, 200, 429]


def test_it_comes_before_the_token_and_behind_cors() -> None:
    page = "http://page"
    limits = {"rate_limiting.enabled": True, "rate_limiting.client_requests_per_minute": 2}
    api = Api(secured(parameters={**limits, "cors.allowed_origins": [page]}))
    answers = [api.request("DELETE", "/faults", headers={"Origin": page}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [401, 401, 429]
    assert {answer.headers["access-control-allow-origin"] for answer in answers} == {page}
    assert "X-RateLimit-Remaining" in answers[2].headers["access-control-expose-headers"]


def test_only_a_good_token_of_a_peer_is_exempt() -> None:
    one = authority()
    limits = {"rate_limiting.enabled": True, "rate_limiting.client_requests_per_minute": 2}
    api = Api(secured(one, limits))
    peer = one.authorize("robot_b", "pass-of-robot-b", "x").access_token
    admin = one.authorize("admin", "pass-of-admin-x", "x").access_token
    assert [api.get("/x-medkit/tree", headers=bearer(peer)).status_code for _ in range(5)] == [200] * 5
    assert [api.get("/apps", headers=bearer(peer + "x")).status_code for _ in range(2)] == [200] * 2
    assert api.get("/apps", headers=bearer(admin)).status_code == 429
    assert api.get("/apps", headers=bearer(peer)).status_code == 200


def test_the_document_declares_429_where_requests_are_limited() -> None:
    document = Api(gateway(parameters={"rate_limiting.enabled": True})).get("/docs").json()
    assert "429" in document["paths"]["/apps"]["get"]["responses"]
    assert "429" not in Api().get("/docs").json()["paths"]["/apps"]["get"]["responses"]


# --- buckets ---------------------------------------------------------------------------------------------------


def test_there_are_never_more_buckets_than_the_bound() -> None:
    buckets = Buckets(max_buckets=3, clock=lambda: 0.0)
    for number in range(10):
        buckets.get(number, 5).tokens -= 1
    assert len(buckets) == 3
    assert buckets.get(9, 5).remaining == 4
    assert buckets.get(0, 5).remaining == 5


def test_idle_buckets_are_forgotten_and_those_in_use_are_not() -> None:
    now = [0.0]
    buckets = Buckets(max_idle_s=100, cleanup_interval_s=50, clock=lambda: now[0])
    buckets.get("idle", 5)
    for _ in range(8):
        now[0] += 20
        buckets.get("busy", 5)
    assert len(buckets) == 1


def test_a_bucket_is_not_forgotten_before_it_is_full() -> None:
    now = [0.0]
    buckets = Buckets(max_idle_s=1, cleanup_interval_s=1, clock=lambda: now[0])
    buckets.get("x", 60).tokens = 0.0
    now[0] += 5.0
    assert buckets.get("x", 60).remaining == 5


@given(
    st.integers(1, 1000),
    st.lists(st.floats(0, 100, allow_nan=False), min_size=1, max_size=60),
)
def test_nobody_gets_more_than_the_limit_and_a_minutes_refill(limit: int, pauses: list[float]) -> None:
    now = [0.0]
    buckets = Buckets(max_idle_s=1, cleanup_interval_s=1, clock=lambda: now[0])
    taken = 0
    for pause in pauses:
        now[0] += pause
        bucket = buckets.get("x", limit)
        assert bucket.wait_s >= 1
        assert -1e-5 <= bucket.tokens <= limit
        if not bucket.is_empty:
            bucket.tokens -= 1
            taken += 1
    assert taken <= limit + now[0] * limit / REFILL_S + 1


@pytest.mark.parametrize("limit", [1, 3, 7, 60, 599])
def test_after_the_time_told_a_token_is_there(limit: int) -> None:
    now = [0.0]
    buckets = Buckets(clock=lambda: now[0])
    buckets.get("x", limit).tokens = 0.0
    now[0] += buckets.get("x", limit).wait_s
    assert not buckets.get("x", limit).is_empty
