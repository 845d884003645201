"""A gateway's HTTP side without ROS and without peers: the real application over a tree made by the real merge.

api = Api(gateway(local=robot(camera="/front")))
api.get("/apps").json()
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

import httpx

from medkit_gateway_py.aggregation.federation import Federation as RealFederation
from medkit_gateway_py.aggregation.merge import MergeOptions, PeerView, merge
from medkit_gateway_py.aggregation.peer_status import PeerStatus
from medkit_gateway_py.aggregation.routing import FederatedTree, Warn
from medkit_gateway_py.aggregation.sections import GatewayIdentity, OriginSection
from medkit_gateway_py.api.app import create_app
from medkit_gateway_py.api.context import GatewayContext
from medkit_gateway_py.api.openapi import build
from medkit_gateway_py.api.route_rows import GREEDY, Row
from medkit_gateway_py.api.route_table import ROWS
from medkit_gateway_py.entities.ids import GivenIds
from medkit_gateway_py.entities.layers import LayerOptions, local_tree
from medkit_gateway_py.entities.model import App, Area, Component, Function, GraphNode, TopicUse
from medkit_gateway_py.entities.tree import EntityTree
from medkit_gateway_py.errors import ActionRejected, ColdWaitCapExceeded, GatewayError, ServiceCallFailed
from medkit_gateway_py.parameters import GatewayConfig, check
from medkit_gateway_py.resources.configurations import ConfigurationService
from medkit_gateway_py.resources.data import DataService
from medkit_gateway_py.resources.executions import ExecutionHistory
from medkit_gateway_py.resources.faults.engine import FaultEngine, Rules
from medkit_gateway_py.resources.faults.model import Fault, FaultEvent, FaultListing, FaultRecord, Report, Snapshot
from medkit_gateway_py.resources.logs import LogStore
from medkit_gateway_py.resources.operations import OperationService
from medkit_gateway_py.resources.status import StatusService
from medkit_gateway_py.ros.parameter_values import Parameter, UnknownParameter, Value
from medkit_gateway_py.state import OriginRecord

OWN = GatewayIdentity("instance-a", "00000001-aaaa", "gateway_a", "0.1.0")
NUMBER = "std_msgs/msg/Float32"
TRIGGER = "std_srvs/srv/Trigger"
FIBONACCI = "test_msgs/action/Fibonacci"
ROSOUT = TopicUse("/rosout", "rcl_interfaces/msg/Log", "publish")


class _NoState:
    """Nothing is remembered and nothing kept."""

    def given(self) -> GivenIds:
        return GivenIds()

    def origins(self) -> list[OriginRecord]:
        return []


class Federation(RealFederation):
    """The real one with a tree given to it. It is never started, so no peer of it can be asked."""

    def __init__(
        self,
        config: GatewayConfig,
        tree: FederatedTree,
        enabled: bool = False,
        peers: Sequence[PeerStatus] = (),
        warnings: Sequence[Warn] = (),
    ) -> None:
        super().__init__(config, OWN, _NoState())  # type: ignore[arg-type]
        self.tree = tree
        self.enabled = enabled
        self._statuses = tuple(peers)
        self._more = tuple(warnings)

    @property
    def peers(self) -> tuple[PeerStatus, ...]:
        return self._statuses

    def peer_names(self) -> tuple[str, ...]:
        return self.tree.peers

    def warnings(self) -> tuple[Warn, ...]:
        return (*super().warnings(), *self._more)


@dataclass(frozen=True)
class Reading:
    """One read of a topic."""

    topic: str
    type: str = ""
    value: dict[str, Any] | None = None
    timestamp_ns: int | None = None
    publisher_count: int = 0
    subscriber_count: int = 0
    status: str = "metadata_only"


class FieldError(ValueError):
    """Stands for the one of `ros/messages.py`, which needs ROS to be imported."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class UnknownType(LookupError):
    """Stands for the one of `ros/messages.py`."""

    def __init__(self, type_name: str) -> None:
        super().__init__(type_name)
        self.reason = "no such package"


