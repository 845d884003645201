"""Two gateways and more: merge, forward, fan-out, failure and return, over real sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from medkit_gateway_py.aggregation import origins
from medkit_gateway_py.aggregation.routing import FederatedTree
from support.fake_peer import TestGateway, answer, running, tree_of
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def pair(**aggregation: object) -> AsyncIterator[tuple[TestGateway, TestGateway, httpx.AsyncClient]]:
    """A aggregates B; both have an app `cam`, B has `nav` alone, both host the function `vision`."""
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam", "nav"], "arm", "vision"))
        a = TestGateway("a", {"b": b.url}, **aggregation)
        async with running(a), httpx.AsyncClient() as client:
            await a.serve_tree(tree_of(["cam"], "base", "vision"))
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            yield a, b, client


async def test_a_peers_apps_are_listed_beside_ours() -> None:
    async with pair() as (a, _, _):
        assert set(a.federation.tree.apps) == {"cam", "b__cam", "nav"}
        assert a.federation.tree.functions["vision"].hosts == ("cam", "b__cam", "nav")
        (status,) = a.federation.peers
        assert (status.status, status.kind, status.state) == ("online", "medkit_gateway_py", "closed")
        assert status.counts == {"areas": 0, "components": 1, "apps": 2, "functions": 1}


async def test_a_request_is_forwarded_with_its_path_and_query_as_they_came() -> None:
    async with pair() as (a, _, client):
        answer = await client.get(f"{a.url}/api/v1/apps/nav/x/%2Fy%2fz/..%2F~?q=%20a+b&%7e=1")
        seen = answer.json()["data"]
        assert seen["raw_path"] == "/api/v1/apps/nav/x/%2Fy%2fz/..%2F~"
        assert seen["query"] == "q=%20a+b&%7e=1"


async def test_an_encoded_slash_separates_as_a_plain_one() -> None:
    async with pair() as (a, _, client):
        answer = await client.get(f"{a.url}/api/v1%2Fapps%2fnav%2Fx")
        assert answer.json()["data"]["raw_path"] == "/api/v1/apps/nav%2Fx"


async def test_an_app_of_another_id_is_reached_under_ours_and_answers_with_ours() -> None:
    async with pair() as (a, _, client):
        answer = await client.get(f"{a.url}/api/v1/apps/b__cam/x")
        assert answer.json()["data"]["raw_path"] == "/api/v1/apps/cam/x"
        assert answer.json()["x-medkit"]["entity_id"] == "b__cam"
        assert answer.json()["_links"]["self"] == "/api/v1/apps/b__cam"
        assert int(answer.headers["content-length"]) == len(answer.content)


async def test_a_forwarded_detail_names_its_peer() -> None:
    async with pair() as (a, _, client):
        for app, name in (("nav", "The nav"), ("b__cam", "b__The cam")):
            detail = (await client.get(f"{a.url}/api/v1/apps/{app}")).json()
            assert (detail["id"], detail["name"]) == (app, name)
            assert detail["data"] == f"/api/v1/apps/{app}/data"
            assert detail["source"] == "peer:b"
            assert detail["x-medkit"] == {"entity_id": app, "source": "peer:b", "contributors": ["peer:b"]}


async def test_the_alias_of_a_peers_app_is_forwarded() -> None:
    async with pair() as (a, _, client):
        answer = await client.get(f"{a.url}/api/v1/apps/b__nav/x")
        assert answer.json()["data"]["raw_path"] == "/api/v1/apps/nav/x"
        assert (await client.get(f"{a.url}/api/v1/apps/b__none/x")).status_code == 404


async def test_relations_and_descriptions_of_a_remote_entity_are_answered_here() -> None:
    async with pair() as (a, b, client):
        before = len(b.requests)
        for path in ("apps/nav/is-located-on", "components/arm/hosts", "apps/nav/docs"):
            await client.get(f"{a.url}/api/v1/{path}")
        assert [r for r in b.requests[before:] if "/tree" not in r[1]] == []
        await client.put(f"{a.url}/api/v1/apps/nav/is-located-on")
        assert ("PUT", "/api/v1/apps/nav/is-located-on") in [r[:2] for r in b.requests]


async def test_a_fan_out_marks_remote_items_and_gives_our_ids() -> None:
    async with pair() as (a, _, client):
        answer = (await client.get(f"{a.url}/api/v1/functions/vision/data")).json()
        found = [(item["id"], item["x-medkit"]["member_ids"], item["x-medkit"].get("peer")) for item in answer["items"]]
        assert found == [
            ("/cam/topic", ["cam"], None),
            ("/cam/topic", ["b__cam"], "b"),
            ("/nav/topic", ["nav"], "b"),
        ]
        assert answer["x-medkit"] == {"entity_id": "vision"}


async def test_credentials_and_the_callers_origin_stay_here_by_default() -> None:
    headers = {"authorization": "Bearer secret", "cookie": "a=b", "origin": "http://x", "x-client-id": "me"}
    async with pair() as (a, _, client):
        seen = (await client.get(f"{a.url}/api/v1/apps/nav/x", headers=headers)).json()["data"]["headers"]
        assert not {"authorization", "cookie", "origin"} & set(seen)
        assert seen["x-client-id"] == "me"
        assert seen["x-medkit-via"] == a.identity.id
        assert seen["x-medkit-gateway"] == f"{a.identity.id}/{a.identity.boot_id}"
        assert int(seen["x-medkit-deadline-ms"]) == 850


async def test_credentials_go_on_with_forward_auth() -> None:
    async with pair(forward_auth=True) as (a, b, client):
        headers = {"authorization": "Bearer secret"}
        seen = (await client.get(f"{a.url}/api/v1/apps/nav/x", headers=headers)).json()["data"]["headers"]
        assert seen["authorization"] == "Bearer secret"
        assert all("authorization" not in headers for _, path, headers in b.requests if "/tree" in path)


async def test_a_dead_owner_is_502_and_its_entities_leave_and_come_back_under_the_same_ids() -> None:
    async with pair() as (a, b, client):
        before = set(a.federation.tree.apps)
        await b.stop()
        answer = await client.get(f"{a.url}/api/v1/apps/nav/x")
        assert answer.status_code == 502
        assert answer.json()["vendor_code"] == "x-medkit-peer-unavailable"
        await async_eventually(lambda: set(a.federation.tree.apps) == {"cam"}, within=4)
        for app in ("nav", "b__cam", "b__anything"):
            assert (await client.get(f"{a.url}/api/v1/apps/{app}/x")).status_code == 502
        faults = (await client.get(f"{a.url}/api/v1/faults")).json()
        assert faults["x-medkit"]["partial"] is True
        assert faults["x-medkit"]["failed_peers"] == ["b"]
        assert faults["x-medkit"]["peers"]["b"]["age_ms"] >= 0
        data = (await client.get(f"{a.url}/api/v1/functions/vision/data")).json()
        assert [item["id"] for item in data["items"]] == ["/cam/topic"]
        assert data["x-medkit"]["failed_peers"] == ["b"]
        again = TestGateway("b", {}, state=b.state)
        await again.start(b.port)
        try:
            # Another start gives another order of apps; the ids are remembered, not counted.
            await again.serve_tree(tree_of(["nav", "aaa", "cam"], "arm", "vision"))
            await async_eventually(lambda: set(a.federation.tree.apps) >= before, within=8)
            assert set(a.federation.tree.apps) == {*before, "aaa"}
            assert "x-medkit" not in (await client.get(f"{a.url}/api/v1/functions/vision/data")).json()["x-medkit"]
        finally:
            await again.stop()


async def test_another_gateway_at_the_same_address_never_takes_an_id(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "MOVED_S", 3.0)
    async with pair() as (a, b, client):
        await b.stop()
        await async_eventually(lambda: set(a.federation.tree.apps) == {"cam"}, within=4)
        other = TestGateway("other", {})
        await other.start(b.port)
        try:
            await other.serve_tree(tree_of(["nav", "lidar"], "arm2", "vision2"))
            await async_eventually(lambda: "lidar" in a.federation.tree.apps, within=8)
            assert set(a.federation.tree.apps) == {"cam", "lidar", "b__nav"}
            assert (await client.get(f"{a.url}/api/v1/apps/nav/x")).status_code == 502
            # The one that was there may be found at another address; for a while it is missing.
            faults = (await client.get(f"{a.url}/api/v1/faults")).json()
            assert [item["fault_code"] for item in faults["items"]] == ["FAULT_OF_a", "FAULT_OF_other"]
            assert faults["x-medkit"]["failed_peers"] == ["b"]
            assert faults["x-medkit"]["peers"]["b"]["status"] == "partial"
            assert "before" in faults["x-medkit"]["peers"]["b"]["error"]
            assert 0 <= faults["x-medkit"]["peers"]["b"]["age_ms"] < 60_000
            await async_eventually(lambda: not a.federation.tree.missing_anything(), within=8)
            assert (await client.get(f"{a.url}/api/v1/faults")).json()["x-medkit"] == {}
        finally:
            await other.stop()


async def test_a_chain_lists_and_forwards_over_two_hops() -> None:
    c = TestGateway("c", {})
    async with running(c):
        await c.serve_tree(tree_of(["cam", "lidar"], "wheel", "vision"))
        b = TestGateway("b", {"leaf": c.url})
        async with running(b):
            await b.serve_tree(tree_of(["cam"], "arm", "vision"))
            a = TestGateway("a", {"mid": b.url})
            async with running(a), httpx.AsyncClient() as client:
                await a.serve_tree(tree_of(["cam"], "base", "vision"))
                await async_eventually(lambda: len(a.federation.tree.apps) == 4)
                assert set(a.federation.tree.apps) == {"cam", "mid__cam", "leaf__cam", "lidar"}
                answer = (await client.get(f"{a.url}/api/v1/apps/leaf__cam/x")).json()
                assert (answer["data"]["gateway"], answer["data"]["raw_path"]) == ("c", "/api/v1/apps/cam/x")
                assert answer["data"]["headers"]["x-medkit-via"] == f"{a.identity.id},{b.identity.id}"
                assert int(answer["data"]["headers"]["x-medkit-deadline-ms"]) <= 700
                assert answer["_links"]["self"] == "/api/v1/apps/leaf__cam"
                data = (await client.get(f"{a.url}/api/v1/functions/vision/data")).json()
                assert [item["x-medkit"].get("peer") for item in data["items"]] == [None, "mid", "mid/leaf", "mid/leaf"]
                assert [item["x-medkit"]["member_ids"] for item in data["items"]] == [
                    ["cam"],
                    ["mid__cam"],
                    ["leaf__cam"],
                    ["lidar"],
                ]
                faults = (await client.get(f"{a.url}/api/v1/faults")).json()
                assert [item["fault_code"] for item in faults["items"]] == ["FAULT_OF_a", "FAULT_OF_b", "FAULT_OF_c"]
                await c.stop()
                await async_eventually(lambda: "lidar" not in a.federation.tree.apps, within=6)
                faults = (await client.get(f"{a.url}/api/v1/faults")).json()
                assert faults["x-medkit"]["failed_peers"] == ["mid/leaf"]
                assert (await client.get(f"{a.url}/api/v1/apps/lidar/x")).status_code == 502
                await c.start(c.port)


async def test_in_a_full_mesh_every_origin_is_asked_once() -> None:
    gateways = [TestGateway(name, {}) for name in "abc"]
    async with running(*gateways):
        urls = {one.identity.name: one.url for one in gateways}
        for one in gateways:
            await one.federation.stop()
        mesh = [
            TestGateway(one.identity.name, {n: u for n, u in urls.items() if u != one.url}, state=one.state)
            for one in gateways
        ]
        for one, old in zip(mesh, gateways, strict=True):
            await old.stop()
            await one.start(old.port)
        try:
            for one in mesh:
                await one.serve_tree(tree_of([f"app_{one.identity.name}"], "", "all"))
            for one in mesh:
                await async_eventually(lambda one=one: len(one.federation.tree.apps) == 3, within=8)
            await async_eventually(lambda: all(_is_direct(one.federation.tree) for one in mesh), within=8)
            for one in mesh:
                one.requests.clear()
            async with httpx.AsyncClient() as client:
                faults = (await client.get(f"{mesh[0].url}/api/v1/faults")).json()
            assert sorted(item["fault_code"] for item in faults["items"]) == ["FAULT_OF_a", "FAULT_OF_b", "FAULT_OF_c"]
            assert faults["x-medkit"] == {}
            assert sum(path == "/api/v1/faults" for one in mesh[1:] for _, path, _ in one.requests) == 2
        finally:
            for one in mesh:
                await one.stop()
        for one in gateways:
            await one.start()


def _is_direct(tree: FederatedTree) -> bool:
    return len(tree.sections) == 2 and all(len(section.path) == 1 for section in tree.sections)


async def test_a_request_that_comes_back_is_508_and_a_tree_or_fan_out_answers_for_itself_alone() -> None:
    async with pair() as (a, _, client):
        headers = {"x-medkit-via": f"someone,{a.identity.id}"}
        answer = await client.get(f"{a.url}/api/v1/apps/nav/x", headers=headers)
        assert (answer.status_code, answer.json()["error_code"]) == (508, "loop-detected")
        tree = (await client.get(f"{a.url}/api/v1/x-medkit/tree", headers=headers)).json()
        assert [origin["id"] for origin in tree["origins"]] == [a.identity.id]
        faults = (await client.get(f"{a.url}/api/v1/faults", headers=headers)).json()
        assert [item["fault_code"] for item in faults["items"]] == ["FAULT_OF_a"]
        assert len((await client.get(f"{a.url}/api/v1/x-medkit/tree")).json()["origins"]) == 2


async def test_a_peer_without_a_stream_is_polled_with_its_etag_and_nothing_changes() -> None:
    async def no_stream(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, {"error_code": "resource-not-found", "message": "Resource not found"}, 404)

    b = TestGateway("b", {})
    b.routes["/api/v1/x-medkit/tree/stream"] = no_stream
    async with running(b):
        await b.serve_tree(tree_of(["cam", "nav"], "arm"))
        a = TestGateway("a", {"b": b.url})
        async with running(a):
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            version = a.federation.tree.version
            await async_eventually(lambda: any(path.endswith("/stream") for _, path, _ in b.requests))
            b.requests.clear()
            await async_eventually(lambda: len(b.requests) >= 2, within=10)
            assert all(headers["if-none-match"].startswith('"') for _, _, headers in b.requests)
            assert all(path == "/api/v1/x-medkit/tree" for _, path, _ in b.requests)
            assert a.federation.tree.version == version
            await b.serve_tree(tree_of(["cam", "nav", "new"], "arm"))
            await async_eventually(lambda: "new" in a.federation.tree.apps, within=10)
            assert a.federation.tree.version == version + 1


async def test_subscribers_hear_of_each_new_tree_and_one_that_fails_hurts_nobody() -> None:
    async with pair() as (a, _, _):
        heard: list[int] = []

        def broken(tree: FederatedTree) -> None:
            raise RuntimeError("broken")

        a.federation.subscribe(broken)
        a.federation.subscribe(lambda tree: heard.append(tree.version))
        before = a.federation.tree.version
        await a.serve_tree(tree_of(["cam", "more"], "base", "vision"))
        await a.serve_tree(tree_of(["cam", "more"], "base", "vision"))
        assert heard == [before + 1]
