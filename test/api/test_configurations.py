"""Configurations: lists, reads, writes, resets (API.md §6), on one gateway and over peers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from medkit_gateway_py.aggregation import forward
from medkit_gateway_py.aggregation.fan_out import FanOut
from medkit_gateway_py.api import gathering
from medkit_gateway_py.api.answers import json_answer
from medkit_gateway_py.entities.ids import GivenIds
from medkit_gateway_py.entities.model import App, Component
from medkit_gateway_py.entities.tree import EntityTree
from medkit_gateway_py.ros.parameter_values import NodeFailed, NodeUnavailable, Parameter, Value
from support.api import Api, Parameters, gateway, merged

SENSOR, CAMERA = "/front/sensor", "/front/camera"
CASES = [("rate", "double", 1.0), ("count", "int", 3), ("label", "string", "x"), ("on", "bool", True)]


def tree() -> EntityTree:
    return EntityTree(
        components={"host": Component("host"), "single": Component("single"), "empty": Component("empty")},
        apps={
            "camera": App("camera", component_id="host", fqn=CAMERA),
            "sensor": App("sensor", component_id="host", fqn=SENSOR),
            "unbound": App("unbound", component_id="host"),
            "alone": App("alone", component_id="single", fqn="/alone"),
        },
    )


def nodes() -> Parameters:
    values = {name: Parameter(name, Value(kind, value), f"The {name}.", False) for name, kind, value in CASES}
    fixed = Parameter("fixed", Value("int", 1), None, True)
    own = {"rate": Parameter("rate", Value("double", 9.0))}
    return Parameters({SENSOR: {**values, "fixed": fixed}, CAMERA: own, "/alone": dict(values)})


class Robot(Api):
    def __init__(self) -> None:
        self.nodes = nodes()
        super().__init__(gateway(merged(tree()), nodes=self.nodes))

    def value(self, name: str, fqn: str = SENSOR) -> Value:
        return self.nodes.nodes[fqn][name].value


def error(answer: Any) -> tuple[int, str, str]:
    body = answer.json()
    return answer.status_code, body.get("vendor_code", body["error_code"]), body["message"]


def test_a_list_of_one_node_has_bare_ids_and_the_values_beside_them() -> None:
    for path in ("/apps/alone", "/components/single"):
        body = Robot().get(f"{path}/configurations").json()
        assert body["items"] == [
            {"id": name, "name": name, "type": "parameter"} for name in ("count", "label", "on", "rate")
        ]
        medkit = body["x-medkit"]
        assert medkit["parameters"][0] == {
            "name": "count", "value": 3, "type": "int", "description": "The count.", "read_only": False,
        }  # fmt: skip
        assert medkit["is_aggregated"] is False
        assert medkit["ros2"] == {"node": "/alone"}
        assert medkit["queried_nodes"] == ["/alone"]
        assert medkit["source_ids"] == list(dict.fromkeys([path.rsplit("/", 1)[1], "alone"]))
        assert not {"partial", "unavailable_nodes", "failed_nodes"} & set(medkit)


def test_a_list_of_several_nodes_says_whose_each_parameter_is() -> None:
    body = Robot().get("/components/host/configurations").json()
    assert [item["id"] for item in body["items"]] == [
        "camera:rate", "sensor:count", "sensor:fixed", "sensor:label", "sensor:on", "sensor:rate",
    ]  # fmt: skip
    assert body["items"][0] == {
        "id": "camera:rate", "name": "rate", "type": "parameter", "x-medkit": {"source": "camera"},
    }  # fmt: skip
    medkit = body["x-medkit"]
    assert medkit["parameters"][0] == {
        "name": "rate", "value": 9.0, "type": "double", "x-medkit": {"source": "camera", "node": CAMERA},
    }  # fmt: skip
    assert (medkit["aggregation_level"], medkit["is_aggregated"]) == ("component", True)
    assert medkit["source_ids"] == ["host", "camera", "sensor"]


def test_without_nodes_the_list_is_empty_and_has_no_parameters() -> None:
    for path in ("/components/empty", "/apps/unbound"):
        body = Robot().get(f"{path}/configurations").json()
        assert body["items"] == []
        assert "parameters" not in body["x-medkit"]


def test_a_list_without_one_of_its_nodes_is_partial() -> None:
    robot = Robot()
    robot.nodes.errors[CAMERA] = NodeUnavailable("silent")
    medkit = robot.get("/components/host/configurations").json()["x-medkit"]
    assert (medkit["partial"], medkit["unavailable_nodes"], medkit["queried_nodes"]) == (True, [CAMERA], [SENSOR])
    robot.nodes.errors[CAMERA] = NodeFailed("nonsense")
    medkit = robot.get("/components/host/configurations").json()["x-medkit"]
    assert (medkit["partial"], medkit["failed_nodes"]) == (True, [CAMERA])
    refused = robot.get("/components/host/configurations?partial=fail")
    assert (refused.status_code, refused.json()["parameters"]) == (503, {"failed_nodes": [CAMERA]})


def test_a_list_without_any_node_is_the_worst_of_their_errors() -> None:
    robot = Robot()
    robot.nodes.errors = {CAMERA: NodeFailed("nonsense"), SENSOR: NodeUnavailable("silent (cached)")}
    answer = robot.get("/components/host/configurations")
    assert error(answer) == (503, "x-medkit-ros2-node-unavailable", "Failed to list parameters from any node")
    assert answer.json()["parameters"] == {
        "details": "silent (cached)",
        "entity_id": "host",
        "unavailable_nodes": [SENSOR],
        "failed_nodes": [CAMERA],
    }


@pytest.mark.parametrize(
    ("path", "value", "node", "source"),
    [
        ("/apps/sensor/configurations/rate", 1.0, SENSOR, None),
        ("/components/host/configurations/sensor:rate", 1.0, SENSOR, "sensor"),
        ("/components/host/configurations/rate", 9.0, CAMERA, "camera"),
        ("/components/host/configurations/count", 3, SENSOR, "sensor"),
        ("/components/single/configurations/rate", 1.0, "/alone", None),
        ("/components/single/configurations/alone:rate", 1.0, "/alone", None),
    ],
)
def test_a_read_gives_value_and_description(path: str, value: Any, node: str, source: str | None) -> None:
    body = Robot().get(path).json()
    assert (body["id"], body["data"]) == (path.rsplit("/", 1)[1], value)
    medkit = body["x-medkit"]
    assert (medkit["ros2"]["node"], medkit.get("source_app")) == (node, source)
    assert medkit["entity_id"] == path.split("/")[2]
    assert medkit["parameter"]["value"] == value


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/apps/sensor/configurations/nobody", (404, "resource-not-found", "Parameter not found")),
        ("/apps/sensor/configurations/sensor:rate", (404, "resource-not-found", "Parameter not found")),
        ("/components/host/configurations/nobody:rate", (404, "resource-not-found", "Parameter not found")),
        ("/components/host/configurations/unbound:x", (404, "resource-not-found", "Source app not found in entity")),
        ("/components/empty/configurations/rate", (404, "resource-not-found", "No nodes available")),
        ("/apps/ghost/configurations/rate", (404, "entity-not-found", "Entity not found")),
        (f"/apps/sensor/configurations/{'x' * 513}", (400, "invalid-parameter", "Invalid parameter ID")),
    ],
)
def test_what_cannot_be_read_is_told(path: str, expected: tuple[int, str, str]) -> None:
    assert error(Robot().get(path)) == expected


def test_a_silent_node_is_503_for_every_request() -> None:
    robot = Robot()
    robot.nodes.errors[SENSOR] = NodeUnavailable("did not answer")
    code = "x-medkit-ros2-node-unavailable"
    path = "/apps/sensor/configurations/rate"
    assert error(robot.get(path)) == (503, code, "Failed to get parameter")
    assert error(robot.put(path, json={"data": 1})) == (503, code, "Failed to set parameter")
    # Somebody who may have it is silent, so that it is not known whether anybody has it.
    assert error(robot.get("/components/host/configurations/count")) == (
        503, code, "Failed to get parameter from any node",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "given", "stored"),
    [
        ("rate", 5, 5.0),
        ("count", 2.9, 2),
        ("count", -2.9, -2),
        ("on", "true", True),
        ("on", "1", True),
        ("on", False, False),
        ("label", 5, "5"),
        ("label", {"a": [1]}, '{"a": [1]}'),
    ],
)
@pytest.mark.parametrize("member", ["data", "value"])
def test_a_value_becomes_the_type_that_the_parameter_has(name: str, given: Any, stored: Any, member: str) -> None:
    robot = Robot()
    answer = robot.put(f"/apps/sensor/configurations/{name}", json={member: given})
    assert answer.status_code == 200
    assert robot.value(name).value == stored
    assert type(robot.value(name).value) is type(stored)
    body = answer.json()
    assert body["data"] == body["x-medkit"]["parameter"]["value"] == stored
    assert body["x-medkit"]["parameter"]["name"] == name


def test_data_wins_over_value() -> None:
    robot = Robot()
    assert robot.put("/apps/sensor/configurations/count", json={"data": 5, "value": 6}).json()["data"] == 5


@pytest.mark.parametrize("given", ["x", None, {}, [], [1, "a"], [None], 10**30, True])
def test_a_value_of_another_type_is_refused(given: Any) -> None:
    robot = Robot()
    answer = robot.put("/apps/sensor/configurations/count", json={"data": given})
    assert error(answer) == (400, "invalid-parameter", "Failed to set parameter")
    assert answer.json()["parameters"]["details"]
    assert robot.value("count").value == 3


def test_the_node_says_why_it_refuses() -> None:
    robot = Robot()
    answer = robot.put("/apps/sensor/configurations/fixed", json={"data": 2})
    assert error(answer) == (403, "x-medkit-ros2-parameter-read-only", "Failed to set parameter")
    assert answer.json()["parameters"] == {"details": "fixed is read-only", "entity_id": "sensor", "id": "fixed"}
    answer = robot.put("/apps/sensor/configurations/nobody", json={"data": 2})
    assert error(answer) == (400, "invalid-parameter", "Failed to set parameter")
    assert answer.json()["parameters"]["details"] == "nobody is not declared"
    answer = robot.put("/apps/sensor/configurations/count", json={"data": "many"})
    assert answer.json()["parameters"]["details"] == "count is a int, not a string"


def test_the_body_is_judged_before_the_entity() -> None:
    robot = Robot()
    missing = (400, "invalid-request", "Request body must contain a 'data' field")
    assert error(robot.put("/apps/ghost/configurations/rate", json={"other": 1})) == missing
    answer = robot.put("/apps/ghost/configurations/rate", content=b"{")
    assert answer.json()["message"].startswith("Malformed JSON: ")
    for body in ([], 5, "x"):
        answer = robot.put("/apps/ghost/configurations/rate", json=body)
        assert answer.json()["message"] == "Request body validation failed"
    answer = robot.put("/apps/ghost/configurations/rate")
    assert answer.json()["message"] == "Request body must contain a 'data' field", "no body is an empty one"
    assert error(robot.put("/apps/ghost/configurations/rate", json={"data": 1}))[1] == "entity-not-found"
    assert error(robot.put("/apps/bad.id/configurations/rate", json={}))[2] == "Invalid entity ID"


def test_several_nodes_need_the_member_for_a_change() -> None:
    robot = Robot()
    for answer in (
        robot.put("/components/host/configurations/rate", json={"data": 1}),
        robot.request("DELETE", "/components/host/configurations/rate"),
    ):
        expected = (400, "invalid-request", "Aggregated configuration requires app_id prefix")
        assert error(answer) == expected
        assert answer.json()["parameters"]["id"] == "rate"
    body = robot.put("/components/host/configurations/camera:rate", json={"data": 4}).json()
    assert (body["id"], body["data"], body["x-medkit"]["source_app"]) == ("camera:rate", 4.0, "camera")
    assert robot.value("rate", CAMERA).value == 4.0


def test_a_reset_restores_the_first_value_that_was_seen() -> None:
    robot = Robot()
    path = "/components/host/configurations/camera:rate"
    assert error(robot.request("DELETE", path)) == (404, "resource-not-found", "Failed to reset parameter")
    for value in (4, 5):
        assert robot.put(path, json={"data": value}).status_code == 200
    answer = robot.request("DELETE", path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert robot.value("rate", CAMERA).value == 9.0


def test_all_are_reset_and_those_that_cannot_be_are_named() -> None:
    robot = Robot()
    path = "/components/host/configurations"
    assert robot.request("DELETE", "/components/empty/configurations").status_code == 204
    robot.get(path)
    for name, value in (("camera:rate", 4), ("sensor:count", 8), ("sensor:on", False)):
        robot.put(f"{path}/{name}", json={"data": value})
    assert robot.request("DELETE", path).status_code == 204
    assert (robot.value("rate", CAMERA).value, robot.value("count").value, robot.value("on").value) == (9.0, 3, True)
    robot.nodes.errors[CAMERA] = NodeUnavailable("silent")
    robot.put(f"{path}/sensor:count", json={"data": 8})
    answer = robot.request("DELETE", path)
    assert answer.status_code == 207
    first, second = answer.json()["results"]
    assert (first["node"], first["app_id"], first["success"], first["error"]) == (CAMERA, "camera", False, "silent")
    assert (second["app_id"], second["success"], second["details"]["reset_count"]) == ("sensor", True, 1)


class Shared(Robot):
    """Our host has `sensor`; peer b's part of it has `arm` alone, so that b lists it with bare ids."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **found: Any) -> None:
        self.nodes = nodes()
        ours = EntityTree(
            components={"host": Component("host")}, apps={"sensor": App("sensor", component_id="host", fqn=SENSOR)}
        )
        theirs = EntityTree(
            components={"host": Component("host")}, apps={"arm": App("arm", component_id="host", fqn="/arm")}
        )
        Api.__init__(self, gateway(merged(ours, None, {"b": theirs}), nodes=self.nodes, enabled=True))

        async def gather(*_: Any) -> FanOut:
            return FanOut(**found)

        monkeypatch.setattr(gathering, "gather_entity", gather)