@dataclass
class Topics:
    """Values by topic instead of subscriptions; what is published is kept."""

    values: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: list[tuple[str, str, Any]] = field(default_factory=list)
    full: bool = False
    broken: bool = False

    async def read(self, topic: str, timeout_s: float) -> Reading:
        if self.broken:
            raise RuntimeError("a secret of the inside")
        if self.full:
            raise ColdWaitCapExceeded("Too many topics are being waited for", topic=topic, cold_wait_cap=4)
        await asyncio.sleep(0)
        if topic not in self.values:
            return Reading(topic)
        return Reading(topic, NUMBER, self.values[topic], 1_760_000_000_000_000_000, 1, 0, "data")

    def type_info(self, type_name: str) -> dict[str, Any] | None:
        if type_name != NUMBER:
            return None
        return {
            "schema": {"type": "object", "properties": {"data": {"type": "number"}}},
            "default_value": {"data": 0.0},
        }

    async def publish(self, topic: str, type_name: str, payload: Any) -> None:
        if self.broken:
            raise KeyError("a bug")
        if type_name == "no_msgs/msg/Nothing":
            raise UnknownType(type_name)
        if not isinstance(payload, dict):
            raise FieldError("", "expected an object")
        if not isinstance(payload.get("data"), (int, float)):
            raise FieldError("data", "expected a number")
        self.published.append((topic, type_name, payload))


class FakeGoal:
    """A goal whose states are set by the test."""

    def __init__(self, number: int, action: str, type_name: str, payload: object) -> None:
        self.id = f"{number:032x}"
        self.action, self.type, self.payload = action, type_name, payload
        self.state, self.lost, self.heard_at = "executing", False, 0.0
        self.feedback: dict[str, Any] | None = None
        self.ended = asyncio.Event()


@dataclass
class Operations:
    """Services and action servers that answer at once, or with `error`; what they were asked is kept."""

    calls: list[tuple[str, str, object]] = field(default_factory=list)
    goals: list[FakeGoal] = field(default_factory=list)
    cancelled: list[tuple[str, str]] = field(default_factory=list)
    error: GatewayError | None = None

    async def call(self, service: str, type_name: str, payload: object, timeout_s: float) -> dict[str, Any]:
        if not isinstance(payload, dict):
            raise ServiceCallFailed("Service call failed", details="expected an object")
        self._fail()
        self.calls.append((service, type_name, payload))
        return {"success": True, "message": service}

    async def send(self, action: str, type_name: str, payload: object, timeout_s: float) -> FakeGoal:
        self._fail()
        if payload == {"order": -1}:
            raise ActionRejected("Goal rejected")
        self.goals.append(FakeGoal(len(self.goals) + 1, action, type_name, payload))
        return self.goals[-1]

    async def result(self, goal: FakeGoal, timeout_s: float) -> dict[str, Any]:
        return {"sequence": [0, 1]}

    async def cancel(self, goal: FakeGoal, timeout_s: float, verb: str = "Cancel") -> None:
        self._fail()
        self.cancelled.append((goal.id, verb))

    def release(self, goal: FakeGoal) -> None:
        """Nothing is kept for it."""

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


def operation_info(type_name: str) -> dict[str, Any] | None:
    """Schemas of one service type and one action type."""
    parts = {TRIGGER: ("request", "response"), FIBONACCI: ("goal", "result", "feedback")}.get(type_name)
    return None if parts is None else {part: {"type": "object", "properties": {}} for part in parts}


@dataclass
class Parameters:
    """Parameters by node instead of services: FQN to name to parameter. `errors` by FQN are raised."""

    nodes: dict[str, dict[str, Parameter]] = field(default_factory=dict)
    errors: dict[str, Exception] = field(default_factory=dict)

    async def read_all(self, fqn: str, within_s: float | None = None) -> list[Parameter]:
        await asyncio.sleep(0)
        if fqn in self.errors:
            raise self.errors[fqn]
        return [one for _, one in sorted(self.nodes.get(fqn, {}).items())]

    async def read(self, fqn: str, name: str) -> Parameter:
        found = {one.name: one for one in await self.read_all(fqn)}
        if name not in found:
            raise UnknownParameter(f"{fqn} has no parameter {name}")
        return found[name]

    async def write(self, fqn: str, values: Sequence[tuple[str, Value]]) -> list[str]:
        return [self._write(fqn, name, value) for name, value in values]

    def _write(self, fqn: str, name: str, value: Value) -> str:
        current = self.nodes[fqn].get(name)
        if current is None:
            return f"{name} is not declared"
        if current.read_only:
            return f"{name} is read-only"
        if current.value.type != value.type:
            return f"{name} is a {current.value.type}, not a {value.type}"
        self.nodes[fqn][name] = dataclasses.replace(current, value=value)
        return ""


