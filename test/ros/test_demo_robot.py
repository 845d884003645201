"""The demo robots: the nodes of the example manifest, alive, and a clean end."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from test_msgs.action import Fibonacci

from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.graph import scan
from medkit_gateway_py.ros.topics import TopicReader
from support.ros import run
from support.waiting import eventually

pytestmark = pytest.mark.ros

ROBOT_A = {
    "/powertrain/engine/temp_sensor", "/powertrain/engine/temp_monitor", "/powertrain/engine/rpm_sensor",
    "/powertrain/engine/calibration", "/powertrain/engine/long_calibration",
}  # fmt: skip
ROBOT_B = {
    "/chassis/brakes/pressure_sensor", "/chassis/brakes/actuator", "/body/door/front_left/status_sensor",
    "/body/lights/controller", "/perception/lidar/lidar_sensor",
}  # fmt: skip


class Limits:
    """As `data_provider.*`."""

    max_pool_size, cold_wait_cap, idle_safety_net_sec, idle_sweep_tick_sec = 256, 16, 900, 60


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "medkit_gateway_py.demo.robot", *arguments]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert child.stdout is not None
    assert child.stdout.readline().startswith("robot ")
    return child


def end(child: subprocess.Popen[str], number: int) -> float:
    """Seconds until the robot has ended, which it must with 0 and in silence."""
    began = time.monotonic()
    child.send_signal(number)
    output, _ = child.communicate(timeout=10)
    assert (child.returncode, output) == (0, "")
    return time.monotonic() - began


@pytest.fixture(scope="module")
def robot(ros_domain: int) -> Iterator[None]:
    child = start("--robot", "all")
    yield
    end(child, signal.SIGINT)


def names(bridge: RosBridge) -> set[str]:
    return {node.fqn for node in scan(bridge.node, 0)}


def test_both_robots_have_the_nodes_of_the_example_manifest(robot: None, bridge: RosBridge) -> None:
    eventually(lambda: names(bridge) >= ROBOT_A | ROBOT_B, within=10.0)
    assert any(name.count("/") == 1 and name != "/gateway" for name in names(bridge)), "one in the root namespace"


@pytest.mark.parametrize(
    "topic",
    ["/powertrain/engine/temperature", "/powertrain/engine/temperature_state", "/powertrain/engine/rpm",
     "/chassis/brakes/pressure", "/body/door/front_left/is_open", "/body/lights/status", "/perception/lidar/scan",
     "/diagnostics"],
)  # fmt: skip
def test_its_topics_carry_values(robot: None, bridge: RosBridge, topic: str) -> None:
    eventually(lambda: names(bridge) >= ROBOT_A | ROBOT_B, within=10.0)
    eventually(lambda: bridge.node.count_publishers(topic), within=5.0)

    async def body() -> dict[str, object] | None:
        reader = TopicReader(bridge, Limits())
        reading = await reader.read(topic, 5.0)
        await reader.stop()
        return reading.value

    value = run(body())
    assert value
    if topic.endswith("scan"):
        ranges = value["ranges"]
        assert isinstance(ranges, list)
        assert None in ranges
        assert any(isinstance(one, float) for one in ranges)


def test_the_long_calibration_runs_to_its_end(robot: None, bridge: RosBridge) -> None:
    async def body() -> list[int]:
        client = await bridge.call(
            lambda: ActionClient(bridge.node, Fibonacci, "/powertrain/engine/long_calibration"), 2.0
        )
        deadline = time.monotonic() + 10.0
        while not await bridge.call(client.server_is_ready, 2.0):
            assert time.monotonic() < deadline
        for _ in range(3):  # right after discovery an answer can be lost
            try:
                goal = await bridge.call(lambda: client.send_goal_async(Fibonacci.Goal(order=5)), 3.0)
                result = await bridge.call(goal.get_result_async, 10.0)
            except TimeoutError:
                continue
            if result.status == GoalStatus.STATUS_SUCCEEDED:
                return list(result.result.sequence)
        raise AssertionError("no answer")

    assert run(body()) == [0, 1, 1, 2, 3]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_zero_within_three_seconds(ros_domain: int, number: int) -> None:
    child = start("--robot", "a", "--prefix", "spare")
    assert end(child, number) < 3.0


def test_a_prefix_moves_all_its_nodes(bridge: RosBridge) -> None:
    child = start("--robot", "b", "--prefix", "robot7")
    eventually(lambda: names(bridge) >= {f"/robot7{name}" for name in ROBOT_B}, within=10.0)
    end(child, signal.SIGTERM)
    eventually(lambda: not [name for name in names(bridge) if name.startswith("/robot7")], within=5.0)
