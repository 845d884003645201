"""Plugins that raise, hang, block and leak, in real gateways: named in `/health`, and nothing else suffers."""

from __future__ import annotations

import json
import signal
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.gateways import Fleet, Gateway, fleet
from support.installed import sys_path
from support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

HEAD = "import asyncio, sys, threading, time\nfrom medkit_gateway_py.plugin import *\n"
START = "class X(EntityPlugin):\n    async def start(self):\n        "
GOOD = """
class Good(EntityPlugin):
    parameters = (PluginParameter("names", ("pump",), "Ids of the apps."),)
    def entities(self):
        return Entities(apps=tuple(
            PluginApp(name, data=(DataItem("flow", writable=True), DataItem("odd")), configurable=True,
                      operations=(OperationItem("wait"),))
            for name in self.context.parameters["names"]))
    async def read_data(self, app_id, item_id):
        return {"flow": 1.5, "nan": float("nan")} if item_id == "flow" else {1, 2}
    async def write_data(self, app_id, item_id, value):
        if not isinstance(value, dict):
            raise BadValue("an object, please")
    async def run_operation(self, app_id, operation_id, parameters):
        if parameters.get("how") == "block":
            time.sleep(8)
        elif parameters.get("how") == "raise":
            raise ZeroDivisionError("secret details")
        elif parameters.get("how") == "exit":
            sys.exit(3)
        await asyncio.sleep(parameters.get("s", 0))
        return {"waited": True}
    async def read_configurations(self, app_id):
        return [ConfigurationItem("shape", {"deep": [1]}), ConfigurationItem("size", 3, "How much", True)]
"""
PLUGINS = {
    "good": (GOOD, "entity_provider", "Good"),
    "bad_import": ("raise RuntimeError('no licence')", "entity_provider", "X"),
    "exits": ("sys.exit(9)", "entity_provider", "X"),
    "old": ("class X(EntityPlugin):\n    api_version = 0", "entity_provider", "X"),
    "stranger": ("class X: pass", "routes", "X"),
    "raises": (START + "raise OSError('no device')", "entity_provider", "X"),
    "hangs": (START + "await asyncio.Event().wait()", "entity_provider", "X"),
    "blocks": (START + "time.sleep(600)", "entity_provider", "X"),
    "leaks": (
        START + "self.t = asyncio.create_task(asyncio.Event().wait())\n"
        "        threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "    async def stop(self):\n        await asyncio.Event().wait()",
        "entity_provider", "X",
    ),
    "grabs": (
        "from fastapi import APIRouter\nclass X(RoutesPlugin):\n    def router(self):\n        r = APIRouter()\n"
        "        @r.get('/health')\n        async def h(): return {}\n        return r",
        "routes", "X",
    ),
    "routes": (
        "from fastapi import APIRouter, HTTPException\nfrom pydantic import BaseModel\n"
        "class Shelf(BaseModel):\n    size: int\n"
        "class X(RoutesPlugin):\n    def router(self):\n        r = APIRouter()\n"
        "        @r.post('/x-acme/shelves/{name}', status_code=201)\n"
        "        async def put(name: str, shelf: Shelf) -> Shelf:\n"
        "            if name == 'none': raise HTTPException(404, 'no such shelf')\n"
        "            if name == 'bug': raise ValueError('secret details')\n"
        "            if name == 'long': return Shelf(size=10 ** 2_000_000)\n"
        "            if name == 'block': time.sleep(12)\n"
        "            return shelf\n        return r",
        "routes", "X",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one installed package a plugin."""
    folder = tmp_path_factory.mktemp("site")
    for name, (code, group, attribute) in PLUGINS.items():
        (folder / f"medkit_test_{name}.py").write_text(HEAD + textwrap.dedent(code))
        metadata = folder / f"medkit_test_{name}-1.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: medkit-test-{name}\nVersion: 1\n")
        points = f"[medkit_gateway_py.{group}]\n{name} = medkit_test_{name}:{attribute}\n"
        (metadata / "entry_points.txt").write_text(points)
    return folder


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def start(made: Fleet, site: Path, domain: int, *plugins: str, **parameters: Any) -> Gateway:
    one = made.gateway("a", domain, start=False, parameters={"plugins": list(plugins), **parameters})
    one._environment["PYTHONPATH"] = ":".join(filter(None, [str(site), *sys_path()]))
    return one.start()


def plugins_of(gateway: Gateway) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in gateway.get("/health").json()["x-medkit"]["plugins"]["plugins"]}


def test_only_what_is_named_is_used_and_nothing_else_is_imported(made: Fleet, site: Path, ros_domain: int) -> None:
    gateway = start(made, site, ros_domain)
    assert gateway.get("/health").json()["x-medkit"]["plugins"] == {"state": "off", "plugins": []}
    assert "no licence" not in gateway.output
    assert gateway.ids("apps") == {"medkit_gateway_py"}


def test_plugins_that_cannot_be_used_are_named_with_the_reason_and_the_others_work(
    made: Fleet, site: Path, ros_domain: int
) -> None:
    names = ("bad_import", "exits", "old", "stranger", "raises", "hangs", "nobody", "grabs", "static", "good")
    gateway = start(made, site, ros_domain, *names)
    found = plugins_of(gateway)
    assert {name: one["state"] for name, one in found.items()} == {
        **dict.fromkeys(names, "down"), "grabs": "degraded", "good": "ok",
    }  # fmt: skip
    reasons = {
        "bad_import": "no licence", "exits": "SystemExit", "old": "version 0", "stranger": "no subclass",
        "raises": "no device", "hangs": "did not end within", "nobody": "not installed", "grabs": "/health",
        "static": "the gateway's own",
    }  # fmt: skip
    assert {name for name, text in reasons.items() if text not in found[name]["reason"]} == set()
    gateway.lists("apps", "pump")
    assert "Traceback" not in gateway.get("/health").text


def test_a_plugin_that_blocks_its_start_holds_the_gateway_up_for_seconds_only(
    made: Fleet, site: Path, ros_domain: int
) -> None:
    gateway = start(made, site, ros_domain, "blocks", "leaks", "good")
    assert plugins_of(gateway)["blocks"]["state"] == "down"
    gateway.lists("apps", "pump")
    began = time.monotonic()
    assert gateway.stop(signal.SIGTERM) == 0
    assert time.monotonic() - began < 6.0
    assert "'leaks' did not stop cleanly" in gateway.output


def test_calls_that_fail_hang_or_block_cost_an_error_and_nobody_waits_for_them(
    made: Fleet, site: Path, ros_domain: int
) -> None:
    gateway = start(made, site, ros_domain, "good", service_call_timeout_sec=1)
    gateway.lists("apps", "pump")
    run = "/apps/pump/operations/wait/executions"

    def post(**parameters: Any) -> Any:
        answer = gateway.client.post(run, json={"parameters": parameters})
        return answer.status_code, answer.json()

    assert post() == (200, {"parameters": {"waited": True}})
    assert post(s=5)[0] == 504
    status, body = post(how="raise")
    assert (status, body["vendor_code"]) == (500, "x-medkit-plugin-error")
    assert "ZeroDivisionError" in plugins_of(gateway)["good"]["reason"]
    assert post(how="exit")[0] == 500
    assert post() == (200, {"parameters": {"waited": True}})
    assert plugins_of(gateway)["good"]["state"] == "ok"
    assert post(how="block")[0] == 504
    began = time.monotonic()
    assert gateway.get("/apps").status_code == 200
    assert time.monotonic() - began < 2.0
    eventually(lambda: post()[0] == 200, within=20.0)


def test_values_are_json_and_errors_are_the_contracts(made: Fleet, site: Path, ros_domain: int) -> None:
    gateway = start(made, site, ros_domain, "good", **{"plugins.good.names": ["pump", "valve"], "plugins.good.x": 1})
    gateway.lists("apps", "pump", "valve")
    assert "plugins.good.x is no parameter of that plugin" in gateway.output
    assert gateway.get("/apps/pump/data/flow").json()["data"] == {"flow": 1.5, "nan": None}
    odd = gateway.get("/apps/pump/data/odd")
    assert (odd.status_code, odd.json()["vendor_code"]) == (500, "x-medkit-plugin-error")
    assert gateway.client.put("/apps/pump/data/flow", json={"data": {}}).status_code == 200
    wrong = gateway.client.put("/apps/pump/data/flow", json={"data": 3})
    assert (wrong.status_code, wrong.json()["message"]) == (400, "an object, please")
    for body in (b"", b"[", b"[]", b"{}"):
        assert gateway.client.put("/apps/pump/data/flow", content=body).status_code == 400
    assert gateway.client.put("/apps/pump/data/odd", json={"data": 3}).status_code == 400
    found = gateway.get("/apps/pump/configurations/shape").json()
    assert (found["data"], "ros2" in found["x-medkit"]) == ({"deep": [1]}, False)
    assert gateway.client.put("/apps/pump/configurations/size", json={"data": 4}).status_code == 404


def test_routes_of_a_plugin_answer_in_the_contracts_form(made: Fleet, site: Path, ros_domain: int) -> None:
    gateway = start(made, site, ros_domain, "routes")

    def post(name: str, **body: Any) -> tuple[int, Any]:
        answer = gateway.client.post(f"/x-acme/shelves/{name}", json=body, timeout=30)
        return answer.status_code, answer.json()

    assert post("a", size=3) == (201, {"size": 3})
    assert post("none", size=3) == (404, {"error_code": "resource-not-found", "message": "no such shelf"})
    status, body = post("a", size="big")
    assert (status, body["error_code"], body["parameters"]["fields"][0]["field"]) == (400, "invalid-request", "size")
    status, body = post("bug", size=1)
    assert (status, body["vendor_code"]) == (500, "x-medkit-plugin-error")
    assert post("block", size=1)[0] == 504
    assert gateway.client.get("/x-acme/shelves/a").status_code == 404
    schema = gateway.get("/docs").json()
    operation = schema["paths"]["/x-acme/shelves/{name}"]["post"]
    reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    assert reference == "#/components/schemas/routes_Shelf"
    assert json.dumps(schema["components"]["schemas"]["routes_Shelf"]).count("size")