class Faults:
    """A fault backend on no disk and no loop: the real engine, judged at once. `error` is raised by all that asks."""

    def __init__(self, *reports: Report, rules: Rules = Rules(healing_threshold=1)) -> None:
        self.engine = FaultEngine(rules)
        self.snapshots: dict[str, tuple[Snapshot, ...]] = {}
        self.cleared: list[tuple[tuple[str, ...], bool]] = []
        self.listing = FaultListing(())
        self.error: GatewayError | None = None
        for report in reports:
            self.report(report)

    async def start(self) -> None:
        """Nothing to begin."""

    async def stop(self) -> None:
        """Nothing to end."""

    def report(self, report: Report) -> None:
        self.engine.apply(report, 1_767_225_600.0)

    async def list(
        self, statuses: Sequence[str], include_muted: bool = False, include_clusters: bool = False
    ) -> FaultListing:
        self._fail()
        faults = tuple(fault for fault in self.engine if fault.status in statuses)
        muted = self.listing.muted if include_muted else ()
        clusters = self.listing.clusters if include_clusters else ()
        return dataclasses.replace(self.listing, faults=faults, muted=muted, clusters=clusters)

    async def get(self, fault_code: str) -> FaultRecord | None:
        self._fail()
        fault = self.engine.get(fault_code)
        return None if fault is None else FaultRecord(fault, self.snapshots.get(fault_code, ()))

    async def clear(self, fault_codes: Sequence[str], skip_correlation_auto_clear: bool = True) -> tuple[str, ...]:
        self._fail()
        self.cleared.append((tuple(fault_codes), skip_correlation_auto_clear))
        return tuple(change.fault.fault_code for change in self.engine.clear(fault_codes))

    def subscribe(self, callback: Callable[[FaultEvent], None]) -> None:
        """Nobody is told."""

    def health(self) -> Mapping[str, Any]:
        return {"state": "ok", "since": 0.0}

    def status(self, code: str) -> str:
        fault: Fault | None = self.engine.get(code)
        return fault.status if fault is not None else ""

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


async def _no_state(fqn: str) -> str:
    return ""


def node(name: str, namespace: str = "/", *topics: str) -> GraphNode:
    """A node that publishes these topics, and /rosout as every node does."""
    uses = (*(TopicUse(topic, NUMBER, "publish") for topic in topics), ROSOUT)
    return GraphNode(name, namespace, uses, graph_key="")


def runtime_tree(nodes: Sequence[GraphNode], host: str = "robot", origin: str = OWN.id) -> tuple[EntityTree, GivenIds]:
    """The local tree of nodes on one host component, with the ids it gives."""
    given = GivenIds()
    component = Component(host, host.upper(), description=f"{host} on x86_64")
    tree, new = local_tree(nodes, [component], given, LayerOptions(origin))
    given.add(new)
    return tree, given


def merged(
    local: EntityTree,
    given: GivenIds | None = None,
    peers: Mapping[str, EntityTree | None] | None = None,
    version: int = 1,
    identity: GatewayIdentity = OWN,
) -> FederatedTree:
    """The federated tree of ours and of peers, by name; None is a peer that is away."""
    given = GivenIds() if given is None else given
    peers = peers or {}
    views = [
        PeerView(name, (OriginSection(f"instance-{name}", name, "00000001-bbbb", 1, (f"instance-{name}",), tree=tree),))
        for name, tree in peers.items()
        if tree is not None
    ]
    result = merge(identity, local, 1, views, given, MergeOptions(peers=tuple(peers)))
    given.add(result.new_ids)
    return dataclasses.replace(result.tree, version=version)


def manifest_tree() -> EntityTree:
    """A robot with all four kinds and every relation, some of them to things that nobody has."""
    return EntityTree(
        areas={
            "powertrain": Area("powertrain", "Powertrain", "/powertrain", tags=("drive",)),
            "engine": Area("engine", "Engine", "/powertrain/engine", parent_area_id="powertrain"),
            "empty": Area("empty"),
        },
        components={
            "ecu": Component(
                "ecu", "ECU", "controller", area="engine", depends_on=("battery", "ghost"), source="manifest"
            ),
            "battery": Component("battery", area="powertrain", external=True, source="manifest"),
            "cell": Component("cell", parent_component_id="battery", source="manifest", variant="li-ion"),
        },
        apps={
            "temp_sensor": App(
                "temp_sensor",
                "Temperature",
                component_id="ecu",
                fqn="/powertrain/engine/temp_sensor",
                depends_on=("logger", "nobody"),
                topics=(TopicUse("/powertrain/engine/temperature", NUMBER, "publish"), ROSOUT),
                source="manifest",
            ),
            "logger": App("logger", component_id="nowhere", is_online=False, source="manifest"),
            "drifter": App("drifter", fqn="/drifter", topics=(ROSOUT,)),
            "charger": App("charger", component_id="cell", source="manifest"),
        },
        functions={"driving": Function("driving", "Driving", hosts=("temp_sensor", "ecu"), depends_on=("charging",))},
    )


