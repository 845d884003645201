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


def alone(program: str, *arguments: str) -> list[str]:
    """The lines that a program of support/mdns_alone.py prints in a network of its own."""
    command = ["unshare", "--net", sys.executable, "-m", "support.mdns_alone", program, *arguments]
    run = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=100, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.splitlines()


@in_namespaces
def test_without_port_5353_static_peers_stay_and_the_port_is_tried_again() -> None:
    lines = alone("blocked")
    errors = [line for line in lines if line.startswith("ERROR mDNS")]
    assert len(errors) == 1, "said once, not at every try"
    assert errors[0].startswith("ERROR mDNS: Failed to open mDNS announce socket on port 5353")
    for way_out in ("setcap cap_net_bind_service=+ep", "run as root", "--net=host", "peer_urls"):
        assert way_out in errors[0]
    states = [line for line in lines if line.startswith("STATE")]
    assert "'state': 'down'" in states[0]
    assert "another process holds it" in states[0]
    assert "'state': 'ok'" in states[1]


@in_namespaces
def test_an_address_that_comes_later_is_announced_and_heard_of() -> None:
    assert "ASKED GET /api/v1/health" in alone("moving")


@in_namespaces
def test_gateways_are_found_at_addresses_of_ipv6_link_local_ones_with_their_scope() -> None:
    found = dict(line.split()[1:] for line in alone("ipv6") if line.startswith("PEER"))
    assert found["global"] == "http://[fd00:77::1]:8080"
    assert found["link"].startswith("http://[fe80::77%")


@in_namespaces
def test_the_files_of_the_mdns_topology_find_each_other_on_one_host(
    tmp_path: Path, ros_domains: Callable[[], int]
) -> None:
    found = [
        line for line in alone("topology", str(tmp_path), str(ros_domains()), str(ros_domains())) if "PEERS" in line
    ]
    assert "'name': 'gateway_b', 'url': 'http://127.0.0.1:8081', 'status': 'online'" in found[0]
    assert "'name': 'gateway_a', 'url': 'http://127.0.0.1:8080', 'status': 'online'" in found[1]
