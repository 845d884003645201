"""A gateway that is killed knows afterwards what it knew of the others, whatever they say meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from medkit_gateway_py.aggregation.sections import GatewayIdentity
from support.fake_peer import TestGateway, running, tree_of
from support.gateways import Gateway, fleet

pytestmark = [pytest.mark.process, pytest.mark.anyio]


def with_boot(boot_id: str, instance_id: str = "") -> TestGateway:
    gateway = TestGateway("b", {})
    identity = GatewayIdentity(instance_id or gateway.identity.id, boot_id, "b", "1.0.0")
    gateway.identity = gateway.federation.identity = identity
    return gateway


async def test_a_killed_gateway_does_not_believe_an_older_state_when_it_is_back(
    tmp_path: Path, ros_domains: Callable[[], int]
) -> None:
    b = with_boot("00000005-0")
    older = with_boot("00000004-0", b.identity.id)
    async with running(b, older):
        m, n = TestGateway("m", {"b": b.url}), TestGateway("n", {"b": older.url})
        await b.serve_tree(tree_of(["nav"], "arm"))
        await older.serve_tree(tree_of(["past"], "arm"))
        async with running(m, n):
            with fleet(tmp_path) as one:
                domain = ros_domains()
                given = {"aggregation.enabled": True, "aggregation.peer_names": ["m", "n"]}

                def start(*urls: str) -> Gateway:
                    # The same folder each time.
                    gateway = Gateway(
                        tmp_path / "state",
                        domain,
                        node="head",
                        parameters={**given, "aggregation.peer_urls": list(urls)},
                    )
                    one.processes.append(gateway)
                    return gateway.start()

                async def ids(collection: str) -> set[str]:
                    return await anyio.to_thread.run_sync(a.ids, collection)

                async def lists(*wanted: str) -> None:
                    await anyio.to_thread.run_sync(lambda: a.lists("apps", *wanted))

                nobody = "http://127.0.0.1:1"
                a = await anyio.to_thread.run_sync(start, m.url, nobody)
                await lists("nav", "head")
                a.kill()
                await m.stop()
                await n.serve_tree(tree_of(["mine"]))
                a = await anyio.to_thread.run_sync(start, m.url, n.url)
                await lists("mine", "head")
                assert "past" not in await ids("apps")
                answer = await anyio.to_thread.run_sync(a.get, "/apps/nav")
                assert answer.status_code == 502
                answer = await anyio.to_thread.run_sync(a.get, "/faults")
                assert answer.json()["x-medkit"]["failed_peers"] == ["m", "m/b"]
                await m.start(m.port)
                await lists("nav")
                assert "past" not in await ids("apps")
