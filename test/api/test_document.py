"""The OpenAPI document: the rules that clients' tests hold it to (API.md §2.4), and that it tells the truth."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from medkit_gateway_py.api.route_table import ROWS
from support.api import Api, PeerStatus, Topics, gateway

api = Api(gateway(topics=Topics({"/powertrain/engine/temperature": {"data": 85.5}})))
document: dict[str, Any] = api.get("/docs").json()
OPERATIONS = [(path, method, item) for path, methods in document["paths"].items() for method, item in methods.items()]


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, member in value.items():
            if key == "$ref":
                yield member
            yield from refs(member)
    elif isinstance(value, list):
        for member in value:
            yield from refs(member)


def test_it_is_openapi_3_1_with_everything_in_it() -> None:
    assert document["openapi"] == "3.1.0"
    assert len(document["components"]["schemas"]) > 30
    assert len(document["paths"]) >= 140
    assert document["info"]["x-sovd-version"] == "1.0.0"
    assert document["servers"] == [{"url": "http://127.0.0.1:8080/api/v1", "description": "Gateway server"}]
    assert not [path for path in document["paths"] if path.startswith("/api")]


def test_operation_ids_are_unique_and_spelled_as_clients_generate_them() -> None:
    ids = [item["operationId"] for _, _, item in OPERATIONS]
    assert len(ids) == len(set(ids))
    assert {"getAppStatus", "getComponentStatus", "putAppStatusRestart", "putAppStatusForceRestart"} <= set(ids)
    assert {"listApps", "getArea", "listFunctionHosts", "getAppDataItem", "executeComponentOperation"} <= set(ids)


def test_a_body_is_required_only_where_a_request_without_one_is_refused() -> None:
    executions = document["paths"]["/apps/{app_id}/operations/{operation_id}/executions"]["post"]
    assert executions["requestBody"]["required"] is False
    assert document["paths"]["/apps/{app_id}/data/{data_id}"]["put"]["requestBody"]["required"] is True


def test_all_tags_in_use_are_declared() -> None:
    declared = {tag["name"] for tag in document["tags"]}
    assert {tag for _, _, item in OPERATIONS for tag in item["tags"]} <= declared


def test_good_answers_have_a_schema_or_nothing_to_describe() -> None:
    for path, method, item in OPERATIONS:
        good = {code: one for code, one in item["responses"].items() if code.startswith("2")}
        described = [one for one in good.values() if any("schema" in body for body in one.get("content", {}).values())]
        empty = "204" in good or ("202" in good and "content" not in good["202"])
        streams = re.search("SSE|stream", item["summary"])
        assert method == "delete" or described or empty or streams, (path, method)


def test_event_streams_say_so() -> None:
    for path, _, item in OPERATIONS:
        streams = any("text/event-stream" in one.get("content", {}) for one in item["responses"].values())
        assert streams == bool(path.endswith(("/events", "/stream")))
        assert streams == bool(re.search("SSE", item["summary"]))


def test_errors_are_references() -> None:
    for path, _, item in OPERATIONS:
        for code, one in item["responses"].items():
            if code >= "400":
                assert one == {"$ref": "#/components/responses/GenericError"}, path
        assert {"400", "404", "500"} <= set(item["responses"])


def test_references_lead_somewhere_and_never_in_circles() -> None:
    schemas = document["components"]["schemas"]
    found = set(refs(document["paths"])) | set(refs(schemas))
    assert {one for one in found if not one.startswith("#/components/")} == set()
    names = {one.rsplit("/", 1)[1] for one in found}
    assert names <= set(schemas) | {"GenericError"}

    def walk(name: str, above: tuple[str, ...]) -> None:
        assert name not in above, above
        for ref in refs(schemas[name]):
            walk(ref.rsplit("/", 1)[1], (*above, name))

    for name in schemas:
        walk(name, ())


def test_optional_members_may_be_null_and_have_no_default() -> None:
    for name, schema in document["components"]["schemas"].items():
        for member, one in schema.get("properties", {}).items():
            if member not in schema.get("required", []) and one:
                assert {"type": "null"} in one.get("anyOf", []), (name, member)
            assert "default" not in one


def test_the_schemas_that_clients_name_are_there() -> None:
    schemas = document["components"]["schemas"]
    assert "namespace" in schemas["XMedkitRos2"]["properties"]
    for kind in ("Area", "Component", "App", "Function"):
        assert f"#/components/schemas/XMedkit{kind}" in set(refs(schemas[f"{kind}ListItem"]["properties"]["x-medkit"]))
    assert "#/components/schemas/XMedkitRos2" in set(refs(schemas["XMedkitArea"]["properties"]["ros2"]))
    assert set(schemas["LogConfiguration"]["properties"]) == {"severity_filter", "max_entries"}
    assert "required" not in schemas["LogConfiguration"]
    assert schemas["TriggerCreateRequest"]["properties"]["trigger_condition"] == {}
    assert "enum" not in json.dumps(schemas["CyclicSubscriptionCreateRequest"])


def test_locks_take_a_client_id_and_lists_their_filters() -> None:
    def names(path: str, method: str) -> set[str]:
        return {one["name"] for one in document["paths"][path][method].get("parameters", [])}

    assert "X-Client-Id" in names("/apps/{app_id}/locks", "post")
    assert "X-Client-Id" not in names("/apps/{app_id}/locks", "get")
    assert {"status", "partial"} <= names("/apps/{app_id}/faults", "get")
    assert names("/apps/{app_id}/data/{data_id}", "put") == {"app_id", "data_id"}


def filled(path: str, kind_ids: dict[str, str]) -> str:
    return re.sub(r"{(\w+)}", lambda match: kind_ids.get(match.group(1), "test_id"), path)


IDS = {"app_id": "temp_sensor", "component_id": "ecu", "area_id": "engine", "function_id": "driving"}


def resolved(schema: Any) -> Any:
    if isinstance(schema, dict):
        if "$ref" in schema:
            return resolved(document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]])
        return {key: resolved(value) for key, value in schema.items()}
    return [resolved(one) for one in schema] if isinstance(schema, list) else schema


def is_served_stream(path: str) -> bool:
    """Streams go on; what they answer is read in test_sse.py and test_fault_stream.py."""
    return any(row.stream and row.serve != "later" and row.template == path for row in ROWS)


@pytest.mark.parametrize(
    "path", [path for path, method, _ in OPERATIONS if method == "get" and not is_served_stream(path)]
)
def test_what_is_answered_is_what_is_described(path: str) -> None:
    answer = api.get(filled(path, IDS))
    responses = document["paths"][path]["get"]["responses"]
    assert str(answer.status_code) in responses
    assert answer.status_code in (200, 404, 501)
    if answer.status_code == 200:
        schema = resolved(responses["200"]["content"]["application/json"]["schema"])
        jsonschema.validate(answer.json(), schema)
    else:
        jsonschema.validate(answer.json(), resolved({"$ref": "#/components/schemas/GenericError"}))


def test_what_an_aggregating_gateway_answers_is_described_too() -> None:
    peers = [PeerStatus("b", "http://127.0.0.1:8081", "offline", "open", last_error="refused", counts={"apps": 1})]
    aggregating = Api(gateway(enabled=True, peers=peers))
    for path in ("/health", "/x-medkit/peers", "/x-medkit/peers/b", "/version-info", "/faults", "/components/ecu"):
        template = path.replace("/b", "/{name}").replace("/ecu", "/{component_id}")
        schema = document["paths"][template]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        answer = aggregating.get(path)
        assert answer.status_code == 200
        jsonschema.validate(answer.json(), resolved(schema))


def sample(schema: Any) -> Any:
    schema = resolved(schema)
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type")
    if kind == "object":
        return {name: sample(schema["properties"][name]) for name in schema.get("required", ())}
    return {"string": "test_value", "integer": 1, "number": 1.0, "boolean": True, "array": []}.get(kind, "test_value")


@pytest.mark.parametrize(
    ("path", "method"),
    [(path, method) for path, method, _ in OPERATIONS if method != "get" or not is_served_stream(path)],
)
def test_a_request_made_from_the_document_is_no_bad_request(path: str, method: str) -> None:
    item = document["paths"][path][method]
    options: dict[str, Any] = {"headers": {}, "params": {}}
    for one in item.get("parameters", ()):
        if one["in"] == "query":
            options["params"][one["name"]] = sample(one["schema"])
        elif one["in"] == "header":
            options["headers"][one["name"]] = "test_value"
    if "requestBody" in item:
        options["json"] = sample(item["requestBody"]["content"]["application/json"]["schema"])
    answer = api.request(method.upper(), filled(path, IDS), **options)
    assert str(answer.status_code) in item["responses"], answer.text
    # A made-up type is refused in words that clients rely on (API.md §4.3).
    assert answer.status_code != 400 or answer.json()["message"] == "Invalid message type format"


def test_every_route_of_the_table_is_described_and_listed() -> None:
    listed = set(api.get("").json()["endpoints"])
    for row in ROWS:
        if row.operation_id:
            assert row.method.lower() in document["paths"][row.template or "/"]
            assert f"{row.method} /api/v1{row.template or '/'}" in listed
    assert {
        "GET /api/v1/health",
        "GET /api/v1/version-info",
        "PUT /api/v1/components/{component_id}/data/{data_id}",
        "GET /api/v1/apps/{app_id}/is-located-on",
        "DELETE /api/v1/components/{component_id}/faults/{fault_code}",
        "GET /api/v1/docs",
        "GET /api/v1/{entity-path}/docs",
    } <= listed


@pytest.mark.parametrize(
    ("path", "title", "paths"),
    [
        ("/apps", "apps", ["/apps", "/apps/{app_id}"]),
        ("/apps/temp_sensor/data/powertrain/engine/temperature", None, None),
        (
            "/apps/temp_sensor/data",
            "temp_sensor/data",
            ["/apps/temp_sensor/data", "/apps/temp_sensor/data/powertrain/engine/temperature"],
        ),
        (
            "/apps/temp_sensor/logs",
            "temp_sensor/logs",
            ["/apps/temp_sensor/logs", "/apps/temp_sensor/logs/configuration"],
        ),
        ("/components/ecu/data", "ecu/data", ["/components/ecu/data/powertrain/engine/temperature"]),
        ("/components/ecu", "ecu", ["/components/ecu", "/components/ecu/data", "/components/ecu/logs/configuration"]),
        ("/areas/powertrain/subareas/engine", "engine", ["/areas/engine", "/areas/engine/data"]),
        ("/components/ecu/apps/temp_sensor/data", "temp_sensor/data", ["/apps/temp_sensor/data"]),
        ("/functions/driving/hosts", "driving/hosts", ["/functions/driving/hosts"]),
    ],
)
def test_a_part_has_a_document_of_its_own(path: str, title: str | None, paths: list[str] | None) -> None:
    part = api.get(f"{path}/docs").json()
    if title is not None:
        assert part["info"]["title"] == f"ROS 2 Medkit Gateway - {title}"
    assert set(paths or [path]) <= set(part["paths"])
    assert "GenericError" in part["components"]["schemas"]
    assert part["components"]["responses"]["GenericError"]
    names = {one.rsplit("/", 1)[1] for one in refs(part["paths"])}
    assert names <= set(part["components"]["schemas"])
    ids = [operation["operationId"] for item in part["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))
    for item in part["paths"].values():
        for operation in item.values():
            declared = {one["name"] for one in operation.get("parameters", ()) if one["in"] == "path"}
            assert declared <= {"app_id", "data_id", "category_id", "file_id", "operation_id", "config_id"}


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/apps/ghost",
        "/apps/docs",
        "/apps/temp_sensor/nothing",
        "/areas/engine/subareas/powertrain",
        "/apps/temp_sensor/hosts",
        "/a/b/c/d/e/f/g/h/i/j/k",
        "/apps/temp_sensor/data/a/b/c/d/e/f/g/h",
        "/components/battery/subcomponents/cell/subcomponents/cell",
    ],
)
def test_a_path_that_names_nothing_has_no_document(path: str) -> None:
    answer = api.get(f"{path}/docs")
    assert answer.status_code == 404
    assert answer.json() == {
        "error_code": "resource-not-found",
        "message": "No capability description available for the requested path",
    }


def test_documents_can_be_switched_off() -> None:
    off = Api(gateway(parameters={"docs.enabled": False}))
    for path in ("/docs", "/apps/docs"):
        answer = off.get(path)
        assert (answer.status_code, answer.json()["message"]) == (501, "Capability description is disabled")
    assert "GET /api/v1/docs" not in off.get("").json()["endpoints"]
    assert off.get("/swagger-ui").status_code == 501


@pytest.mark.parametrize(
    ("parameters", "url"),
    [
        ({"server.host": "0.0.0.0"}, "http://localhost:8080/api/v1"),
        ({"server.host": "::1", "server.port": 8081}, "http://[::1]:8081/api/v1"),
    ],
)
def test_the_server_of_the_document_can_be_reached(parameters: dict[str, object], url: str) -> None:
    assert Api(gateway(parameters=parameters)).get("/docs").json()["servers"][0]["url"] == url


def test_swagger_ui_is_served_whole_from_here_under_a_strict_policy() -> None:
    page = api.get("/swagger-ui/")
    assert page.status_code == 200
    assert page.headers["content-type"].startswith("text/html")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy
    sources = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(sources) == 3
    assert "<script>" not in page.text
    for source in sources:
        assert source.startswith("/api/v1/swagger-ui/")
        asset = api.get(source.removeprefix("/api/v1"))
        assert asset.status_code == 200
        assert asset.headers["content-type"].startswith(("text/css", "text/javascript"))
    for other in ("redoc.standalone.js", "%2e%2e%2fcore.py", "favicon.png"):
        assert api.get(f"/swagger-ui/{other}").status_code == 404
