"""Gateways with a manifest: the examples with real nodes, the modes, reloading while requests come in."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from support.gateways import Fleet, Gateway, fleet
from support.ros import Nodes
from support.waiting import eventually

pytestmark = pytest.mark.process

EXAMPLES = Path(__file__).resolve().parents[2] / "config" / "examples"
SHARE = "$(find-pkg-share ros2_medkit_gateway)/config/examples"
CAMERA = """\
manifest_version: "1.0"
config: {unmanifested_nodes: error}
components: [{id: ecu}]
apps:
  - {id: camera, is_located_on: ecu, ros_binding: {node_name: cam}}
  - {id: watcher, ros_binding: {topic_namespace: /pictures}}
"""


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def with_manifest(one: Fleet, domain: int, path: str | Path, mode: str = "hybrid", **more: object) -> Gateway:
    parameters = {"discovery.mode": mode, "discovery.manifest_path": str(path), **more}
    return one.gateway("a", domain, parameters=parameters)


def online(gateway: Gateway) -> set[str]:
    return {name for name, item in gateway.items("/apps").items() if item["x-medkit"]["is_online"]}


def test_the_demo_robot_comes_to_life_in_its_manifest(one: Fleet, ros_domain: int) -> None:
    gateway = with_manifest(one, ros_domain, f"{SHARE}/demo_nodes_manifest.yaml")
    assert online(gateway) <= {"medkit_gateway_py"}
    assert gateway.items("/apps")["engine-temp-sensor"]["x-medkit"]["source"] == "manifest"
    one.robot("all", ros_domain)
    unbound = {"hateoas-app-standalone", "hateoas-app-on-area-less-component"}
    declared = {
        "engine-temp-sensor", "engine-temp-monitor", "engine-rpm-sensor", "engine-calibration-service",
        "engine-long-calibration", "brake-pressure-sensor", "brake-actuator", "door-status-sensor", "light-controller",
        "lidar-sensor",
    }  # fmt: skip
    eventually(lambda: declared <= online(gateway), within=20.0, message=lambda: gateway.output)
    assert declared | unbound < gateway.ids("apps")
    assert not unbound & online(gateway)
    assert gateway.ids("areas") == {"powertrain", "chassis", "body", "perception", "hateoas-edge-area"}
    assert set(gateway.items("/areas/body/subareas")) == {"door", "lights"}
    assert set(gateway.items("/areas/powertrain/contains")) == {"engine-ecu", "temp-sensor-hw", "rpm-sensor-hw"}
    assert len(gateway.ids("components")) == 10
    assert set(gateway.items("/components/engine-ecu/hosts")) == {
        "engine-calibration-service", "engine-long-calibration",
    }  # fmt: skip
    assert gateway.ids("functions") == {
        "engine-monitoring", "engine-calibration", "brake-system", "body-electronics", "perception-system",
    }  # fmt: skip
    assert set(gateway.items("/functions/brake-system/hosts")) == {"brake-pressure-sensor", "brake-actuator"}
    # What the node offers is the app's: a value, an operation, a parameter.
    value = gateway.get("/apps/engine-temp-sensor/data/powertrain/engine/temperature").json()
    assert value["x-medkit"]["ros2"]["type"] == "sensor_msgs/msg/Temperature"
    assert set(gateway.items("/apps/engine-calibration-service/operations")) == {"calibrate"}
    assert "max_temp" in gateway.items("/apps/engine-temp-sensor/configurations")
    discovery = gateway.get("/health").json()["discovery"]
    assert (discovery["mode"], discovery["linking"]["linked_count"]) == ("hybrid", 10)
    # Nodes of the demo that the manifest does not name fill it up.
    assert "vehicle_supervisor" in gateway.ids("apps")


def test_late_doubled_and_unknown_nodes(one: Fleet, ros_domain: int, tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(CAMERA)
    gateway = with_manifest(one, ros_domain, path)
    assert online(gateway) == {"medkit_gateway_py"}
    with Nodes() as nodes:
        nodes.add_node("cam", "/rear")
        eventually(lambda: "camera" in online(gateway), within=15.0, message=lambda: gateway.output)
        assert gateway.items("/apps")["camera"]["x-medkit"]["ros2"] == {"node": "/rear/cam"}
        # A second one of that name: the first by name is the app, the other is nobody's.
        other = nodes.add_node("cam", "/front")
        eventually(lambda: gateway.items("/apps")["camera"]["x-medkit"]["ros2"]["node"] == other, within=15.0)
        seer = nodes.add_node("seer")
        nodes.subscribe(seer, "/pictures/left", "std_msgs/msg/String")
        eventually(lambda: "watcher" in online(gateway), within=15.0, message=lambda: gateway.output)
        health = gateway.get("/health").json()
        (warning,) = [one for one in health["warnings"] if one["code"] == "unmanifested_nodes"]
        assert health["status"] == "healthy"
        assert set(warning["ros_node_fqns"]) == {"/medkit_gateway_py", "/rear/cam"}
        assert warning["entity_ids"] == []
    eventually(lambda: online(gateway) == {"medkit_gateway_py"}, within=30.0, message=lambda: gateway.output)
    assert {"camera", "watcher"} <= gateway.ids("apps")


def test_manifest_only_shows_what_is_declared_and_links_nothing(one: Fleet, ros_domain: int) -> None:
    one.robot("a", ros_domain)
    gateway = with_manifest(one, ros_domain, EXAMPLES / "demo_nodes_manifest.yaml", "manifest_only")
    eventually(
        lambda: gateway.get("/apps/engine-temp-sensor/configurations").status_code == 200,
        within=20.0, message=lambda: gateway.output,
    )  # fmt: skip
    assert len(gateway.ids("apps")) == 12
    assert online(gateway) == set()
    assert (
        gateway.items("/apps/engine-temp-sensor/data")
        == gateway.items("/apps/engine-calibration-service/operations")
        == {}
    )
    assert "max_temp" in gateway.items("/apps/engine-temp-sensor/configurations")
    # A topic is read by its name all the same.
    value = gateway.get("/apps/engine-temp-sensor/data/powertrain/engine/temperature").json()
    assert value["x-medkit"]["status"] == "data"


def test_a_wrong_manifest_is_told_and_hybrid_goes_on_without_until_it_is_mended(
    one: Fleet, ros_domain: int, tmp_path: Path
) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(CAMERA.replace("is_located_on: ecu", "is_located_on: nowhere"))
    gateway = with_manifest(one, ros_domain, path)
    health = gateway.get("/health").json()
    assert health["discovery"] == {"mode": "runtime_only", "strategy": "runtime"}
    (warning,) = [one for one in health["warnings"] if one["code"] == "manifest_rejected"]
    assert f"{path}:5: apps[0].is_located_on: 'nowhere' is no component" in warning["message"]
    assert health["x-medkit"]["discovery"]["state"] == "degraded"
    assert "using runtime_only" in gateway.output
    path.write_text(CAMERA)
    gateway.lists("apps", "camera")
    assert gateway.get("/health").json()["discovery"]["mode"] == "hybrid"


def test_manifest_only_does_not_start_with_a_wrong_manifest(one: Fleet, ros_domain: int, tmp_path: Path) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text("apps: []")
    parameters = {"discovery.mode": "manifest_only", "discovery.manifest_path": str(path)}
    gateway = one.gateway("a", ros_domain, start=False, parameters=parameters)
    gateway.spawn()
    assert gateway.wait(30.0) == 1
    assert "discovery.mode is manifest_only, and there is no manifest." in gateway.output
    assert "[R001]" in gateway.output
    assert "Traceback" not in gateway.output


# Reloading under load

APPS = 300
READERS = 4
# With the number of items that each answer must have.
ROUTES = (("/apps", APPS + 1), ("/components/ecu/hosts", APPS), ("/apps/app7/depends-on", 1))


def generation(number: int) -> str:
    """A manifest in which everything says which generation it is of."""
    apps = "".join(
        f"  - {{id: app{n}, name: g{number}, is_located_on: ecu, depends_on: [app{n + 1}]}}\n" for n in range(APPS)
    )
    return (
        f'manifest_version: "1.0"\nareas: [{{id: bay, name: g{number}}}]\n'
        f"components: [{{id: ecu, name: g{number}, area: bay}}]\napps:\n{apps}  - {{id: app{APPS}, name: g{number}}}\n"
    )


def test_no_request_sees_half_a_tree_while_the_manifest_is_reloaded(
    one: Fleet, ros_domain: int, tmp_path: Path
) -> None:
    path = tmp_path / "robot.yaml"
    path.write_text(generation(0))
    gateway = with_manifest(one, ros_domain, path, **{"discovery.merge_pipeline.gap_fill.allow_heuristic_apps": False})
    stop = threading.Event()
    problems: list[str] = []
    seen: set[str] = set()

    def read() -> None:
        with httpx.Client(base_url=f"{gateway.url}/api/v1", timeout=20.0, trust_env=False) as client:
            while not stop.is_set():
                for route, count in (
                    ("/apps", APPS + 1),
                    ("/components/ecu/hosts", APPS),
                    ("/apps/app7/depends-on", 1),
                ):
                    answer = client.get(route)
                    items = answer.json()["items"] if answer.status_code == 200 else []
                    names = {item["name"] for item in items}
                    if len(items) != count or len(names) != 1:
                        problems.append(f"{route}: {answer.status_code}, {len(items)} items of {names}")
                    seen.update(names)

    readers = [threading.Thread(target=read) for _ in range(READERS)]
    for reader in readers:
        reader.start()
    try:
        for number in range(1, 6):
            path.write_text(generation(number))
            eventually(lambda number=number: f"g{number}" in seen, within=30.0, message=lambda: gateway.output)  # type: ignore[misc]
            # Half a file, and one that is no YAML: the last good one stays.
            path.write_text(generation(99)[:1000])
            eventually(
                lambda: any(w["code"] == "manifest_rejected" for w in gateway.get("/health").json()["warnings"]),
                within=30.0, message=lambda: gateway.output,
            )  # fmt: skip
    finally:
        stop.set()
        for reader in readers:
            reader.join(30.0)
    assert problems[:3] == []
    assert seen == {f"g{number}" for number in range(6)}


def test_a_peer_lists_areas_and_declared_apps_of_another_gateway(one: Fleet, ros_domain: int, tmp_path: Path) -> None:
    manifest = tmp_path / "robot.yaml"
    manifest.write_text(f"{CAMERA}areas: [{{id: bay, subareas: [{{id: rack}}]}}]\n")
    below = with_manifest(one, ros_domain, manifest)
    above = one.gateway(
        "b", ros_domain, node="above",
        parameters={
            "aggregation.enabled": True, "aggregation.peer_urls": [below.url], "aggregation.peer_names": ["below"],
        },
    )  # fmt: skip
    above.lists("areas", "bay")
    above.lists("apps", "camera", "watcher")
    assert set(above.items("/areas/bay/subareas")) == {"rack"}
    assert above.get("/areas/rack").json()["_links"]["parent"] == "/api/v1/areas/bay"
    camera = above.get("/apps/camera").json()
    assert (camera["x-medkit"]["is_online"], camera["is-located-on"]) == (False, "/api/v1/components/ecu")
    assert json.dumps(above.get("/components/ecu").json()).count("peer:below") >= 1
