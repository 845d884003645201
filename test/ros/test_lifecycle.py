"""The state of real lifecycle nodes."""

from __future__ import annotations

import time

import pytest

from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.lifecycle import LifecycleStates
from support.ros import Nodes, run
from support.waiting import eventually

pytestmark = pytest.mark.ros


def sees(bridge: RosBridge, fqn: str) -> None:
    name = f"{fqn}/get_state"
    eventually(lambda: bridge.call_blocking(lambda: bridge.node.count_services(name), 2.0), within=10.0)


async def state(bridge: RosBridge, fqn: str, timeout_s: float) -> str:
    found = await LifecycleStates(bridge, timeout_s).state(fqn)
    await bridge.call(lambda: None, 2.0)  # the client is destroyed in front of this
    assert await bridge.call(lambda: len(list(bridge.node.clients)), 2.0) == 0
    return found


def test_the_state_of_a_node_is_told(bridge: RosBridge, nodes: Nodes) -> None:
    fqn = nodes.add_lifecycle_node("managed")
    sees(bridge, fqn)
    # The first replies to a gateway that has just started can get lost.
    eventually(lambda: run(state(bridge, fqn, 1.0)) == "unconfigured", within=10.0)
    nodes.activate(fqn)
    assert run(state(bridge, fqn, 5.0)) == "active"


def test_a_node_that_is_not_there_or_silent_costs_one_timeout(bridge: RosBridge) -> None:
    started = time.monotonic()
    assert run(state(bridge, "/nobody", 0.3)) == ""
    with Nodes() as others:
        fqn = others.add_lifecycle_node("frozen")
        sees(bridge, fqn)
        others.freeze()
        try:
            before = time.monotonic()
            assert run(state(bridge, fqn, 0.5)) == ""
            assert time.monotonic() - before < 2.0
        finally:
            others.thaw()
    assert time.monotonic() - started < 30.0
