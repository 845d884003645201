"""Faults of real nodes: their statuses, their log lines, their aborted goals."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from medkit_gateway_py.parameters import check
from medkit_gateway_py.resources.faults import model
from medkit_gateway_py.resources.faults.model import Fault, Report
from medkit_gateway_py.resources.faults.sources import FaultSources
from medkit_gateway_py.ros.action_status import ActionStatuses
from medkit_gateway_py.ros.actions import ActionCaller
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.graph import scan
from medkit_gateway_py.ros.services import ServiceCaller
from support.ros import Nodes, run
from support.waiting import async_eventually, eventually

pytestmark = pytest.mark.ros

TYPE = "diagnostic_msgs/msg/DiagnosticArray"
FIBONACCI = "test_msgs/action/Fibonacci"
OK, WARN, ERROR, STALE = range(4)


def array(*statuses: dict[str, Any]) -> dict[str, Any]:
    return {"status": [{"message": "", "hardware_id": "", "values": [], **status} for status in statuses]}


class Room:
    """Sources on a bridge, the graph that they see, and what they reported."""

    def __init__(self, bridge: RosBridge, **parameters: Any) -> None:
        self.bridge = bridge
        self.reports: list[Report] = []
        config = check({f"faults.{name.replace('__', '.')}": value for name, value in parameters.items()}).config
        self.nodes = scan(bridge.node, 0)
        self.sources = FaultSources(config.faults, bridge, self.reports.append, lambda: self.nodes)

    def look(self) -> None:
        self.nodes = scan(self.bridge.node, 0)
        self.sources.graph_changed()

    def of(self, code: str) -> list[Report]:
        return [one for one in self.reports if one.fault_code == code]

    async def reported(self, code: str, failed: bool, within: float = 10.0) -> Report:
        """The last report on a code, once it says so."""
        await async_eventually(
            lambda: self.of(code) and self.of(code)[-1].failed == failed, within, lambda: str(self.reports)
        )
        return self.of(code)[-1]


@contextlib.asynccontextmanager
async def listening(bridge: RosBridge, known: tuple[Fault, ...] = (), **parameters: Any) -> AsyncIterator[Room]:
    room = Room(bridge, **parameters)
    await room.sources.start()
    room.sources.expect(known)
    try:
        yield room
    finally:
        await room.sources.stop()
        await bridge.call(lambda: None, 2.0)
        assert not bridge.on_demand_subscriptions


def using(bridge: RosBridge, body: Callable[[Room], Awaitable[None]], **parameters: Any) -> None:
    async def whole() -> None:
        async with listening(bridge, **parameters) as room:
            await body(room)

    run(whole(), within=60.0)


@pytest.fixture(scope="module")
def lidar(nodes: Nodes) -> str:
    fqn = nodes.add_node("lidar", "/front")
    nodes.publish(fqn, "/diagnostics", TYPE)
    other = nodes.add_node("other_publisher")
    nodes.publish(other, "/diagnostics", TYPE)
    return fqn


@pytest.fixture
def bridge(ros_domain: int, lidar: str) -> Any:
    """A bridge that has discovered the publishers."""
    made = RosBridge("gateway")
    made.start()
    eventually(lambda: len(publishers(made)) == 2, within=10.0)
    yield made
    assert made.stop(5.0)


def publishers(bridge: RosBridge) -> list[str]:
    """The nodes that are seen to publish statuses."""
    return [node.fqn for node in scan(bridge.node, 0) if any(use.name == "/diagnostics" for use in node.topics)]


async def matched(room: Room, nodes: Nodes, fqn: str) -> None:
    """Wait until messages arrive: until both sides have discovered each other, they are lost."""
    before = room.sources.health()["diagnostics"]["messages"]

    def came() -> bool:
        nodes.publish_again(fqn, "/diagnostics", TYPE, array())
        return bool(room.sources.health()["diagnostics"]["messages"] > before)

    await async_eventually(came, within=10.0)


def test_a_status_is_reported_under_its_node_and_passes(bridge: RosBridge, nodes: Nodes, lidar: str) -> None:
    async def body(room: Room) -> None:
        await matched(room, nodes, lidar)
        bad = {"name": "lidar: scan rate", "level": ERROR, "message": "slow", "values": [{"key": "hz", "value": "3"}]}
        nodes.publish_again(lidar, "/diagnostics", TYPE, array(bad, {"name": "lidar: fan", "level": OK}))
        report = await room.reported("LIDAR_SCAN_RATE", True)
        assert (report.source_id, report.severity) == ("/front/lidar", model.ERROR)
        assert report.description == "slow (hz=3)"
        nodes.publish_again(lidar, "/diagnostics", TYPE, array({**bad, "level": OK}))
        await room.reported("LIDAR_SCAN_RATE", False)
        assert [one.failed for one in room.of("LIDAR_FAN")] == [False]
        health = room.sources.health()
        assert health["diagnostics"]["state"] == "ok"
        assert health["diagnostics"]["bad"] == 0

    using(bridge, body)


def test_a_node_that_has_just_started_is_waited_for(bridge: RosBridge, nodes: Nodes, lidar: str) -> None:
    async def body(room: Room) -> None:
        room.nodes = ()
        await matched(room, nodes, lidar)
        nodes.publish_again(lidar, "/diagnostics", TYPE, array({"name": "lidar: new", "level": WARN}))
        await async_eventually(lambda: room.sources.health()["waiting_for_node"])
        room.look()
        assert (await room.reported("LIDAR_NEW", True)).source_id == "/front/lidar"

    using(bridge, body)


def test_a_thousand_statuses_a_second_lose_no_change(bridge: RosBridge, nodes: Nodes, lidar: str) -> None:
    async def body(room: Room) -> None:
        await matched(room, nodes, lidar)
        nodes.storm(lidar, names=20, messages=5000, flip_every=10, per_second=1000)
        codes = [f"LIDAR_PART_{name}" for name in range(20)]
        # 250 turns: good, bad, good, ..., good; the good ones at the beginning are told once.
        await async_eventually(lambda: nodes.stormed() == 5000, within=30.0)
        await async_eventually(lambda: all(len(room.of(code)) >= 25 for code in codes), within=10.0)
        for code in codes:
            assert [one.failed for one in room.of(code)] == [False, True] * 12 + [False]
            assert {one.source_id for one in room.of(code)} == {"/front/lidar"}

    using(bridge, body)


def test_garbage_in_statuses_does_no_harm(bridge: RosBridge, nodes: Nodes, lidar: str) -> None:
    async def body(room: Room) -> None:
        await matched(room, nodes, lidar)
        nodes.publish_again(lidar, "/diagnostics", TYPE, array({"name": "", "level": ERROR, "message": ""}))
        nodes.publish_again(
            lidar, "/diagnostics", TYPE, array({"name": "x" * 2000, "level": 200, "message": "y" * 90_000})
        )
        nodes.publish_again(
            lidar, "/diagnostics", TYPE, array({"name": "too: big", "level": ERROR, "message": "z" * 10_000_000})
        )
        broken = array({"name": "lidar: QQQQ", "level": ERROR, "message": "QQQQ"})
        nodes.publish_bytes(lidar, "/diagnostics", TYPE, broken, [(b"QQQQ", b"\xff\xfe\x80\x01")])
        nodes.publish_bytes(lidar, "/diagnostics", TYPE, broken, [(b"\x00", b"\xff")])
        nodes.publish_again(lidar, "/diagnostics", TYPE, array({"name": "lidar: after", "level": ERROR}))
        await room.reported("LIDAR_AFTER", True)
        await async_eventually(lambda: room.sources.health()["waiting_for_node"] == 0, within=10.0)
        assert not room.of("TOO_BIG")
        assert room.sources.health()["diagnostics"]["unreadable"] >= 1
        assert all(1 <= len(one.fault_code) <= 256 and len(one.description) <= 1024 for one in room.reports)
        assert bridge.worker_alive

    using(bridge, body)


def test_a_topic_that_is_not_listened_to_says_nothing(bridge: RosBridge, nodes: Nodes, lidar: str) -> None:
    async def body(room: Room) -> None:
        assert room.sources.health()["diagnostics"]["state"] == "off"
        assert "/diagnostics" not in bridge.on_demand_subscriptions

    using(bridge, body, diagnostics__enabled=False)


def test_lines_make_faults_that_heal_by_silence(bridge: RosBridge, nodes: Nodes, lidar: str) -> None:
    async def body(room: Room) -> None:
        room.sources.heard_line(40, "front.lidar", "broken")
        report = await room.reported("LOG_ERROR_FRONT_LIDAR", True)
        assert (report.source_id, report.description) == ("/front/lidar", "broken")
        room.sources.heard_line(40, "gateway", "my own")
        await room.reported("LOG_ERROR_FRONT_LIDAR", False)
        assert not room.of("LOG_ERROR_GATEWAY")

    using(bridge, body, rosout__heal_after_s=1.0)


def test_a_fault_of_an_earlier_run_heals_by_silence(bridge: RosBridge) -> None:
    async def body() -> None:
        old = Fault("LOG_ERROR_FRONT_LIDAR", model.ERROR, "x", 1.0, 1.0, 1, model.CONFIRMED, ("/front/lidar",))
        async with listening(bridge, (old,), rosout__heal_after_s=1.0) as room:
            assert (await room.reported("LOG_ERROR_FRONT_LIDAR", False)).source_id == "/front/lidar"

    run(body())


def test_an_aborted_goal_fails_and_a_later_success_passes(bridge: RosBridge, nodes: Nodes) -> None:
    fqn = nodes.add_node("mover", "/arm")
    nodes.act(fqn, "/arm/move", FIBONACCI, period_s=0.01)

    async def body(room: Room) -> None:
        services = ServiceCaller(bridge, settle_s=1.0)
        actions = ActionCaller(bridge, services)
        await async_eventually(lambda: room.look() or room.sources.health()["actions"]["followed"] == 1, within=10.0)
        for order, failed in ((13, True), (5, False)):
            goal = await actions.send("/arm/move", FIBONACCI, {"order": order}, 5.0)
            assert (await room.reported("ACTION_ABORTED_ARM_MOVE", failed)).source_id == "/arm/mover"
            actions.release(goal)
        await services.stop()

    using(bridge, body)


def test_of_very_many_actions_some_are_followed_and_that_is_said(bridge: RosBridge, nodes: Nodes) -> None:
    left: list[str] = []
    statuses = ActionStatuses(bridge, lambda action, states: None, left.append, max_actions=2)

    async def body() -> None:
        statuses.follow(["/a", "/b", "/c"])
        await async_eventually(lambda: statuses.problem)
        assert (statuses.followed, statuses.problem) == (2, "3 actions, of which 2 are followed")
        statuses.follow(["/b", "/c", "/not a name"])
        await async_eventually(lambda: left == ["/a"])
        await async_eventually(lambda: statuses.problem)
        assert statuses.followed == 2
        statuses.follow(["/b"])
        await async_eventually(lambda: statuses.followed == 1)
        assert statuses.problem == ""
        await statuses.stop()
        await bridge.call(lambda: None, 2.0)
        assert not bridge.on_demand_subscriptions

    run(body())


def test_a_server_killed_in_the_middle_of_a_goal_has_failed(bridge: RosBridge) -> None:
    async def body(room: Room) -> None:
        with Nodes() as doomed:
            fqn = doomed.add_node("walker", "/leg")
            doomed.act(fqn, "/leg/walk", FIBONACCI)
            services = ServiceCaller(bridge, settle_s=1.0)
            actions = ActionCaller(bridge, services)
            await async_eventually(
                lambda: room.look() or "/leg/walker" in {node.fqn for node in room.nodes}, within=10.0
            )
            goal = await actions.send("/leg/walk", FIBONACCI, {"order": 900}, 5.0)
            await async_eventually(lambda: goal.feedback, within=5.0)
            doomed.kill()
            # It stays in the graph until its lease has run out.
            await async_eventually(lambda: room.look() or room.of("ACTION_ABORTED_LEG_WALK"), within=40.0)
            report = room.of("ACTION_ABORTED_LEG_WALK")[-1]
            assert (report.failed, report.source_id) == (True, "/leg/walker")
            assert "left in the middle" in report.description
            actions.release(goal)
            await services.stop()

    using(bridge, body)
