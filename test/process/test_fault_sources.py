"""Faults of a real robot, from where they begin to where a client sees them: the examples of docs/faults.md."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.gateways import Fleet, Gateway, fleet
from support.ros import Nodes
from support.waiting import eventually

pytestmark = pytest.mark.process

OIL = "/apps/engine_diagnostics/faults/ENGINE_DIAGNOSTICS_OIL_PRESSURE"
PRESSURE = "/apps/engine_diagnostics/configurations/oil_pressure"
RUNS = "/apps/long_calibration/operations/long_calibration/executions"


@pytest.fixture(scope="module")
def robot(tmp_path_factory: pytest.TempPathFactory, ros_domain: int) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("robot")) as one:
        one.robot("a", ros_domain)
        yield one


@pytest.fixture(scope="module")
def gateway(robot: Fleet, ros_domain: int) -> Gateway:
    started = robot.gateway("a", ros_domain, parameters={"faults.rosout.heal_after_s": 5.0})
    started.lists("apps", "engine_diagnostics", "long_calibration")
    return started


def status_of(gateway: Gateway, path: str) -> str:
    answer = gateway.get(path)
    return str(answer.json()["x-medkit"]["status_raw"]) if answer.status_code == 200 else ""


def comes(gateway: Gateway, path: str, status: str, within: float = 20.0) -> dict[str, Any]:
    """The detail of a fault, once it has this status."""
    eventually(lambda: status_of(gateway, path) == status, within, lambda: gateway.get(path).text + gateway.output)
    return dict(gateway.get(path).json())


def put(gateway: Gateway, path: str, value: float) -> None:
    """Right after the start of a robot its services can lose an answer."""
    eventually(lambda: gateway.client.put(path, json={"data": value}).status_code == 200, within=20.0)


def test_a_status_that_is_not_ok_is_a_fault_of_its_node_until_it_is(gateway: Gateway) -> None:
    assert gateway.get(OIL).status_code == 404
    put(gateway, PRESSURE, 0.5)
    detail = comes(gateway, OIL, "CONFIRMED")
    assert detail["item"]["fault_name"] == "too low (bar=0.5)"
    assert detail["x-medkit"]["severity_label"] == "ERROR"
    assert detail["x-medkit"]["reporting_sources"] == ["/powertrain/engine_diagnostics"]
    assert gateway.get("/apps/engine_diagnostics/faults").json()["x-medkit"]["count"] == 1
    assert gateway.get("/apps/temp_sensor/faults").json()["x-medkit"]["count"] == 0

    def parameters() -> list[dict[str, Any]]:
        snapshots = gateway.get(OIL).json()["environment_data"]["snapshots"]
        return [one for one in snapshots if one["name"] == "parameters"]

    frame = eventually(parameters, within=5.0)[0]
    assert frame["data"]["/powertrain/engine_diagnostics"]["oil_pressure"] == 0.5
    put(gateway, PRESSURE, 3.5)
    healed = comes(gateway, OIL, "HEALED")
    assert healed["item"]["status"]["aggregatedStatus"] == "cleared"


def test_a_fault_that_is_cleared_and_goes_on_comes_back(gateway: Gateway) -> None:
    put(gateway, PRESSURE, 1.5)
    assert comes(gateway, OIL, "CONFIRMED")["x-medkit"]["severity_label"] == "WARN"
    assert gateway.client.delete(OIL).status_code == 204
    assert status_of(gateway, OIL) == "CLEARED"
    comes(gateway, OIL, "CONFIRMED")
    put(gateway, PRESSURE, 3.5)
    comes(gateway, OIL, "HEALED")


def start(gateway: Gateway, order: int) -> None:
    def started() -> bool:
        return gateway.client.post(RUNS, json={"parameters": {"order": order}}).status_code == 202

    eventually(started, within=20.0)


def test_an_aborted_goal_is_a_fault_until_the_action_works_again(gateway: Gateway) -> None:
    code = "ACTION_ABORTED_POWERTRAIN_ENGINE_LONG_CALIBRATION"
    start(gateway, -1)
    detail = comes(gateway, f"/apps/long_calibration/faults/{code}", "CONFIRMED")
    assert detail["x-medkit"]["reporting_sources"] == ["/powertrain/engine/long_calibration"]
    for _ in range(3):
        start(gateway, 2)
    comes(gateway, f"/apps/long_calibration/faults/{code}", "HEALED")


def test_an_error_in_the_log_is_a_fault_until_it_is_quiet(gateway: Gateway) -> None:
    start(gateway, -1)
    path = "/apps/long_calibration/faults/LOG_ERROR_POWERTRAIN_ENGINE_LONG_CALIBRATION"
    detail = comes(gateway, path, "CONFIRMED")
    assert detail["item"]["fault_name"] == "cannot calibrate to order -1"
    comes(gateway, path, "HEALED", within=30.0)


def commands() -> list[tuple[str, str, Any]]:
    """Method, path and body of the examples of the page that can be tried."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "faults.md").read_text()
    block = page.partition("**Try it**")[2].partition("```bash\n")[2].partition("```")[0]
    found = []
    for line in block.splitlines():
        words = shlex.split(line)
        url = next(word for word in words if word.startswith("localhost:8080/api/v1"))
        body = json.loads(words[words.index("-d") + 1]) if "-d" in words else None
        method = words[words.index("-X") + 1] if "-X" in words else "GET"
        found.append((method, url.removeprefix("localhost:8080/api/v1"), body))
    return found