BODY = {
    "items": [{"id": "speed", "name": "speed", "type": "parameter"}],
    "x-medkit": {
        "parameters": [{"name": "speed", "value": 2.0, "type": "double"}],
        "source_ids": ["host", "arm"],
        "queried_nodes": ["/arm"],
        "unavailable_nodes": ["/leg"],
    },
}


def test_the_parameters_of_a_peer_are_listed_as_those_of_its_apps(monkeypatch: pytest.MonkeyPatch) -> None:
    body = Shared(monkeypatch, bodies=[("b", BODY)]).get("/components/host/configurations").json()
    assert body["items"][-1] == {
        "id": "arm:speed", "name": "speed", "type": "parameter", "x-medkit": {"source": "arm", "peer": "b"},
    }  # fmt: skip
    medkit = body["x-medkit"]
    assert len(medkit["parameters"]) == len(body["items"]) == 6
    assert medkit["parameters"][-1] == {
        "name": "speed", "value": 2.0, "type": "double", "x-medkit": {"source": "arm", "node": "/arm"},
    }  # fmt: skip
    assert medkit["queried_nodes"] == [SENSOR, "/arm"]
    assert (medkit["partial"], medkit["unavailable_nodes"]) == (True, ["/leg"])


def test_nodes_of_ours_that_a_peer_sees_too_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    item = {"id": "sensor:rate", "name": "rate", "type": "parameter", "x-medkit": {"source": "sensor"}}
    body = Shared(monkeypatch, bodies=[("b", {"items": [item]})]).get("/components/host/configurations").json()
    assert [one["id"] for one in body["items"]].count("sensor:rate") == 1


