"""The demo as a user runs it: its self-check passes, and Ctrl-C leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support.waiting import eventually

pytestmark = pytest.mark.process

COMMAND = [sys.executable, "-m", "medkit_gateway_py.demo.topology"]


def test_once_goes_through_the_tutorial_and_says_what_it_checked() -> None:
    run = subprocess.run([*COMMAND, "--once"], capture_output=True, text=True, timeout=110, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"^\d+ passed, 0 failed", run.stdout, re.MULTILINE)
    for step in (1, 2, 3, 5, 6):
        assert f"ok      step {step}: " in run.stdout


def test_ctrl_c_stops_every_child(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with log.open("w") as file:
        demo = subprocess.Popen(
            COMMAND, stdout=file, stderr=subprocess.STDOUT, env={**os.environ, "TMPDIR": str(tmp_path)}
        )
    try:
        eventually(lambda: "Ctrl-C stops everything" in log.read_text(), within=60)
        # What logs in is no GET; test_tour.py does that.
        commands = re.findall(r"curl -s (http://\S+)$", log.read_text(), re.MULTILINE)
        assert len(commands) >= 6
        for url in commands:
            assert httpx.get(url, timeout=10, trust_env=False).status_code == 200, url
        demo.send_signal(signal.SIGINT)
        assert demo.wait(15) == 0
    finally:
        # Interrupted rather than killed, so that a failing test leaves no gateways behind.
        demo.send_signal(signal.SIGINT)
        demo.wait(15)
    assert "All stopped.\n" in log.read_text()
    for url in commands:
        with pytest.raises(httpx.ConnectError):
            httpx.get(url, timeout=2, trust_env=False)
    assert list(tmp_path.glob("medkit-demo-*")) == []
