"""Reading topics: what a reader gets of latched, best-effort, silent and changing topics, and at what cost."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from medkit_gateway_py.errors import ColdWaitCapExceeded, GatewayShutdown, SubscribeFailed
from medkit_gateway_py.ros import topics
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.topic_qos import choose_type
from medkit_gateway_py.ros.topics import TopicReader, TopicReading
from support.ros import Limits, Nodes, bridge_that_sees, run
from support.waiting import async_eventually, eventually

pytestmark = pytest.mark.ros

STRING, FLOAT = "std_msgs/msg/String", "std_msgs/msg/Float64"
HEALTH_KEYS = {
    "pool_size", "pool_cap", "pool_hits", "pool_misses", "evictions_total", "type_change_events",
    "graph_events_received", "concurrent_cold_waits", "cold_wait_cap", "unsupported_type_count",
}  # fmt: skip


@pytest.fixture(scope="module")
def talker(nodes: Nodes) -> str:
    return nodes.add_node("talker")


@pytest.fixture(scope="module")
def shared_bridge(ros_domain: int, nodes: Nodes, talker: str) -> Iterator[RosBridge]:
    """One bridge for the module, once it has discovered the talker."""
    with bridge_that_sees("talker") as made:
        yield made


@pytest.fixture
def bridge(shared_bridge: RosBridge) -> RosBridge:
    return shared_bridge


def published(bridge: RosBridge, topic: str, count: int = 1) -> None:
    """Wait until the gateway's node sees the publishers of a topic."""
    eventually(lambda: bridge.call_blocking(lambda: bridge.node.count_publishers(topic), 2.0) == count)


def read(bridge: RosBridge, topic: str, timeout_s: float = 2.0, **limits: int) -> TopicReading:
    """One read with a reader of its own."""

    async def once() -> TopicReading:
        reader = TopicReader(bridge, Limits(**limits))
        try:
            return await reader.read(topic, timeout_s)
        finally:
            await reader.stop()

    return run(once())


def with_reader(bridge: RosBridge, use: Callable[[TopicReader], Any], **limits: int) -> Any:
    """Run `await use(reader)` with a reader that is stopped afterwards."""

    async def body() -> Any:
        reader = TopicReader(bridge, Limits(**limits))
        try:
            return await use(reader)
        finally:
            await reader.stop()

    return run(body())


