"""Faults over several gateways: the whole HTTP side of each, real sockets between them (AGGREGATION.md §4, §8)."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest

from medkit_gateway_py.api.app import create_app
from medkit_gateway_py.entities.tree import EntityTree
from medkit_gateway_py.resources.faults.model import ERROR, Report
from support.api import Faults, gateway
from support.fake_peer import TestGateway, running, tree_of
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


class Gateway(TestGateway):
    """One whole HTTP side on a socket; its nodes share the component `robot` and the function `moving`."""

    __test__ = False

    def __init__(self, name: str, peers: dict[str, str]) -> None:
        super().__init__(name, peers)
        self.faults = Faults()
        context = gateway(faults=self.faults)
        self.app = create_app(
            dataclasses.replace(context, federation=self.federation, identity=self.identity, config=self.config)
        )

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests.append((scope["method"], scope["raw_path"].decode(), {}))
        await self.app(scope, receive, send)

    def fail(self, *codes: str, node: str = "") -> None:
        for code in codes:
            self.faults.report(
                Report(node or f"/{self.identity.name}/motor", code, True, ERROR, self.identity.name, 5.0)
            )

    def asked(self, method: str) -> list[str]:
        return [path for verb, path, _ in self.requests if verb == method and "/faults" in path]


@asynccontextmanager
async def chain(*names: str) -> AsyncIterator[tuple[list[Gateway], httpx.AsyncClient]]:
    """Gateways of which each aggregates the next; the first one is the client's."""
    async with AsyncExitStack() as stack:
        found: list[Gateway] = []
        for name in reversed(names):
            peers = {found[0].identity.name: found[0].url} if found else {}
            one = Gateway(name, peers)
            await stack.enter_async_context(running(one))
            await one.serve_tree(tree_of(["motor", f"only_{name}"], "robot", "moving", f"/{name}"))
            found.insert(0, one)
        wanted = {f"only_{name}" for name in names}
        await async_eventually(lambda: wanted <= set(found[0].federation.tree.apps), within=20.0)
        client = await stack.enter_async_context(httpx.AsyncClient(base_url=f"{found[0].url}/api/v1", timeout=20.0))
        yield found, client


SHARED = ("/components/robot", "/functions/moving")


async def test_lists_hold_the_faults_of_all_with_their_peers_and_count_them() -> None:
    async with chain("a", "b", "c") as ((a, b, c), client):
        a.fail("OURS", "BOTH")
        b.fail("BOTH", "THEIRS")
        c.fail("FAR")
        for path in ("", *SHARED):
            body = (await client.get(f"{path}/faults")).json()
            found = [(one["fault_code"], one.get("x-medkit", {}).get("peer", "")) for one in body["items"]]
            assert found == [("OURS", ""), ("BOTH", ""), ("BOTH", "b"), ("THEIRS", "b"), ("FAR", "b/c")]
            assert body["x-medkit"]["count"] == 5
            assert "partial" not in body["x-medkit"]
            alone = (await client.get(f"{path}/faults", headers={"X-Medkit-No-Fan-Out": "1"})).json()
            assert alone["x-medkit"]["count"] == 2


async def test_nodes_of_one_name_on_two_robots_keep_their_faults_apart() -> None:
    async with chain("a", "b") as ((a, b), client):
        a.fail("F", node="/b/motor")
        b.fail("F")
        assert (await client.get("/apps/motor/faults")).json()["items"] == []
        (item,) = (await client.get("/apps/b__motor/faults")).json()["items"]
        assert item["description"] == "b"
        assert [one["description"] for one in (await client.get("/components/robot/faults")).json()["items"]] == ["b"]


@pytest.mark.parametrize("path", SHARED)
async def test_one_fault_of_a_shared_entity_comes_from_the_gateway_that_has_it(path: str) -> None:
    async with chain("a", "b", "c") as ((a, b, c), client):
        a.fail("OURS", "BOTH")
        b.fail("BOTH", "THEIRS", "50% off")
        c.fail("FAR")
        for code, name in (("OURS", "a"), ("BOTH", "a"), ("THEIRS", "b"), ("50%25%20off", "b"), ("FAR", "c")):
            answer = await client.get(f"{path}/faults/{code}")
            assert answer.status_code == 200, answer.text
            assert answer.json()["item"]["fault_name"] == name
        # One that is over has a detail, too.
        c.faults.engine.clear(["FAR"])
        assert (await client.get(f"{path}/faults/FAR")).json()["x-medkit"]["status_raw"] == "CLEARED"
        answer = await client.get(f"{path}/faults/NOBODYS")
        assert (answer.status_code, answer.json()["message"]) == (404, "Fault not found")


