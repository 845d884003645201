"""Operations: lists, ids, calls and executions (API.md §5), on one gateway and with members of another."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from medkit_gateway_py.aggregation.fan_out import FanOut
from medkit_gateway_py.api import gathering
from medkit_gateway_py.entities.model import ActionUse, App, Area, Component, Function, ServiceUse
from medkit_gateway_py.entities.tree import EntityTree
from medkit_gateway_py.errors import CancelUnavailable, ServiceCallFailed
from support.api import FIBONACCI, TRIGGER, Api, Operations, gateway, merged

Json = dict[str, Any]


def robot() -> EntityTree:
    """Two apps with a `calibrate` each, one with two of one name, in an area and in an area below it."""
    return EntityTree(
        areas={"engine": Area("engine"), "deep": Area("deep", parent_area_id="engine")},
        components={"ecu": Component("ecu", area="engine"), "cell": Component("cell", area="deep")},
        apps={
            "calibration": App(
                "calibration",
                component_id="ecu",
                services=(ServiceUse("/engine/calibrate", TRIGGER), ServiceUse("/engine/odd", "no_such/srv/Type")),
                actions=(ActionUse("/engine/long_calibration", FIBONACCI),),
            ),
            "lidar": App("lidar", component_id="ecu", services=(ServiceUse("/lidar/calibrate", TRIGGER),)),
            "twin": App(
                "twin",
                component_id="cell",
                services=(ServiceUse("/left/reset", TRIGGER), ServiceUse("/right/reset", TRIGGER)),
            ),
        },
        functions={"driving": Function("driving", hosts=("calibration",))},
    )


def api(operations: Operations | None = None) -> Api:
    return Api(gateway(merged(robot()), None, operations))


def ids(answer: Any) -> list[str]:
    return [item["id"] for item in answer.json()["items"]]


def test_a_list_tells_services_first_and_their_schemas() -> None:
    body = api().get("/apps/calibration/operations").json()
    assert set(body) == {"items"}
    assert [item["id"] for item in body["items"]] == ["calibrate", "odd", "long_calibration"]
    assert body["items"][0] == {
        "id": "calibrate",
        "name": "calibrate",
        "proximity_proof_required": False,
        "asynchronous_execution": False,
        "x-medkit": {
            "ros2": {"service": "/engine/calibrate", "type": TRIGGER, "kind": "service"},
            "entity_id": "calibration",
            "source": "ros2_medkit_gateway",
            "type_info": {
                "request": {"type": "object", "properties": {}},
                "response": {"type": "object", "properties": {}},
            },
        },
    }
    assert "type_info" not in body["items"][1]["x-medkit"]
    action = body["items"][2]
    assert action["asynchronous_execution"] is True
    assert action["x-medkit"]["ros2"] == {"action": "/engine/long_calibration", "type": FIBONACCI, "kind": "action"}
    assert set(action["x-medkit"]["type_info"]) == {"goal", "result", "feedback"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/components/ecu", ["calibration:calibrate", "odd", "lidar:calibrate", "long_calibration"]),
        ("/areas/engine", ["calibration:calibrate", "odd", "lidar:calibrate", "long_calibration"]),
        ("/areas/deep", ["left/reset", "right/reset"]),
        ("/functions/driving", ["calibrate", "odd", "long_calibration"]),
        ("/apps/twin", ["left/reset", "right/reset"]),
    ],
)
def test_ids_are_unique_in_every_list_and_each_leads_to_its_operation(path: str, expected: list[str]) -> None:
    one = api()
    listed = one.get(f"{path}/operations")
    assert ids(listed) == expected
    for item in listed.json()["items"]:
        assert ("member_ids" in item["x-medkit"]) == (not path.startswith("/apps"))
        assert one.get(f"{path}/operations/{item['id']}").json() == {"item": item}


@pytest.mark.parametrize(
    ("path", "message", "operation_ids"),
    [
        (
            "/components/ecu/operations/calibrate",
            "Ambiguous operation id: more than one member provides it",
            ["calibration:calibrate", "lidar:calibrate"],
        ),
        (
            "/apps/twin/operations/reset",
            "Ambiguous operation id: it names more than one operation",
            ["left/reset", "right/reset"],
        ),
        (
            "/components/cell/operations/twin:reset",
            "Ambiguous operation id: it names more than one operation",
            ["twin:left/reset", "twin:right/reset"],
        ),
    ],
)
def test_a_name_that_means_several_is_400_with_the_candidates(
    path: str, message: str, operation_ids: list[str]
) -> None:  # fmt: skip
    operations = Operations()
    for answer in (
        api(operations).get(path),
        api(operations).request("POST", f"{path}/executions", json={}),
        api(operations).get(f"{path}/executions"),
    ):
        assert answer.status_code == 400
        assert (answer.json()["error_code"], answer.json()["message"]) == ("invalid-request", message)
        assert answer.json()["parameters"]["operation_ids"] == operation_ids
        assert len(answer.json()["parameters"]["ros2_paths"]) == 2
    assert operations.calls == []


def test_unknown_operations_and_members_are_404() -> None:
    for method, tail in (("GET", ""), ("GET", "/executions"), ("POST", "/executions")):
        answer = api().request(method, f"/apps/calibration/operations/nothing{tail}")
        assert answer.status_code == 404
        assert answer.json() == {
            "error_code": "operation-not-found",
            "message": "Operation not found",
            "parameters": {"entity_id": "calibration", "operation_id": "nothing"},
        }
    answer = api().get("/components/ecu/operations/twin:left/reset")
    assert (answer.status_code, answer.json()["message"]) == (404, "Member not found in entity")
    assert answer.json()["error_code"] == "resource-not-found"


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"", {}),
        (b"{}", {}),
        (b'{"parameters":{"a":1},"request":{"b":2}}', {"a": 1}),
        (b'{"request":{"b":2},"goal":{"c":3}}', {"b": 2}),
        (b'{"type":"std_srvs/srv/Trigger","unknown":1}', {}),
    ],
)
def test_a_service_answers_200_with_its_response(body: bytes, payload: Json) -> None:
    operations = Operations()
    answer = api(operations).request("POST", "/apps/calibration/operations/calibrate/executions", content=body)
    assert answer.status_code == 200
    assert answer.json() == {"parameters": {"success": True, "message": "/engine/calibrate"}}
    assert operations.calls == [("/engine/calibrate", TRIGGER, payload)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "Malformed JSON"),
        (b"[]", "Request body validation failed"),
        (b'{"type":1}', "Request body validation failed"),
    ],
)
def test_a_body_that_is_none_is_400_even_before_the_entity(body: bytes, message: str) -> None:
    answer = api().request("POST", "/apps/ghost/operations/x/executions", content=body)
    assert answer.status_code == 400
    assert answer.json()["error_code"] == "invalid-request"
    assert answer.json()["message"].startswith(message)


@pytest.mark.parametrize(("entity", "name"), [("apps/lidar", "app_id"), ("areas/engine", "component_id")])
@pytest.mark.parametrize("body", [{"parameters": [1]}, {"type": "std_srvs/srv/SetBool"}])
def test_a_call_that_fails_is_500_and_says_of_what(entity: str, name: str, body: Json) -> None:
    answer = api().request("POST", f"/{entity}/operations/lidar%2Fcalibrate/executions", json=body)
    assert answer.status_code == 500
    assert (answer.json()["error_code"], answer.json()["vendor_code"], answer.json()["message"]) == (
        "vendor-error",
        "x-medkit-ros2-service-unavailable",
        "Service call failed",
    )
    parameters = answer.json()["parameters"]
    assert (parameters[name], parameters["operation_id"]) == (entity.split("/")[1], "lidar/calibrate")
    assert parameters["details"]


def test_the_details_of_a_failure_reach_the_client() -> None:
    operations = Operations(error=ServiceCallFailed("Service call failed", details="did not answer in time"))
    answer = api(operations).request("POST", "/apps/lidar/operations/calibrate/executions")
    assert answer.json()["parameters"]["details"] == "did not answer in time"


LONG = "/apps/calibration/operations/long_calibration/executions"


def test_an_action_runs_as_an_execution_to_its_result() -> None:
    operations = Operations()
    one = api(operations)

    async def story() -> None:
        started = await one.arequest("POST", LONG, json={"goal": {"order": 5}})
        assert started.status_code == 202
        execution_id = started.json()["id"]
        assert started.json() == {"id": execution_id, "status": "running"}
        assert started.headers["location"] == f"/api/v1{LONG}/{execution_id}"
        goal = operations.goals[0]
        assert (goal.action, goal.type, goal.payload) == ("/engine/long_calibration", FIBONACCI, {"order": 5})
        running = (await one.arequest("GET", f"{LONG}/{execution_id}")).json()
        assert running == {
            "status": "running",
            "capability": "execute",
            "x-medkit": {
                "goal_id": execution_id,
                "ros2_status": "executing",
                "ros2": {"action": "/engine/long_calibration", "type": FIBONACCI},
            },
        }
        goal.feedback = {"sequence": [0]}
        assert (await one.arequest("GET", f"{LONG}/{execution_id}")).json()["parameters"] == {"sequence": [0]}
        goal.state = "succeeded"
        goal.ended.set()
        ended = (await one.arequest("GET", f"{LONG}/{execution_id}")).json()
        assert (ended["status"], ended["result"]) == ("completed", {"sequence": [0, 1]})
        assert ended["parameters"] == ended["result"]
        await one.arequest("POST", LONG)
        assert ids(await one.arequest("GET", LONG)) == [operations.goals[1].id, execution_id]
        # By its id alone, whatever stands before it.
        assert (await one.arequest("GET", f"/areas/none/operations/x/executions/{execution_id}")).status_code == 200

    asyncio.run(story())


def test_a_rejected_goal_is_400() -> None:
    answer = api().request("POST", LONG, json={"parameters": {"order": -1}})
    assert answer.status_code == 400
    assert (answer.json()["vendor_code"], answer.json()["message"]) == (
        "x-medkit-ros2-action-rejected",
        "Goal rejected",
    )


def test_services_have_no_executions() -> None:
    assert api().get("/apps/lidar/operations/calibrate/executions").json() == {"items": []}


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT"])
def test_an_unknown_execution_is_404_whatever_stands_before_it(method: str) -> None:
    body = {"json": {"capability": "stop"}} if method == "PUT" else {}
    answer = api().request(method, "/apps/ghost/operations/nothing/executions/123", **body)
    assert answer.status_code == 404
    assert answer.json() == {
        "error_code": "resource-not-found",
        "message": "Execution not found",
        "parameters": {"entity_id": "ghost", "operation_id": "nothing", "execution_id": "123"},
    }
    answer = api().request(method, "/apps/a.b/operations/nothing/executions/123", **body)
    assert (answer.status_code, answer.json()["message"]) == (400, "Invalid entity ID")


def test_executions_are_cancelled_and_stopped() -> None:
    operations = Operations()
    one = api(operations)

    async def story() -> None:
        execution_id = (await one.arequest("POST", LONG)).json()["id"]
        path = f"{LONG}/{execution_id}"
        answer = await one.arequest("DELETE", path)
        assert (answer.status_code, answer.content) == (204, b"")
        answer = await one.arequest("PUT", path, json={"capability": "stop"})
        assert (answer.status_code, answer.json()) == (202, {"id": execution_id, "status": "running"})
        assert answer.headers["location"] == f"/api/v1{path}"
        assert operations.cancelled == [(execution_id, "Cancel"), (execution_id, "Stop")]
        for body, status, code in (
            ({"action": "pause"}, 400, "invalid-request"),
            ({"capability": 1}, 400, "invalid-request"),
            ({"capability": "execute"}, 409, "precondition-not-fulfilled"),
            ({"capability": "freeze"}, 400, "invalid-parameter"),
            ({"capability": "dance"}, 400, "invalid-parameter"),
        ):
            answer = await one.arequest("PUT", path, json=body)
            assert (answer.status_code, answer.json()["error_code"]) == (status, code), body
        assert answer.json()["parameters"]["supported_capabilities"] == ["stop"]
        operations.error = CancelUnavailable("Cancel failed: Cancel service not available")
        answer = await one.arequest("DELETE", path)
        assert (answer.status_code, answer.json()["vendor_code"]) == (503, "x-medkit-ros2-action-unavailable")
        assert answer.json()["parameters"]["app_id"] == "calibration"

    asyncio.run(story())


def item(member: str, name: str, item_id: str = "") -> Json:
    """An item as a peer's answer to an aggregated list has it, ids rewritten."""
    ros2 = {"service": f"/{member}/{name}", "type": TRIGGER, "kind": "service"}
    return {
        "id": item_id or name,
        "name": name,
        "asynchronous_execution": False,
        "proximity_proof_required": False,
        "x-medkit": {"ros2": ros2, "entity_id": member, "member_ids": [member], "peer": "b"},
    }