def test_a_message_comes_as_json_with_its_time_of_arrival(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    nodes.publish(talker, "/chatter", STRING, {"data": "hello"}, period_s=0.05)
    published(bridge, "/chatter")
    reading = read(bridge, "/chatter")
    assert (reading.status, reading.type, reading.value) == ("data", STRING, {"data": "hello"})
    assert reading.timestamp_ns is not None
    assert abs(reading.timestamp_ns - time.time_ns()) < 5e9
    assert (reading.publisher_count, reading.subscriber_count) == (1, 0)


def test_a_latched_topic_whose_message_is_old_is_read_at_once(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    nodes.publish(talker, "/map_name", STRING, {"data": "cellar"}, qos="latched")
    published(bridge, "/map_name")
    began = time.monotonic()
    assert read(bridge, "/map_name").value == {"data": "cellar"}
    assert time.monotonic() - began < 1.0


def test_a_best_effort_topic_is_read(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    nodes.publish(talker, "/sensor", FLOAT, {"data": 4}, qos="sensor", period_s=0.05)
    published(bridge, "/sensor")
    assert read(bridge, "/sensor").value == {"data": 4.0}


def test_a_topic_with_a_reliable_and_a_best_effort_publisher_is_read_from_both(
    bridge: RosBridge, nodes: Nodes, talker: str
) -> None:
    other = nodes.add_node("other_talker")
    nodes.publish(talker, "/mixed", STRING, qos="latched")
    nodes.publish(other, "/mixed", STRING, qos="sensor")
    published(bridge, "/mixed", 2)

    async def both(reader: TopicReader) -> None:
        assert (await reader.read("/mixed", 0.3)).status == "metadata_only"
        for sender in (talker, other, talker):
            deadline = time.monotonic() + 5.0
            while (await reader.read("/mixed", 0.1)).value != {"data": sender}:
                assert time.monotonic() < deadline, sender
                await asyncio.to_thread(nodes.publish_again, sender, "/mixed", STRING, {"data": sender})

    with_reader(bridge, both)
    nodes.remove_node(other)


def test_a_publisher_of_other_qos_that_comes_later_is_received_too(
    bridge: RosBridge, nodes: Nodes, talker: str
) -> None:
    nodes.publish(talker, "/mode", STRING, {"data": "latched"}, qos="latched")
    published(bridge, "/mode")

    async def use(reader: TopicReader) -> dict[str, Any]:
        assert (await reader.read("/mode", 2.0)).value == {"data": "latched"}
        other = nodes.add_node("volatile_talker")
        nodes.publish(other, "/mode", STRING, {"data": "volatile"}, qos="sensor", period_s=0.05)
        deadline = time.monotonic() + 5.0
        while (await reader.read("/mode", 2.0)).value != {"data": "volatile"}:
            assert time.monotonic() < deadline
        nodes.remove_node(other)
        return reader.health()

    assert with_reader(bridge, use)["type_change_events"] >= 1


def test_a_silent_topic_gives_metadata_when_the_time_is_over(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    nodes.publish(talker, "/silent", FLOAT)
    published(bridge, "/silent")
    began = time.monotonic()
    reading = read(bridge, "/silent", timeout_s=0.3)
    assert 0.25 < time.monotonic() - began < 1.0
    assert reading == TopicReading("/silent", FLOAT, publisher_count=1)
    assert reading.status == "metadata_only"


@pytest.mark.parametrize("topic", ["/nobody/knows/this", "/not a name", "", "relative", "/a//b", "/ü"])
def test_an_unknown_topic_gives_metadata_at_once(bridge: RosBridge, topic: str) -> None:
    began = time.monotonic()
    assert read(bridge, topic, timeout_s=5.0) == TopicReading(topic)
    assert time.monotonic() - began < 0.5


def test_a_topic_that_is_only_subscribed_to_gives_its_type_at_once(
    bridge: RosBridge, nodes: Nodes, talker: str
) -> None:
    nodes.subscribe(talker, "/only_heard", STRING)
    eventually(lambda: bridge.call_blocking(lambda: bridge.node.count_subscribers("/only_heard"), 2.0) == 1)
    began = time.monotonic()
    assert read(bridge, "/only_heard", timeout_s=5.0) == TopicReading("/only_heard", STRING, subscriber_count=1)
    assert time.monotonic() - began < 0.5


def test_two_hundred_readers_of_one_topic_share_one_subscription_and_one_wait(
    bridge: RosBridge, nodes: Nodes, talker: str
) -> None:
    nodes.publish(talker, "/popular", STRING)
    published(bridge, "/popular")

    async def use(reader: TopicReader) -> None:
        readers = [asyncio.ensure_future(reader.read("/popular", 5.0)) for _ in range(200)]
        await async_eventually(lambda: reader.health()["concurrent_cold_waits"] == 1)
        assert await bridge.call(lambda: bridge.node.count_subscribers("/popular"), 2.0) == 1
        # Off the loop: the readers must be able to wait meanwhile.
        await asyncio.to_thread(nodes.publish_again, talker, "/popular", STRING, {"data": "at last"})
        readings = await asyncio.gather(*readers)
        assert {reading.status for reading in readings} == {"data"}
        assert len({id(reading.value) for reading in readings}) == 1, "converted once"
        assert reader.health()["concurrent_cold_waits"] == 0

    with_reader(bridge, use, cold_wait_cap=1)


def test_topics_beyond_the_cap_of_cold_waits_are_refused_and_others_still_answered(
    bridge: RosBridge, nodes: Nodes, talker: str
) -> None:
    names = [f"/cold{number}" for number in range(4)]
    for name in names:
        nodes.publish(talker, name, STRING)
        published(bridge, name)
    nodes.publish(talker, "/warm", STRING, {"data": "x"}, period_s=0.05)
    published(bridge, "/warm")

    async def use(reader: TopicReader) -> None:
        assert (await reader.read("/warm", 2.0)).status == "data"
        waiting = [asyncio.ensure_future(reader.read(name, 1.0)) for name in names[:2]]
        await async_eventually(lambda: reader.health()["concurrent_cold_waits"] == 2)
        for name in names[2:]:
            with pytest.raises(ColdWaitCapExceeded) as refused:
                await reader.read(name, 1.0)
            assert refused.value.parameters == {"topic": name, "cold_wait_cap": 2}
        assert (await reader.read("/warm", 1.0)).status == "data"
        assert (await reader.read("/unknown", 1.0)).status == "metadata_only"
        second = asyncio.ensure_future(reader.read(names[0], 0.1))  # the same topic: no further wait
        assert [reading.status for reading in await asyncio.gather(*waiting, second)] == ["metadata_only"] * 3
        assert (await reader.read(names[2], 0.05)).status == "metadata_only"

    with_reader(bridge, use, cold_wait_cap=2)


def test_a_topic_whose_type_changes_is_subscribed_to_anew(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    nodes.publish(talker, "/changeling", STRING, {"data": "text"}, period_s=0.05)
    published(bridge, "/changeling")

    async def use(reader: TopicReader) -> dict[str, Any]:
        assert (await reader.read("/changeling", 2.0)).value == {"data": "text"}
        await asyncio.to_thread(nodes.unpublish, talker, "/changeling")
        await asyncio.to_thread(nodes.publish, talker, "/changeling", FLOAT, {"data": 1.5}, period_s=0.05)
        deadline = time.monotonic() + 8.0
        while (reading := await reader.read("/changeling", 2.0)).value != {"data": 1.5}:
            assert time.monotonic() < deadline, reading
            assert reading.value in (None, {"data": "text"})
        assert reading.type == FLOAT
        return reader.health()

    assert with_reader(bridge, use)["type_change_events"] == 1


def test_a_topic_that_lost_its_publisher_gives_metadata_and_comes_back(
    bridge: RosBridge, nodes: Nodes, talker: str
) -> None:
    nodes.publish(talker, "/flicker", STRING, {"data": "on"}, period_s=0.05)
    published(bridge, "/flicker")

    async def use(reader: TopicReader) -> None:
        assert (await reader.read("/flicker", 2.0)).status == "data"
        await asyncio.to_thread(nodes.unpublish, talker, "/flicker")
        deadline = time.monotonic() + 5.0
        while (await reader.read("/flicker", 2.0)).status == "data":
            assert time.monotonic() < deadline
        await asyncio.to_thread(nodes.publish, talker, "/flicker", STRING, {"data": "again"}, period_s=0.05)
        deadline = time.monotonic() + 5.0
        while (await reader.read("/flicker", 2.0)).value != {"data": "again"}:
            assert time.monotonic() < deadline

    with_reader(bridge, use)


def test_a_repeated_read_does_not_enter_the_ros_thread(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    nodes.publish(talker, "/hot", STRING, {"data": "x"}, qos="latched")
    published(bridge, "/hot")

    async def use(reader: TopicReader) -> None:
        first = await reader.read("/hot", 2.0)
        before = bridge.health()["tasks_completed"]
        began = time.monotonic()
        for _ in range(2000):
            assert (await reader.read("/hot", 2.0)).value is first.value
        entered = bridge.health()["tasks_completed"] - before
        # At most one look a second, and one after each change of the graph.
        assert entered <= 2 + (time.monotonic() - began) * 12
        assert reader.health()["pool_hits"] >= 2000

    with_reader(bridge, use)


def test_the_gateways_own_subscription_is_never_counted(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    nodes.publish(talker, "/counted", STRING, {"data": "x"}, qos="latched")
    published(bridge, "/counted")

    async def use(reader: TopicReader) -> None:
        looked_at = set()
        deadline = time.monotonic() + 5.0
        while len(looked_at) < 3:  # the first look finds no subscription of ours, the later ones do
            assert (await reader.read("/counted", 2.0)).subscriber_count == 0
            looked_at.add(reader._entries["/counted"].looked_at)
            assert time.monotonic() < deadline

    with_reader(bridge, use)


def test_an_idle_subscription_is_closed(
    bridge: RosBridge, nodes: Nodes, talker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "IDLE_S", 0.3)
    nodes.publish(talker, "/idle", STRING, {"data": "x"}, qos="latched")
    published(bridge, "/idle")

    async def use(reader: TopicReader) -> None:
        assert (await reader.read("/idle", 2.0)).status == "data"
        assert "/idle" in bridge.on_demand_subscriptions
        await async_eventually(lambda: reader.health()["pool_size"] == 0)
        await async_eventually(lambda: "/idle" not in bridge.on_demand_subscriptions)
        assert await bridge.call(lambda: bridge.node.count_subscribers("/idle"), 2.0) == 0
        assert reader.health()["evictions_total"] == 1
        assert (await reader.read("/idle", 2.0)).status == "data"

    with_reader(bridge, use, idle_safety_net_sec=900, idle_sweep_tick_sec=1)


def test_a_subscription_that_somebody_waits_for_is_not_idle(
    bridge: RosBridge, nodes: Nodes, talker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "IDLE_S", 0.1)
    nodes.publish(talker, "/long_wait", STRING)
    published(bridge, "/long_wait")

    async def use(reader: TopicReader) -> None:
        waiting = asyncio.ensure_future(reader.read("/long_wait", 5.0))
        await async_eventually(lambda: reader.health()["concurrent_cold_waits"] == 1)
        began = time.monotonic()
        await async_eventually(lambda: time.monotonic() > began + topics.IDLE_S)
        reader._sweep()
        assert reader.health()["pool_size"] == 1
        await asyncio.to_thread(nodes.publish_again, talker, "/long_wait", STRING, {"data": "x"})
        assert (await waiting).status == "data"

    with_reader(bridge, use)


def test_the_least_recently_read_subscription_makes_room(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    for number in range(3):
        nodes.publish(talker, f"/crowded{number}", STRING, {"data": "x"}, qos="latched")
        published(bridge, f"/crowded{number}")

    async def use(reader: TopicReader) -> None:
        for number in (0, 1, 0, 2):
            assert (await reader.read(f"/crowded{number}", 2.0)).status == "data"
        await async_eventually(lambda: {"/crowded0", "/crowded2"} <= bridge.on_demand_subscriptions)
        await async_eventually(lambda: "/crowded1" not in bridge.on_demand_subscriptions)
        assert reader.health()["pool_size"] == 2
        assert reader.health()["evictions_total"] == 1

    with_reader(bridge, use, max_pool_size=2)


def test_a_type_that_is_not_installed_gives_metadata_and_is_counted(bridge: RosBridge) -> None:
    async def use(reader: TopicReader) -> None:
        assert reader.type_info("no_such_msgs/msg/Thing") is None
        assert reader.type_info("std_srvs/srv/Trigger") is None
        assert reader.health()["unsupported_type_count"] == 2
        info = reader.type_info(FLOAT)
        assert info == {
            "schema": {"type": "object", "properties": {"data": {"type": "number"}}},
            "default_value": {"data": 0.0},
        }
        assert reader.type_info(FLOAT) is info

    with_reader(bridge, use)


def test_of_several_types_the_first_that_is_installed_is_taken() -> None:
    assert choose_type(["zzz_msgs/msg/A", STRING, "aaa_msgs/msg/A", FLOAT]) == (FLOAT, True)
    assert choose_type(["zzz_msgs/msg/A", "aaa_msgs/msg/A"]) == ("aaa_msgs/msg/A", False)
    assert choose_type([]) == ("", False)


def test_a_subscription_that_ros_refuses_is_an_error_of_its_own(
    bridge: RosBridge, nodes: Nodes, talker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.publish(talker, "/refused", STRING, {"data": "x"}, qos="latched")
    published(bridge, "/refused")

    def refuse(*_: Any, **__: Any) -> Any:
        raise RuntimeError("no more memory")

    monkeypatch.setattr(bridge.node, "create_subscription", refuse)

    async def use(reader: TopicReader) -> None:
        with pytest.raises(SubscribeFailed) as refused:
            await reader.read("/refused", 2.0)
        assert refused.value.parameters["topic"] == "/refused"
        monkeypatch.undo()
        assert (await reader.read("/refused", 2.0)).status == "data"

    with_reader(bridge, use)


def test_stopping_ends_the_waits_and_refuses_later_reads(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    nodes.publish(talker, "/never", STRING)
    published(bridge, "/never")

    async def use(reader: TopicReader) -> None:
        waiting = asyncio.ensure_future(reader.read("/never", 20.0))
        await async_eventually(lambda: reader.health()["concurrent_cold_waits"] == 1)
        began = time.monotonic()
        await reader.stop()
        with pytest.raises(GatewayShutdown):
            await waiting
        with pytest.raises(GatewayShutdown):
            await reader.read("/never", 1.0)
        assert time.monotonic() - began < 1.0

    with_reader(bridge, use)
    eventually(lambda: not bridge.on_demand_subscriptions)


def test_a_reader_that_gives_up_leaves_the_others_waiting(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    nodes.publish(talker, "/patience", STRING)
    published(bridge, "/patience")

    async def use(reader: TopicReader) -> None:
        hasty = asyncio.ensure_future(reader.read("/patience", 10.0))
        patient = asyncio.ensure_future(reader.read("/patience", 10.0))
        await async_eventually(lambda: reader.health()["concurrent_cold_waits"] == 1)
        hasty.cancel()
        with pytest.raises(asyncio.CancelledError):
            await hasty
        await asyncio.to_thread(nodes.publish_again, talker, "/patience", STRING, {"data": "x"})
        assert (await patient).status == "data"
        assert reader.health()["concurrent_cold_waits"] == 0

    with_reader(bridge, use)


def test_a_long_message_is_converted_once_and_off_the_loop(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    values = [number % 7 for number in range(100_000)]
    message = {"layout": {"dim": [], "data_offset": 0}, "data": values}
    nodes.publish(talker, "/long", "std_msgs/msg/Float64MultiArray", message, qos="latched")
    published(bridge, "/long")

    async def use(reader: TopicReader) -> None:
        readings = await asyncio.gather(*(reader.read("/long", 5.0) for _ in range(20)))
        assert len({id(reading.value) for reading in readings}) == 1
        assert (readings[0].value or {})["data"][:8] == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 0.0]

    with_reader(bridge, use)


def test_infinities_and_nan_of_a_scan_are_null(bridge: RosBridge, nodes: Nodes, talker: str) -> None:
    nodes.publish(talker, "/scan", "sensor_msgs/msg/LaserScan", {"ranges": [1, None, 2.5]}, qos="latched")
    published(bridge, "/scan")
    assert (read(bridge, "/scan").value or {})["ranges"] == [1.0, None, 2.5]


def test_health_has_the_keys_of_the_contract(bridge: RosBridge) -> None:
    async def use(reader: TopicReader) -> dict[str, Any]:
        return reader.health()

    health = with_reader(bridge, use, max_pool_size=7, cold_wait_cap=3)
    assert set(health) == HEALTH_KEYS
    assert (health["pool_cap"], health["cold_wait_cap"]) == (7, 3)
