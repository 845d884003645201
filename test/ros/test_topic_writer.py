"""Writing topics: the first message arrives, wrong ones never leave, conflicts are told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from medkit_gateway_py.errors import GatewayShutdown, InvalidParameter, PublishFailed
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.messages import FieldError, UnknownType
from medkit_gateway_py.ros.topics import TopicReader, TopicWriter
from support.ros import Limits, Nodes, bridge_that_sees, run
from support.waiting import eventually

pytestmark = pytest.mark.ros

STRING, FLOAT = "std_msgs/msg/String", "std_msgs/msg/Float64"


@pytest.fixture(scope="module")
def listener(nodes: Nodes) -> str:
    return nodes.add_node("listener")


@pytest.fixture(scope="module")
def shared_bridge(ros_domain: int, nodes: Nodes, listener: str) -> Iterator[RosBridge]:
    """One bridge for the module, once it has discovered the listener."""
    with bridge_that_sees("listener") as made:
        yield made


@pytest.fixture
def bridge(shared_bridge: RosBridge) -> RosBridge:
    return shared_bridge


def heard(bridge: RosBridge, topic: str, count: int = 1) -> None:
    """Wait until the gateway's node sees the subscriptions of a topic."""
    eventually(lambda: bridge.call_blocking(lambda: bridge.node.count_subscribers(topic), 2.0) == count)


def write(bridge: RosBridge, *messages: tuple[str, str, Any]) -> None:
    """Publish each with one writer."""

    async def body() -> None:
        writer = TopicWriter(bridge)
        try:
            for topic, type_name, payload in messages:
                await writer.publish(topic, type_name, payload)
        finally:
            await writer.stop()

    run(body())


@pytest.mark.parametrize("qos", ["default", "sensor", "latched"])
def test_the_very_first_message_reaches_a_subscription_that_was_there(
    bridge: RosBridge, nodes: Nodes, listener: str, qos: str
) -> None:
    for attempt in range(10):
        topic = f"/first_{qos}_{attempt}"
        nodes.subscribe(listener, topic, FLOAT, qos=qos)
        heard(bridge, topic)
        write(bridge, (topic, FLOAT, {"data": 7}))
        assert eventually(lambda topic=topic: nodes.received(topic), within=2.0) == [{"data": 7.0}]


def test_an_int_is_published_as_the_number_it_is(bridge: RosBridge, nodes: Nodes, listener: str) -> None:
    nodes.subscribe(listener, "/speed", FLOAT)
    heard(bridge, "/speed")
    write(bridge, ("/speed", FLOAT, {"data": 5}))
    assert eventually(lambda: nodes.received("/speed")) == [{"data": 5.0}]


def test_a_topic_need_not_exist_and_who_comes_later_gets_the_message(bridge: RosBridge, nodes: Nodes) -> None:
    late = nodes.add_node("late_listener")
    write(bridge, ("/brand_new", STRING, {"data": "kept"}))
    nodes.subscribe(late, "/brand_new", STRING, qos="latched")
    assert eventually(lambda: nodes.received("/brand_new")) == [{"data": "kept"}]
    nodes.remove_node(late)


def test_what_was_written_can_be_read(bridge: RosBridge) -> None:
    async def body() -> Any:
        writer, reader = TopicWriter(bridge), TopicReader(bridge, Limits())
        await writer.publish("/notebook", STRING, {"data": "written"})
        reading = await reader.read("/notebook", 2.0)
        await reader.stop()
        await writer.stop()
        return reading

    assert run(body()).value == {"data": "written"}


def test_a_payload_that_does_not_fit_never_leaves(bridge: RosBridge, nodes: Nodes, listener: str) -> None:
    nodes.subscribe(listener, "/strict", FLOAT)
    heard(bridge, "/strict")
    for payload in ({"data": "abc"}, {"data": True}, {"datum": 1}, [], None, 5, {"data": 10**400}):
        with pytest.raises(FieldError):
            write(bridge, ("/strict", FLOAT, payload))
    write(bridge, ("/strict", FLOAT, {"data": 1}))
    assert eventually(lambda: nodes.received("/strict")) == [{"data": 1.0}]


