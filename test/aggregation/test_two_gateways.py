"""Two gateways and more: merge, forward, fan-out, failure and return, over real sockets."""

from __future__ import annotations

import httpx
import pytest
from support.fake_peer import TestGateway, running, soon, tree_of

pytestmark = pytest.mark.anyio


async def test_a_peers_app_is_listed_and_read() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"], "arm", "vision"))
        a = TestGateway("a", {"b": b.url})
        async with running(a), httpx.AsyncClient() as client:
            await a.serve_tree(tree_of(["nav"], "base"))
            await soon(lambda: "cam" in a.federation.tree.apps)
            answer = await client.get(f"{a.url}/api/v1/apps/cam/x/y%2Fz?q=%20a+b")
            assert answer.status_code == 200
            seen = answer.json()["data"]
            assert (seen["raw_path"], seen["query"]) == ("/api/v1/apps/cam/x/y%2Fz", "q=%20a+b")
            assert a.federation.peers[0].status == "online"
