"""The way to a fault manager over real services and a real topic.

The types of `ros2_medkit_msgs` need generated code that no package index has, so others stand in for them here: what
is in the messages is tested in test/faults/test_manager.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from medkit_gateway_py.ros import messages
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.fault_manager import (
    SERVICES,
    FaultManagerLink,
    Interfaces,
    NoAnswer,
    NoServer,
    base_name,
    find_interfaces,
    is_present,
)
from medkit_gateway_py.ros.graph import scan
from medkit_gateway_py.ros.services import ServiceCaller
from support.ros import Nodes, run
from support.waiting import async_eventually, eventually

pytestmark = pytest.mark.ros

SET_BOOL, STRING = "std_srvs/srv/SetBool", "std_msgs/msg/String"


@pytest.fixture(scope="module")
def manager(nodes: Nodes) -> str:
    fqn = nodes.add_node("fault_manager", "/robot")
    for name in SERVICES:
        nodes.serve(fqn, f"/robot/fault_manager/{name}", SET_BOOL, hang=name == "get_fault")
    nodes.publish(fqn, "/robot/fault_manager/events", STRING)
    return fqn


@pytest.fixture
def bridge(ros_domain: int, manager: str) -> Iterator[RosBridge]:
    made = RosBridge("gateway")
    made.start()
    eventually(lambda: is_present(scan(made.node, 0), "/robot"), within=10.0)
    yield made
    assert made.stop(5.0)


def link(
    bridge: RosBridge, services: ServiceCaller, namespace: str = "robot", timeout_s: float = 8.0
) -> FaultManagerLink:
    stand_in = Interfaces(dict.fromkeys(SERVICES, messages.load(SET_BOOL)), messages.load(STRING))
    return FaultManagerLink(bridge, services, stand_in, namespace, timeout_s)


@pytest.mark.parametrize(
    ("namespace", "name"),
    [("", "/fault_manager"), ("/", "/fault_manager"), ("/a/b/", "/a/b/fault_manager"), ("a", "/a/fault_manager")],
)
def test_the_namespace_leads_to_the_names(namespace: str, name: str) -> None:
    assert base_name(namespace) == name


def test_a_fault_manager_is_there_when_all_its_services_are(bridge: RosBridge) -> None:
    assert is_present(scan(bridge.node, 0), "/robot")
    assert not is_present(scan(bridge.node, 0), "")


def test_it_is_called_by_the_names_below_its_node(bridge: RosBridge) -> None:
    async def body() -> Any:
        services = ServiceCaller(bridge)
        response = await link(bridge, services).call("list_faults", data=True)
        await services.stop()
        return response

    assert int(run(body()).message) >= 1


def test_silence_and_absence_end_with_the_time(bridge: RosBridge) -> None:
    async def body() -> None:
        services = ServiceCaller(bridge, settle_s=0.0)
        with pytest.raises(NoAnswer):
            await link(bridge, services, timeout_s=0.5).call("get_fault", data=True)
        with pytest.raises(NoServer):
            await link(bridge, services, "/elsewhere", timeout_s=0.3).call("list_faults", data=True)
        await services.stop()

    run(body())


def test_its_events_are_heard_until_it_is_stopped(bridge: RosBridge, nodes: Nodes, manager: str) -> None:
    async def body() -> None:
        heard: list[str] = []
        way = link(bridge, ServiceCaller(bridge))
        await way.listen(lambda message: heard.append(message.data))
        topic = "/robot/fault_manager/events"
        assert topic in bridge.on_demand_subscriptions
        # Until both sides have discovered each other, events are lost.
        await async_eventually(
            lambda: nodes.publish_again(manager, topic, STRING, {"data": "confirmed"}) or heard, within=10.0
        )
        assert heard[0] == "confirmed"
        await way.stop()
        await bridge.call(lambda: None, 2.0)
        assert topic not in bridge.on_demand_subscriptions

    run(body())


def test_whether_the_types_are_installed_is_found_out_without_an_error() -> None:
    found = find_interfaces()
    assert found is None or set(found.services) == set(SERVICES)
