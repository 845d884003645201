"""The page on security, run: every shell block in its order, and what it prints against what the page says of it."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from support.gateways import START_S, Process, free_port
from support.pages import Shell, blocks, looks_like
from support.waiting import eventually

pytestmark = pytest.mark.process

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security.md"
PORTS = ("8443", "8444")
STARTS = re.compile(r"gateway_node --ros-args .*")


def serving(shell: Shell, command: str, domain: int) -> Process:
    """A gateway in a domain of its own, ready to be asked."""
    started = shell.start(command, domain)
    port = next(shell.ports[port] for port in reversed(PORTS) if port in command or port == PORTS[0])
    eventually(lambda: listens(port), within=START_S, message=lambda: started.output)
    return started


def listens(port: int) -> bool:
    """Whether a server is there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.timeout(300)
def test_every_command_of_the_page_does_what_the_page_says(tmp_path: Path, ros_domains: Callable[[], int]) -> None:
    shell = Shell(tmp_path, {port: free_port() for port in PORTS})
    gateways: list[Process] = []
    try:
        for block in blocks(PAGE.read_text()):
            if STARTS.fullmatch(block.commands.strip()):
                gateways.append(serving(shell, block.commands, ros_domains()))
                continue
            shell.check(block)
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