def test_the_examples_of_the_page_do_what_it_says(gateway: Gateway) -> None:
    worse, detail, better, healed, calibrate, faults = commands()

    def sent(command: tuple[str, str, Any]) -> bool:
        return gateway.client.request(command[0], command[1], json=command[2]).is_success

    eventually(lambda: sent(worse), within=20.0)
    comes(gateway, detail[1], "CONFIRMED")
    eventually(lambda: sent(better), within=20.0)
    eventually(
        lambda: (
            [one["fault_code"] for one in gateway.get(healed[1]).json()["items"]] == ["ENGINE_DIAGNOSTICS_OIL_PRESSURE"]
        ),
        within=20.0,
    )
    eventually(lambda: sent(calibrate), within=20.0)
    eventually(lambda: gateway.get(faults[1]).json()["x-medkit"]["count"] == 2, within=10.0)


def test_health_tells_how_each_source_is(gateway: Gateway) -> None:
    blocks = gateway.get("/health").json()["x-medkit"]
    assert blocks["faults"]["backend"] == "embedded"
    sources = blocks["fault_sources"]
    assert sources["state"] == "ok"
    assert {
        name: sources[name]["state"] for name in ("diagnostics", "rosout", "actions", "snapshots")
    } == dict.fromkeys(("diagnostics", "rosout", "actions", "snapshots"), "ok")
    assert sources["diagnostics"]["messages"] > 0
    assert sources["actions"]["followed"] == 1
    page = gateway.client.get(f"{gateway.url}/metrics").text
    assert 'medkit_faults{status="healed"} ' in page
    assert 'medkit_faults_captures_total{outcome="taken"} ' in page


def test_a_node_that_dies_keeps_its_fault_and_sources_can_be_switched_off(
    robot: Fleet, ros_domains: Callable[[], int]
) -> None:
    domain = ros_domains()
    off = {f"faults.{name}.enabled": False for name in ("rosout", "actions", "snapshots")}
    gateway = robot.gateway("off", domain, parameters=off)
    blocks = gateway.get("/health").json()["x-medkit"]["fault_sources"]
    assert {blocks[name]["state"] for name in ("rosout", "actions", "snapshots")} == {"off"}
    before = os.environ["ROS_DOMAIN_ID"]
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    try:
        nodes = Nodes()
    finally:
        os.environ["ROS_DOMAIN_ID"] = before
    with nodes:
        fqn = nodes.add_node("doomed")
        status = {"name": "doomed: heart", "level": 2, "message": "weak", "hardware_id": "", "values": []}
        nodes.publish(fqn, "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", {"status": [status]}, period_s=0.2)
        gateway.lists("apps", "doomed")
        comes(gateway, "/apps/doomed/faults/DOOMED_HEART", "CONFIRMED")
    gateway.lists_no("apps", "doomed")
    assert [item["fault_code"] for item in gateway.get("/faults").json()["items"]] == ["DOOMED_HEART"]
