"""One gateway as its users start it: parameters, parameter files, the command's own options, the live graph."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from support.gateways import Fleet, Gateway, fleet, free_port
from support.waiting import eventually

pytestmark = pytest.mark.process


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medkit_gateway_py.gateway_node", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_the_robots_nodes_are_listed_and_leave_with_it(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain)
    robot = one.robot("a", ros_domain)
    gateway.lists("apps", "temp_sensor", "rpm_sensor", "calibration")
    assert gateway.items("/apps")["temp_sensor"]["x-medkit"]["ros2"]["node"] == "/powertrain/engine/temp_sensor"
    assert "powertrain" in gateway.ids("functions")
    assert gateway.ids("areas") == set()
    assert len(gateway.ids("components")) == 1
    assert robot.stop() == 0
    gateway.lists_no("apps", "temp_sensor", "rpm_sensor", "calibration")


def test_200_readers_of_one_item_share_one_subscription(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain)
    one.robot("a", ros_domain)
    gateway.lists("apps", "temp_sensor")
    path = "/apps/temp_sensor/data/powertrain/engine/temperature"
    answers = asyncio.run(_read_at_once(f"{gateway.url}/api/v1{path}", 200))
    assert {answer.status_code for answer in answers} == {200}, {
        answer.text for answer in answers[:200] if answer.status_code != 200
    }
    assert {answer.json()["x-medkit"]["status"] for answer in answers} == {"data"}
    health = gateway.get("/health").json()["x-medkit-data-provider"]
    assert health["pool_size"] == 1
    assert health["concurrent_cold_waits"] == 0


async def _read_at_once(url: str, readers: int) -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=readers)
    async with httpx.AsyncClient(limits=limits, timeout=10, trust_env=False) as client:
        return await asyncio.gather(*(client.get(url) for _ in range(readers)))


def test_a_start_is_summed_up_and_an_empty_graph_gets_a_hint(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain)
    eventually(lambda: "Serving http://127.0.0.1:" in gateway.output, within=5)
    eventually(lambda: f"ROS_DOMAIN_ID {ros_domain}" in gateway.output, within=5, message=lambda: gateway.output)


def test_a_taken_port_is_said_in_a_sentence(one: Fleet, ros_domains: Callable[[], int]) -> None:
    first = one.gateway("a", ros_domains())
    second = one.gateway("b", ros_domains(), port=first.port, start=False)
    second.spawn()
    assert second.wait(30) == 1
    assert f"Cannot listen on 127.0.0.1:{first.port}: another process listens there" in second.output
    assert "Traceback" not in second.output


def test_a_wrong_value_is_named_and_the_documented_fallback_used(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway(
        "a", ros_domain, parameters={"aggregation.timeout_ms": 5, "discovery.mode": "magic", "no_such_thing": 1}
    )
    assert "aggregation.timeout_ms 5 clamped to 50" in gateway.output
    assert "discovery.mode" in gateway.output
    assert "no_such_thing" in gateway.output
    assert gateway.get("/health").json()["discovery"]["mode"] == "runtime_only"


def test_a_refused_configuration_does_not_start() -> None:
    ended = run("--ros-args", "-p", 'cors.allowed_origins:=["*"]', "-p", "cors.allow_credentials:=true")
    assert ended.returncode == 1
    assert "cors.allow_credentials" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stdout + ended.stderr


def test_check_says_what_is_wrong_and_exits_with_1(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("ros2_medkit_gateway:\n  ros__parameters:\n    server:\n      prot: 8081\n      port: 'x'\n")
    ended = run("--check", "--ros-args", "--params-file", str(file), "-r", "__node:=gateway_a")
    assert ended.returncode == 1
    assert "server.port" in ended.stdout
    assert "server.prot" in ended.stdout


def test_check_reads_the_peers_file_and_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "peers.yaml"
    file.write_text("peers:\n  - {name: arm, url: 'https://127.0.0.1:1', ca_file: ca.pem}\n")
    given = ["--check", "--ros-args", "-p", "aggregation.enabled:=true", "-p", f"aggregation.peers_file:={file}"]
    ended = run(*given)
    assert ended.returncode == 1
    assert f"Peer 'arm' is not asked: its TLS settings cannot be used: ca_file {tmp_path}/ca.pem" in ended.stdout
    file.write_text("peers:\n  - {name: arm, url: 'https://127.0.0.1:1', tokn: x}\n")
    ended = run(*given)
    assert "peers.yaml:2: peers[0]: has no member 'tokn'" in ended.stdout
    file.write_text("peers:\n  - {name: arm, url: 'https://127.0.0.1:1'}\n")
    assert run(*given).returncode == 0


def test_check_of_a_sound_configuration_exits_with_0() -> None:
    assert run("--check", "--ros-args", "-p", "server.port:=8099").returncode == 0


def test_print_config_prints_a_file_that_can_be_used_again(tmp_path: Path) -> None:
    port = free_port()
    printed = run("--print-config", "--ros-args", "-p", f"server.port:={port}")
    assert printed.returncode == 0
    file = tmp_path / "printed.yaml"
    file.write_text(printed.stdout)
    again = run("--print-config", "--ros-args", "--params-file", str(file))
    assert f"port: {port}" in again.stdout


def test_a_broken_parameter_file_is_said_in_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("medkit_gateway_py:\n  ros__parameters:\n\tserver:\n")
    ended = run("--ros-args", "--params-file", str(file))
    assert ended.returncode == 1
    assert "params.yaml" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_tutorials_file_applies_to_a_renamed_and_namespaced_node(
    one: Fleet, ros_domain: int, tmp_path: Path
) -> None:
    gateway = Gateway(tmp_path / "state", ros_domain, own_parameters=False)
    file = tmp_path / "gateway_a_params.yaml"
    file.write_text(f"ros2_medkit_gateway:\n  ros__parameters:\n    server:\n      port: {gateway.port}\n")
    gateway.command += ["--params-file", str(file), "-r", "__node:=gateway_a", "-r", "__ns:=/subsystem_a"]
    one.processes.append(gateway)
    gateway.start()
    assert "gateway_a" in gateway.ids("apps")
    assert gateway.items("/apps")["gateway_a"]["x-medkit"]["ros2"]["node"] == "/subsystem_a/gateway_a"


def test_two_gateways_never_share_a_state_folder(one: Fleet, ros_domains: Callable[[], int]) -> None:
    first = one.gateway("a", ros_domains())
    folder = next(word for word in first.command if word.startswith("state_dir:=")).partition(":=")[2].strip('"')
    second = one.gateway("b", ros_domains(), parameters={"state_dir": folder})
    warnings = {warning["code"] for warning in second.get("/health").json()["warnings"]}
    assert "state_not_persistent" in warnings
    identities = [one.get("/health").json()["x-medkit"]["instance_id"] for one in (first, second)]
    assert identities[0] != identities[1]


def test_the_identity_stays_over_a_restart_and_the_boot_changes(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain)
    before = gateway.get("/health").json()["x-medkit"]
    gateway.kill()
    after = one.again(gateway).get("/health").json()["x-medkit"]
    assert after["instance_id"] == before["instance_id"]
    assert after["boot_id"] > before["boot_id"]


def test_the_first_answer_lists_the_nodes_that_were_there_before(one: Fleet, ros_domain: int) -> None:
    one.robot("all", ros_domain)
    gateway = one.gateway("a", ros_domain)
    gateway.lists("apps", "temp_sensor", "long_calibration", "engine_diagnostics")
    everything = gateway.ids("apps")
    for _ in range(3):
        gateway.kill()
        gateway = one.again(gateway)
        assert gateway.ids("apps") == everything


def test_a_node_that_starts_is_listed_by_its_graph_event_and_not_by_the_backstop(one: Fleet, ros_domain: int) -> None:
    import rclpy
    from rclpy.context import Context

    gateway = one.gateway("a", ros_domain)
    context = Context()
    rclpy.init(context=context, domain_id=ros_domain)
    try:
        # The participant is discovered first: what is measured is the gateway, not DDS.
        nodes = [rclpy.create_node("first", context=context)]
        gateway.lists("apps", "first")
        nodes.append(rclpy.create_node("second", context=context, namespace="/late"))
        # The backstop scan comes every 10 s; benchmarks/ measures how long it really takes.
        gateway.lists("apps", "second", within=4)
    finally:
        rclpy.shutdown(context=context)
