"""`medkit` against real gateways with real nodes, run as a person's shell runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from support.gateways import Fleet, Gateway, Process, fleet, free_port
from support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(180)]

MEDKIT = [sys.executable, "-m", "medkit_gateway_py.cli.app"]


def medkit(*arguments: str, domain: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with a pipe for its output."""
    given = {**os.environ, **environment}
    given.pop("COLUMNS", None)  # some runners of tests set it
    if domain is not None:
        given["ROS_DOMAIN_ID"] = str(domain)
    return subprocess.run([*MEDKIT, *arguments], capture_output=True, text=True, timeout=60, env=given)


@pytest.fixture(scope="module")
def found(
    tmp_path_factory: pytest.TempPathFactory, ros_domain: int, module_domains: Callable[[], int]
) -> Iterator[tuple[Fleet, Gateway, Gateway]]:
    """A gateway `a` with a robot, that aggregates a gateway `b`."""
    with fleet(tmp_path_factory.mktemp("fleet")) as made:
        b = made.gateway("b", module_domains())
        parameters = {
            "aggregation.enabled": True,
            "aggregation.peer_names": ["b"],
            "aggregation.peer_urls": [b.url],
            "cors.allowed_origins": ["http://ui.example"],
        }
        a = made.gateway("a", ros_domain, parameters=parameters)
        made.robot("a", ros_domain)
        a.lists("apps", "temp_sensor", "calibration")
        eventually(lambda: a.get("/health").json()["peers"][0]["status"] == "online", within=20.0)
        yield made, a, b


def findings(*arguments: str, code: int, domain: int | None = None) -> dict[str, dict[str, Any]]:
    """What the doctor says, by subject."""
    done = medkit("doctor", *arguments, domain=domain)
    assert done.returncode == code, done.stdout + done.stderr
    return {one["subject"]: one for one in json.loads(done.stdout)["findings"]}


def test_the_tree_is_json_in_a_pipe_and_a_table_when_asked(found: tuple[Fleet, Gateway, Gateway]) -> None:
    done = medkit("tree", "--url", found[1].url)
    assert done.returncode == 0, done.stderr
    assert "temp_sensor" in {app["id"] for app in json.loads(done.stdout)["apps"]}
    done = medkit("tree", "--text", MEDKIT_URL=found[1].url)
    assert "/powertrain/engine/temp_sensor" in done.stdout
    assert "No areas." in done.stdout


def test_the_doctor_of_a_sound_gateway_finds_nothing(found: tuple[Fleet, Gateway, Gateway], ros_domain: int) -> None:
    url = found[1].url
    said = findings(
        "--url", url, "--node", "/powertrain/engine/temp_sensor", "--topic", "/powertrain/engine/temperature",
        "--peer", "b", "--origin", "http://ui.example", code=0, domain=ros_domain,
    )  # fmt: skip
    assert {one["level"] for one in said.values()} == {"ok"}, said
    assert {"gateway", "clock", "peer b", "ROS domain", "web page of http://ui.example"} <= set(said)


def test_the_doctor_names_what_is_wrong(
    found: tuple[Fleet, Gateway, Gateway], ros_domain: int, ros_domains: Callable[[], int]
) -> None:
    url, elsewhere = found[1].url, ros_domains()
    said = findings("--url", url, "--node", "temp_sensor", code=1, domain=ros_domain)
    assert "Did you mean /powertrain/engine/temp_sensor" in said["node /temp_sensor"]["advice"]
    said = findings("--url", url, code=1, domain=elsewhere)
    assert said["ROS domain"]["message"] == f"{ros_domain} at the gateway, {elsewhere} in this shell"
    said = findings("--url", url, "--no-graph", "--topic", "/nowhere", "--origin", "http://else.example", code=1)
    assert said["topic /nowhere"]["level"] == said["web page of http://else.example"]["level"] == "problem"
    assert "http://else.example to cors.allowed_origins" in said["web page of http://else.example"]["advice"]
    assert findings("--url", url, "--no-graph", "--peer", "c", code=1)["peer c"]["level"] == "problem"
    said = findings("--url", f"http://127.0.0.1:{free_port()}", code=1)
    assert "server.host" in said["gateway"]["advice"]


def test_a_node_of_another_domain_is_told_from_one_that_does_not_run(
    found: tuple[Fleet, Gateway, Gateway], ros_domains: Callable[[], int]
) -> None:
    elsewhere = ros_domains()
    found[0].robot("b", elsewhere)
    wanted = "/chassis/brakes/pressure_sensor"
    eventually(
        lambda: (
            "this shell sees it" in str(findings("--url", found[1].url, "--node", wanted, code=1, domain=elsewhere))
        ),
        within=30.0,
    )
    said = findings("--url", found[1].url, "--node", wanted, code=1, domain=elsewhere)[f"node {wanted}"]
    assert "ROS domain" in said["advice"]


def test_a_manifest_of_what_runs_is_written_once(found: tuple[Fleet, Gateway, Gateway], tmp_path: Path) -> None:
    target = tmp_path / "robot.yaml"
    done = medkit("manifest", "export", "--url", found[1].url, "-o", str(target))
    assert done.returncode == 0, done.stderr
    document = yaml.safe_load(target.read_text())
    apps = {app["id"]: app for app in document["apps"]}
    assert apps["temp_sensor"]["ros_binding"] == {"node_name": "temp_sensor", "namespace": "/powertrain/engine"}
    assert {"temp_sensor", "calibration"} <= set(
        next(one for one in document["functions"] if one["name"] == "powertrain")["hosted_by"]
    )
    done = medkit("manifest", "export", "--url", found[1].url, "-o", str(target))
    assert (done.returncode, "exists" in done.stderr) == (2, True)
    done = medkit("manifest", "check", str(target))
    assert (done.returncode, json.loads(done.stdout)["findings"]) == (0, []), done.stdout


def test_peers_and_faults_tell_a_script_by_their_exit_codes(found: tuple[Fleet, Gateway, Gateway]) -> None:
    made, a, b = found
    done = medkit("peers", "--url", a.url)
    assert (done.returncode, json.loads(done.stdout)["items"][0]["status"]) == (0, "online"), done.stdout
    assert medkit("faults", "apps/calibration", "--url", a.url).returncode == 0
    b.kill()
    eventually(lambda: a.get("/health").json()["peers"][0]["status"] == "offline", within=20.0)
    done = medkit("peers", "--url", a.url, "--text")
    assert (done.returncode, "offline" in done.stdout) == (1, True)
    said = findings("--url", a.url, "--no-graph", code=1)["peer b"]
    assert (said["level"], "curl" in said["advice"]) == ("problem", True)
    done = medkit("faults", "--url", a.url, "--text")
    assert "incomplete: b did not answer" in done.stderr
    made.again(b)


def test_serve_is_a_gateway_until_it_is_interrupted(tmp_path: Path, ros_domain: int) -> None:
    port = free_port()
    one = Process(
        [*MEDKIT, "serve", "--port", str(port), "--peer", "x=http://127.0.0.1:1", "--ros-args", "-p",
         f"state_dir:={tmp_path}"], {"ROS_DOMAIN_ID": str(ros_domain)},
    )  # fmt: skip
    one.spawn()

    def health() -> Any:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/api/v1/health", trust_env=False).json()
        except httpx.TransportError:
            return None

    try:
        told = eventually(health, within=30.0, message=lambda: one.output)
        assert [peer["name"] for peer in told["peers"]] == ["x"]
        assert told["x-medkit"]["ros"]["domain_id"] == ros_domain
        assert one.stop(signal.SIGINT) == 0
    finally:
        one.kill()
