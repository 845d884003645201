"""Pages whose shell blocks are run: the blocks, what is said of their output, and a shell for them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .gateways import Process

ROOT = Path(__file__).resolve().parents[2]
BLOCK_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Block:
    """Commands, and what follows them on the page as their output; None when nothing does."""

    commands: str
    output: str | None


def blocks(page: str) -> list[Block]:
    """The shell blocks of a page."""
    found = re.findall(r"```bash\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", page, re.DOTALL)
    assert len(found) == page.count("```bash")
    return [Block(commands, output or None) for commands, output in found]


def looks_like(shown: str, printed: str) -> bool:
    """Whether `printed` is what the page shows, where `...` stands for anything in one line."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("..."))
    return re.fullmatch(pattern, printed.replace("\r", "").strip()) is not None


class Shell:
    """One shell after another in one folder; variables and functions live on, as in a terminal.

    `ports`: what stands for the ports of the page, and for anything else that must be another here.
    """

    def __init__(self, folder: Path, ports: Mapping[str, int | str]) -> None:
        self.folder = folder
        self.ports = dict(ports)
        (folder / "work").mkdir()
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
        pattern = "|".join(map(re.escape, self.ports))
        return re.sub(pattern, lambda found: str(self.ports[found[0]]), commands)

    def start(self, command: str, domain: int) -> Process:
        """A program that goes on, in a ROS domain; not waited for."""
        place = shlex.quote(str(self.folder / "work"))
        started = Process(
            ["bash", "-c", f"cd {place} && exec {self.script(command).strip()}"],
            {**self.environment, "ROS_DOMAIN_ID": str(domain)},
        )
        started.spawn()
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

    def check(self, block: Block) -> None:
        """Run a block; what it prints must be what the page says."""
        printed = self.run(block.commands)
        if block.output is not None:
            assert looks_like(block.output, printed), f"{block.commands}\nprinted\n{printed}"
