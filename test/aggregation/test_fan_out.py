"""Asking many gateways at once: bounds on time, what is missing is said, bad answers hurt nobody."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from medkit_gateway_py.aggregation.fan_out import FanOut, envelope, gather_everyone, qualify_duplicates
from medkit_gateway_py.aggregation.request import RequestInfo
from support.compatible import CompatibleGateway, app
from support.fake_peer import FaultyServer, TestGateway, answer, head_of, http, running, tree_of
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def star(count: int, **aggregation: Any) -> AsyncIterator[tuple[TestGateway, list[TestGateway]]]:
    """A gateway `hub` and its peers p0, p1, ..., which all host the function `all`."""
    leaves = [TestGateway(f"p{n}", {}) for n in range(count)]
    async with running(*leaves):
        for leaf in leaves:
            await leaf.serve_tree(tree_of(["cam"], function="all"))
        hub = TestGateway("hub", {leaf.identity.name: leaf.url for leaf in leaves}, **aggregation)
        async with running(hub):
            await async_eventually(lambda: len(hub.federation.tree.apps) == count)
            yield hub, leaves


async def sleepy(scope: Any, receive: Any, send: Any) -> None:
    """Never answers."""
    await receive()
    while (await receive())["type"] != "http.disconnect":
        pass


async def test_the_wait_is_the_slowest_peers_and_bounded() -> None:
    async with star(4, timeout_ms=500) as (hub, leaves):
        leaves[1].routes["/api/v1/faults"] = sleepy
        leaves[3].routes["/api/v1/faults"] = sleepy
        started = time.monotonic()
        found = await gather_everyone(hub.federation, RequestInfo(), "/faults")
        assert 0.45 < time.monotonic() - started < 0.8
        assert [item["fault_code"] for item in found.items] == ["FAULT_OF_p0", "FAULT_OF_p2"]
        assert found.failed == ["p1", "p3"]
        assert [found.peers[name]["status"] for name in ("p0", "p1", "p2", "p3")] == ["ok", "failed", "ok", "failed"]
        assert found.peers["p1"]["age_ms"] < 5000
        assert "did not answer" in found.peers["p1"]["error"]
        assert found.peers["p0"]["latency_ms"] < 400


async def test_the_deadline_that_came_in_ends_it_earlier() -> None:
    async with star(1, timeout_ms=2000) as (hub, leaves):
        leaves[0].routes["/api/v1/faults"] = sleepy
        started = time.monotonic()
        found = await gather_everyone(hub.federation, RequestInfo(deadline_ms=400), "/faults")
        assert time.monotonic() - started < 0.6
        assert found.failed == ["p0"]


@pytest.mark.parametrize(
    ("body", "status", "items", "failed"),
    [
        ({"items": [{"id": "x"}, 3, None, "y", [1]]}, 200, 1, []),
        ({"items": {"id": "x"}}, 200, 0, ["p0"]),
        ({"items": None}, 200, 0, ["p0"]),
        ([{"id": "x"}], 200, 0, ["p0"]),
        ("items", 200, 0, ["p0"]),
        ({"items": []}, 500, 0, ["p0"]),
        ({"items": []}, 404, 0, ["p0"]),
        ({"items": [], "x-medkit": {"partial": True, "failed_peers": ["deep", 3]}}, 200, 0, ["p0/deep"]),
        ({"items": [], "x-medkit": {"partial": True}}, 200, 0, ["p0"]),
        ({"items": [{"id": "x", "x-medkit": 3}], "x-medkit": "y"}, 200, 1, []),
        ({"items": [{"id": [], "x-medkit": {"member_ids": [[], 3]}, "type": {}}]}, 200, 1, []),
    ],
)
async def test_a_bad_answer_is_a_failed_peer_and_a_bad_item_is_left_out(
    body: Any, status: int, items: int, failed: list[str]
) -> None:
    async def bad(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, body, status)

    async with star(2) as (hub, leaves):
        leaves[0].routes["/api/v1/faults"] = bad
        found = await gather_everyone(hub.federation, RequestInfo(), "/faults")
        assert len(found.items) == items + 1
        assert found.failed == failed
        assert found.items[-1]["fault_code"] == "FAULT_OF_p1"
        assert all(item["x-medkit"]["peer"] in ("p0", "p1") for item in found.items)


async def test_what_a_peer_says_of_those_behind_it_is_passed_on_within_bounds() -> None:
    told = {
        "leaf": {"status": "failed", "error": "e" * 9000, "age_ms": 70, "latency_ms": "soon", "more": 1},
        "mid": {"status": "partial", "latency_ms": 4.5, "age_ms": True},
        "well": {"status": "ok"},
        "odd": [1],
    }
    medkit = {"partial": True, "failed_peers": ["leaf", "mid", "odd", "untold", "n" * 9000], "peers": told}

    async def partial(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, {"items": [{"id": "x", "x-medkit": {"peer": "p" * 9000}}], "x-medkit": medkit})

    async with star(1) as (hub, leaves):
        leaves[0].routes["/api/v1/faults"] = partial
        found = await gather_everyone(hub.federation, RequestInfo(), "/faults")
        assert found.peers.pop("p0")["status"] == "partial"
        assert max(map(len, found.failed)) < 320
        assert len(found.items[0]["x-medkit"]["peer"]) == 300
        assert set(found.peers) == set(found.failed)
        assert found.peers["p0/leaf"] == {"status": "failed", "error": "e" * 300, "age_ms": 70}
        assert found.peers["p0/mid"] == {"status": "partial", "error": "not reachable", "latency_ms": 4.5}
        assert found.peers["p0/odd"] == found.peers["p0/untold"] == {"status": "failed", "error": "not reachable"}


async def test_an_origin_that_a_peer_does_not_know_is_missing_by_the_name_that_it_has_here() -> None:
    async with star(2) as (hub, leaves):

        async def not_here(scope: Any, receive: Any, send: Any) -> None:
            failed = [leaves[0].identity.id]
            await answer(send, {"items": [], "x-medkit": {"partial": True, "failed_peers": failed}}, 200)

        leaves[0].routes["/api/v1/faults"] = not_here
        found = await gather_everyone(hub.federation, RequestInfo(), "/faults")
        assert found.failed == ["p0"]


async def test_a_peer_is_asked_for_its_origins_with_the_query_and_without_our_conditions() -> None:
    async with star(1) as (hub, leaves):
        leaves[0].requests.clear()
        async with httpx.AsyncClient() as client:
            headers = {"if-none-match": '"x"', "range": "bytes=0-1", "x-client-id": "me", "authorization": "Bearer x"}
            await client.get(f"{hub.url}/api/v1/faults?status=all&partial=fail", headers=headers)
        (request,) = [one for one in leaves[0].requests if "faults" in one[1]]
        assert request[1] == "/api/v1/faults?status=all"
        assert request[2]["x-medkit-origins"] == leaves[0].identity.id
        assert request[2]["x-client-id"] == "me"
        assert not {"if-none-match", "range", "authorization"} & set(request[2])


async def test_only_origins_that_are_asked_for_are_asked() -> None:
    async with star(2) as (hub, leaves):
        wanted = frozenset({leaves[1].identity.id})
        found = await gather_everyone(hub.federation, RequestInfo(origins=wanted), "/faults")
        assert [item["fault_code"] for item in found.items] == ["FAULT_OF_p1"]
        assert set(found.peers) == {"p1"}
        found = await gather_everyone(hub.federation, RequestInfo(origins=frozenset({"unknown"})), "/faults")
        assert (found.items, found.failed) == ([], ["unknown"])


async def test_nobody_is_asked_when_the_request_says_so() -> None:
    async with star(1) as (hub, _):
        for request in (RequestInfo(no_fan_out=True), RequestInfo(via=(hub.identity.id,))):
            assert await gather_everyone(hub.federation, request, "/faults") == FanOut()
        async with httpx.AsyncClient() as client:
            found = await client.get(f"{hub.url}/api/v1/functions/all/data", headers={"x-medkit-no-fan-out": "1"})
            assert all("peer" not in item["x-medkit"] for item in found.json()["items"])


async def test_a_peer_known_to_be_down_costs_no_time_and_is_named() -> None:
    async with star(2, timeout_ms=2000) as (hub, leaves):
        await leaves[0].stop()
        await async_eventually(lambda: hub.federation.peers[0].status == "offline", within=4)
        started = time.monotonic()
        async with httpx.AsyncClient() as client:
            faults = (await client.get(f"{hub.url}/api/v1/faults")).json()
            data = (await client.get(f"{hub.url}/api/v1/functions/all/data")).json()
        assert time.monotonic() - started < 0.5
        for body in (faults, data):
            assert (body["x-medkit"]["partial"], body["x-medkit"]["failed_peers"]) == (True, ["p0"])
            assert body["x-medkit"]["peers"]["p0"]["status"] == "failed"
        await leaves[0].start(leaves[0].port)
        await async_eventually(lambda: hub.federation.peers[0].status == "online", within=8)


async def test_a_configured_peer_that_never_answered_is_missing() -> None:
    async with FaultyServer(_silent) as server:
        hub = TestGateway("hub", {"never": server.url}, timeout_ms=300)
        async with running(hub):
            found = await gather_everyone(hub.federation, RequestInfo(), "/faults")
            assert (found.failed, found.peers) == (["never"], {"never": {"status": "failed", "error": "not reachable"}})


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def test_a_compatible_gateway_gives_back_nothing_of_ours_or_of_our_other_peers() -> None:
    """It asks its peers for faults whatever we say, and marks what they told it at most by `source`."""

    def fault(code: str, *nodes: str, **medkit: Any) -> dict[str, Any]:
        return {"fault_code": code, "reporting_sources": list(nodes), "x-medkit": medkit}

    async with CompatibleGateway(apps=[app("nav"), app("wheel")]) as cpp, running(leaf := TestGateway("leaf", {})):
        cpp.peers = [{"name": "us", "url": "http://10.9.9.9"}, {"name": "they", "url": leaf.url}]
        cpp.pages["/faults"] = {
            "items": [
                fault("ITS_OWN", "/nav"),
                fault("OF_A_NODE_OF_BOTH", "/wheel"),
                fault("OURS", "/cam"),
                fault("OF_OUR_LEAF", "/arm"),
                fault("SAID_TO_BE_OF_OUR_LEAF", "/x", source="peer:they"),
                fault("OF_NOBODY_WE_KNOW", "/y"),
                fault("OF_ANOTHER_PEER_OF_IT", "/x", source="peer:other"),
                fault("OF_BOTH", "/nav", "/cam"),
                {"fault_code": "WITHOUT_A_SOURCE"},
            ]
        }
        await leaf.serve_tree(tree_of(["arm"]))
        hub = TestGateway("hub", {"cpp": cpp.url, "leaf": leaf.url})
        async with running(hub):
            await hub.serve_tree(tree_of(["cam", "wheel"]))
            await async_eventually(lambda: {"nav", "arm"} <= set(hub.federation.tree.apps))
            found = await gather_everyone(hub.federation, RequestInfo(), "/faults")
            codes = [item["fault_code"] for item in found.items if item["x-medkit"]["peer"] == "cpp"]
            assert codes == [
                "ITS_OWN",
                "OF_A_NODE_OF_BOTH",
                "OF_NOBODY_WE_KNOW",
                "OF_ANOTHER_PEER_OF_IT",
                "OF_BOTH",
                "WITHOUT_A_SOURCE",
            ]
            assert found.failed == []


async def test_items_of_members_that_are_ours_are_echoes() -> None:
    """A compatible gateway that aggregates us gives our own items back."""
    items = b'{"items":[{"id":"/a","x-medkit":{"member_ids":["cam"]}},{"id":"/b","x-medkit":{"member_ids":["nav"]}}]}'
    pages = {
        b"/api/v1/x-medkit/tree": http(b"{}", "404 Not Found"),
        b"/api/v1/health": http(b'{"status":"healthy","x-medkit-entity-cache":{"generation":1}}'),
        b"/api/v1/functions": http(b'{"items":[{"id":"all"}]}'),
        b"/api/v1/functions/all": http(b'{"id":"all","x-medkit":{"hosts":["nav"]}}'),
        b"/api/v1/functions/all/data": http(items),
        b"/api/v1/apps": http(b'{"items":[{"id":"nav"}]}'),
    }
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await head_of(reader)
        heads.append(head)
        writer.write(pages.get(head.split(b" ")[1], http(b'{"items":[]}')))

    async with FaultyServer(handle) as server:
        hub = TestGateway("hub", {"cpp": server.url})
        async with running(hub), httpx.AsyncClient() as client:
            await hub.serve_tree(tree_of(["cam"], function="all"))
            await async_eventually(lambda: "nav" in hub.federation.tree.apps)
            body = (await client.get(f"{hub.url}/api/v1/functions/all/data")).json()
            assert [(item["id"], item["x-medkit"].get("peer")) for item in body["items"]] == [
                ("/cam/topic", None),
                ("/b", "cpp"),
            ]
        (asked,) = [head.lower() for head in heads if b"all/data" in head]
        assert b"x-medkit-no-fan-out: 1" in asked
        assert b"x-medkit-origins" not in asked


def test_items_of_one_id_get_their_members_name_all_of_them() -> None:
    items = [
        {"id": "/t", "name": "/t", "x-medkit": {"member_ids": ["cam"]}},
        {"id": "/t", "name": "/t", "x-medkit": {"member_ids": ["b__cam", "x"]}},
        {"id": "/other", "x-medkit": {"member_ids": ["cam"]}},
        {"id": "/t"},
        {"id": 3},
        {"id": 3},
    ]
    found = qualify_duplicates(items)
    assert [item["id"] for item in found] == ["cam:/t", "b__cam:/t", "/other", "/t", 3, 3]
    assert items[0]["id"] == "/t"


def test_a_whole_answer_has_no_word_of_peers() -> None:
    assert envelope(FanOut(peers={"b": {"status": "ok"}})) == {}
