"""`X-Request-Id`: what a client calls its request is what the answer, the log and the other gateways call it."""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from typing import Any

import pytest

from medkit_gateway_py.aggregation.request import RequestInfo, request_id
from support.api import Api, Topics, gateway
from support.fake_peer import TestGateway, answer, running, tree_of
from support.waiting import async_eventually

NAME = "X-Request-Id"
MADE = re.compile(r"[0-9a-f]{32}")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("path", ["/health", "/apps", "/apps/ghost", "/nothing", "/apps/temp_sensor/operations"])
def test_every_answer_has_the_id_of_its_request(path: str) -> None:
    api = Api(gateway())
    assert api.get(path, headers={NAME: "ticket-4711"}).headers.get_list(NAME) == ["ticket-4711"]
    made = [api.get(path).headers[NAME] for _ in range(2)]
    assert all(MADE.fullmatch(one) for one in made)
    assert made[0] != made[1]


def test_an_answer_that_is_kept_has_the_id_of_each_request() -> None:
    api = Api(gateway())
    etag = api.get("/apps", headers={NAME: "first"}).headers["etag"]
    assert api.get("/apps", headers={NAME: "second"}).headers.get_list(NAME) == ["second"]
    again = api.get("/apps", headers={NAME: "third", "If-None-Match": etag})
    assert (again.status_code, again.headers[NAME]) == (304, "third")
    assert api.request("HEAD", "/apps", headers={NAME: "fourth"}).headers[NAME] == "fourth"


def test_without_an_id_the_trace_gives_it() -> None:
    assert Api(gateway()).get("/health", headers={"traceparent": TRACE}).headers[NAME] == TRACE.split("-")[1]


@pytest.mark.parametrize(
    "given", ["", "two words", "a,b", "x" * 129, "a\tb", "<script>", 'a"b', "caf\xe9", "a;b=c", "100%", "{}"]
)
def test_an_id_that_is_none_is_replaced_everywhere(given: str) -> None:
    assert MADE.fullmatch(Api(gateway()).get("/health", headers={NAME: given.encode("latin-1")}).headers[NAME])
    scope: dict[str, Any] = {"headers": [(b"x-request-id", given.encode("latin-1"))]}
    passed_on = [value.decode() for name, value in RequestInfo.from_scope(scope).headers if name == b"x-request-id"]
    assert passed_on == [request_id(scope)]
    assert MADE.fullmatch(request_id(scope))


@pytest.mark.parametrize(
    "given",
    ["7", "x" * 128, "7b1f6d3e-3a0c-4c55-9f0a-1f2a3b4c5d6e", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "ab+/==", "a.b:c@d~1"],
)
def test_ids_as_others_make_them_are_kept(given: str) -> None:
    assert Api(gateway()).get("/health", headers={NAME: given}).headers[NAME] == given


def test_two_ids_are_none() -> None:
    scope: dict[str, Any] = {"headers": [(b"x-request-id", b"a"), (b"x-request-id", b"b")]}
    assert MADE.fullmatch(request_id(scope))
    assert [name for name, _ in RequestInfo.from_scope(scope).headers].count(b"x-request-id") == 1


def test_the_log_names_a_request_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    api = Api(gateway(topics=Topics(broken=True)))
    failed = api.get("/apps/drifter/data/x", headers={NAME: "ticket-4711"})
    assert (failed.status_code, failed.headers[NAME]) == (500, "ticket-4711")
    (line,) = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert line == "GET /api/v1/apps/drifter/data/x (request ticket-4711) failed"


@pytest.mark.anyio
async def test_a_peer_is_told_the_id_and_its_own_answer_does_not_change_it() -> None:
    peer = TestGateway("b", {})

    async def data(scope: Any, receive: Any, send: Any) -> None:
        seen = dict(scope["headers"])[b"x-request-id"]
        await answer(send, {"items": [], "id": seen.decode()}, headers=[(b"x-request-id", b"of-the-peer")])

    peer.routes["/api/v1/apps/nav/data"] = data

    async with running(peer):
        await peer.serve_tree(tree_of(["nav"]))
        asking = TestGateway("a", {"b": peer.url})
        async with running(asking):
            await async_eventually(lambda: "nav" in asking.federation.tree.apps)
            api = Api(replace(gateway(), federation=asking.federation))
            found = await api.arequest("GET", "/apps/nav/data", headers={NAME: "ticket-4711"})
            assert found.json()["id"] == "ticket-4711"
            assert found.headers.get_list(NAME) == ["ticket-4711"]
            made = await api.arequest("GET", "/apps/nav/data")
            assert made.json()["id"] == made.headers[NAME]
