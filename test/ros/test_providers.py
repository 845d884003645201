"""The provider of ROS nodes: the first contribution is whole, changes are told on the loop."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from medkit_gateway_py.discovery.provider import ProviderContext
from medkit_gateway_py.discovery.ros_graph import RosGraphProvider
from medkit_gateway_py.parameters import check
from medkit_gateway_py.ros import graph
from medkit_gateway_py.ros.bridge import RosBridge
from support.ros import Nodes, run
from support.waiting import async_eventually, eventually

pytestmark = pytest.mark.ros


def test_the_first_contribution_has_the_nodes_and_changes_are_told_on_the_loop(bridge: RosBridge, nodes: Nodes) -> None:
    fqn = nodes.add_node("camera", "/front")
    eventually(lambda: "camera" in bridge.call_blocking(bridge.node.get_node_names, 2.0), within=10.0)
    told: list[str] = []

    async def life() -> None:
        provider = RosGraphProvider(ProviderContext(check({}).config, bridge))
        await provider.start(lambda: told.append(threading.current_thread().name))
        assert {fqn, "/gateway"} <= {node.fqn for node in provider.contribution().nodes}
        assert provider.contribution().components == ()
        assert not told, "the first contribution is fetched, not told"
        other = await asyncio.to_thread(nodes.add_node, "lidar", "/front")
        await async_eventually(lambda: other in {node.fqn for node in provider.contribution().nodes}, within=5.0)
        assert set(told) == {threading.main_thread().name}
        await provider.stop()
        count = len(told)
        await asyncio.to_thread(nodes.remove_node, other)
        await asyncio.sleep(0)
        assert len(told) == count
        assert "graph" not in [thread.name for thread in threading.enumerate()]

    run(life())
    nodes.remove_node(fqn)


def test_the_times_come_from_the_configuration(bridge: RosBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "FIRST_AGE_S", 0.0)
    config = SimpleNamespace(refresh_interval_ms=100, discovery=SimpleNamespace(refresh_debounce_ms=0))

    async def life() -> None:
        provider = RosGraphProvider(ProviderContext(config, bridge))
        await provider.start(lambda: None)
        scans = provider._watcher.scans
        await async_eventually(lambda: provider._watcher.scans >= scans + 5, within=2.0)
        await provider.stop()

    run(life())
