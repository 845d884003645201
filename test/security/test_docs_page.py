"""The page on security, run: every shell block in its order, and what it prints against what the page says of it."""

from __future__ import annotations

import os
import re
import shlex
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.gateways import START_S, Process, free_port
from support.waiting import eventually

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security.md"
PORT = "8443"
BLOCK_TIMEOUT_S = 60.0
STARTS = re.compile(r"gateway_node --ros-args .*")


@dataclass(frozen=True)
class Block:
    """Commands, and what follows them on the page as their output; None when nothing does."""

    commands: str
    output: str | None


def blocks() -> list[Block]:
    """The shell blocks of the page."""
    found = re.findall(r"```bash\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", PAGE.read_text(), re.DOTALL)
    assert len(found) == PAGE.read_text().count("```bash")
    return [Block(commands, output or None) for commands, output in found]


def looks_like(shown: str, printed: str) -> bool:
    """Whether `printed` is what the page shows, where `...` stands for anything in one line."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("..."))
    return re.fullmatch(pattern, printed.replace("\r", "").strip()) is not None


class Shell:
    """One shell after another in one folder; variables and functions live on, as in a terminal."""

    def __init__(self, folder: Path, domain: int) -> None:
        self.folder = folder
        self.port = str(free_port())
        programs = folder / "programs"
        programs.mkdir()
        gateway = programs / "gateway_node"
        gateway.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m medkit_gateway_py.gateway_node "$@"\n')
        gateway.chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{ROOT}:{os.environ.get('PYTHONPATH', '')}",
            "XDG_STATE_HOME": str(folder / "state"),
            "ROS_DOMAIN_ID": str(domain),
        }

    def script(self, commands: str) -> str:
        """The commands with a port of ours."""
        return commands.replace(PORT, self.port)

    def run(self, commands: str) -> str:
        """What they print."""
        kept = self.folder / "kept.sh"
        script = "\n".join(
            [
                "set -euo pipefail",
                f"test ! -e {shlex.quote(str(kept))} || . {shlex.quote(str(kept))}",
                "set -a",
                self.script(commands),
                f"{{ export -p; declare -f; }} > {shlex.quote(str(kept))}",
            ]
        )
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.folder / "work", env=self.environment, capture_output=True, text=True,
            timeout=BLOCK_TIMEOUT_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def shell(tmp_path: Path, ros_domains: Callable[[], int]) -> Shell:
    (tmp_path / "work").mkdir()
    return Shell(tmp_path, ros_domains())


def listens(port: str) -> bool:
    """Whether there is a server with TLS, whatever its certificate."""
    context = ssl.create_default_context()
    try:
        urllib.request.urlopen(f"https://localhost:{port}/api/v1/health", timeout=2, context=context)
    except urllib.error.URLError as error:
        return isinstance(error.reason, ssl.SSLCertVerificationError)
    return True


@pytest.mark.timeout(300)
def test_every_command_of_the_page_does_what_the_page_says(shell: Shell) -> None:
    gateway: Process | None = None
    try:
        for block in blocks():
            if STARTS.fullmatch(block.commands.strip()):
                command = f"cd {shlex.quote(str(shell.folder))}/work && exec {shell.script(block.commands).strip()}"
                gateway = Process(["bash", "-c", command], shell.environment)
                gateway.spawn()
                eventually(lambda: listens(shell.port), within=START_S)
                continue
            printed = shell.run(block.commands)
            if block.output is not None:
                assert looks_like(block.output, printed), f"{block.commands}\nprinted\n{printed}"
        assert gateway is not None
        assert "Traceback" not in gateway.output
        assert gateway.output.count("WARN") <= gateway.output.count("Refused to authorize") + 1, gateway.output
    finally:
        if gateway is not None and gateway.returncode is None:
            gateway.stop()


def test_a_page_that_lies_would_be_found_out() -> None:
    assert looks_like('{"a":"...","b":1}', '{"a":"xyz","b":1}\r\n')
    assert not looks_like('{"a":"...","b":1}', '{"a":"xyz","b":2}')
    assert not looks_like("200", "200\n404")
