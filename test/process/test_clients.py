"""What the clients in the field read of our answers, on a gateway with a manifest and real nodes, and on one above it.

None of the clients is here. The MCP server is played by the models that its generated parsers have: a missing or null
member, another type or an unknown word of an enumeration is an error to it. The web UI and the Foxglove extension are
played by what their code takes out of an answer (CLIENTS.md §1-3).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

import httpx
import pytest
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from support.gateways import Gateway, fleet
from support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

MANIFEST = Path(__file__).parents[2] / "config" / "examples" / "demo_nodes_manifest.yaml"
KINDS = {"areas": "area", "components": "component", "apps": "app", "functions": "function"}
RELATIONS = {
    "areas": ("components", "subareas", "contains"),
    "components": ("subcomponents", "hosts", "depends-on"),
    "apps": ("is-located-on", "belongs-to", "depends-on"),
    "functions": ("hosts",),
}
# One of each kind that has something in all of its collections.
ENTITIES = (
    "/apps/engine-temp-sensor",
    "/apps/engine-long-calibration",
    "/apps/engine_diagnostics",
    "/components/engine-ecu",
    "/areas/engine",
    "/functions/engine-calibration",
)
LONG = "/apps/engine-long-calibration/operations/long_calibration/executions"
OIL = "/apps/engine_diagnostics/configurations/oil_pressure"
PARAMETER_TYPES = {
    "bool", "int", "double", "string", "byte_array", "bool_array", "int_array", "double_array", "string_array",
}  # fmt: skip
Uri = Annotated[str, Field(strict=True, pattern="^/api/v1/")]


class Parsed(BaseModel):
    """What a generated parser takes: members it does not know are kept, members it needs must be there."""

    model_config = ConfigDict(extra="allow")


class VendorInfo(Parsed):
    name: StrictStr
    version: StrictStr


class Version(Parsed):
    version: StrictStr
    base_uri: StrictStr
    vendor_info: VendorInfo


class VersionInfo(Parsed):
    items: Annotated[list[Version], Field(min_length=1)]


class Discovery(Parsed):
    mode: StrictStr
    strategy: StrictStr


class Health(Parsed):
    status: StrictStr
    timestamp: StrictInt
    discovery: Discovery
    warning_schema_version: StrictInt
    warnings: list[dict[str, Any]]


class Listed(Parsed):
    id: StrictStr
    name: StrictStr
    type: Literal["area", "component", "app", "function"]
    href: Uri


class Detail(Parsed):
    id: StrictStr
    name: StrictStr
    type: StrictStr
    data: Uri
    operations: Uri
    configurations: Uri
    faults: Uri
    logs: Uri
    bulk_data: Uri = Field(alias="bulk-data")
    triggers: Uri


class AreaDetail(Detail):
    components: Uri
    contains: Uri
    subareas: Uri


class AppDetail(Detail):
    status: Uri
    cyclic_subscriptions: Uri = Field(alias="cyclic-subscriptions")


class ComponentDetail(AppDetail):
    hosts: Uri
    subcomponents: Uri


class FunctionDetail(Detail):
    cyclic_subscriptions: Uri = Field(alias="cyclic-subscriptions")
    hosts: Uri
    graph: Uri = Field(alias="x-medkit-graph")


DETAILS: dict[str, type[Detail]] = {
    "areas": AreaDetail, "components": ComponentDetail, "apps": AppDetail, "functions": FunctionDetail,
}  # fmt: skip


class OperationItem(Parsed):
    id: StrictStr
    name: StrictStr
    asynchronous_execution: StrictBool
    proximity_proof_required: StrictBool


class Started(Parsed):
    id: StrictStr
    status: StrictStr


class Goal(Parsed):
    goal_id: StrictStr


class Execution(Parsed):
    status: Literal["pending", "running", "completed", "failed"]
    medkit: Goal = Field(alias="x-medkit")


class Id(Parsed):
    id: StrictStr


class ConfigurationMetaData(Id):
    name: StrictStr
    type: StrictStr


class ConfigurationValue(Id):
    data: Any


class LogContext(Parsed):
    node: StrictStr


class LogEntry(Id):
    timestamp: StrictStr
    severity: StrictStr
    message: StrictStr
    context: LogContext


class LogConfiguration(Parsed):
    severity_filter: StrictStr
    max_entries: StrictInt


class GenericError(Parsed):
    error_code: StrictStr
    message: StrictStr


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, module_domains: Callable[[], int]) -> Iterator[dict[str, Gateway]]:
    """`below`: the robot's gateway, with the example manifest. `above`: one that has everything from it."""
    domain = module_domains()
    with fleet(tmp_path_factory.mktemp("fleet")) as found:
        below = found.gateway(
            "below", domain, node="below",
            parameters={
                "discovery.mode": "hybrid", "discovery.manifest_path": str(MANIFEST),
                "cors.allowed_origins": ["http://ui.example"],
            },
        )  # fmt: skip
        above = found.gateway(
            "above", module_domains(), node="above",
            parameters={
                "discovery.runtime.default_component.enabled": False, "aggregation.enabled": True,
                "aggregation.peer_urls": [below.url], "aggregation.peer_names": ["below"],
                "cors.allowed_origins": ["*"],
            },
        )  # fmt: skip
        found.robot("all", domain)
        for one in (below, above):
            eventually(lambda one=one: _is_linked(one), within=40.0, message=lambda: below.output + above.output)
        yield {"below": below, "above": above}


