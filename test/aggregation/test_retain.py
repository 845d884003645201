"""`aggregation.unreachable: retain` over HTTP (AGGREGATION.md §6)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from medkit_gateway_py.aggregation.routing import FederatedTree
from medkit_gateway_py.api.filters import Filter
from medkit_gateway_py.entities.tree import EntityTree
from support.fake_peer import TestGateway, running, tree_of
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


def declared(tree: EntityTree) -> EntityTree:
    """The same tree, from a manifest."""
    return replace(
        tree,
        apps={app_id: replace(app, source="manifest") for app_id, app in tree.apps.items()},
        components={one.id: replace(one, source="manifest") for one in tree.components.values()},
        functions={one.id: replace(one, source="manifest") for one in tree.functions.values()},
    )


def filtered(tree: FederatedTree, **wanted: Any) -> list[str]:
    """The apps that a filter keeps."""
    return sorted(app.id for app in tree.apps.values() if Filter(**wanted).keeps(tree, app))


async def test_declared_entities_of_a_peer_that_is_gone_stay_and_say_that_they_are_away() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(declared(tree_of(["cam", "nav"], "arm", "vision")))
        a = TestGateway("a", {"b": b.url}, unreachable="retain")
        async with running(a), httpx.AsyncClient() as client:
            await a.serve_tree(tree_of(["cam"], "base", "vision"))
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            await b.stop()
            await async_eventually(lambda: not a.federation.tree.apps["nav"].available, within=6)
            tree = a.federation.tree
            assert set(tree.apps) == {"cam", "b__cam", "nav"}
            assert not tree.apps["b__cam"].is_online
            assert not tree.components["arm"].available
            assert tree.functions["vision"].hosts == ("cam", "b__cam", "nav")
            kept = {"local": ["cam"], "b": ["b__cam", "nav"], "nobody": []}
            assert {name: filtered(tree, peer=name) for name in kept} == kept
            assert filtered(tree, origin="b") == filtered(tree, origin=b.identity.id) == kept["b"]
            assert filtered(tree, origin="a") == filtered(tree, available=True) == kept["local"]
            for path in ("apps/nav", "apps/b__cam/data", "components/arm", "components/arm/data/x"):
                answer = await client.get(f"{a.url}/api/v1/{path}")
                body = answer.json()
                assert (answer.status_code, body["error_code"]) == (504, "not-responding")
                assert body["parameters"]["entity_id"] == path.split("/")[1]
                assert body["parameters"]["peer"] == "b"
                assert body["parameters"]["details"]
            data = (await client.get(f"{a.url}/api/v1/functions/vision/data")).json()
            assert [item["id"] for item in data["items"]] == ["/cam/topic"]
            assert data["x-medkit"]["failed_peers"] == ["b"]
            await b.start(b.port)
            await async_eventually(lambda: a.federation.tree.apps["nav"].available, within=8)
            assert (await client.get(f"{a.url}/api/v1/apps/nav/x")).status_code == 200