@pytest.mark.parametrize("odd", [{}, {"items": [{}, 5, {"id": "x"}], "x-medkit": 7}, {"items": None}])
def test_an_odd_answer_of_a_peer_adds_nothing(monkeypatch: pytest.MonkeyPatch, odd: Any) -> None:
    body = Shared(monkeypatch, bodies=[("b", odd)]).get("/components/host/configurations").json()
    assert {one["x-medkit"]["source"] for one in body["items"]} == {"sensor"}


def test_a_peer_that_is_missing_is_named_and_may_have_what_nobody_else_has(monkeypatch: pytest.MonkeyPatch) -> None:
    robot = Shared(monkeypatch, failed=["b"])
    medkit = robot.get("/components/host/configurations").json()["x-medkit"]
    assert (medkit["partial"], medkit["failed_peers"]) == (True, ["b"])
    assert robot.get("/components/host/configurations/rate").status_code == 200
    assert error(robot.get("/components/host/configurations/speed"))[:2] == (502, "x-medkit-peer-unavailable")


@pytest.mark.parametrize("mine", [True, False])
def test_a_bare_id_writes_to_nobody_while_a_gateway_is_away_whose_node_may_be_meant(mine: bool) -> None:
    sensor = App("sensor", component_id="host", fqn=SENSOR)
    tree = EntityTree(components={"host": Component("host")}, apps={"sensor": sensor})
    theirs = EntityTree(components={"host": Component("host")}, apps={"arm": App("arm", component_id="host")})
    given = GivenIds()
    ours, others = (tree, {}) if mine else (EntityTree(), {"c": tree})
    merged(ours, given, {**others, "b": theirs})
    away = replace(merged(ours, given, {**others, "b": None}), away={"instance-b": "b"})
    robot = Api(gateway(away, nodes=nodes(), enabled=True))
    expected = (400, "invalid-request", "Aggregated configuration requires app_id prefix")
    assert error(robot.put("/components/host/configurations/rate", json={"data": 1}))[:3] == expected
    assert error(robot.request("DELETE", "/components/host/configurations/rate"))[:3] == expected
    if mine:
        assert robot.put("/components/host/configurations/sensor:rate", json={"data": 20}).status_code == 200


