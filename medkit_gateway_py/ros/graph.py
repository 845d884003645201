"""The ROS graph as immutable snapshots: waits for a change, lets it settle, scans, reports what differs.

Runs in a thread of its own, `graph`. The graph calls of rclpy are made from that thread and not from the ros
thread, an exception to the rule that only the ros thread touches rclpy: they read the middleware's graph cache
under its own mutex and pybind's reference count keeps the node alive meanwhile, so they are safe; and a scan of
500 nodes takes 15 ms, which the executor would otherwise miss. Nothing is created or destroyed here.

Scans go node by node. Asking for the endpoints of every topic instead is quadratic (243 ms for 500 nodes).
What the snapshot means for entities is not decided here.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from hashlib import blake2b
from typing import Any

from rclpy.node import NodeNameNonExistentError

from ..entities.model import ActionUse, GraphNode, ServiceUse, TopicUse
from .bridge import RosBridge
from .graph_guard import GraphGuard, MatchedGuard, open_guard

_LOG = logging.getLogger(__name__)

# Ids depend on seeing all nodes at once, so the first snapshot waits for discovery: participants that were there
# before were seen after 0.1 to 1.7 s on an idle machine (20 starts), and nothing happens before the first is found.
FIRST_AGE_S = 1.8
FIRST_QUIET_S = 0.4
FIRST_LIMIT_S = 1.0  # beyond that age
# Participants announce themselves every 3 s, and on a loopback interface without multicast the first is often found by
# that alone: after 2.7 s as a rule, 4.5 s at most, in 50 starts on a busy machine. A gateway that starts again waits
# longer for the nodes it knew: until they are found their ids would lead nowhere.
ALONE_AGE_S = 5.0
KNOWN_AGE_S = 7.0
STORM_LIMIT_S = 0.5  # in a storm of changes a snapshot is this old at most
ERROR_PAUSE_S = 1.0
NAMED = 5  # nodes in one line of the log

_ACTION_INFIX = "/_action/"
_SEND_GOAL, _SEND_GOAL_TYPE = "/_action/send_goal", "_SendGoal"
_STANDARD_SERVICES = {
    "describe_parameters": "rcl_interfaces/srv/",
    "get_parameter_types": "rcl_interfaces/srv/",
    "get_parameters": "rcl_interfaces/srv/",
    "list_parameters": "rcl_interfaces/srv/",
    "set_parameters": "rcl_interfaces/srv/",
    "set_parameters_atomically": "rcl_interfaces/srv/",
    "get_type_description": "type_description_interfaces/srv/",
}
_KEY_TOPICS = ("/rosout", "/parameter_events")  # nearly every node publishes both; the later one wins

NamesAndTypes = Iterable[tuple[str, list[str]]]


class GraphWatcher:
    """Keeps `nodes` up to date with the ROS graph, hidden nodes included.

    :param changed: called in the graph thread with the new nodes, only when they differ from the last ones.
    :param debounce_s: quiet time after a change before the scan; 0 scans at once.
    :param backstop_s: a scan happens at least this often, whatever the events say.
    :param known: FQNs of nodes that the first snapshot waits for, until the node is `KNOWN_AGE_S` old. None, not known:
        for anybody, until it is `ALONE_AGE_S` old.
    :param use_librcl: False forces the substitute of `graph_guard.MatchedGuard`.
    """

    def __init__(
        self,
        bridge: RosBridge,
        changed: Callable[[tuple[GraphNode, ...]], None],
        debounce_s: float = 0.2,
        backstop_s: float = 10.0,
        *,
        known: frozenset[str] | None = frozenset(),
        use_librcl: bool = True,
    ) -> None:
        self._known = known
        self.nodes: tuple[GraphNode, ...] = ()
        self.scans = 0
        self.settled = threading.Event()  # the first snapshot is there
        self._bridge, self._changed = bridge, changed
        self._debounce_s, self._backstop_s = debounce_s, max(backstop_s, 0.1)
        self._use_librcl = use_librcl
        self._guard: GraphGuard | MatchedGuard | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="graph", daemon=True)

    def start(self) -> None:
        """Begin to watch; the bridge must have been started."""
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> bool:
        """End the thread; False when it did not end in time. To be called before the bridge is stopped."""
        self._stopping.set()
        if self._guard is not None:
            self._guard.wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        use_librcl = self._use_librcl
        while not self._stopping.is_set():
            try:
                self._guard = open_guard(self._bridge, use_librcl)
                with self._guard as guard:
                    self._watch(guard)
            except Exception:
                if self._stopping.is_set() or not self._bridge.worker_alive:
                    return
                _LOG.exception("watching the ROS graph failed, starting over")
                use_librcl = False
                self._stopping.wait(ERROR_PAUSE_S)

    def _watch(self, guard: GraphGuard | MatchedGuard) -> None:
        if not self.settled.is_set():
            self._wait_for_discovery(guard)
        while not self._stopping.is_set():
            self._take_snapshot()
            self.settled.set()
            if guard.wait(self._backstop_s) and not self._stopping.is_set():
                self._bridge.graph_events += 1
                self._settle(guard, self._debounce_s, max(STORM_LIMIT_S, self._debounce_s))

    def _wait_for_discovery(self, guard: GraphGuard | MatchedGuard) -> None:
        deadline = self._bridge.created_at + FIRST_AGE_S
        while not self._stopping.is_set() and (left_s := deadline - time.monotonic()) > 0:
            guard.wait(left_s)
        self._settle(guard, FIRST_QUIET_S, FIRST_LIMIT_S)
        if self._known is None:
            if self._is_alone() and self._await(guard, lambda: not self._is_alone(), ALONE_AGE_S):
                self._settle(guard, FIRST_QUIET_S, FIRST_LIMIT_S)
            return
        if not self._missing():
            return
        _LOG.info("Looking for nodes that were there when this gateway ran last: %s.", _some(self._missing()))
        found_all = self._await(guard, lambda: not self._missing(), KNOWN_AGE_S)
        self._settle(guard, FIRST_QUIET_S, FIRST_LIMIT_S)
        if not found_all and not self._stopping.is_set():
            _LOG.warning("Not there any more, after %g s: %s.", KNOWN_AGE_S, _some(self._missing()))

    def _await(self, guard: GraphGuard | MatchedGuard, is_so: Callable[[], bool], age_s: float) -> bool:
        """Wait until it is so, or our node is that old; whether it is."""
        deadline = self._bridge.created_at + age_s
        while not is_so():
            left_s = deadline - time.monotonic()
            if self._stopping.is_set() or left_s <= 0:
                return False
            guard.wait(left_s)
        return True

    def _missing(self) -> frozenset[str]:
        return (self._known or frozenset()) - self._names()

    def _is_alone(self) -> bool:
        return len(self._names()) <= 1

    def _names(self) -> frozenset[str]:
        found = self._bridge.node.get_node_names_and_namespaces()
        return frozenset(_fqn(name, namespace) for name, namespace in found)

    def _settle(self, guard: GraphGuard | MatchedGuard, quiet_s: float, limit_s: float) -> None:
        """Wait until nothing happened for `quiet_s`, `limit_s` at most."""
        deadline = time.monotonic() + limit_s
        while quiet_s > 0 and not self._stopping.is_set():
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not guard.wait(min(quiet_s, left_s)):
                return

    def _take_snapshot(self) -> None:
        nodes = scan(self._bridge.node, self._bridge.context.get_domain_id(), self._bridge.on_demand_subscriptions)
        self.scans += 1
        if nodes == self.nodes and self.settled.is_set():
            return
        self.nodes = nodes
        try:
            self._changed(nodes)
        except Exception:
            _LOG.exception("the change of the ROS graph could not be reported")


def scan(node: Any, domain_id: int, own_hidden_subscriptions: Iterable[str] = ()) -> tuple[GraphNode, ...]:
    """All nodes that `node` sees now, itself included, sorted by FQN, each FQN once.

    :param own_hidden_subscriptions: topics that `node` itself subscribes to on behalf of somebody who reads them;
        they say nothing about the node, and would change the tree with every first read.
    """
    own_fqn = node.get_fully_qualified_name()
    keys = _endpoint_ids(node)
    found: dict[str, GraphNode] = {}
    for name, namespace in node.get_node_names_and_namespaces():
        fqn = _fqn(name, namespace)
        if fqn in found:
            continue
        try:
            publishers = node.get_publisher_names_and_types_by_node(name, namespace)
            subscribers = node.get_subscriber_names_and_types_by_node(name, namespace)
            services = node.get_service_names_and_types_by_node(name, namespace)
        except NodeNameNonExistentError:  # gone between the calls
            continue
        if fqn == own_fqn:
            hidden = set(own_hidden_subscriptions)
            subscribers = [(topic, types) for topic, types in subscribers if topic not in hidden]
        found[fqn] = GraphNode(
            name=name,
            namespace=namespace,
            topics=_topics(publishers, subscribers),
            services=_services(services),
            actions=_actions(services),
            graph_key=_graph_key(domain_id, fqn, keys.get(fqn, "")),
        )
    return tuple(found[fqn] for fqn in sorted(found))


def _fqn(name: str, namespace: str) -> str:
    return f"{namespace.rstrip('/')}/{name}"


def _some(fqns: frozenset[str]) -> str:
    """The first few names, and how many more there are."""
    named = ", ".join(sorted(fqns)[:NAMED])
    return named if len(fqns) <= NAMED else f"{named} and {len(fqns) - NAMED} more"


def _topics(publishers: NamesAndTypes, subscribers: NamesAndTypes) -> tuple[TopicUse, ...]:
    uses: dict[str, TopicUse] = {}
    for direction, names_and_types in (("publish", publishers), ("subscribe", subscribers)):
        for name, types in names_and_types:
            if _ACTION_INFIX in name:
                continue
            before = uses.get(name)
            kept_type = before.type if before else _first(types)
            uses[name] = TopicUse(name, kept_type, "both" if before else direction)
    return tuple(uses[name] for name in sorted(uses))


def _services(names_and_types: NamesAndTypes) -> tuple[ServiceUse, ...]:
    return tuple(
        ServiceUse(name, _first(types))
        for name, types in sorted(names_and_types)
        if _ACTION_INFIX not in name and not _is_standard_service(name, types)
    )


def _actions(names_and_types: NamesAndTypes) -> tuple[ActionUse, ...]:
    return tuple(
        ActionUse(name[: -len(_SEND_GOAL)], _first(types).removesuffix(_SEND_GOAL_TYPE))
        for name, types in sorted(names_and_types)
        if name.endswith(_SEND_GOAL)
    )


def _is_standard_service(name: str, types: list[str]) -> bool:
    """Parameter services and the type description service, which every node has (API.md §3.7)."""
    prefix = _STANDARD_SERVICES.get(name.rsplit("/", 1)[-1])
    return prefix is not None and _first(types).startswith(prefix)


def _first(types: list[str]) -> str:
    return min(types, default="")


def _endpoint_ids(node: Any) -> dict[str, str]:
    """Node FQN to the GID of one of its publishers, the same seen from every process of the graph."""
    ids: dict[str, str] = {}
    for topic in _KEY_TOPICS:
        on_topic: dict[str, str] = {}
        for info in node.get_publishers_info_by_topic(topic):
            fqn = _fqn(info.node_name, info.node_namespace)
            gid = bytes(info.endpoint_gid).hex()
            on_topic[fqn] = min(gid, on_topic.get(fqn, gid))  # two nodes of one FQN: any, but the same everywhere
        ids |= on_topic
    return ids


def _graph_key(domain_id: int, fqn: str, gid: str) -> str:
    """GraphNode.graph_key; AGGREGATION.md §2."""
    return blake2b(f"{domain_id}|{fqn}|{gid}".encode(), digest_size=8).hexdigest() if gid else ""