def test_the_document_of_operations_names_each_of_them() -> None:
    one = Api(gateway(merged(robot()), None, Operations()))
    part = one.get("/components/ecu/operations/docs").json()
    found = ids(one.get("/components/ecu/operations"))
    assert len(found) > 1
    for rest in ("", "/executions", "/executions/{execution_id}"):
        assert {f"/components/ecu/operations/{one}{rest}" for one in found} <= set(part["paths"])
    path = part["paths"]["/components/ecu/operations/lidar:calibrate/executions/{execution_id}"]
    assert [one["name"] for one in path["get"]["parameters"]] == ["execution_id"]
    names = [operation["operationId"] for item in part["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))


class TestAcrossGateways:
    """`ecu` is here and at gateway B, which has the app `arm` in it."""

    @pytest.fixture
    def shared(self, monkeypatch: pytest.MonkeyPatch) -> Api:
        there = EntityTree(
            components={"ecu": Component("ecu")}, apps={"arm": App("arm", component_id="ecu")}
        )  # fmt: skip
        self.found = FanOut(items=[item("arm", "fold"), item("arm", "calibrate")])

        async def gather(*_: Any) -> FanOut:
            return self.found

        monkeypatch.setattr(gathering, "gather_entity", gather)
        self.operations = Operations()
        one = Api(gateway(merged(robot(), None, {"b": there}), None, self.operations, enabled=True))
        self.passed_on: list[tuple[str, str, bytes]] = []

        async def entry(scope: Any, receive: Any, send: Any) -> None:
            body = (await receive())["body"] if scope["method"] != "GET" else b""
            self.passed_on.append((scope["method"], scope["path"], body))
            status = 202 if scope["method"] == "PUT" else 200
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"{}"})

        monkeypatch.setattr("medkit_gateway_py.api.pass_on.PassOn.__call__", _passing_to(entry))
        return one

    def test_the_list_has_the_operations_of_both(self, shared: Api) -> None:
        assert ids(shared.get("/components/ecu/operations")) == [
            "calibration:calibrate", "odd", "lidar:calibrate", "fold", "arm:calibrate", "long_calibration",
        ]  # fmt: skip
        found = shared.get("/components/ecu/operations/arm:calibrate").json()["item"]
        assert (found["id"], found["x-medkit"]["peer"]) == ("arm:calibrate", "b")

    @pytest.mark.parametrize(("operation_id", "at_arm"), [("fold", "fold"), ("arm:calibrate", "calibrate")])
    def test_a_call_goes_to_the_gateway_that_has_the_operation(
        self, shared: Api, operation_id: str, at_arm: str
    ) -> None:
        path = f"/components/ecu/operations/{operation_id}/executions"
        shared.request("POST", path, content=b'{"parameters":{}}')
        shared.get(path)
        shared.get(f"{path}/123")
        shared.request("PUT", f"{path}/123", content=b'{"capability":"stop"}')
        there = f"/api/v1/apps/arm/operations/{at_arm}/executions"
        assert self.passed_on == [
            ("POST", there, b'{"parameters":{}}'),
            ("GET", there, b""),
            ("GET", f"{there}/123", b""),
            ("PUT", f"{there}/123", b'{"capability":"stop"}'),
        ]
        assert self.operations.calls == []

    def test_what_both_have_is_ambiguous(self, shared: Api) -> None:
        answer = shared.request("POST", "/components/ecu/operations/calibrate/executions")
        assert answer.status_code == 400
        assert answer.json()["parameters"]["operation_ids"][-1] == "arm:calibrate"
        assert answer.json()["parameters"]["member_ids"] == ["calibration", "lidar", "arm"]
        assert self.passed_on == []

    def test_what_a_missing_gateway_may_have_is_502(self, shared: Api) -> None:
        self.found = FanOut(failed=["b"])
        answer = shared.request("POST", "/components/ecu/operations/fold/executions")
        assert (answer.status_code, answer.json()["parameters"]["failed_peers"]) == (502, ["b"])
        assert shared.get("/components/ecu/operations").json()["x-medkit"]["partial"] is True

    def test_nothing_is_started_at_another_robot_while_one_is_missing_that_may_be_meant(self, shared: Api) -> None:
        self.found = replace(self.found, failed=["c"])
        answer = shared.request("POST", "/components/ecu/operations/fold/executions")
        assert (answer.status_code, answer.json()["parameters"]["failed_peers"]) == (502, ["c"])
        assert self.passed_on == []
        assert shared.get("/components/ecu/operations/fold").status_code == 200
        shared.request("POST", "/components/ecu/operations/arm:fold/executions")
        assert [path for _, path, _ in self.passed_on] == ["/api/v1/apps/arm/operations/fold/executions"]

    def test_an_operation_here_is_called_here(self, shared: Api) -> None:
        answer = shared.request("POST", "/components/ecu/operations/lidar:calibrate/executions")
        assert answer.status_code == 200
        assert self.operations.calls == [("/lidar/calibrate", TRIGGER, {})]
        assert self.passed_on == []


def _passing_to(entry: Any) -> Any:
    async def call(self: Any, scope: Any, receive: Any, send: Any) -> None:
        await entry({**scope, "path": self._path}, self._again(receive), send)

    return call
