"""The plugins of examples/, installed as anybody would install them, in a real gateway."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from support.gateways import Fleet, Gateway, fleet, free_port
from support.installed import install
from support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

# Of this run alone: the plugin looks at all processes of the machine.
NODE = f"gateway_{os.getpid()}"
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "plugins"


class Device(ThreadingHTTPServer):
    """The device that `medkit_http_device` speaks to."""

    allow_reuse_address = True

    def __init__(self, port: int) -> None:
        device = self
        self.state: dict[str, Any] = {"temperature": 21.5, "counter": 3}
        self.settings: dict[str, Any] = {"limit": 40}

        class Handler(BaseHTTPRequestHandler):
            def answer(self, body: Any, status: int = 200) -> None:
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def body(self) -> Any:
                return json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or "null")

            def do_GET(self) -> None:
                self.answer(device.state if self.path == "/state" else device.settings)

            def do_POST(self) -> None:
                self.body()
                device.state["counter"] = 0
                self.answer({"counter": 0})

            def do_PUT(self) -> None:
                name, value = self.path.rsplit("/", 1)[-1], self.body()["value"]
                if name not in device.settings:
                    self.answer({}, 404)
                elif not isinstance(value, (int, float)):
                    self.answer({"error": f"{name} is a number"}, 400)
                else:
                    device.settings[name] = value
                    self.answer({})

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", port), Handler)
        Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self.shutdown()
        self.server_close()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return install(tmp_path_factory.mktemp("site"), EXAMPLES / "medkit_procfs", EXAMPLES / "medkit_http_device")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet(tmp_path_factory.mktemp("fleet")) as found:
        yield found


@pytest.fixture(scope="module")
def device() -> Iterator[Device]:
    found = Device(free_port())
    yield found
    found.close()


@pytest.fixture(scope="module")
def gateway(made: Fleet, environment: dict[str, str], device: Device, ros_domain: int) -> Gateway:
    one = made.gateway(
        "a",
        ros_domain,
        node=NODE,
        start=False,
        parameters={
            "plugins": ["procfs", "http_device"],
            "plugins.http_device.url": f"http://127.0.0.1:{device.server_address[1]}",
            "plugins.http_device.app_id": "thermometer",
            "plugins.http_device.poll_s": 0.1,
        },
    )
    one._environment.update(environment)
    return one.start()


@pytest.mark.parametrize("name", ["medkit_procfs", "medkit_http_device"])
def test_their_own_tests_pass(name: str, environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(EXAMPLES / name),
         str(EXAMPLES / name / "test")],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_process_of_a_node_is_told(gateway: Gateway) -> None:
    found = gateway.get(f"/apps/{NODE}/x-medkit-procfs")
    assert found.status_code == 200, found.text
    body = found.json()
    assert (body["pid"], body["ppid"], body["threads"] > 3) == (gateway.pid, os.getpid(), True)
    assert body["rss_bytes"] > 10_000_000
    component = next(iter(gateway.ids("components")))
    processes = gateway.get(f"/components/{component}/x-medkit-procfs").json()["processes"]
    assert [(one["pid"], one["node_ids"]) for one in processes] == [(gateway.pid, [NODE])]
    missing = gateway.get("/apps/nobody/x-medkit-procfs")
    assert (missing.status_code, missing.json()["error_code"]) == (404, "entity-not-found")
    no_node = gateway.get("/apps/thermometer/x-medkit-procfs")
    assert (no_node.status_code, no_node.json()["message"]) == (404, "thermometer is no ROS node")
    assert gateway.client.post(f"/apps/{NODE}/x-medkit-procfs").status_code == 404


def test_its_routes_are_in_the_document_and_in_the_overview(gateway: Gateway) -> None:
    document = gateway.get("/docs").json()
    operation = document["paths"]["/apps/{app_id}/x-medkit-procfs"]["get"]
    assert operation["tags"] == ["procfs"]
    assert "404" in operation["responses"] and "422" not in operation["responses"]
    assert "GET /api/v1/apps/{app_id}/x-medkit-procfs" in gateway.get("/").json()["endpoints"]


def test_a_device_is_an_app_with_data_operations_and_configurations(gateway: Gateway, device: Device) -> None:
    gateway.lists("apps", "thermometer")
    app = gateway.get("/apps/thermometer").json()
    assert app["x-medkit"]["source"] == "http_device"
    items = gateway.items("/apps/thermometer/data")
    assert set(items) == {"temperature", "counter"}
    value = gateway.get("/apps/thermometer/data/temperature").json()
    assert (value["data"], value["x-medkit"]["status"]) == (21.5, "data")
    assert gateway.get("/apps/thermometer/data/nothing").status_code == 404
    refused = gateway.client.put("/apps/thermometer/data/temperature", json={"data": 1})
    assert (refused.status_code, refused.json()["error_code"]) == (400, "invalid-parameter")

    assert set(gateway.items("/apps/thermometer/operations")) == {"reset"}
    done = gateway.client.post("/apps/thermometer/operations/reset/executions", json={})
    assert (done.status_code, done.json()) == (200, {"parameters": {"counter": 0}})
    assert device.state["counter"] == 0
    assert gateway.client.post("/apps/thermometer/operations/x/executions", json={}).status_code == 404

    assert set(gateway.items("/apps/thermometer/configurations")) == {"limit"}
    path = "/apps/thermometer/configurations/limit"
    assert gateway.get(path).json()["data"] == 40
    assert gateway.client.put(path, json={"data": 50}).status_code == 200
    assert (device.settings["limit"], gateway.get(path).json()["data"]) == (50, 50)
    wrong = gateway.client.put(path, json={"data": "hot"})
    assert (wrong.status_code, "limit is a number" in wrong.text) == (400, True)
    assert gateway.get("/apps/thermometer/configurations/none").status_code == 404


def test_a_device_that_is_gone_is_a_fault_of_its_app_offline_and_in_health(gateway: Gateway, device: Device) -> None:
    port = device.server_address[1]
    gateway.lists("apps", "thermometer")
    device.close()
    assert gateway.get("/apps/thermometer/data/temperature").status_code == 503

    def state() -> tuple[Any, ...]:
        blocks = {one["name"]: one for one in gateway.get("/health").json()["x-medkit"]["plugins"]["plugins"]}
        return (
            blocks["http_device"]["state"],
            gateway.get("/apps/thermometer").json()["x-medkit"].get("is_online"),
            {one["fault_code"]: one["status"] for one in gateway.get("/apps/thermometer/faults").json()["items"]},
        )

    eventually(
        lambda: state() == ("degraded", False, {"DEVICE_UNREACHABLE": "CONFIRMED"}), within=15.0,
        message=lambda: f"{state()}",
    )  # fmt: skip
    assert "does not answer" in gateway.get("/apps/thermometer/logs").text
    again = Device(port)
    try:
        eventually(lambda: state() == ("ok", True, {}), within=15.0, message=lambda: f"{state()}")
    finally:
        again.close()
