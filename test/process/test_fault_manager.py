"""A gateway beside a fault manager node: the faults are that one's as long as it is there.

The node is the fake of `support/fake_fault_manager.py` over real services, with stand-in types.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gateways import Fleet, Gateway, fleet
from support.ros import Nodes
from support.waiting import eventually

pytestmark = pytest.mark.process

TYPES = Path(__file__).resolve().parents[1] / "support" / "stand_in_types"
DIAGNOSTICS = "diagnostic_msgs/msg/DiagnosticArray"


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    monkeypatch.setenv("PYTHONPATH", str(TYPES), prepend=":")
    with fleet(tmp_path) as found:
        yield found


def backend(gateway: Gateway) -> str:
    return str(gateway.get("/health").json()["x-medkit"]["faults"]["backend"])


def codes(gateway: Gateway, path: str) -> list[str]:
    answer = gateway.get(path)
    return [item["fault_code"] for item in answer.json()["items"]] if answer.status_code == 200 else []


@pytest.mark.timeout(120)
def test_the_faults_are_the_fault_managers_as_long_as_it_is_there(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain)
    assert backend(gateway) == "embedded"
    status = {"name": "driver: motor", "level": 2, "message": "hot", "hardware_id": "", "values": []}
    with Nodes() as robot:
        driver = robot.add_node("driver", "/arm")
        robot.publish(driver, "/diagnostics", DIAGNOSTICS, {"status": [status]}, period_s=0.2)
        gateway.lists("apps", "driver")
        eventually(lambda: codes(gateway, "/apps/driver/faults") == ["DRIVER_MOTOR"], 10.0, lambda: gateway.output)

        with Nodes() as other:
            other.manage_faults(other.add_node("fault_manager"))
            eventually(lambda: backend(gateway) == "fault_manager", 15.0, lambda: gateway.output)
            # The status goes on, and is told to the fault manager.
            eventually(lambda: codes(gateway, "/apps/driver/faults") == ["DRIVER_MOTOR"], 20.0, lambda: gateway.output)
            detail = gateway.get("/apps/driver/faults/DRIVER_MOTOR").json()
            assert detail["environment_data"]["snapshots"][0]["x-medkit"]["topic"] == "/t"
            assert detail["x-medkit"]["reporting_sources"] == ["/arm/driver"]
            assert gateway.get("/apps/driver/faults/NOBODY").status_code == 404
            assert gateway.client.delete("/apps/driver/faults/DRIVER_MOTOR").status_code == 204
            robot.unpublish(driver, "/diagnostics")
            assert codes(gateway, "/faults?status=cleared") == ["DRIVER_MOTOR"]

            other.freeze()
            silent = gateway.get("/faults")
            assert (silent.status_code, silent.json()["error_code"]) == (503, "service-unavailable")
            assert silent.elapsed.total_seconds() < 8.0
            other.thaw()
        gone = gateway.get("/faults")
        assert gone.status_code == 503
        eventually(lambda: backend(gateway) == "embedded", 30.0, lambda: gateway.output)
        assert codes(gateway, "/faults") == ["DRIVER_MOTOR"]


def test_a_fault_manager_that_is_asked_for_and_not_there_is_said(one: Fleet, ros_domain: int) -> None:
    parameters = {"faults.backend": "fault_manager", "fault_manager.service_timeout_sec": 0.5}
    gateway = one.gateway("a", ros_domain, parameters=parameters)
    answer = gateway.get("/faults")
    assert (answer.status_code, answer.json()["error_code"]) == (503, "service-unavailable")
    assert answer.json()["message"].startswith("Failed to ")
    assert gateway.get("/health").json()["x-medkit"]["faults"]["state"] == "down"
