"""What the routes answer for entities of a manifest (API.md §3), over the example of the demo robot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medkit_gateway_py.entities.ids import GivenIds
from medkit_gateway_py.entities.layers import LayerOptions, build_tree
from medkit_gateway_py.entities.manifest import Source
from medkit_gateway_py.entities.manifest_rules import load_manifest
from medkit_gateway_py.entities.model import GraphNode
from medkit_gateway_py.resources.logs import LogLine, LogStore
from support.api import OWN, Api, gateway, merged

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "examples"


def api(example: str, *nodes: GraphNode, mode: str = "hybrid", **more: Any) -> Api:
    loaded = load_manifest(Source(example, (EXAMPLES / example).read_text()))
    built = build_tree(nodes, [], loaded.manifest, GivenIds(), LayerOptions(OWN.id, mode=mode))
    return Api(gateway(merged(built.tree), **more))


@pytest.fixture(scope="module")
def demo() -> Api:
    return api("demo_nodes_manifest.yaml", GraphNode("temp_sensor", "/powertrain/engine"), GraphNode("x", "/y"))


def ids(found: Api, path: str) -> list[str]:
    answer = found.get(path)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body["x-medkit"]["total_count"] == len(body["items"])
    return [item["id"] for item in body["items"]]


RELATIONS = [
    ("/areas", ["body", "chassis", "hateoas-edge-area", "perception", "powertrain"]),
    ("/areas/powertrain/subareas", ["engine"]),
    ("/areas/body/subareas", ["door", "lights"]),
    ("/areas/front-left-door/subareas", []),
    ("/areas/powertrain/components", []),
    ("/areas/engine/components", ["engine-ecu", "rpm-sensor-hw", "temp-sensor-hw"]),
    ("/areas/body/contains", ["light-module", "door-sensor-hw"]),
    ("/areas/hateoas-edge-area/contains", []),
    ("/components/engine-ecu/hosts", ["engine-calibration-service", "engine-long-calibration"]),
    ("/components/engine-ecu/depends-on", ["temp-sensor-hw", "rpm-sensor-hw"]),
    ("/components/engine-ecu/subcomponents", []),
    ("/apps/engine-temp-sensor/is-located-on", ["temp-sensor-hw"]),
    ("/apps/engine-temp-sensor/belongs-to", ["engine"]),
    ("/apps/engine-long-calibration/depends-on", ["engine-calibration-service"]),
    ("/apps/hateoas-app-standalone/is-located-on", []),
    ("/apps/hateoas-app-standalone/belongs-to", []),
    ("/apps/hateoas-app-on-area-less-component/belongs-to", []),
    ("/functions/brake-system/hosts", ["brake-pressure-sensor", "brake-actuator"]),
]


@pytest.mark.parametrize(("path", "expected"), RELATIONS, ids=[path for path, _ in RELATIONS])
def test_lists_and_relations(demo: Api, path: str, expected: list[str]) -> None:
    assert ids(demo, path) == expected


def test_an_area_inside_another_says_so(demo: Api) -> None:
    body = demo.get("/areas/engine").json()
    assert body["_links"]["parent"] == "/api/v1/areas/powertrain"
    assert body["x-medkit"] == {"ros2": {"namespace": "/powertrain/engine"}, "parent_area_id": "powertrain"}
    assert [one["name"] for one in body["capabilities"]] == [
        "subareas", "contains", "data", "operations", "configurations", "faults", "logs", "bulk-data", "triggers",
    ]  # fmt: skip
    top = demo.get("/areas/powertrain").json()
    assert "parent" not in top["_links"]
    assert "Engine" in top["description"]


def test_a_component_tells_its_area_nameplate_and_type(demo: Api) -> None:
    body = demo.get("/components/engine-ecu").json()
    medkit = body["x-medkit"]
    assert body["belongs-to"] == body["_links"]["area"] == "/api/v1/areas/engine"
    assert (medkit["source"], medkit["type"], medkit["area"]) == ("manifest", "controller", "engine")
    assert medkit["dependsOn"] == ["temp-sensor-hw", "rpm-sensor-hw"]
    assert medkit["identity"]["serialNumber"] == "0001"
    assert "depends-on" in [one["name"] for one in medkit["capabilities"]]
    assert "belongs-to" not in demo.get("/components/hateoas-component-no-area").json()


def test_an_app_tells_its_node_only_while_it_is_bound(demo: Api) -> None:
    bound = demo.get("/apps/engine-temp-sensor").json()
    assert bound["x-medkit"]["ros2"] == {"node": "/powertrain/engine/temp_sensor"}
    assert (bound["x-medkit"]["is_online"], bound["x-medkit"]["source"]) == (True, "manifest")
    assert bound["is-located-on"] == bound["_links"]["is-located-on"] == "/api/v1/components/temp-sensor-hw"
    waiting = demo.get("/apps/lidar-sensor").json()
    assert waiting["x-medkit"]["is_online"] is False
    assert "ros2" not in waiting["x-medkit"]
    assert waiting["tags"] == ["fault-reporter", "safety-critical"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/apps/engine-temp-sensor", "ready"),
        ("/apps/lidar-sensor", "notReady"),
        ("/components/temp-sensor-hw", "ready"),
        ("/components/lidar-unit", "notReady"),
        ("/components/brake-ecu", "ready"),
    ],
)
def test_what_is_not_there_is_not_ready(demo: Api, path: str, status: str) -> None:
    assert demo.get(f"{path}/status").json()["status"] == status


@pytest.mark.parametrize("collection", ["data", "operations", "configurations", "faults", "logs"])
@pytest.mark.parametrize(
    "entity",
    [
        "areas/hateoas-edge-area",
        "areas/powertrain",
        "components/hateoas-component-no-area",
        "apps/hateoas-app-standalone",
    ],
)
def test_collections_answer_where_nothing_runs(demo: Api, entity: str, collection: str) -> None:
    answer = demo.get(f"/{entity}/{collection}")
    assert answer.status_code == 200, answer.text
    assert isinstance(answer.json()["items"], list)


@pytest.mark.parametrize("mode", ["hybrid", "manifest_only"])
def test_what_a_node_said_before_it_went_is_found_by_its_binding(mode: str) -> None:
    logs = LogStore(10)
    logs.add(LogLine(1, 0, 40, "perception.lidar.lidar_sensor", "no echo"))
    found = api("demo_nodes_manifest.yaml", mode=mode, logs=logs)
    for path in ("apps/lidar-sensor", "components/lidar-unit", "areas/perception", "functions/perception-system"):
        assert [one["message"] for one in found.get(f"/{path}/logs").json()["items"]] == ["no echo"], path
    assert found.get("/apps/brake-actuator/logs").json()["items"] == []


def test_the_flat_robot_has_one_component_with_three_in_it() -> None:
    flat = api("flat_robot_manifest.yaml")
    assert ids(flat, "/areas") == []
    assert ids(flat, "/components") == ["turtlebot3"]
    assert ids(flat, "/components/turtlebot3/subcomponents") == ["lds-sensor", "opencr-board", "raspberry-pi"]
    assert ids(flat, "/apps") == ["lidar-driver", "nav2-controller", "robot-state-publisher", "turtlebot3-node"]
    assert ids(flat, "/functions") == ["autonomous-navigation", "teleoperation"]
    body = flat.get("/components/lds-sensor").json()
    assert body["_links"]["parent"] == "/api/v1/components/turtlebot3"
    assert body["x-medkit"]["parentComponentId"] == "turtlebot3"


def test_the_cell_has_two_robots_an_inventory_and_a_program_that_is_no_node() -> None:
    nodes = [GraphNode("joint_controller", f"/{side}") for side in ("left", "right")]
    cell = api("multi_robot_cell.yaml", *nodes, GraphNode("stranger", "/"))
    assert "stranger" not in ids(cell, "/apps")
    items: dict[str, Any] = {item["id"]: item["x-medkit"] for item in cell.get("/apps").json()["items"]}
    assert items["left-controller"]["ros2"]["node"] == "/left/joint_controller"
    assert items["right-controller"]["ros2"]["node"] == "/right/joint_controller"
    assert (items["plc-bridge"]["external"], items["plc-bridge"]["is_online"]) == (True, False)
    plc = cell.get("/components/cell-plc").json()
    assert (plc["source"], plc["x-medkit"]["external"]) == ("inventory", True)
    assert plc["x-medkit"]["identity"]["networkEndpoint"] == "192.168.7.2"
    drive = cell.get("/components/conveyor-drive").json()
    assert (drive["name"], drive["x-medkit"]["identity"]["extra"]) == ("Example Drives D100", {"cabinet": "K2"})
    assert ids(cell, "/areas/cell/contains") == [
        "arm-left", "gripper-left", "vision-pc", "arm-right", "gripper-right",
    ]  # fmt: skip


def test_one_manifest_serves_a_robot_in_any_namespace() -> None:
    nodes = [GraphNode(name, "/tb3_0") for name in ("amcl", "planner_server", "controller_server", "bt_navigator")]
    robot = api("turtlebot3_like.yaml", *nodes)
    online = {item["id"] for item in robot.get("/apps").json()["items"] if item["x-medkit"]["is_online"]}
    assert online == {"amcl", "planner", "controller", "behavior-tree"}
    assert robot.get("/functions/navigate").json()["_links"]["depends-on"] == [
        "/api/v1/functions/localize", "/api/v1/functions/drive",
    ]  # fmt: skip
