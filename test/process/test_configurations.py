"""Parameters of real robots over real gateways: set at home and through a peer, and nodes that do not answer."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from support.gateways import Fleet, Gateway, fleet
from support.waiting import eventually

pytestmark = pytest.mark.process

MIN_TEMP = "/apps/temp_sensor/configurations/min_temp"


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def settles(gateway: Gateway, path: str, status: int = 200) -> httpx.Response:
    """The answer, once it has this status: a robot takes a moment until it answers."""
    return eventually(
        lambda: answer if (answer := gateway.get(path)).status_code == status else None,
        within=20,
        message=lambda: gateway.output,
    )


def test_a_parameter_is_changed_and_reset_and_a_silent_robot_delays_nobody(one: Fleet, ros_domain: int) -> None:
    seconds = {"parameter_service_timeout_sec": 1.0}
    gateway = one.gateway("a", ros_domain, parameters=seconds)
    robot = one.robot("a", ros_domain)
    gateway.lists("apps", "temp_sensor", "rpm_sensor")
    before = settles(gateway, MIN_TEMP).json()
    assert before["data"] == 85.0
    assert before["x-medkit"]["parameter"]["description"]
    assert gateway.client.put(MIN_TEMP, json={"value": 90}).json()["x-medkit"]["parameter"]["value"] == 90.0
    assert gateway.get(MIN_TEMP).json()["data"] == 90.0
    refused = gateway.client.put("/apps/temp_sensor/configurations/rate", json={"data": 1e6})
    assert (refused.status_code, refused.json()["error_code"]) == (400, "invalid-parameter")
    assert "range" in refused.json()["parameters"]["details"]
    assert gateway.client.delete(MIN_TEMP).status_code == 204
    assert gateway.get(MIN_TEMP).json()["data"] == 85.0
    own = next(app for app in gateway.ids("apps") if app.startswith("medkit_gateway"))
    read_only = gateway.client.put(f"/apps/{own}/configurations/server.port", json={"data": 8081})
    assert (read_only.status_code, read_only.json()["vendor_code"]) == (403, "x-medkit-ros2-parameter-read-only")

    robot.send(signal.SIGSTOP)
    try:
        silent = gateway.get("/apps/temp_sensor/configurations")
        assert (silent.status_code, silent.json()["vendor_code"]) == (503, "x-medkit-ros2-node-unavailable")
        assert silent.elapsed.total_seconds() < 4.0
        again = gateway.get(MIN_TEMP)
        assert "(cached)" in again.json()["parameters"]["details"]
        assert again.elapsed.total_seconds() < 0.5
        assert gateway.get("/apps").elapsed.total_seconds() < 0.5
        host = next(iter(gateway.ids("components")))
        partial = gateway.get(f"/components/{host}/configurations").json()
        assert partial["x-medkit"]["partial"] is True
        assert "/powertrain/engine/temp_sensor" in partial["x-medkit"]["unavailable_nodes"]
        assert {item["x-medkit"]["source"] for item in partial["items"]} == {own}
    finally:
        robot.send(signal.SIGCONT)


def test_parameters_of_another_gateways_robot_are_set_through_ours(one: Fleet, ros_domains: Callable[[], int]) -> None:
    there = ros_domains()
    shared: dict[str, Any] = {"discovery.runtime.default_component.id": "robot"}
    b = one.gateway("b", there, node="gateway_b", parameters=shared)
    one.robot("a", there)
    peers = {"aggregation.enabled": True, "aggregation.peer_urls": [b.url], "aggregation.peer_names": ["peer_b"]}
    a = one.gateway("a", ros_domains(), node="gateway_a", parameters={**shared, **peers})
    a.lists("apps", "gateway_a", "temp_sensor", "rpm_sensor")
    assert settles(a, MIN_TEMP).json()["data"] == 85.0
    assert a.client.put(MIN_TEMP, json={"data": 91}).json()["data"] == 91.0
    assert b.get(MIN_TEMP).json()["data"] == 91.0

    items = eventually(
        lambda: (found := a.items("/components/robot/configurations")) and "temp_sensor:min_temp" in found and found,
        within=10,
    )
    assert items["temp_sensor:min_temp"]["x-medkit"] == {"source": "temp_sensor", "peer": "peer_b"}
    assert "gateway_a:server.port" in items
    listed = a.get("/components/robot/configurations").json()["x-medkit"]["parameters"]
    assert len(listed) == len(items)
    member = "/components/robot/configurations/temp_sensor:min_temp"
    assert a.get(member).json()["data"] == 91.0
    assert a.get("/components/robot/configurations/min_temp").json()["data"] == 91.0
    assert a.client.put(member, json={"data": 92}).json()["data"] == 92.0
    assert b.get(MIN_TEMP).json()["data"] == 92.0
    assert a.client.delete(member).status_code == 204
    assert b.get(MIN_TEMP).json()["data"] == 85.0
    bare = a.client.put("/components/robot/configurations/min_temp", json={"data": 1})
    assert bare.json()["message"] == "Aggregated configuration requires app_id prefix"