@pytest.mark.parametrize("path", SHARED)
async def test_clearing_one_fault_of_a_shared_entity_clears_it_wherever_it_is(path: str) -> None:
    async with chain("a", "b", "c") as ((a, b, c), client):
        everyone = (a, b, c)
        for one in everyone:
            one.fail("ALL", "OTHER")
        c.fail("FAR")
        for code in ("FAR", "ALL"):
            assert (await client.delete(f"{path}/faults/{code}")).status_code == 204
        assert [one.faults.status("ALL") for one in everyone] == ["CLEARED"] * 3
        assert [one.faults.status("OTHER") for one in everyone] == ["CONFIRMED"] * 3
        assert c.faults.status("FAR") == "CLEARED"
        # What is cleared everywhere can be cleared again, and nobody else is asked for it.
        assert (await client.delete(f"{path}/faults/ALL")).status_code == 204
        assert len(c.asked("DELETE")) == 2
        assert (await client.delete(f"{path}/faults/NOBODYS")).status_code == 404


@pytest.mark.parametrize("path", SHARED)
async def test_clearing_a_shared_entity_clears_every_share_once(path: str) -> None:
    async with chain("a", "b", "c") as (everyone, client):
        for one in everyone:
            one.fail("X", "Y")
            one.fail("STRANGER", node="/elsewhere")
        assert (await client.delete(f"{path}/faults")).status_code == 204
        for one in everyone:
            assert [one.faults.status(code) for code in ("X", "Y", "STRANGER")] == ["CLEARED", "CLEARED", "CONFIRMED"]
            assert len(one.asked("DELETE")) == 1


async def test_clearing_can_be_kept_to_one_gateway() -> None:
    async with chain("a", "b") as ((a, b), client):
        for one in (a, b):
            one.fail("X")
        headers = {"X-Medkit-No-Fan-Out": "1"}
        assert (await client.delete("/components/robot/faults", headers=headers)).status_code == 204
        assert (await client.delete("/faults")).status_code == 204
        assert (a.faults.status("X"), b.faults.status("X")) == ("CLEARED", "CONFIRMED")


async def test_a_fault_of_an_app_of_a_peer_is_read_and_cleared_there() -> None:
    async with chain("a", "b", "c") as ((_, _, c), client):
        c.fail("FAR", node="/c/only_c")
        answer = await client.get("/apps/only_c/faults/FAR")
        assert answer.json()["item"]["code"] == "FAR"
        assert (await client.delete("/apps/only_c/faults/FAR")).status_code == 204
        assert c.faults.status("FAR") == "CLEARED"


async def test_a_gateway_that_is_down_is_named_where_it_may_have_the_fault() -> None:
    async with chain("a", "b") as ((a, b), client):
        a.fail("OURS")
        b.fail("THEIRS")
        await b.stop()
        assert (await client.get("/components/robot/faults/OURS")).status_code == 200
        for method in ("GET", "DELETE"):
            answer = await client.request(method, "/components/robot/faults/THEIRS")
            assert answer.status_code == 502
            assert answer.json()["parameters"]["failed_peers"] == ["b"]
        answer = await client.delete("/components/robot/faults")
        assert answer.status_code == 502
        assert answer.json()["parameters"]["failed_peers"] == ["b"]
        assert a.faults.status("OURS") == "CLEARED"
        assert (await client.get("/faults")).json()["x-medkit"]["failed_peers"] == ["b"]


async def test_two_gateways_in_one_ros_graph_tell_its_faults_once() -> None:
    def graph(*names: str) -> EntityTree:
        tree = tree_of(names, "robot", "", "/x")
        apps = {app.id: dataclasses.replace(app, graph_key=f"key of {app.id}") for app in tree.apps.values()}
        return dataclasses.replace(tree, apps=apps)

    b = Gateway("b", {})
    async with running(b):
        await b.serve_tree(graph("motor", "only_b"))
        a = Gateway("a", {"b": b.url})
        async with running(a), httpx.AsyncClient(base_url=f"{a.url}/api/v1", timeout=20.0) as client:
            await a.serve_tree(graph("motor"))
            await async_eventually(lambda: "only_b" in a.federation.tree.apps, within=20.0)
            for one in (a, b):
                one.fail("F", node="/x/motor")
            b.fail("F2", node="/x/only_b")
            for path in ("", "/components/robot"):
                body = (await client.get(f"{path}/faults")).json()
                found = [(one["fault_code"], one["description"]) for one in body["items"]]
                assert found == [("F", "a"), ("F2", "b")]
                assert body["x-medkit"]["count"] == 2
