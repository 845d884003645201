"""The ROS graph as snapshots: what appears, what vanishes, how soon, and what stays out."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from rclpy.node import NodeNameNonExistentError
from std_msgs.msg import String

from medkit_gateway_py.entities.model import ActionUse, GraphNode, ServiceUse, TopicUse
from medkit_gateway_py.ros import graph, graph_guard
from medkit_gateway_py.ros.bridge import RosBridge
from medkit_gateway_py.ros.graph import GraphWatcher, scan
from support.ros import Nodes
from support.waiting import eventually

pytestmark = pytest.mark.ros

STRING = "std_msgs/msg/String"


@pytest.fixture(scope="module")
def resident(nodes: Nodes) -> str:
    """A node that is always there: who sees it has discovered the other process."""
    return nodes.add_node("resident")


@pytest.fixture(autouse=True)
def no_wait_for_discovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests look for the resident instead of giving discovery a fixed time."""
    monkeypatch.setattr(graph, "FIRST_AGE_S", 0.0)


class Watch:
    """A watcher whose snapshots are kept."""

    def __init__(self, bridge: RosBridge, use_librcl: bool = True, **options: Any) -> None:
        self.snapshots: list[tuple[GraphNode, ...]] = []
        self.watcher = GraphWatcher(bridge, self.snapshots.append, use_librcl=use_librcl, **options)
        self.watcher.start()
        assert self.watcher.settled.wait(10.0)

    def find(self, fqn: str) -> GraphNode | None:
        return next((node for node in self.watcher.nodes if node.fqn == fqn), None)

    def appears(self, fqn: str, within: float = 5.0) -> GraphNode:
        found = eventually(lambda: self.find(fqn), within=within)
        assert found is not None
        return found

    def vanishes(self, fqn: str, within: float = 5.0) -> None:
        eventually(lambda: self.find(fqn) is None, within=within)


@pytest.fixture
def watch(bridge: RosBridge, resident: str) -> Iterator[Watch]:
    made = Watch(bridge)
    made.appears(resident, within=10.0)
    yield made
    assert made.watcher.stop()


@pytest.fixture(params=[True, False], ids=["librcl", "matched"])
def either_watch(bridge: RosBridge, resident: str, request: pytest.FixtureRequest) -> Iterator[Watch]:
    """With graph events from librcl, and with the substitute."""
    made = Watch(bridge, use_librcl=request.param)
    made.appears(resident, within=10.0)
    yield made
    assert made.watcher.stop()


class Starting:
    """A watcher that looks for nodes which were known before."""

    def __init__(self, bridge: RosBridge, known: frozenset[str] | None) -> None:
        self.snapshots: list[tuple[GraphNode, ...]] = []
        self.watcher = GraphWatcher(bridge, self.snapshots.append, known=known)
        self.watcher.start()

    @property
    def first(self) -> set[str]:
        assert self.watcher.settled.wait(10.0)
        return {node.fqn for node in self.snapshots[0]}


@pytest.fixture
def seen(bridge: RosBridge, resident: str) -> RosBridge:
    """A bridge whose node sees the other process."""
    eventually(lambda: "resident" in bridge.call_blocking(bridge.node.get_node_names, 2.0), within=10.0)
    return bridge


def test_the_first_snapshot_waits_for_nodes_that_were_known(
    seen: RosBridge, nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "KNOWN_AGE_S", 60.0)
    started = Starting(seen, frozenset({"/resident", "/sleeper"}))
    assert not started.watcher.settled.wait(1.5), "the resident alone is not enough"
    fqn = nodes.add_node("sleeper")
    assert {"/resident", fqn} <= started.first
    nodes.remove_node(fqn)
    assert started.watcher.stop()


