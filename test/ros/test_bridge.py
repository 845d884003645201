"""The border between asyncio and rclpy: what comes back, what is cancelled, and that nothing kills the thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import rclpy.task
from std_srvs.srv import Trigger

from medkit_gateway_py.errors import GatewayShutdown, ServiceUnavailable
from medkit_gateway_py.ros.bridge import RosBridge
from support.ros import Nodes, run
from support.waiting import eventually

pytestmark = pytest.mark.ros

HEALTH_KEYS = {
    "worker_alive", "degraded", "queue_depth", "queue_max_depth_observed", "queue_dropped", "tasks_completed",
    "tasks_failed", "last_task_latency_us", "max_task_latency_us", "current_task_age_ms", "watchdog_trips",
    "graph_events_received",
}  # fmt: skip


@pytest.fixture(params=["single", "events"])
def bridge(request: pytest.FixtureRequest, ros_domain: int) -> Iterator[RosBridge]:
    """Both executors, whichever `auto` would take here."""
    made = RosBridge("gateway", executor=request.param, watchdog_s=0.2, max_queue_depth=16)
    assert made.executor_kind == request.param
    made.start()
    yield made
    assert made.stop(5.0)


def test_a_call_brings_back_what_the_function_returned_and_ran_in_the_ros_thread(bridge: RosBridge) -> None:
    assert run(bridge.call(lambda: threading.current_thread().name, 2.0)) == "ros"


def test_a_call_raises_what_the_function_raised(bridge: RosBridge) -> None:
    def fail() -> None:
        raise KeyError("from ROS")

    with pytest.raises(KeyError, match="from ROS"):
        run(bridge.call(fail, 2.0))


def test_a_call_awaits_the_ros_future_that_the_function_returns(bridge: RosBridge, nodes: Nodes) -> None:
    server = nodes.add_node(f"server_{bridge.executor_kind}")
    nodes.serve(server, f"/answer_{bridge.executor_kind}", "std_srvs/srv/Trigger")

    async def call() -> Any:
        client = await bridge.call(lambda: bridge.node.create_client(Trigger, f"/answer_{bridge.executor_kind}"), 2.0)
        deadline = time.monotonic() + 5.0
        while not await bridge.call(client.service_is_ready, 2.0):
            assert time.monotonic() < deadline
        for _ in range(3):  # right after discovery a reply can be lost; a later one is not
            try:
                return await bridge.call(lambda: client.call_async(Trigger.Request()), 2.0)
            except TimeoutError:
                continue
        raise AssertionError("no answer")

    assert isinstance(run(call()), Trigger.Response)


def test_a_call_that_runs_out_of_time_cancels_its_ros_future_and_leaves_nothing_behind(bridge: RosBridge) -> None:
    async def call() -> Any:
        client = await bridge.call(lambda: bridge.node.create_client(Trigger, "/nobody_serves_this"), 2.0)
        with pytest.raises(TimeoutError):
            await bridge.call(lambda: client.call_async(Trigger.Request()), 0.1)
        await bridge.call(lambda: None, 2.0)
        return client

    client = run(call())
    assert bridge.pending_calls == 0
    eventually(lambda: not client._pending_requests, within=2.0)


def test_a_caller_that_is_cancelled_cancels_the_ros_future(bridge: RosBridge) -> None:
    made: list[Any] = []

    def begin() -> Any:
        made.append(rclpy.task.Future())
        return made[0]

    async def call() -> None:
        task = asyncio.ensure_future(bridge.call(begin, 10.0))
        while not made:
            await bridge.call(lambda: None, 2.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await bridge.call(lambda: None, 2.0)

    run(call())
    assert made[0].cancelled()
    assert bridge.pending_calls == 0


def test_a_call_whose_time_is_over_before_its_turn_is_not_run(bridge: RosBridge) -> None:
    ran: list[int] = []
    go = threading.Event()

    async def call() -> None:
        bridge.post(lambda: go.wait(5.0))
        with pytest.raises(TimeoutError):
            await bridge.call(lambda: ran.append(1), 0.05)
        go.set()
        await bridge.call(lambda: ran.append(2), 2.0)

    run(call())
    assert ran == [2]


def test_a_full_queue_refuses_and_says_so(bridge: RosBridge) -> None:
    running, go = threading.Event(), threading.Event()

    def hold() -> None:
        running.set()
        go.wait(5.0)

    async def call() -> list[Any]:
        bridge.post(hold)
        assert running.wait(5.0)
        calls = [asyncio.ensure_future(bridge.call(lambda: None, 5.0)) for _ in range(20)]
        await asyncio.sleep(0)
        go.set()
        return await asyncio.gather(*calls, return_exceptions=True)

    results = run(call())
    assert [type(result) for result in results].count(ServiceUnavailable) == 4
    assert results.count(None) == 16
    assert bridge.health()["queue_dropped"] == 4


def test_an_exception_in_posted_work_is_logged_and_the_thread_goes_on(
    bridge: RosBridge, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("posted and broken")

    with caplog.at_level(logging.ERROR):
        bridge.post(fail)
        assert run(bridge.call(lambda: 7, 2.0)) == 7
    assert "posted and broken" in caplog.text
    assert bridge.health()["tasks_failed"] == 1


def test_even_an_exit_request_in_posted_work_does_not_end_the_thread(bridge: RosBridge) -> None:
    def leave() -> None:
        raise SystemExit(3)

    bridge.post(leave)
    assert run(bridge.call(lambda: 7, 2.0)) == 7


def test_an_exception_in_a_callback_does_not_end_the_thread(bridge: RosBridge) -> None:
    failed: list[int] = []

    def fail() -> None:
        failed.append(1)
        raise RuntimeError("a broken callback")

    timer = run(bridge.call(lambda: bridge.node.create_timer(0.02, fail), 2.0))
    eventually(lambda: len(failed) >= 2)
    run(bridge.call(lambda: bridge.node.destroy_timer(timer), 2.0))
    assert bridge.worker_alive


def test_health_has_the_keys_of_the_contract_and_notices_a_task_that_hogs_the_thread(bridge: RosBridge) -> None:
    assert set(bridge.health()) == HEALTH_KEYS
    assert bridge.health()["worker_alive"] is True
    go = threading.Event()
    bridge.post(lambda: go.wait(5.0))
    eventually(lambda: bridge.health()["degraded"])
    assert bridge.health()["current_task_age_ms"] >= 200
    go.set()
    eventually(lambda: bridge.health()["watchdog_trips"] == 1)
    assert bridge.health()["degraded"] is False


def test_stop_answers_who_waits_and_refuses_who_comes_later(ros_domain: int) -> None:
    bridge = RosBridge("gateway")
    bridge.start()

    async def call() -> None:
        waiting = asyncio.ensure_future(bridge.call(rclpy.task.Future, 10.0))
        await bridge.call(lambda: None, 2.0)
        assert bridge.stop(5.0)
        with pytest.raises(GatewayShutdown):
            await waiting
        with pytest.raises(GatewayShutdown):
            await bridge.call(lambda: None, 2.0)

    run(call())
    bridge.post(lambda: pytest.fail("ran after the stop"))
    assert bridge.health()["worker_alive"] is False
    assert bridge.stop(1.0), "a second stop finds nothing to do"


def test_stop_is_bounded_even_when_the_destruction_of_the_node_hangs(
    ros_domain: int, caplog: pytest.LogCaptureFixture
) -> None:
    bridge = RosBridge("gateway")
    release = threading.Event()
    destroy = bridge.node.destroy_node
    bridge.node.destroy_node = lambda: release.wait(20.0) and destroy()
    bridge.start()
    began = time.monotonic()
    assert bridge.stop(0.3) is False
    assert time.monotonic() - began < 1.0
    assert "not destroyed within 0.3 s" in caplog.text
    release.set()
    assert bridge.stop(5.0)


def test_a_bridge_that_was_never_started_can_be_stopped(ros_domain: int) -> None:
    bridge = RosBridge("gateway")
    assert bridge.node.get_name() == "gateway"
    assert bridge.stop(5.0)
    assert not bridge.context.ok()


def test_remapping_arguments_are_taken_from_the_command_line(ros_domain: int) -> None:
    bridge = RosBridge("gateway", args=["program", "--ros-args", "-r", "__node:=other", "-r", "__ns:=/fleet"])
    assert bridge.node.get_fully_qualified_name() == "/fleet/other"
    assert bridge.stop(5.0)


def test_bad_arguments_raise_and_leave_nothing_running(ros_domain: int) -> None:
    before = threading.active_count()
    with pytest.raises(Exception, match="parameter override"):
        RosBridge("gateway", args=["--ros-args", "-p", "no-value"])
    assert threading.active_count() == before


def test_blocking_calls_work_for_threads_without_a_loop(bridge: RosBridge) -> None:
    assert bridge.call_blocking(lambda: 3, 2.0) == 3
    with pytest.raises(ZeroDivisionError):
        bridge.call_blocking(lambda: 1 // 0, 2.0)
    go = threading.Event()
    with pytest.raises(TimeoutError):
        bridge.call_blocking(lambda: go.wait(5.0), 0.05)
    go.set()


def test_a_process_without_stderr_gets_the_executor_that_needs_none(
    ros_domain: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr", None)
    bridge = RosBridge("gateway", executor="events")
    assert bridge.executor_kind == "single"
    assert bridge.stop(5.0)