@pytest.mark.parametrize("type_name", ["no_msgs/msg/Nothing", "std_msgs/msg/Nothing", "std_srvs/srv/Trigger", "x", ""])
def test_a_type_that_is_no_installed_message_is_told(bridge: RosBridge, type_name: str) -> None:
    with pytest.raises(UnknownType):
        write(bridge, ("/anything", type_name, {}))


@pytest.mark.parametrize("topic", ["/not a name", "/a//b", "/1st", "relative", ""])
def test_a_name_that_is_no_topic_is_told(bridge: RosBridge, topic: str) -> None:
    with pytest.raises(InvalidParameter):
        write(bridge, (topic, STRING, {"data": "x"}))


def test_a_type_that_others_do_not_use_on_the_topic_is_refused(bridge: RosBridge, nodes: Nodes, listener: str) -> None:
    nodes.subscribe(listener, "/typed", FLOAT)
    heard(bridge, "/typed")
    with pytest.raises(FieldError, match=r"carries std_msgs/msg/Float64") as refused:
        write(bridge, ("/typed", STRING, {"data": "x"}))
    assert refused.value.path == "type"
    write(bridge, ("/typed", FLOAT, {"data": 2}))
    assert eventually(lambda: nodes.received("/typed")) == [{"data": 2.0}]


def test_a_client_may_correct_the_type_of_a_topic_that_only_it_uses(bridge: RosBridge, nodes: Nodes) -> None:
    late = nodes.add_node("late_listener")
    write(bridge, ("/mistake", FLOAT, {"data": 1}), ("/mistake", STRING, {"data": "meant this"}))
    nodes.subscribe(late, "/mistake", STRING, qos="latched")
    assert eventually(lambda: nodes.received("/mistake")) == [{"data": "meant this"}]
    nodes.remove_node(late)


def test_writers_of_one_topic_share_one_publisher(bridge: RosBridge, nodes: Nodes, listener: str) -> None:
    nodes.subscribe(listener, "/shared", FLOAT)
    heard(bridge, "/shared")

    async def body() -> int:
        writer = TopicWriter(bridge)
        await asyncio.gather(*(writer.publish("/shared", FLOAT, {"data": number}) for number in range(8)))
        count = await bridge.call(lambda: bridge.node.count_publishers("/shared"), 2.0)
        await writer.stop()
        return int(count)

    assert run(body()) == 1
    eventually(lambda: len(nodes.received("/shared")) == 8)


def test_the_least_recently_used_publisher_makes_room(bridge: RosBridge) -> None:
    async def body() -> list[int]:
        writer = TopicWriter(bridge, max_publishers=2)
        for number in (0, 1, 0, 2):
            await writer.publish(f"/room{number}", FLOAT, {"data": 1})
        await bridge.call(lambda: None, 2.0)
        await bridge.call(lambda: None, 2.0)
        node = bridge.node
        return [await bridge.call(lambda n=n: node.count_publishers(f"/room{n}"), 2.0) for n in range(3)]

    assert run(body()) == [1, 0, 1]


def test_what_ros_refuses_is_an_error_of_its_own_and_can_be_tried_again(
    bridge: RosBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no more memory")

    async def body() -> None:
        writer = TopicWriter(bridge)
        monkeypatch.setattr(bridge.node, "create_publisher", refuse)
        with pytest.raises(PublishFailed) as refused:
            await writer.publish("/refused", FLOAT, {"data": 1})
        assert "no more memory" in refused.value.parameters["details"]
        monkeypatch.undo()
        await writer.publish("/refused", FLOAT, {"data": 1})

    run(body())


def test_a_stopped_writer_refuses(bridge: RosBridge) -> None:
    async def body() -> None:
        writer = TopicWriter(bridge)
        await writer.stop()
        with pytest.raises(GatewayShutdown):
            await writer.publish("/late", FLOAT, {"data": 1})

    run(body())