def test_a_known_node_that_is_gone_is_waited_for_a_bounded_time_and_named(
    seen: RosBridge, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(graph, "KNOWN_AGE_S", time.monotonic() - seen.created_at + 0.5)
    started = Starting(seen, frozenset({"/resident", *(f"/gone{number}" for number in range(7))}))
    assert "/resident" in started.first
    assert "Not there any more, after" in caplog.text
    assert "/gone0, /gone1, /gone2, /gone3, /gone4 and 2 more" in caplog.text
    assert started.watcher.stop()


def test_stopping_does_not_wait_for_known_nodes(seen: RosBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "KNOWN_AGE_S", 60.0)
    started = Starting(seen, frozenset({"/gone"}))
    assert not started.watcher.settled.wait(0.6)
    assert started.watcher.stop()


def test_a_gateway_that_never_ran_waits_until_it_is_not_alone(seen: RosBridge, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graph, "ALONE_AGE_S", 60.0)
    assert Starting(seen, None).first >= {"/resident"}, "somebody is there already"
    names = seen.node.get_node_names_and_namespaces
    monkeypatch.setattr(seen.node, "get_node_names_and_namespaces", lambda: [("gateway", "/")])
    started = Starting(seen, None)
    assert not started.watcher.settled.wait(0.6), "nobody but the gateway is seen"
    monkeypatch.setattr(seen.node, "get_node_names_and_namespaces", names)
    assert seen.node.get_node_names_and_namespaces() == names()
    started.watcher._guard.wake()  # type: ignore[union-attr]
    assert "/resident" in started.first
    assert started.watcher.stop()


def test_a_gateway_that_never_ran_and_is_alone_does_not_wait_for_ever(
    seen: RosBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph, "ALONE_AGE_S", time.monotonic() - seen.created_at + 0.5)
    monkeypatch.setattr(seen.node, "get_node_names_and_namespaces", lambda: [("gateway", "/")])
    started = Starting(seen, None)
    assert started.first == {"/gateway"}
    assert started.watcher.stop()


def test_a_node_appears_within_a_second_and_vanishes_within_a_second(either_watch: Watch, nodes: Nodes) -> None:
    fqn = nodes.add_node("newcomer", "/one")
    either_watch.appears(fqn, within=1.0)
    nodes.remove_node(fqn)
    either_watch.vanishes(fqn, within=1.0)


def test_a_topic_that_a_known_node_gets_later_is_seen(watch: Watch, nodes: Nodes) -> None:
    fqn = nodes.add_node("late_talker")
    watch.appears(fqn)
    nodes.publish(fqn, "/later", STRING)
    eventually(lambda: TopicUse("/later", STRING, "publish") in watch.appears(fqn).topics, within=1.0)
    nodes.unpublish(fqn, "/later")
    eventually(lambda: "/later" not in [topic.name for topic in watch.appears(fqn).topics], within=1.0)
    nodes.remove_node(fqn)


def test_the_substitute_sees_a_later_topic_by_its_poll(bridge: RosBridge, nodes: Nodes, resident: str) -> None:
    watch = Watch(bridge, use_librcl=False)
    watch.appears(resident, within=10.0)
    fqn = nodes.add_node("late_talker")
    watch.appears(fqn)
    nodes.publish(fqn, "/later", STRING)
    eventually(lambda: TopicUse("/later", STRING, "publish") in watch.appears(fqn).topics, within=2.5)
    own = watch.appears("/gateway")
    assert TopicUse("/parameter_events", "rcl_interfaces/msg/ParameterEvent", "publish") in own.topics
    nodes.remove_node(fqn)
    assert watch.watcher.stop()


def test_the_substitute_is_taken_when_librcl_cannot_be_reached(
    bridge: RosBridge, nodes: Nodes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> Any:
        raise OSError("librcl.so: cannot open shared object file")

    monkeypatch.setattr(graph_guard, "_bind", fail)
    watch = Watch(bridge)
    assert "no graph events from librcl" in caplog.text
    fqn = nodes.add_node("seen_anyway")
    watch.appears(fqn, within=5.0)
    nodes.remove_node(fqn)
    assert watch.watcher.stop()


def test_two_nodes_of_one_name_in_two_namespaces_are_two(watch: Watch, nodes: Nodes) -> None:
    left, right = nodes.add_node("camera", "/left"), nodes.add_node("camera", "/right")
    keys = {watch.appears(fqn).graph_key for fqn in (left, right)}
    assert len(keys) == 2
    nodes.remove_node(left)
    watch.vanishes(left)
    assert watch.find(right) is not None
    nodes.remove_node(right)


def test_two_nodes_of_one_full_name_are_one(watch: Watch, nodes: Nodes) -> None:
    fqn = nodes.add_node("twin")
    with Nodes() as others:
        others.add_node("twin")
        watch.appears(others.add_node("brother_of_twin"))
        assert [node.fqn for node in watch.watcher.nodes].count(fqn) == 1
    nodes.remove_node(fqn)


def test_hidden_nodes_and_the_gateways_own_node_are_in_the_list(watch: Watch, nodes: Nodes) -> None:
    hidden = nodes.add_node("_hidden")
    assert watch.appears(hidden).name == "_hidden"
    assert watch.appears("/gateway").namespace == "/"
    assert [node.fqn for node in watch.watcher.nodes] == sorted(node.fqn for node in watch.watcher.nodes)
    nodes.remove_node(hidden)


def test_services_and_actions_are_told_from_what_every_node_has(watch: Watch, nodes: Nodes) -> None:
    fqn = nodes.add_node("server", "/arm")
    nodes.serve(fqn, "calibrate", "std_srvs/srv/Trigger")
    nodes.serve(fqn, "list_parameters", "std_srvs/srv/Trigger")
    nodes.act(fqn, "move", "test_msgs/action/Fibonacci")
    node = eventually(lambda: watch.appears(fqn) if watch.appears(fqn).actions else None)
    assert node is not None
    # A service of the node's own that is only called like a parameter service stays.
    assert ServiceUse("/arm/calibrate", "std_srvs/srv/Trigger") in node.services
    assert node.actions == (ActionUse("/arm/move", "test_msgs/action/Fibonacci"),)
    assert not [service for service in node.services if "rcl_interfaces" in service.type]
    assert not [service for service in node.services if "_action" in service.name or "description" in service.name]
    assert not [topic for topic in node.topics if "_action" in topic.name]
    assert {"/rosout", "/parameter_events"} <= {topic.name for topic in node.topics}
    nodes.remove_node(fqn)


def test_a_topic_that_a_node_publishes_and_hears_has_both_directions(watch: Watch, nodes: Nodes) -> None:
    fqn = nodes.add_node("echo")
    nodes.publish(fqn, "/echo", STRING)
    nodes.subscribe(fqn, "/echo", STRING)
    nodes.subscribe(fqn, "/only_heard", STRING)
    eventually(
        lambda: (
            {TopicUse("/echo", STRING, "both"), TopicUse("/only_heard", STRING, "subscribe")}
            <= set(watch.appears(fqn).topics)
        )
    )
    nodes.remove_node(fqn)


def test_a_node_has_the_same_key_seen_from_two_processes_and_another_after_a_restart(
    watch: Watch, nodes: Nodes
) -> None:
    fqn = nodes.add_node("robot", "/fleet")
    key = watch.appears(fqn).graph_key
    assert len(key) == 16
    with Nodes() as others:
        observer = others.add_node("observer")
        eventually(lambda: others.scan(observer).get(fqn) == key)
        own = eventually(lambda: others.scan(observer).get("/gateway"))
        assert own == watch.appears("/gateway").graph_key
    nodes.remove_node(fqn)
    watch.vanishes(fqn)
    nodes.add_node("robot", "/fleet")
    assert watch.appears(fqn).graph_key not in ("", key)
    nodes.remove_node(fqn)


def test_the_same_graph_is_not_reported_twice(bridge: RosBridge) -> None:
    watch = Watch(bridge, backstop_s=0.1)
    scans = watch.watcher.scans
    eventually(lambda: watch.watcher.scans >= scans + 5)
    assert all(one != next_one for one, next_one in zip(watch.snapshots, watch.snapshots[1:], strict=False))
    assert len(watch.snapshots) < watch.watcher.scans
    assert watch.watcher.stop()


def test_a_subscription_made_for_a_reader_does_not_change_the_gateways_node(bridge: RosBridge) -> None:
    watch = Watch(bridge, backstop_s=0.1, debounce_s=0.0)
    bridge.mark_on_demand("/read_me", True)
    bridge.call_blocking(lambda: bridge.node.create_subscription(String, "/read_me", print, 1), 2.0)
    bridge.call_blocking(lambda: bridge.node.create_subscription(String, "/own_business", print, 1), 2.0)
    eventually(lambda: "/own_business" in [topic.name for topic in watch.appears("/gateway").topics])
    assert "/read_me" not in [topic.name for topic in watch.appears("/gateway").topics]
    assert watch.watcher.stop()


class ScriptedGuard:
    """A graph in which something happens every 50 ms until `calm_after_s`."""

    def __init__(self, calm_after_s: float) -> None:
        self._calm_at = time.monotonic() + calm_after_s
        self._woken = threading.Event()

    def __enter__(self) -> ScriptedGuard:
        return self

    def __exit__(self, *_: object) -> None:
        return

    def wait(self, timeout_s: float) -> bool:
        stormy = time.monotonic() < self._calm_at
        self._woken.wait(min(timeout_s, 0.05) if stormy else timeout_s)
        return stormy

    def wake(self) -> None:
        self._woken.set()


@pytest.mark.parametrize(
    ("young_s", "calm_after_s", "earliest_s", "latest_s"),
    [
        (0.0, 0.0, 0.4, 0.8),  # nothing happens: the quiet time
        (0.0, 0.5, 0.9, 1.3),  # the storm and then the quiet time
        (0.0, 60.0, 1.0, 1.4),  # a storm without an end: the limit
        (0.6, 0.0, 1.0, 1.4),  # a young node: nothing has been discovered yet, quiet or not
    ],
)
def test_the_first_snapshot_waits_until_discovery_is_calm(
    bridge: RosBridge,
    monkeypatch: pytest.MonkeyPatch,
    young_s: float,
    calm_after_s: float,
    earliest_s: float,
    latest_s: float,
) -> None:
    monkeypatch.setattr(graph, "FIRST_AGE_S", young_s)
    monkeypatch.setattr(graph, "open_guard", lambda *_: ScriptedGuard(calm_after_s))
    began = bridge.created_at = time.monotonic()
    watch = Watch(bridge)
    assert earliest_s <= time.monotonic() - began < latest_s
    assert watch.watcher.stop()


def test_many_changes_make_few_snapshots(watch: Watch, nodes: Nodes) -> None:
    before = len(watch.snapshots)
    nodes.add_nodes("storm", 20)
    watch.appears("/storm19")
    eventually(lambda: len([node for node in watch.watcher.nodes if node.name.startswith("storm")]) == 20)
    assert len(watch.snapshots) - before <= 5
    for number in range(20):
        nodes.remove_node(f"/storm{number}")


def test_a_listener_that_raises_does_not_end_the_watch(bridge: RosBridge, nodes: Nodes) -> None:
    calls: list[int] = []

    def fail(found: tuple[GraphNode, ...]) -> None:
        calls.append(len(found))
        raise RuntimeError("a broken listener")

    watcher = GraphWatcher(bridge, fail)
    watcher.start()
    assert watcher.settled.wait(10.0)
    fqn = nodes.add_node("after_the_failure")
    eventually(lambda: len(calls) >= 2)
    nodes.remove_node(fqn)
    assert watcher.stop()


def test_stop_ends_the_thread_at_once_though_it_waits_for_ten_seconds(bridge: RosBridge) -> None:
    for use_librcl in (True, False):
        watch = Watch(bridge, use_librcl=use_librcl, backstop_s=10.0)
        began = time.monotonic()
        assert watch.watcher.stop()
        assert time.monotonic() - began < 0.5
        assert "graph" not in [thread.name for thread in threading.enumerate()]


def test_a_node_that_vanishes_between_the_calls_is_left_out() -> None:
    def vanished(name: str, namespace: str) -> list[Any]:
        if name == "ghost":
            raise NodeNameNonExistentError("ghost")
        return [("/talk", [STRING])]

    node = SimpleNamespace(
        get_fully_qualified_name=lambda: "/gateway",
        get_publishers_info_by_topic=lambda topic: [],
        get_node_names_and_namespaces=lambda: [("ghost", "/"), ("talker", "/a"), ("talker", "/a")],
        get_publisher_names_and_types_by_node=vanished,
        get_subscriber_names_and_types_by_node=lambda name, namespace: [],
        get_service_names_and_types_by_node=lambda name, namespace: [],
    )
    assert scan(node, 0) == (GraphNode("talker", "/a", (TopicUse("/talk", STRING, "publish"),), graph_key=""),)