def _is_linked(gateway: Gateway) -> bool:
    apps = gateway.items("/apps")
    linked = apps.get("engine-temp-sensor", {}).get("x-medkit", {}).get("is_online") is True
    operations = gateway.get("/apps/engine-long-calibration/operations")
    return linked and "engine_diagnostics" in apps and "goal" in operations.text


@pytest.fixture(params=["below", "above"])
def gateway(pair: dict[str, Gateway], request: pytest.FixtureRequest) -> Gateway:
    return pair[request.param]


def read(gateway: Gateway, path: str) -> dict[str, Any]:
    """The object at a path, as `JSON.parse` and the parsers take it: no NaN, a list's items an array."""
    answer = gateway.get(path)
    assert answer.status_code == 200, f"{path}: {answer.text}"
    assert answer.headers["content-type"] == "application/json"
    body = json.loads(answer.text, parse_constant=_no_constant)
    assert isinstance(body, dict)
    assert isinstance(body.get("items", []), list), path
    return body


def _no_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


def items(gateway: Gateway, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read(gateway, path)["items"]
    return found


def test_the_servers_own_pages(gateway: Gateway) -> None:
    versions = VersionInfo.model_validate(read(gateway, "/version-info"))
    assert versions.items[0].vendor_info.name == "ros2_medkit"
    Health.model_validate(read(gateway, "/health"))
    root = read(gateway, "/")
    assert all(isinstance(flag, bool) for flag in root["capabilities"].values())
    # Cards of the web UI; names of what works.
    assert root["supported_features"] == [name for name, works in root["capabilities"].items() if works]
    for name in ("sovd_version", "server_name", "server_version"):
        assert isinstance(root[name], str)
    for path in root["entry_points"].values():
        assert gateway.client.get(f"{gateway.url}{path}").status_code == 200, path


@pytest.mark.parametrize("collection", KINDS)
def test_every_entity_of_every_list_has_a_detail_and_relations(gateway: Gateway, collection: str) -> None:
    listed = [Listed.model_validate(one) for one in items(gateway, f"/{collection}")]
    assert listed
    for one in listed:
        assert (one.type, one.href) == (KINDS[collection], f"/api/v1/{collection}/{one.id}")
        detail = DETAILS[collection].model_validate(read(gateway, f"/{collection}/{one.id}"))
        assert detail.id == one.id
        for relation in RELATIONS[collection]:
            for other in items(gateway, f"/{collection}/{one.id}/{relation}"):
                Listed.model_validate(other)


def test_the_trees_of_the_clients_can_be_walked(gateway: Gateway) -> None:
    """The web UI: areas, their components, hosts by node. Foxglove makes a node's name of `x-medkit.ros2.node`."""
    seen = set()
    for area in items(gateway, "/areas"):
        for component in items(gateway, f"/areas/{area['id']}/components"):
            items(gateway, f"/components/{component['id']}/subcomponents")
            for app in items(gateway, f"/components/{component['id']}/hosts"):
                seen.add(app["id"])
                if app["x-medkit"]["is_online"]:
                    assert app["x-medkit"]["ros2"]["node"].startswith("/")
    assert seen <= gateway.ids("apps")
    for component in items(gateway, "/components"):
        assert isinstance(component["x-medkit"]["source"], str)


@pytest.mark.parametrize("entity", ENTITIES)
def test_topics_are_described_and_read(gateway: Gateway, entity: str) -> None:
    found = items(gateway, f"{entity}/data")
    assert found
    for one in found:
        facts = one["x-medkit"]
        assert isinstance(one["id"], str) and isinstance(one["name"], str)
        assert facts["ros2"]["direction"] in ("publish", "subscribe", "both")
        assert facts["ros2"]["topic"].startswith("/") and "/msg/" in facts["ros2"]["type"]
        # The form to publish is made of it.
        assert isinstance(facts["type_info"]["schema"]["properties"], dict)
        assert isinstance(facts["type_info"]["default_value"], dict)


def test_a_topic_is_read_under_each_of_its_spellings(gateway: Gateway) -> None:
    topic = "powertrain/engine/temperature"
    for spelling in (topic, quote(topic, safe=""), quote(f"/{topic}", safe="")):
        body = read(gateway, f"/apps/engine-temp-sensor/data/{spelling}")
        facts = body["x-medkit"]
        # The web UI reads `value`, the others `data`.
        assert isinstance(body["data"]["temperature"], float)
        assert body["value"] == body["data"]
        assert (facts["status"], facts["publisher_count"] >= 1) == ("data", True)
        assert type(facts["timestamp"]) is int and type(facts["subscriber_count"]) is int
    # NaN is not JSON, and half of a laser scan is NaN.
    ranges = read(gateway, "/apps/lidar-sensor/data/perception/lidar/scan")["data"]["ranges"]
    assert None in ranges


@pytest.mark.parametrize("body", [{"type": "std_msgs/msg/Float32", "data": {"data": 0.5}}])
def test_both_forms_of_a_write_are_taken(gateway: Gateway, body: dict[str, Any]) -> None:
    for sent in (body, {"value": body}):
        answer = gateway.client.put("/apps/brake-actuator/data/chassis%2Fbrakes%2Fcommand", json=sent)
        assert answer.status_code == 200, answer.text
        assert isinstance(answer.json(), dict)


@pytest.mark.parametrize("entity", ENTITIES)
def test_operations_are_listed_and_found_by_their_names(gateway: Gateway, entity: str) -> None:
    for one in items(gateway, f"{entity}/operations"):
        OperationItem.model_validate(one)
        facts = one["x-medkit"]
        kind = facts["ros2"]["kind"]
        assert facts["ros2"][kind].startswith("/") and isinstance(facts["ros2"]["type"], str)
        names = ("goal", "result", "feedback") if kind == "action" else ("request", "response")
        assert set(facts["type_info"]) == set(names)
        for operation_id in (one["id"], one["name"]):
            OperationItem.model_validate(read(gateway, f"{entity}/operations/{operation_id}")["item"])


@pytest.mark.parametrize(
    "body", [{}, {"type": "std_srvs/srv/Trigger", "request": {}}, {"request_data": {"dummy": True}}, {"input": None}]
)
def test_a_service_is_called_by_each_client(gateway: Gateway, body: dict[str, Any]) -> None:
    answer = gateway.client.post("/apps/engine-calibration-service/operations/calibrate/executions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["parameters"]["success"] is True


def test_an_action_is_followed_to_its_end(gateway: Gateway) -> None:
    answer = gateway.client.post(LONG, json={"type": "test_msgs/action/Fibonacci", "goal": {"order": 3}})
    assert answer.status_code == 202, answer.text
    started = Started.model_validate(answer.json())
    assert started.id in {Id.model_validate(one).id for one in items(gateway, LONG)}
    path = f"{LONG}/{started.id}"
    eventually(lambda: Execution.model_validate(read(gateway, path)).status != "running", within=15.0)
    body = read(gateway, path)
    # The web UI shows `result`, MCP and the newer Foxglove `parameters` and `x-medkit.ros2_status`.
    assert body["status"] == "completed"
    assert body["result"] == body["parameters"] and body["result"]["sequence"]
    assert body["x-medkit"]["ros2_status"] == "succeeded"


def test_an_action_is_stopped_and_cancelled(gateway: Gateway) -> None:
    ids = [gateway.client.post(LONG, json={"goal": {"order": 40}}).json()["id"] for _ in range(2)]
    stopped = gateway.client.put(f"{LONG}/{ids[0]}", json={"capability": "stop"})
    assert stopped.status_code == 202
    Started.model_validate(stopped.json())
    cancelled = gateway.client.delete(f"{LONG}/{ids[1]}")
    assert (cancelled.status_code, cancelled.content) == (204, b"")
    for one in ids:
        eventually(lambda one=one: read(gateway, f"{LONG}/{one}")["status"] == "failed", within=15.0)


@pytest.mark.parametrize("entity", ENTITIES)
def test_parameters_are_listed_for_all_clients(gateway: Gateway, entity: str) -> None:
    body = read(gateway, f"{entity}/configurations")
    metadata = [ConfigurationMetaData.model_validate(one) for one in body["items"]]
    assert metadata
    # The web UI and Foxglove read only these.
    parameters = body["x-medkit"]["parameters"]
    assert [one["name"] for one in parameters] == [one.name for one in metadata]
    for one in parameters:
        assert one["type"] in PARAMETER_TYPES and "value" in one
        assert isinstance(one["read_only"], bool) and isinstance(one.get("description", ""), str)
    assert body["x-medkit"]["entity_id"] == entity.rsplit("/", 1)[1]
    for one in metadata[:3]:
        value = ConfigurationValue.model_validate(read(gateway, f"{entity}/configurations/{one.id}"))
        assert value.id == one.id


def test_a_parameter_is_changed_and_reset(gateway: Gateway) -> None:
    path = "/apps/engine-temp-sensor/configurations/max_temp"
    for body, value in (({"value": 104.0}, 104.0), ({"data": 103}, 103.0)):
        changed = gateway.client.put(path, json=body)
        assert changed.status_code == 200, changed.text
        # Without it the web UI says that it failed.
        assert changed.json()["x-medkit"]["parameter"]["name"] == "max_temp"
        assert changed.json()["x-medkit"]["parameter"]["value"] == value
    assert gateway.client.delete(path).status_code == 204
    everything = gateway.client.delete("/apps/engine-temp-sensor/configurations")
    assert (everything.status_code, everything.content) == (204, b"")


def test_a_fault_is_shown_streamed_and_cleared(gateway: Gateway) -> None:
    assert gateway.client.put(OIL, json={"data": 0.5}).status_code == 200
    try:
        with gateway.client.stream("GET", "/faults/stream", headers={"Origin": "http://ui.example"}) as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            assert stream.headers["access-control-allow-origin"] == "http://ui.example"
            event = _next_fault(stream, "fault_confirmed", "ENGINE_DIAGNOSTICS_OIL_PRESSURE")
        assert event["event_type"] == "fault_confirmed"
        _check_fault(event["fault"])
        faults = items(gateway, "/faults?status=all")
        fault = next(one for one in faults if one["fault_code"] == event["fault"]["fault_code"])
        _check_fault(fault)
        # Clients go on to /apps/<last part of the reporter>.
        app = fault["reporting_sources"][0].rsplit("/", 1)[1]
        path = f"/apps/{app}/faults/{fault['fault_code']}"
        detail = eventually(lambda: _with_snapshots(gateway, path), within=10.0)
        assert detail["item"]["code"] == fault["fault_code"]
        records = detail["environment_data"]["extended_data_records"]
        for name in ("first_occurrence", "last_occurrence"):
            datetime.fromisoformat(records[name].replace("Z", "+00:00"))
        for one in detail["environment_data"]["snapshots"]:
            assert (one["type"], isinstance(one["name"], str), "data" in one) == ("freeze_frame", True, True)
            assert {"topic", "message_type", "full_data", "captured_at"} <= set(one["x-medkit"])
    finally:
        gateway.client.put(OIL, json={"data": 3.5})
    cleared = gateway.client.delete(path)
    assert (cleared.status_code, cleared.content) == (204, b"")


def _with_snapshots(gateway: Gateway, path: str) -> dict[str, Any] | None:
    body = read(gateway, path)
    return body if body["environment_data"]["snapshots"] else None


def _check_fault(fault: dict[str, Any]) -> None:
    """A fault item: Foxglove's `new Date(x * 1000)` throws for anything but a number."""
    assert isinstance(fault["fault_code"], str) and isinstance(fault["description"], str)
    assert fault["severity"] in (0, 1, 2, 3) and fault["severity_label"] in ("INFO", "WARN", "ERROR", "CRITICAL")
    assert fault["status"] in ("CONFIRMED", "PENDING", "PREFAILED", "CLEARED", "HEALED", "PREPASSED")
    assert type(fault["first_occurred"]) is float and type(fault["last_occurred"]) is float
    assert type(fault["occurrence_count"]) is int
    assert fault["reporting_sources"][0].startswith("/")


def _next_fault(stream: httpx.Response, name: str, code: str) -> dict[str, Any]:
    """The data of the next event of that name and code, parsed as the TS client does: frames end with two LF."""
    frames = b""
    for chunk in stream.iter_raw():
        frames += chunk
        assert b"\r" not in frames
        while b"\n\n" in frames:
            frame, frames = frames.split(b"\n\n", 1)
            lines = [line.partition(": ") for line in frame.decode().split("\n")]
            fields = {key: value for key, _, value in lines if key}
            if fields.get("event") != name:
                continue
            found: dict[str, Any] = json.loads(fields["data"])
            if found["fault"]["fault_code"] == code:
                assert fields["id"]
                return found
    raise AssertionError("the stream ended")


@pytest.mark.parametrize("entity", ENTITIES)
def test_logs_and_their_settings(gateway: Gateway, entity: str) -> None:
    for one in items(gateway, f"{entity}/logs?severity=debug&context="):
        LogEntry.model_validate(one)
    path = f"{entity}/logs/configuration"
    settings = LogConfiguration.model_validate(read(gateway, path))
    answer = gateway.client.put(path, json=settings.model_dump())
    assert (answer.status_code, answer.content) == (204, b"")


def test_lines_of_an_app_have_what_the_table_shows(gateway: Gateway) -> None:
    # Order below zero is aborted, and the node says so.
    gateway.client.post(LONG, json={"goal": {"order": -1}})
    lines = eventually(lambda: items(gateway, "/apps/engine-long-calibration/logs?severity=error"), within=10.0)
    for line in (LogEntry.model_validate(one) for one in lines):
        assert line.context.node == "powertrain.engine.long_calibration"
        datetime.fromisoformat(line.timestamp[:19])


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/apps/nobody", 404),
        ("GET", "/apps/nobody/data", 404),
        ("GET", "/apps/engine-ecu", 400),
        ("PATCH", "/apps", 404),
        ("PUT", OIL, 400),
        ("GET", "/apps/engine-temp-sensor/faults/NONE", 404),
        ("GET", "/updates", 501),
        ("POST", "/areas/x/bulk-data/y", 405),
    ],
)
def test_errors_are_readable_from_another_origin(gateway: Gateway, method: str, path: str, status: int) -> None:
    answer = gateway.client.request(method, path, json={}, headers={"Origin": "http://ui.example"})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json")
    assert answer.headers["access-control-allow-origin"] == "http://ui.example"
    GenericError.model_validate(answer.json())


def test_a_preflight_allows_what_clients_send(gateway: Gateway) -> None:
    answer = gateway.client.request(
        "OPTIONS", OIL, headers={"Origin": "http://ui.example", "Access-Control-Request-Method": "PUT"}
    )
    assert (answer.status_code, answer.content) == (204, b"")
    methods = {one.strip() for one in answer.headers["access-control-allow-methods"].split(",")}
    headers = {one.strip().lower() for one in answer.headers["access-control-allow-headers"].split(",")}
    exposed = {one.strip().lower() for one in answer.headers["access-control-expose-headers"].split(",")}
    assert {"GET", "PUT", "POST", "DELETE", "OPTIONS"} <= methods
    assert {"content-type", "accept", "last-event-id", "x-client-id"} <= headers
    assert {"content-disposition", "content-length"} <= exposed