def gateway(
    tree: FederatedTree | None = None,
    topics: Topics | None = None,
    operations: Operations | None = None,
    *,
    enabled: bool = False,
    peers: Sequence[PeerStatus] = (),
    warnings: Sequence[Warn] = (),
    parameters: Mapping[str, object] | None = None,
    nodes: Parameters | None = None,
    logs: LogStore | None = None,
    states: Callable[[str], Awaitable[str]] | None = None,
    faults: Any = None,
    **more: Any,
) -> GatewayContext:
    """A context over one tree; `parameters` are the gateway's own by name, `nodes` has those of nodes."""
    checked = check(parameters or {})
    assert not [finding for finding in checked.findings if finding.fatal], checked.findings
    config: GatewayConfig = checked.config
    topics = topics or Topics()
    operations = operations or Operations()
    return GatewayContext(
        config=config,
        identity=OWN,
        federation=Federation(config, tree or merged(manifest_tree()), enabled, peers, warnings),
        data=DataService(topics, topics, 1.0),
        operations=OperationService(
            operations, ExecutionHistory(operations, 1.0, clock=lambda: 0.0), operation_info, 1.0
        ),
        configurations=ConfigurationService(nodes or Parameters()),
        logs=logs or LogStore(config.logs.buffer_size),
        status=StatusService(states or _no_state),
        faults=faults or Faults(),
        **more,
    )


class Described:
    """Statuses of operations as a document declares them."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._paths = document["paths"]
        self._rows = [(_pattern(row), row) for row in ROWS]

    def undeclared(self, answer: httpx.Response) -> str:
        """What is wrong with the status of an answer; "" when the document has it, or not the operation at all."""
        method = answer.request.method
        path = unquote(answer.request.url.path).removeprefix("/api/v1")
        for pattern, row in self._rows:
            if row.method != ("GET" if method == "HEAD" else method) or pattern.fullmatch(path) is None:
                continue
            if not row.operation_id or path.rstrip("/").endswith("/docs"):
                return ""
            declared = self._paths[row.template or "/"][row.method.lower()]["responses"]
            known = str(answer.status_code) in declared
            return "" if known else f"{method} {row.template}: {answer.status_code} is not in {sorted(declared)}"
        return ""


def _pattern(row: Row) -> re.Pattern[str]:
    """The paths of a row, with or without a slash at the end."""
    parts = re.split(r"(\{\w+\})", row.template)
    found = [
        re.escape(part) if not part.startswith("{") else ".+" if part[1:-1] in GREEDY else "[^/]+" for part in parts
    ]
    return re.compile("".join(found) + "/?", re.DOTALL)


@functools.cache
def _described(auth: bool, require_auth_for: str, limits: bool) -> Described:
    given = {"enabled": auth, "require_auth_for": require_auth_for}
    config = GatewayConfig()
    config = dataclasses.replace(
        config,
        auth=dataclasses.replace(config.auth, **given),
        rate_limiting=dataclasses.replace(config.rate_limiting, enabled=limits),
    )
    return Described(build(dataclasses.replace(gateway(), config=config)))


class Api:
    """A client of one application, without a socket. Paths are relative to `/api/v1`.

    Every answer must have a status that the document declares.
    """

    def __init__(self, context: GatewayContext | None = None) -> None:
        self.context = context or gateway()
        self.app = create_app(self.context)

    def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request on a loop of its own."""
        return asyncio.run(self.arequest(method, path, **options))

    async def arequest(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The same inside a running loop."""
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
            answer = await client.request(method, f"/api/v1{path}", **options)
        undeclared = self.described.undeclared(answer)
        assert not undeclared, undeclared
        return answer

    @functools.cached_property
    def described(self) -> Described:
        """What the document of this gateway says of its answers."""
        config = self.context.config
        return _described(config.auth.enabled, config.auth.require_auth_for, config.rate_limiting.enabled)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.request("GET", path, **options)

    def put(self, path: str, **options: Any) -> httpx.Response:
        return self.request("PUT", path, **options)
