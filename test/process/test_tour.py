"""docs/tour.md on the demo it is about: every command of it, in its order."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import eventually

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tour.md").read_text()
PARTS = dict(re.findall(r"^## ([^\n]+)\n.*?^```bash\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The demo, and which of the page's ports is which here."""
    folder = tmp_path_factory.mktemp("demo")
    log = folder / "demo.log"
    with log.open("w") as file:
        demo = subprocess.Popen(
            [sys.executable, "-m", "medkit_gateway_py.demo.topology"],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, "TMPDIR": str(folder)},
        )
    try:
        eventually(lambda: "Ctrl-C stops everything" in log.read_text(), within=90, message=log.read_text)
        found = dict(re.findall(r"^gateway_(a|office) \(http://(localhost:\d+)\)", log.read_text(), re.MULTILINE))
        yield {"localhost:8080": found["a"], "localhost:8082": found["office"]}
    finally:
        demo.send_signal(signal.SIGINT)
        assert demo.wait(20) == 0


def run(part: str, ports: dict[str, str]) -> str:
    """What a part of the page prints."""
    script = PARTS[part]
    for here, there in ports.items():
        script = script.replace(here, there)
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_part_of_the_page_is_run_here() -> None:
    text = Path(__file__).read_text()
    assert PARTS
    assert [part for part in PARTS if f'run("{part}"' not in text] == []


def test_a_service_answers(ports: dict[str, str]) -> None:
    assert '"success":true' in run("Call a service", ports)


def test_actions_end_and_are_cancelled(ports: dict[str, str]) -> None:
    printed = run("Run an action to its end, and cancel another", ports)
    assert '"sequence":[0,1,1,2,3]' in printed
    assert '"ros2_status":"canceled"' in printed


def test_a_parameter_is_changed_and_reset(ports: dict[str, str]) -> None:
    values = re.findall(r'"data":([\d.]+)', run("Change a parameter and reset it", ports))
    assert values == ["3.5", "3.0", "3.5"]


def test_a_fault_comes_over_the_stream_and_heals(ports: dict[str, str]) -> None:
    printed = run("Provoke a fault, watch it, let it heal", ports)
    assert printed.count("ENGINE_DIAGNOSTICS_OIL_PRESSURE") >= 3
    assert '"status":"CONFIRMED"' in printed
    assert '"status":"HEALED"' in printed


def test_logs_are_read(ports: dict[str, str]) -> None:
    assert '"items":[' in run("Read the logs of one node", ports)


def test_a_viewer_is_refused_and_an_operator_is_not(ports: dict[str, str]) -> None:
    printed = run("Log in, and be refused", ports)
    assert printed.splitlines() == ["401 without a token", "403 as viewer", "200 as operator"]
