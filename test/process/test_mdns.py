"""Gateways as processes that find each other by mDNS: on one host, in network namespaces, and without port 5353."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.gateways import Gateway, Process, fleet
from support.mdns import mdns_settings, private_service
from support.waiting import eventually

pytestmark = pytest.mark.process
ROOT = Path(__file__).resolve().parents[2]
MESH = ROOT / "examples" / "mdns_mesh" / "mesh.py"
FOUND_S = 20.0

has_namespaces = os.geteuid() == 0 and shutil.which("ip") is not None and shutil.which("unshare") is not None
in_namespaces = pytest.mark.skipif(not has_namespaces, reason="network namespaces need root, ip and unshare")


def environment() -> dict[str, str]:
    paths = [str(ROOT), str(ROOT / "test"), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONUNBUFFERED": "1"}


def parameters(service: str, name: str) -> dict[str, Any]:
    settings = mdns_settings(service, mdns_name=name, enabled=True)
    given = {
        f"aggregation.{key}": list(value) if isinstance(value, tuple) else value for key, value in settings.items()
    }
    return {**given, "server.host": "127.0.0.1", "discovery.runtime.default_component.id": f"host_{name}"}


def peers(gateway: Gateway) -> dict[str, tuple[str, str]]:
    return {peer["name"]: (peer["url"], peer["status"]) for peer in gateway.get("/health").json()["peers"]}


def test_killed_moved_and_stopped_gateways_of_one_host(tmp_path: Path, ros_domains: Callable[[], int]) -> None:
    service = private_service()
    domain_a, domain_b = ros_domains(), ros_domains()
    with fleet(tmp_path) as one:
        a = one.gateway("a", domain_a, node="gateway_a", parameters=parameters(service, "a"))
        state_b = tmp_path / "state-of-b"
        b = Gateway(state_b, domain_b, node="gateway_b", parameters=parameters(service, "b"))
        one.processes.append(b)
        b.start()
        eventually(lambda: peers(a) == {"b": (b.url, "online")}, FOUND_S, lambda: a.output)
        eventually(lambda: peers(b) == {"a": (a.url, "online")}, FOUND_S, lambda: b.output)
        a.lists("apps", "gateway_a", "gateway_b")
        health = a.get("/health").json()["x-medkit"]["mdns"]
        assert (health["state"], health["discovered_peers"]) == ("ok", 1)

        b.kill()
        eventually(lambda: peers(a) == {"b": (b.url, "offline")}, FOUND_S, lambda: a.output)
        assert a.ids("apps") == {"gateway_a"}
        assert a.get("/apps/gateway_b").status_code == 502
        assert a.get("/apps/b__gateway_b").status_code == 502

        b = Gateway(state_b, domain_b, node="gateway_b", parameters=parameters(service, "b"))
        one.processes.append(b)
        b.start()
        eventually(lambda: peers(a) == {"b": (b.url, "online")}, FOUND_S, lambda: a.output)
        a.lists("apps", "gateway_a", "gateway_b")

        assert b.stop() == 0
        eventually(lambda: peers(a) == {}, 5.0, lambda: a.output)
        a.lists_no("apps", "gateway_b", within=5.0)
        # It is remembered whose the id is.
        assert a.get("/apps/gateway_b").status_code == 502


@in_namespaces
@pytest.mark.timeout(240)
def test_three_gateways_in_network_namespaces_with_one_file_keep_what_the_example_promises() -> None:
    run = subprocess.run(
        [sys.executable, str(MESH), "--check"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=220,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.count("ok      ") == 5


@in_namespaces
def test_the_example_leaves_no_namespace_behind_when_it_is_ended(tmp_path: Path) -> None:
    name = f"medkit-test-{os.getpid()}"
    mesh = Process([sys.executable, str(MESH), "--name", name], {**environment(), "TMPDIR": str(tmp_path)})
    mesh.spawn()
    try:
        eventually(lambda: namespaces(name), 20.0, lambda: mesh.output)
    finally:
        mesh.stop(signal.SIGTERM, 30.0)
    assert namespaces(name) == []
    assert list(tmp_path.iterdir()) == []


def namespaces(name: str) -> list[str]:
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=10, check=True).stdout
    return [line.split()[0] for line in listed.splitlines() if line.startswith(name)]


# Port 5353 is held in a network of this process alone: elsewhere others need it.
BLOCKED = """
import asyncio, logging, socket, subprocess, sys

logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(levelname)s %(message)s")
subprocess.run(["ip", "link", "set", "lo", "multicast", "on", "up"], check=True, timeout=10)

from medkit_gateway_py.aggregation.peer_discovery import mdns
from support.fake_peer import TestGateway, running, tree_of
from support.mdns import mdns_settings, private_service
from support.waiting import async_eventually

mdns.REOPEN_S = 0.2

async def main():
    holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    holder.bind(("", 5353))
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["lidar"]))
        a = TestGateway("a", {"fixed": b.url}, **mdns_settings(private_service()))
        async with running(a):
            await async_eventually(lambda: set(a.federation.tree.apps) == {"lidar"}, 10)
            await async_eventually(lambda: a.federation.discovery_health()["mdns"]["state"] == "down", 10)
            print("STATE", a.federation.discovery_health()["mdns"])
            await asyncio.sleep(0.5)
            holder.close()
            await async_eventually(lambda: a.federation.discovery_health()["mdns"]["state"] == "ok", 10)
            print("STATE", a.federation.discovery_health()["mdns"])

asyncio.run(main())
"""


@in_namespaces
def test_without_port_5353_static_peers_stay_and_the_port_is_tried_again() -> None:
    command = ["unshare", "--net", sys.executable, "-c", BLOCKED]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    lines = run.stdout.splitlines()
    errors = [line for line in lines if line.startswith("ERROR mDNS")]
    assert len(errors) == 1, "said once, not at every try"
    assert errors[0].startswith("ERROR mDNS: Failed to open mDNS announce socket on port 5353")
    for way_out in ("setcap cap_net_bind_service=+ep", "run as root", "--net=host", "peer_urls"):
        assert way_out in errors[0]
    states = [line for line in lines if line.startswith("STATE")]
    assert "'state': 'down'" in states[0]
    assert "another process holds it" in states[0]
    assert "'state': 'ok'" in states[1]
