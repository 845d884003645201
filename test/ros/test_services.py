"""Calling services: answers arrive, hanging ones end in time and block nobody, nothing is left behind."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from medkit_gateway_py.errors import GatewayError, GatewayShutdown, ServiceCallFailed
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.services import ServiceCaller, operation_info
from support.ros import Nodes, run
from support.waiting import eventually

pytestmark = pytest.mark.ros

TRIGGER, SET_BOOL = "std_srvs/srv/Trigger", "std_srvs/srv/SetBool"


@pytest.fixture(scope="module")
def server(nodes: Nodes) -> str:
    fqn = nodes.add_node("server")
    nodes.serve(fqn, "/quick", TRIGGER)
    nodes.serve(fqn, "/switch", SET_BOOL)
    nodes.serve(fqn, "/hanging", TRIGGER, hang=True)
    return fqn


@pytest.fixture(scope="module", params=["events", "single"])
def shared_bridge(request: pytest.FixtureRequest, ros_domain: int, server: str) -> Iterator[RosBridge]:
    """One bridge for the module, once it has discovered the server for a while."""
    try:
        made = RosBridge("gateway", executor=request.param)
    except ImportError:
        pytest.skip("this rclpy has no EventsExecutor")
    if made.executor_kind != request.param:
        made.stop(5.0)
        pytest.skip("this rclpy has no EventsExecutor")
    made.start()
    eventually(lambda: "server" in made.call_blocking(made.node.get_node_names, 2.0), within=10.0)
    began = time.monotonic()
    eventually(lambda: time.monotonic() - began > 3.0, within=5.0)
    yield made
    assert made.stop(5.0)


@pytest.fixture
def bridge(shared_bridge: RosBridge) -> RosBridge:
    return shared_bridge


def using(bridge: RosBridge, body: Callable[[ServiceCaller], Awaitable[Any]], **options: Any) -> Any:
    """Run `body` with a caller whose servers need no settling."""

    async def whole() -> Any:
        caller = ServiceCaller(bridge, **{"settle_s": 0.0, **options})
        try:
            return await body(caller)
        finally:
            await caller.stop()

    return run(whole())


def test_a_call_gives_the_response(bridge: RosBridge) -> None:
    answer = using(bridge, lambda caller: caller.call("/quick", TRIGGER, {}, 5.0))
    assert answer["success"] is False
    assert int(answer["message"]) > 0


def test_32_calls_at_once_lose_nothing(bridge: RosBridge, nodes: Nodes) -> None:
    async def body(caller: ServiceCaller) -> list[Any]:
        return await asyncio.gather(*(caller.call("/switch", SET_BOOL, {"data": True}, 10.0) for _ in range(32)))

    before = nodes.calls("/switch")
    answers = using(bridge, body)
    assert nodes.calls("/switch") == before + 32
    assert {int(answer["message"]) for answer in answers} == set(range(before + 1, before + 33))


def test_a_hanging_service_ends_in_time_and_blocks_nobody(bridge: RosBridge) -> None:
    async def body(caller: ServiceCaller) -> None:
        began = time.monotonic()
        hanging = [asyncio.ensure_future(caller.call("/hanging", TRIGGER, {}, 1.5)) for _ in range(12)]
        await caller.call("/quick", TRIGGER, {}, 5.0)
        assert not any(one.done() for one in hanging)
        assert time.monotonic() - began < 1.0
        assert caller.outstanding <= 8
        ended = await asyncio.gather(*hanging, return_exceptions=True)
        assert time.monotonic() - began < 2.5
        assert {type(one) for one in ended} == {ServiceCallFailed}
        assert all("in time" in one.parameters["details"] for one in ended if isinstance(one, GatewayError))
        assert caller.outstanding == 0
        client = next(one for key, one in caller._clients.items() if key[0] == "/hanging")
        await bridge.call(lambda: None, 1.0)  # the cancellations came before
        assert not client.handle._pending_requests

    using(bridge, body)
    assert bridge.pending_calls == 0


def test_a_service_that_nobody_serves_is_waited_for_and_then_told(bridge: RosBridge) -> None:
    async def body(caller: ServiceCaller) -> float:
        began = time.monotonic()
        with pytest.raises(ServiceCallFailed) as failed:
            await caller.call("/nobody", TRIGGER, {}, 0.5)
        assert failed.value.parameters["details"] == "the service /nobody is not available"
        return time.monotonic() - began

    assert 0.4 < using(bridge, body) < 1.5


def test_a_service_that_appears_in_time_is_called(bridge: RosBridge, nodes: Nodes, server: str) -> None:
    async def body(caller: ServiceCaller) -> Any:
        call = asyncio.ensure_future(caller.call(f"/late_{bridge.executor_kind}", TRIGGER, {}, 8.0))
        await asyncio.wait({call}, timeout=0.3)
        assert not call.done()
        await asyncio.to_thread(nodes.serve, server, f"/late_{bridge.executor_kind}", TRIGGER)
        return await call

    assert using(bridge, body)["message"] == "1"


def test_a_new_server_is_called_only_once_it_has_settled(bridge: RosBridge) -> None:
    async def body(caller: ServiceCaller) -> None:
        caller.servers_seen(["/quick"])
        began = time.monotonic()
        await caller.call("/quick", TRIGGER, {}, 5.0)
        assert 0.4 < time.monotonic() - began < 2.0
        caller.servers_seen(["/quick", "/other"])
        began = time.monotonic()
        await caller.call("/quick", TRIGGER, {}, 5.0)
        assert time.monotonic() - began < 0.3, "it had been known all the time"

    using(bridge, body, settle_s=0.5)


@pytest.mark.parametrize(
    ("service", "type_name", "payload", "details"),
    [
        ("/switch", SET_BOOL, {"data": "yes"}, "data: expected a boolean, got a string"),
        ("/switch", SET_BOOL, {"no": 1}, "no: unknown field"),
        ("/switch", SET_BOOL, [], "expected an object"),
        ("/switch", "no_such/srv/Type", {}, "no_such"),
        ("/switch", "std_msgs/msg/String", {}, "not of the form package/srv/Type"),
        ("/switch", "std_srvs/srv/SetBool_Request", {}, "not of the form package/srv/Type"),
        ("/not a name", SET_BOOL, {}, "Invalid"),
    ],
)
def test_a_bad_call_says_why_and_reaches_nobody(
    bridge: RosBridge, nodes: Nodes, service: str, type_name: str, payload: Any, details: str
) -> None:
    before = nodes.calls("/switch")
    with pytest.raises(ServiceCallFailed) as failed:
        using(bridge, lambda caller: caller.call(service, type_name, payload, 1.0))
    assert details.lower() in failed.value.parameters["details"].lower()
    assert nodes.calls("/switch") == before


def test_clients_are_bounded_and_the_least_used_goes(bridge: RosBridge) -> None:
    async def body(caller: ServiceCaller) -> None:
        await caller.call("/quick", TRIGGER, {}, 5.0)
        await caller.call("/switch", SET_BOOL, {}, 5.0)
        for number in range(3):
            with pytest.raises(ServiceCallFailed):
                await caller.call(f"/nobody{number}", TRIGGER, {}, 0.05)
            assert caller.clients == 2
        await caller.call("/quick", TRIGGER, {}, 5.0)

    using(bridge, body, max_clients=2)
    names = [client.srv_name for client in bridge.call_blocking(lambda: list(bridge.node.clients), 2.0)]
    eventually(lambda: not bridge.call_blocking(lambda: list(bridge.node.clients), 2.0), message=lambda: str(names))


def test_after_the_stop_nothing_is_called(bridge: RosBridge) -> None:
    async def body(caller: ServiceCaller) -> None:
        await caller.stop()
        with pytest.raises(GatewayShutdown):
            await caller.call("/quick", TRIGGER, {}, 1.0)

    using(bridge, body)


def test_schemas_tell_the_parts_of_an_interface() -> None:
    found = operation_info(SET_BOOL)
    assert found is not None
    assert found["request"]["properties"] == {"data": {"type": "boolean"}}
    assert set(found) == {"request", "response"}
    assert set(operation_info("test_msgs/action/Fibonacci") or {}) == {"goal", "result", "feedback"}
    assert operation_info("no_such/srv/Type") is None
    assert operation_info("std_msgs/msg/String") is None
