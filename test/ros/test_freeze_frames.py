"""What is kept of the moment of a fault: real topics and parameters, within half a second."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest

from medkit_gateway_py.resources.faults import model
from medkit_gateway_py.resources.faults.capture import DEADLINE_S, MAX_CAPTURES, MAX_SNAPSHOT_BYTES, FreezeFrames
from medkit_gateway_py.resources.faults.model import Fault, Snapshot
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.graph import scan
from medkit_gateway_py.ros.node_parameters import NodeParameters
from medkit_gateway_py.ros.topics import TopicReader
from support.ros import Limits, Nodes, run
from support.waiting import eventually

pytestmark = pytest.mark.ros

FLOAT, STRING = "std_msgs/msg/Float64", "std_msgs/msg/String"


@pytest.fixture(scope="module")
def engine(nodes: Nodes) -> str:
    fqn = nodes.add_node("engine", "/power")
    nodes.publish(fqn, "/power/temperature", FLOAT, {"data": 91.5}, period_s=0.05)
    nodes.publish(fqn, "/power/state", STRING, {"data": "hot"}, qos="latched")
    nodes.publish(fqn, "/power/rare", STRING)
    nodes.publish(fqn, "/power/huge", STRING, {"data": "x" * (MAX_SNAPSHOT_BYTES + 1)}, period_s=0.05)
    nodes.publish(fqn, "/power/picture", "sensor_msgs/msg/Image", {"height": 1}, period_s=0.05)
    nodes.declare(fqn, "limit", 90.0)
    nodes.add_node("bystander")
    return fqn


@pytest.fixture
def bridge(ros_domain: int, engine: str) -> Iterator[RosBridge]:
    made = RosBridge("gateway")
    made.start()

    def topics() -> int:
        return sum(len(node.topics) for node in scan(made.node, 0) if node.fqn == engine)

    eventually(lambda: topics() >= 7, within=10.0)  # those five, /rosout and /parameter_events
    yield made
    assert made.stop(5.0)


def fault(*sources: str) -> Fault:
    return Fault("ENGINE_HOT", model.ERROR, "hot", 1.0, 1.0, 1, model.CONFIRMED, sources)


def captured(bridge: RosBridge, *sources: str, topics: tuple[str, ...] = ()) -> dict[str, Snapshot]:
    """Snapshots by name; a second capture, because services of nodes just discovered may lose an answer."""

    async def body() -> dict[str, Snapshot]:
        reader, parameters = TopicReader(bridge, Limits()), NodeParameters(bridge, 2.0, 0.0)
        nodes = scan(bridge.node, 0)
        frames = FreezeFrames(reader, parameters, lambda: nodes, topics)
        for _ in range(10):
            began = time.monotonic()
            found = {one.name: one for one in await frames.capture(fault(*sources))}
            assert time.monotonic() - began < DEADLINE_S + 1.0
            if "parameters" in found or not set(sources) & {node.fqn for node in nodes}:
                break
        await parameters.stop()
        await reader.stop()
        return found

    return run(body())


def test_it_has_the_values_and_the_parameters_of_the_reporting_node(bridge: RosBridge, engine: str) -> None:
    found = captured(bridge, engine, "no-node")
    assert set(found) == {"parameters", "temperature", "state"}
    temperature = found["temperature"]
    assert (temperature.type, temperature.topic) == ("freeze_frame", "/power/temperature")
    assert temperature.message_type == FLOAT
    assert json.loads(temperature.data) == {"data": 91.5}
    assert abs(temperature.captured_at - time.time()) < 10.0
    assert json.loads(found["state"].data) == {"data": "hot"}
    assert json.loads(found["parameters"].data)[engine]["limit"] == 90.0


def test_only_topics_that_are_allowed_are_kept(bridge: RosBridge, engine: str) -> None:
    found = captured(bridge, engine, topics=("/power/state", "/somewhere/else"))
    assert set(found) == {"parameters", "state"}


def test_a_source_that_is_no_node_gives_nothing(bridge: RosBridge) -> None:
    assert captured(bridge, "PEER_OFFLINE", "/not/there") == {}


def test_in_a_storm_of_faults_some_go_without(bridge: RosBridge, engine: str) -> None:
    async def body() -> None:
        reader, parameters = TopicReader(bridge, Limits()), NodeParameters(bridge, 2.0, 0.0)
        nodes = scan(bridge.node, 0)
        frames = FreezeFrames(reader, parameters, lambda: nodes)
        await asyncio.gather(*(frames.capture(fault(engine)) for _ in range(50)))
        assert (frames.captures, frames.skipped) == (MAX_CAPTURES, 50 - MAX_CAPTURES)
        await parameters.stop()
        await reader.stop()

    run(body())
