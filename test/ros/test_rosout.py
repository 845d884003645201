"""Log lines of real nodes."""

from __future__ import annotations

import pytest

from medkit_gateway_py.resources.logs import LogLine, LogStore
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.rosout import Rosout
from support.ros import Nodes, run
from support.waiting import async_eventually

pytestmark = pytest.mark.ros


def test_lines_of_other_nodes_arrive_with_their_severity_and_place(bridge: RosBridge, nodes: Nodes) -> None:
    fqn = nodes.add_node("talkative", "/a/b")
    store = LogStore(10)

    async def body() -> list[dict[str, object]]:
        rosout = Rosout(bridge, lambda *line: store.add(LogLine(*line)))
        await rosout.start()
        count = lambda: len(store.items(lambda name: name == "a.b.talkative", "debug", "", 9))  # noqa: E731
        # Until both sides have discovered each other, lines are lost.
        await async_eventually(lambda: nodes.log(fqn, "info", "hello") or count(), within=10.0)
        nodes.log(fqn, "warning", "careful")
        nodes.log(fqn, "error", "broken")
        await async_eventually(lambda: len(store.items(lambda _: True, "error", "talkative", 9)) == 1)
        assert "/rosout" in bridge.on_demand_subscriptions
        await rosout.stop()
        await bridge.call(lambda: None, 2.0)
        assert "/rosout" not in bridge.on_demand_subscriptions
        return store.items(lambda _: True, "warning", "talkative", 9)

    careful, broken = run(body())
    assert (careful["severity"], careful["message"]) == ("warning", "careful")
    assert (broken["severity"], broken["message"]) == ("error", "broken")
    assert broken["context"]["node"] == "a.b.talkative"  # type: ignore[index]
    assert broken["context"]["file"].endswith("nodes.py")  # type: ignore[index]
    assert broken["context"]["function"] == "log"  # type: ignore[index]
