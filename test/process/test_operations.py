"""Operations of real robots through real gateways: on one, and on an aggregating one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.gateways import Fleet, Gateway, fleet
from support.ros import Nodes
from support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(120)]

CALIBRATE = "/operations/calibrate"
LONG = "/operations/long_calibration"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def post(gateway: Gateway, path: str, body: Any = None) -> Any:
    return gateway.client.post(f"{path}/executions", json={} if body is None else body, timeout=20.0)


def ended(gateway: Gateway, path: str, within: float = 15.0) -> dict[str, Any]:
    """What an execution says once it runs no more."""
    eventually(lambda: gateway.get(path).json()["status"] != "running", within=within)
    body: dict[str, Any] = gateway.get(path).json()
    return body


def location(answer: Any) -> str:
    found: str = answer.headers["location"]
    assert found.startswith("/api/v1/")
    return found.removeprefix("/api/v1")


def lists_operation(gateway: Gateway, entity: str, name: str) -> None:
    """Wait until an operation is listed with its schemas."""

    def there() -> bool:
        answer = gateway.get(f"{entity}/operations")
        items = answer.json().get("items", []) if answer.status_code == 200 else []
        return any(item["name"] == name and "type_info" in item["x-medkit"] for item in items)

    eventually(there, within=20.0, message=lambda: gateway.output)


def test_a_service_and_an_action_of_a_robot(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain, parameters={"service_call_timeout_sec": 2})
    robot = one.robot("a", ros_domain)
    lists_operation(gateway, "/apps/calibration", "calibrate")
    lists_operation(gateway, "/apps/long_calibration", "long_calibration")
    assert gateway.get("/").json()["capabilities"]["operations"] is True

    answer = post(gateway, f"/apps/calibration{CALIBRATE}")
    assert (answer.status_code, answer.json()["parameters"]["success"]) == (200, True), answer.text
    answer = post(gateway, f"/apps/calibration{CALIBRATE}", {"parameters": {"no": 1}})
    assert (answer.status_code, answer.json()["vendor_code"]) == (500, "x-medkit-ros2-service-unavailable")

    started = post(gateway, f"/apps/long_calibration{LONG}", {"parameters": {"order": 5}})
    assert started.status_code == 202, started.text
    eventually(lambda: "parameters" in gateway.get(location(started)).json(), within=5.0)
    body = ended(gateway, location(started))
    assert (body["status"], body["result"]) == ("completed", {"sequence": [0, 1, 1, 2, 3]})

    cancelled = post(gateway, f"/apps/long_calibration{LONG}", {"goal": {"order": 40}})
    assert gateway.client.delete(location(cancelled)).status_code == 204
    assert ended(gateway, location(cancelled))["x-medkit"]["ros2_status"] == "canceled"

    lost = post(gateway, f"/apps/long_calibration{LONG}", {"goal": {"order": 40}})
    robot.kill()
    answer = gateway.client.delete(location(lost), timeout=20.0)
    assert answer.status_code in (503, 504), answer.text
    # A node that was killed stays in the graph until its lease of 20 s ends.
    body = ended(gateway, location(lost), within=40.0)
    assert (body["status"], body["x-medkit"]["ros2_status"]) == ("failed", "aborted")


def test_a_service_that_hangs_ends_in_time_and_blocks_nothing(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain, parameters={"service_call_timeout_sec": 3})
    with Nodes() as nodes:
        server = nodes.add_node("server")
        nodes.serve(server, "/hanging", "std_srvs/srv/Trigger", hang=True)
        nodes.serve(server, "/quick", "std_srvs/srv/Trigger")
        lists_operation(gateway, "/apps/server", "hanging")
        lists_operation(gateway, "/apps/server", "quick")
        assert post(gateway, "/apps/server/operations/quick").status_code == 200
        answers: list[Any] = []
        calls = [
            threading.Thread(target=lambda: answers.append(post(gateway, "/apps/server/operations/hanging")))
            for _ in range(12)
        ]
        began = time.monotonic()
        for call in calls:
            call.start()
        assert post(gateway, "/apps/server/operations/quick").status_code == 200
        assert gateway.get("/health").status_code == 200
        assert time.monotonic() - began < 2.0
        for call in calls:
            call.join(10.0)
        assert time.monotonic() - began < 6.0
        assert {(answer.status_code, answer.json()["message"]) for answer in answers} == {(500, "Service call failed")}
        assert len(answers) == 12
        assert gateway.stop() == 0


def test_operations_of_a_peer(one: Fleet, ros_domains: Callable[[], int]) -> None:
    far = ros_domains()
    b = one.gateway("b", far, node="gateway_b", parameters={"discovery.runtime.default_component.id": "host"})
    one.robot("a", far)
    a = one.gateway(
        "a",
        ros_domains(),
        node="gateway_a",
        parameters={
            "aggregation.enabled": True,
            "aggregation.peer_urls": [b.url],
            "aggregation.peer_names": ["peer_b"],
            "discovery.runtime.default_component.id": "host",
        },
    )
    a.lists("apps", "calibration", "long_calibration")
    lists_operation(a, "/apps/calibration", "calibrate")
    lists_operation(a, "/apps/long_calibration", "long_calibration")
    lists_operation(a, "/components/host", "long_calibration")
    found = {item["name"]: item for item in a.get("/components/host/operations").json()["items"]}
    assert found["calibrate"]["x-medkit"]["member_ids"] == ["calibration"]
    assert found["calibrate"]["x-medkit"]["peer"] == "peer_b"

    for path in (
        f"/apps/calibration{CALIBRATE}",
        f"/components/host{CALIBRATE}",
        "/components/host/operations/calibration:calibrate",
        f"/functions/powertrain{CALIBRATE}",
    ):
        answer = post(a, path)
        assert (answer.status_code, answer.json()["parameters"]["success"]) == (200, True), answer.text

    for path in (f"/apps/long_calibration{LONG}", f"/components/host{LONG}"):
        started = post(a, path, {"parameters": {"order": 4}})
        assert started.status_code == 202, started.text
        # Under the path that was asked, as the web UI does, and where the answer says.
        asked = f"{path}/executions/{started.json()['id']}"
        assert ended(a, asked)["result"] == {"sequence": [0, 1, 1, 2]}
        assert a.get(location(started)).json()["status"] == "completed"
        running = post(a, path, {"parameters": {"order": 40}}).json()["id"]
        assert a.client.delete(f"{path}/executions/{running}").status_code == 204
        assert ended(a, f"{path}/executions/{running}")["status"] == "failed"
