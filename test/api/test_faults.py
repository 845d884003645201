"""Faults: filters, scope, detail, clearing, in all four kinds of entity (API.md §7.3 to §7.6)."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from medkit_gateway_py.api.models.faults import FaultDetail, FaultList
from medkit_gateway_py.entities.model import App, Area, Component, Function
from medkit_gateway_py.entities.tree import EntityTree
from medkit_gateway_py.errors import ServiceUnavailable
from medkit_gateway_py.resources.faults.embedded import EmbeddedFaults
from medkit_gateway_py.resources.faults.engine import Rules
from medkit_gateway_py.resources.faults.model import CRITICAL, ERROR, WARN, FaultListing, Report, Snapshot
from support.api import Api, Faults, gateway, merged

# Every kind has `motor` and `lidar` below it, and none has `stranger`.
ENTITIES = ("/apps/motor", "/components/arm", "/areas/robot", "/functions/moving")
ALL = [("areas", "robot"), ("components", "arm"), ("apps", "motor"), ("functions", "moving")]


def tree() -> EntityTree:
    return EntityTree(
        areas={"robot": Area("robot"), "left": Area("left", parent_area_id="robot"), "empty": Area("empty")},
        components={"arm": Component("arm", area="left"), "head": Component("head"), "bare": Component("bare")},
        apps={
            "motor": App("motor", component_id="arm", fqn="/arm/motor"),
            "lidar": App("lidar", component_id="arm", fqn="/arm/lidar"),
            "stranger": App("stranger", component_id="head", fqn="/head/stranger"),
        },
        functions={"moving": Function("moving", hosts=("motor", "lidar"))},
    )


def failed(code: str, source: str = "/arm/motor", severity: int = ERROR, stamp: float = 1_767_225_600.0) -> Report:
    return Report(source, code, True, severity, f"{code} of {source}", stamp)


def passed(code: str, source: str = "/arm/motor", stamp: float = 1_767_225_660.0) -> Report:
    return Report(source, code, False, stamp=stamp)


class Robot(Api):
    """A gateway whose faults are in every status: PENDING, CONFIRMED, PASSING, HEALED, CLEARED."""

    def __init__(self, *reports: Report) -> None:
        self.faults = Faults(rules=Rules(confirmation_threshold=2, healing_threshold=2))
        for report in reports:
            self.faults.report(report)
        super().__init__(gateway(merged(tree()), faults=self.faults))

    def codes(self, path: str) -> list[str]:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        body = answer.json()
        assert body["x-medkit"]["count"] == len(body["items"])
        return [item["fault_code"] for item in body["items"]]


def in_every_status(source: str = "/arm/motor") -> Robot:
    robot = Robot(
        failed("PENDING", source),
        failed("CONFIRMED", source, CRITICAL),
        failed("PASSING", source), passed("PASSING", source),
        failed("HEALED", source, CRITICAL), passed("HEALED", source), passed("HEALED", source),
        failed("CLEARED", source, CRITICAL),
    )  # fmt: skip
    robot.faults.engine.clear(["CLEARED"])
    return robot


@pytest.mark.parametrize("entity", ["", *ENTITIES])
@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("", "PENDING CONFIRMED"),
        ("?status=pending", "PENDING"),
        ("?status=confirmed", "CONFIRMED"),
        ("?status=healed", "PASSING HEALED"),
        ("?status=cleared", "PASSING HEALED CLEARED"),
        ("?status=all", "PENDING CONFIRMED PASSING HEALED CLEARED"),
    ],
)
def test_a_status_means_these_faults(entity: str, query: str, codes: str) -> None:
    assert in_every_status().codes(f"{entity}/faults{query}") == codes.split()


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("status", ["", "CONFIRMED", "active", "x" * 5000])
def test_another_status_is_refused_with_those_that_there_are(method: str, status: str) -> None:
    robot = Robot(failed("F"))
    answer = robot.request(method, f"/faults?status={status}")
    assert answer.status_code == 400
    assert answer.json() == {
        "error_code": "invalid-parameter",
        "message": "Invalid status parameter value",
        "parameters": {
            "allowed_values": ["pending", "confirmed", "healed", "cleared", "all"],
            "parameter": "status",
            "value": status[:256],
        },
    }
    assert robot.faults.cleared == []


@pytest.mark.parametrize(("collection", "name"), ALL)
def test_an_entity_says_whose_status_was_wrong_but_is_looked_for_first(collection: str, name: str) -> None:
    robot = Robot()
    answer = robot.get(f"/{collection}/{name}/faults?status=bad")
    assert answer.status_code == 400
    assert answer.json()["parameters"][f"{collection[:-1]}_id"] == name
    assert robot.get(f"/{collection}/nobody/faults?status=bad").status_code == 404
    # Clearing those of an entity knows no status (API.md §7.6).
    assert robot.request("DELETE", f"/{collection}/{name}/faults?status=bad").status_code == 204


def test_an_item_says_all_of_a_fault() -> None:
    robot = Robot(failed("F", severity=WARN), failed("F", "/arm/lidar", stamp=1_767_225_601.5), passed("F"))
    body = robot.get("/faults").json()
    FaultList.model_validate(body)
    (item,) = body["items"]
    assert item == {
        "fault_code": "F",
        "severity": 2,
        "severity_label": "ERROR",
        "description": "F of /arm/lidar",
        "first_occurred": 1_767_225_600.0,
        "last_occurred": 1_767_225_601.5,
        "last_passed": 1_767_225_660.0,
        "occurrence_count": 2,
        "status": "CONFIRMED",
        "reporting_sources": ["/arm/motor", "/arm/lidar"],
    }


@pytest.mark.parametrize(
    ("entity", "medkit"),
    [
        ("/apps/motor", {"entity_id": "motor", "source_id": "/arm/motor"}),
        ("/components/arm", {"aggregation_level": "component", "aggregated": True, "app_count": 2}),
        ("/components/bare", {"aggregation_level": "component", "aggregated": True, "app_count": 0}),
        ("/areas/robot", {"aggregation_level": "area", "aggregated": True, "component_count": 1, "app_count": 2}),
        ("/functions/moving", {"aggregation_level": "function", "aggregated": True, "host_count": 2}),
    ],
)
def test_a_list_says_what_it_is_gathered_of(entity: str, medkit: dict[str, Any]) -> None:
    found = Robot(failed("F", severity=CRITICAL)).get(f"{entity}/faults").json()["x-medkit"]
    assert medkit.items() <= found.items()
    assert (found["muted_count"], found["cluster_count"]) == (0, 0)
    assert found["count"] == (0 if "bare" in entity else 1)


@pytest.mark.parametrize("entity", ENTITIES[1:])
def test_an_entity_has_the_faults_of_all_below_it_and_no_fault_of_another(entity: str) -> None:
    robot = Robot(failed("A", "/arm/motor"), failed("B", "/arm/lidar/lens"), failed("C", "/head/stranger"))
    robot.faults.report(failed("SHARED", "/arm/motor"))
    robot.faults.report(failed("SHARED", "/head/stranger"))
    assert robot.codes(f"{entity}/faults") == ["A", "B"]
    assert robot.codes("/faults") == ["A", "B", "C", "SHARED"]
    assert robot.codes("/apps/motor/faults") == ["A"]


@pytest.mark.parametrize("entity", ENTITIES)
def test_a_detail_tells_the_fault_and_what_was_recorded(entity: str) -> None:
    robot = Robot(failed("HOT", severity=CRITICAL))
    robot.faults.snapshots["HOT"] = (
        Snapshot("freeze_frame", "temp", '{"data": 85.5}', "/temp", "std_msgs/msg/Float32", 1_767_225_600.0),
        Snapshot("rosbag", "bag", bulk_data_id="fault_HOT", format="mcap"),
    )
    answer = robot.get(f"{entity}/faults/HOT")
    assert answer.status_code == 200
    body = answer.json()
    assert body["item"]["code"] == "HOT"
    assert body["item"]["status"]["aggregatedStatus"] == "active"
    FaultDetail.model_validate(body)
    frame, bag = body["environment_data"]["snapshots"]
    assert (frame["data"], frame["x-medkit"]["full_data"]) == (85.5, {"data": 85.5})
    assert bag["bulk_data_uri"] == f"{entity}/bulk-data/rosbags/fault_HOT"
    assert body["x-medkit"]["status_raw"] == "CONFIRMED"


@pytest.mark.parametrize("code", ["PASSING", "HEALED", "CLEARED"])
def test_a_fault_that_is_over_still_has_a_detail(code: str) -> None:
    assert in_every_status().get(f"/apps/motor/faults/{code}").status_code == 200


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(("collection", "name"), ALL)
@pytest.mark.parametrize("code", ["THEIRS", "MIXED", "NEVER"])
def test_what_is_not_of_the_entity_is_as_unknown_as_what_never_was(
    method: str, collection: str, name: str, code: str
) -> None:
    robot = Robot(failed("THEIRS", "/head/stranger"), failed("MIXED"), failed("MIXED", "/head/stranger"))
    answer = robot.request(method, f"/{collection}/{name}/faults/{code}")
    assert answer.status_code == 404
    assert answer.json() == {
        "error_code": "resource-not-found",
        "message": "Fault not found",
        "parameters": {
            "details": "No fault with this code belongs to this entity",
            f"{collection[:-1]}_id": name,
            "fault_code": code,
        },
    }
    assert robot.faults.cleared == []


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize("entity", ENTITIES)
def test_a_code_that_is_too_long_is_refused(method: str, entity: str) -> None:
    answer = Robot().request(method, f"{entity}/faults/{'x' * 257}")
    assert answer.status_code == 400
    assert (answer.json()["error_code"], answer.json()["message"]) == ("invalid-parameter", "Invalid fault code")
    assert answer.json()["parameters"]["details"]
    assert Robot().request(method, f"{entity}/faults/{'x' * 256}").status_code == 404


@pytest.mark.parametrize("entity", ENTITIES)
def test_clearing_one_fault_clears_that_one(entity: str) -> None:
    robot = Robot(failed("A"), failed("B"))
    for _ in range(2):
        answer = robot.request("DELETE", f"{entity}/faults/A")
        assert (answer.status_code, answer.content) == (204, b"")
        assert "x-medkit-local-only" not in answer.headers
    assert (robot.faults.status("A"), robot.faults.status("B")) == ("CLEARED", "PREFAILED")
    assert robot.faults.cleared[0] == (("A",), True)
    assert robot.codes(f"{entity}/faults") == ["B"]


@pytest.mark.parametrize("entity", ENTITIES)
def test_clearing_an_entity_clears_what_is_pending_or_confirmed_there(entity: str) -> None:
    robot = in_every_status()
    robot.faults.report(failed("THEIRS", "/head/stranger"))
    assert robot.request("DELETE", f"{entity}/faults").status_code == 204
    assert robot.faults.cleared == [(("PENDING", "CONFIRMED"), True)]
    assert robot.request("DELETE", f"{entity}/faults").status_code == 204
    assert len(robot.faults.cleared) == 1
    assert robot.codes("/faults") == ["THEIRS"]


@pytest.mark.parametrize(
    ("query", "codes"),
    [("", ("PENDING", "CONFIRMED")), ("?status=pending", ("PENDING",)), ("?status=healed", ("PASSING", "HEALED"))],
)
def test_clearing_everything_honours_the_status_and_says_that_peers_are_left_alone(
    query: str, codes: tuple[str, ...]
) -> None:
    robot = in_every_status("/head/stranger")
    answer = robot.request("DELETE", f"/faults{query}")
    assert (answer.status_code, answer.content, answer.headers["x-medkit-local-only"]) == (204, b"", "true")
    assert robot.faults.cleared == [(codes, False)]
    assert Robot().request("DELETE", "/faults").headers["x-medkit-local-only"] == "true"


def test_muted_faults_and_clusters_are_counted_always_told_on_request_and_cleared_with_the_rest() -> None:
    robot = Robot(failed("A"))
    muted, cluster = {"fault_code": "M", "root_cause_code": "A"}, {"cluster_id": "c", "fault_codes": ["A"]}
    robot.faults.listing = FaultListing((), (muted,), 1, (cluster,), 1)
    medkit = robot.get("/faults?include_muted=no").json()["x-medkit"]
    assert medkit == {"count": 1, "muted_count": 1, "cluster_count": 1}
    medkit = robot.get("/faults?include_muted=TRUE&include_clusters=1").json()["x-medkit"]
    assert (medkit["muted_faults"], medkit["clusters"]) == ([muted], [cluster])
    assert robot.request("DELETE", "/faults").status_code == 204
    assert robot.faults.cleared == [(("A", "M"), False)]


@pytest.mark.parametrize("path", ["/faults/F/snapshots", *(f"{entity}/faults/F/snapshots" for entity in ENTITIES)])
def test_there_are_no_routes_of_snapshots(path: str) -> None:
    answer = Robot(failed("F")).get(path)
    assert answer.status_code == 404
    assert answer.json()["message"] == "Resource not found"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/faults"), ("DELETE", "/faults"), ("GET", "/apps/motor/faults"), ("DELETE", "/apps/motor/faults"),
        ("GET", "/apps/motor/faults/F"), ("DELETE", "/apps/motor/faults/F"),
    ],
)  # fmt: skip
def test_a_backend_that_cannot_be_asked_is_503(method: str, path: str) -> None:
    robot = Robot(failed("F"))
    robot.faults.error = ServiceUnavailable("Failed to get faults", details="no answer in 5.0 s")
    answer = robot.request(method, path)
    assert answer.status_code == 503
    assert answer.json()["message"] == "Failed to get faults"


@pytest.mark.parametrize("path", ["/faults", "/faults/F"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_the_entity_is_checked_as_everywhere(method: str, path: str) -> None:
    robot = Robot()
    assert robot.request(method, f"/apps/nobody{path}").json()["error_code"] == "entity-not-found"
    assert robot.request(method, f"/apps/a.b{path}").json()["message"] == "Invalid entity ID"
    wrong = robot.request(method, f"/components/motor{path}")
    assert wrong.json()["message"] == "Invalid entity type for route: expected Component, got App"


def test_a_code_with_strange_characters_can_be_asked_for() -> None:
    robot = Robot(failed("zu heiß: 50%"))
    assert robot.get("/apps/motor/faults/zu hei%C3%9F: 50%25").json()["item"]["code"] == "zu heiß: 50%"
    assert robot.request("DELETE", "/apps/motor/faults/zu hei%C3%9F: 50%25").status_code == 204


class Dashed(Api):
    """Apps with ids that the Foxglove dashboard misspells."""

    def __init__(self) -> None:
        apps = [App(name, fqn=f"/{name}") for name in ("temp_sensor", "a_b_c", "a_b-c", "left_arm", "left-arm")]
        faults = Faults(rules=Rules())
        faults.report(failed("HOT", "/temp_sensor"))
        faults.report(failed("BENT", "/left-arm"))
        components = {"head-1": Component("head-1")}
        super().__init__(
            gateway(merged(EntityTree(apps={app.id: app for app in apps}, components=components)), faults=faults)
        )


def test_a_fault_is_shown_and_cleared_under_the_id_that_the_dashboard_makes_of_a_nodes_name() -> None:
    robot = Dashed()
    path = "/apps/temp-sensor/faults/HOT"
    assert robot.get(path).json()["item"]["code"] == "HOT"
    assert robot.request("DELETE", path).status_code == 204
    assert robot.get("/apps/temp_sensor/faults").json()["items"] == []
    assert robot.get(f"{path}/").json()["item"]["status"]["aggregatedStatus"] == "cleared"
    # Whose fault it is not, has none under a misspelt id either.
    assert robot.get("/apps/temp-sensor/faults/COLD").json()["parameters"]["app_id"] == "temp_sensor"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/apps/a-b-c/faults/HOT", 404),
        ("GET", "/apps/left-arm/faults/BENT", 200),
        ("GET", "/apps/left_arm/faults/BENT", 404),
        ("GET", "/apps/temp-sensors/faults/HOT", 404),
        ("GET", "/apps/head_1/faults/HOT", 404),
        ("GET", "/apps/head-1/faults/HOT", 400),
        ("GET", "/apps/temp-sensor", 404),
        ("GET", "/apps/temp-sensor/faults", 404),
        ("DELETE", "/apps/temp-sensor/faults", 404),
        ("PUT", "/apps/temp-sensor/data/x", 404),
        ("GET", "/apps/temp.sensor/faults/HOT", 400),
    ],
)
def test_only_a_single_fault_is_and_only_where_one_app_can_be_meant(method: str, path: str, status: int) -> None:
    assert Dashed().request(method, path).status_code == status


def test_the_first_examples_of_the_page_work() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text()
    block = page.split("```bash\n")[1].split("```")[0]
    examples = re.findall(r"curl (?:-s )?(?:-X (\w+) )?'?localhost:8080/api/v1(/[^\s']+)", block)
    assert len(examples) == 4
    code = "MOTOR_TEMPERATURE"
    nodes = EntityTree(
        components={"arm": Component("arm")}, apps={"driver": App("driver", component_id="arm", fqn="/arm/driver")}
    )
    api = Api(gateway(merged(nodes), faults=Faults(failed(code, "/arm/driver"))))
    for method, path in examples:
        answer = api.request(method or "GET", path)
        assert answer.status_code == (204 if method else 200), path
        assert method or code in answer.text
    assert api.get("/faults").json()["items"] == []


def test_over_the_store_of_our_own_a_fault_is_seen_cleared_and_kept(tmp_path: Path) -> None:
    async def whole() -> None:
        faults = EmbeddedFaults(Rules(), tmp_path)
        await faults.start()
        api = Api(gateway(merged(tree()), faults=faults))
        try:
            faults.report(failed("F"))
            answer = await api.arequest("DELETE", "/apps/motor/faults")
            # What was reported before the request is judged before it, or after: either way it is seen then.
            assert answer.status_code == 204
            items: list[Any] = []
            for _ in range(500):
                items = (await api.arequest("GET", "/components/arm/faults?status=all")).json()["items"]
                if items:
                    break
                await asyncio.sleep(0.01)
            assert [item["fault_code"] for item in items] == ["F"]
            assert (await api.arequest("DELETE", "/functions/moving/faults/F")).status_code == 204
            detail = (await api.arequest("GET", "/areas/robot/faults/F")).json()
            assert detail["x-medkit"]["status_raw"] == "CLEARED"
        finally:
            await faults.stop()

    asyncio.run(whole())