def test_a_parameter_of_a_peer_has_the_id_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    robot = Shared(monkeypatch, bodies=[("b", BODY)])
    asked: list[tuple[str, str]] = []

    async def arm(federation: Any, scope: Any, receive: Any, send: Any, target: Any, remote: Any) -> None:
        asked.append((scope["method"], scope["path"]))
        facts = {"entity_id": "arm", "parameter": {"name": "speed", "value": 2.0, "type": "double"}}
        await json_answer({"id": "speed", "data": 2.0, "x-medkit": facts})(scope, receive, send)

    monkeypatch.setattr(forward, "forward_entity", arm)
    path = "/components/host/configurations"
    for answer, expected in (
        (robot.get(f"{path}/arm:speed"), "arm:speed"),
        (robot.put(f"{path}/arm:speed", json={"data": 2}), "arm:speed"),
        (robot.get(f"{path}/speed"), "speed"),
    ):
        body = answer.json()
        assert (body["id"], body["data"]) == (expected, 2.0)
        assert (body["x-medkit"]["entity_id"], body["x-medkit"]["source_app"]) == ("host", "arm")
        assert body["x-medkit"]["parameter"]["value"] == 2.0
    assert asked == [(method, "/api/v1/apps/arm/configurations/speed") for method in ("GET", "PUT", "GET")]


def test_members_of_peers_are_not_reset_with_the_entity(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Shared(monkeypatch).request("DELETE", "/components/host/configurations")
    assert answer.status_code == 207
    assert [(one["node"], one["app_id"], one["success"]) for one in answer.json()["results"]] == [
        (SENSOR, "sensor", True),
        ("", "arm", False),
    ]
