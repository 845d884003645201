"""Goals: sent, followed to their end, cancelled, rejected; servers that vanish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from medkit_gateway_py.errors import ActionFailed, ActionRejected, CancelUnavailable
from medkit_gateway_py.resources.executions import Execution, ExecutionHistory
from medkit_gateway_py.ros.actions import ActionCaller
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.services import ServiceCaller
from support.ros import Nodes, run
from support.waiting import async_eventually, eventually

pytestmark = pytest.mark.ros

FIBONACCI = "test_msgs/action/Fibonacci"
ACTION = "/count"
FIRST_TEN = [0, 1, 1, 2, 3, 5, 8, 13, 21, 34]


class Room:
    """What a gateway has of actions."""

    def __init__(self, bridge: RosBridge) -> None:
        self.services = ServiceCaller(bridge, settle_s=0.0)
        self.actions = ActionCaller(bridge, self.services)
        self.history = ExecutionHistory(self.actions, 2.0)

    async def start(self, order: Any, action: str = ACTION) -> Execution:
        return await self.history.start(action, FIBONACCI, {"order": order}, 5.0)

    async def end(self, execution: Execution) -> dict[str, Any]:
        await async_eventually(lambda: execution.status != "running", within=10.0)
        return (await self.history.settled(execution)).body()


@pytest.fixture(scope="module")
def server(nodes: Nodes) -> str:
    fqn = nodes.add_node("counter")
    nodes.act(fqn, ACTION, FIBONACCI)
    return fqn


@pytest.fixture(scope="module", params=["events", "single"])
def bridge(request: pytest.FixtureRequest, ros_domain: int, server: str) -> Iterator[RosBridge]:
    """One bridge for the module, once it has discovered the server for a while."""
    try:
        made = RosBridge("gateway", executor=request.param)
    except ImportError:
        pytest.skip("this rclpy has no EventsExecutor")
    if made.executor_kind != request.param:
        made.stop(5.0)
        pytest.skip("this rclpy has no EventsExecutor")
    made.start()
    eventually(lambda: "counter" in made.call_blocking(made.node.get_node_names, 2.0), within=10.0)
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 3.0, within=5.0)
    yield made
    assert made.stop(5.0)


def using(bridge: RosBridge, body: Callable[[Room], Awaitable[Any]]) -> Any:
    """Run `body`; afterwards nothing of it may be left in the node."""

    async def whole() -> Any:
        room = Room(bridge)
        try:
            return await body(room)
        finally:
            await room.history.stop()
            await room.services.stop()
            assert room.actions.followed == 0

    found = run(whole())
    eventually(lambda: not bridge.on_demand_subscriptions)
    return found


def test_a_goal_runs_to_its_end_with_feedback_and_result(bridge: RosBridge) -> None:
    async def body(room: Room) -> None:
        execution = await room.start(10)
        assert len(execution.id) == 32
        await async_eventually(lambda: execution.goal.feedback)
        running = execution.body()
        assert running["status"] == "running"
        assert running["parameters"]["sequence"][:3] == [0, 1, 1]
        assert "result" not in running
        await async_eventually(lambda: execution.goal.state == "executing" or execution.status != "running")
        ended = await room.end(execution)
        assert ended["status"] == "completed"
        assert ended["result"] == ended["parameters"] == {"sequence": FIRST_TEN}
        assert ended["x-medkit"] == {
            "goal_id": execution.id,
            "ros2_status": "succeeded",
            "ros2": {"action": ACTION, "type": FIBONACCI},
        }
        assert room.actions.followed == 0

    using(bridge, body)


def test_a_cancelled_goal_has_failed_and_the_other_goes_on(bridge: RosBridge) -> None:
    async def body(room: Room) -> None:
        first, second = await room.start(200), await room.start(12)
        await room.history.cancel(first)
        ended = await room.end(first)
        assert (ended["status"], ended["x-medkit"]["ros2_status"]) == ("failed", "canceled")
        assert len(ended["result"]["sequence"]) < 200
        assert (await room.end(second))["status"] == "completed"
        assert [one.id for one in room.history.of_action(ACTION)] == [second.id, first.id]
        with pytest.raises(ActionRejected) as refused:
            await room.history.cancel(second)
        assert refused.value.parameters["return_code"] in (2, 3)

    using(bridge, body)


def test_a_cancellation_may_be_rejected(bridge: RosBridge, nodes: Nodes) -> None:
    async def body(room: Room) -> None:
        execution = await room.start(1000)
        with pytest.raises(ActionRejected, match="Stop request rejected") as refused:
            await room.history.cancel(execution, "Stop")
        assert refused.value.parameters["return_code"] == 1
        assert execution.status == "running"

    using(bridge, body)


def test_a_rejected_goal_is_told_and_not_remembered(bridge: RosBridge) -> None:
    async def body(room: Room) -> None:
        with pytest.raises(ActionRejected, match="Goal rejected"):
            await room.start(-1)
        assert len(room.history) == 0

    using(bridge, body)


@pytest.mark.parametrize("order", ["ten", 2**40, None])
def test_a_bad_goal_is_told_with_its_field(bridge: RosBridge, order: Any) -> None:
    async def body(room: Room) -> None:
        with pytest.raises(ActionFailed) as failed:
            await room.start(order)
        assert failed.value.parameters["details"].startswith("order: ")

    using(bridge, body)


def test_an_action_that_nobody_serves_fails_within_its_time(bridge: RosBridge) -> None:
    async def body(room: Room) -> None:
        with pytest.raises(ActionFailed) as failed:
            await room.history.start("/nobody", FIBONACCI, {}, 0.3)
        assert "not available" in failed.value.parameters["details"]

    using(bridge, body)


def test_a_server_that_leaves_in_the_middle_ends_its_goals(bridge: RosBridge, nodes: Nodes) -> None:
    name = f"/leaving_{bridge.executor_kind}"
    fqn = nodes.add_node(f"leaver_{bridge.executor_kind}")
    nodes.act(fqn, name, FIBONACCI)

    async def body(room: Room) -> None:
        room.actions.servers_seen([name, ACTION])
        lost, kept = await room.start(1000, name), await room.start(10)
        await async_eventually(lambda: lost.goal.feedback)
        room.actions.servers_seen([ACTION])
        ended = await room.end(lost)
        assert (ended["status"], ended["x-medkit"]["ros2_status"]) == ("failed", "aborted")
        assert "left" in ended["error"]
        with pytest.raises(CancelUnavailable):
            await room.history.cancel(lost)
        assert (await room.end(kept))["status"] == "completed"

    using(bridge, body)


def test_16_goals_at_once_all_end(bridge: RosBridge) -> None:
    async def body(room: Room) -> None:
        started = await asyncio.gather(*(room.start(8) for _ in range(16)))
        ended = await asyncio.gather(*(room.end(one) for one in started))
        assert [one["result"] for one in ended] == [{"sequence": FIRST_TEN[:8]}] * 16

    using(bridge, body)
