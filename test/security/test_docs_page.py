"""The page on security, run: every shell block in its order, and what it prints against what the page says of it."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.gateways import START_S, Process, free_port
from support.waiting import eventually

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security.md"
PORTS = ("8443", "8444")
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

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ports = {port: free_port() for port in PORTS}
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
        }

    def script(self, commands: str) -> str:
        """The commands with ports of ours."""
        return re.sub("|".join(PORTS), lambda found: str(self._ports[found[0]]), commands)

    def gateway(self, command: str, domain: int) -> Process:
        """A gateway in a domain of its own, ready to be asked."""
        place = shlex.quote(str(self.folder / "work"))
        started = Process(
            ["bash", "-c", f"cd {place} && exec {self.script(command).strip()}"],
            {**self.environment, "ROS_DOMAIN_ID": str(domain)},
        )
        started.spawn()
        port = next(self._ports[port] for port in reversed(PORTS) if port in command or port == PORTS[0])
        eventually(lambda: listens(port), within=START_S, message=lambda: started.output)
        return started

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


def listens(port: int) -> bool:
    """Whether a server is there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.timeout(300)
def test_every_command_of_the_page_does_what_the_page_says(tmp_path: Path, ros_domains: Callable[[], int]) -> None:
    (tmp_path / "work").mkdir()
    shell = Shell(tmp_path)
    gateways: list[Process] = []
    try:
        for block in blocks():
            if STARTS.fullmatch(block.commands.strip()):
                gateways.append(shell.gateway(block.commands, ros_domains()))
                continue
            printed = shell.run(block.commands)
            if block.output is not None:
                assert looks_like(block.output, printed), f"{block.commands}\nprinted\n{printed}"
        assert len(gateways) == len(PORTS)
        for gateway in gateways:
            assert "Traceback" not in gateway.output
            assert not re.search(r"auth\.|server\.tls|[Tt]oken", gateway.output), gateway.output
    finally:
        for gateway in gateways:
            if gateway.returncode is None:
                gateway.stop()


def test_a_page_that_lies_would_be_found_out() -> None:
    assert looks_like('{"a":"...","b":1}', '{"a":"xyz","b":1}\r\n')
    assert not looks_like('{"a":"...","b":1}', '{"a":"xyz","b":2}')
    assert not looks_like("200", "200\n404")
