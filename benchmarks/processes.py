"""Child processes with what `/proc` says of them: CPU time and memory."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PORTS = range(23000, 23100)
START_S = 40.0
STOP_S = 8.0
POLL_S = 0.02

_TICKS = os.sysconf("SC_CLK_TCK")


class Failed(RuntimeError):
    """The run cannot go on; the message is for the person who started it."""


def free_ports(count: int) -> list[int]:
    """TCP ports of 127.0.0.1 that nobody listens on. Raises Failed when there are not so many."""
    found: list[int] = []
    # Two runs at a time begin at different ends: a port that is free now may be taken until a gateway listens there.
    first = os.getpid() % len(PORTS)
    for port in (*PORTS[first:], *PORTS[:first]):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise Failed(f"fewer than {count} free ports in {PORTS.start} to {PORTS.stop - 1}")


def wait_for(condition: Callable[[], Any], within: float, what: str, poll_s: float = POLL_S) -> Any:
    """The first true result. Raises Failed, with `what` was waited for, when there is none in time."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise Failed(f"waited {within:g} s for {what}")
        time.sleep(poll_s)


class Child:
    """A process of this run; what it prints is kept in `log`, and shown when it fails."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, *, piped: bool = False
    ) -> None:
        """`piped`: talk to it by `ask`; its standard output is then not in `log`."""
        self.name = log.stem
        self._log = log
        pipe = subprocess.PIPE if piped else subprocess.DEVNULL
        with log.open("wb") as stream:
            self._process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=pipe,
                stdout=pipe if piped else stream,
                stderr=stream,
                text=True,
            )

    def cpu_s(self) -> float:
        """User and system time so far, in seconds, of all its threads (`/proc/<pid>/stat`, in steps of 10 ms)."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def rss_mb(self) -> float:
        """Resident memory in MB."""
        for line in Path(f"/proc/{self._process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def ask(self, line: str) -> None:
        """Send one line to a piped child."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        """The next line of a piped child. Raises Failed when it has ended."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise Failed(f"{self.name} ended:\n{self.printed()}")
        return line.strip()

    def check(self) -> None:
        """Raises Failed when it has ended."""
        if self._process.poll() is not None:
            raise Failed(f"{self.name} ended with {self._process.returncode}:\n{self.printed()}")

    def printed(self) -> str:
        """The end of what it said."""
        return self._log.read_text(errors="replace")[-2000:]

    def ask_to_end(self) -> None:
        """SIGINT, if it runs."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)

    def end(self, deadline: float) -> None:
        """Wait for its end until the monotonic time `deadline`, then kill it."""
        try:
            self._process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(5)


class Server(Child):
    """A child that answers HTTP on a port of 127.0.0.1."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], log: Path, port: int) -> None:
        super().__init__(command, environment, log)
        self.url = f"http://127.0.0.1:{port}"
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)

    def get(
        self, path: str, body: str = "", headers: Mapping[str, str] | None = None
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Status, headers by lower-case name, body; a POST when a body is given.

        Raises OSError or HTTPException when there is no answer.
        """
        try:
            if body:
                self._connection.request("POST", path, body, {"Content-Type": "application/json"})
            else:
                self._connection.request("GET", path, headers=headers or {})
            answer = self._connection.getresponse()
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise

    def answers(self, path: str) -> bool:
        """Whether it says 200. Raises Failed when the process has ended."""
        self.check()
        try:
            return self.get(path)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


class Children:
    """Starts the processes of a run, and ends them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._all: list[Child] = []
        self._environment = {
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(folder / "ros-log"),
            "XDG_STATE_HOME": str(folder / "state"),
        }

    def python(self, name: str, module: str, *arguments: str, domain: int = 0, piped: bool = False) -> Child:
        """`python -m module` in a ROS domain."""
        child = Child(self._command(module, arguments), self._domain(domain), self._log(name), piped=piped)
        self._all.append(child)
        return child

    def server(self, name: str, module: str, *arguments: str, port: int, domain: int = 0) -> Server:
        """The same, for one that serves HTTP."""
        child = Server(self._command(module, arguments), self._domain(domain), self._log(name), port)
        self._all.append(child)
        return child

    def end(self) -> None:
        """All of them, politely first, all at once."""
        for child in self._all:
            child.ask_to_end()
        deadline = time.monotonic() + STOP_S
        for child in self._all:
            child.end(deadline)

    def _command(self, module: str, arguments: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", module, *arguments]

    def _domain(self, domain: int) -> dict[str, str]:
        return {**self._environment, "ROS_DOMAIN_ID": str(domain)}

    def _log(self, name: str) -> Path:
        return self._folder / f"{name}.log"


@contextmanager
def children(folder: Path) -> Iterator[Children]:
    """Children that are ended when the block is left, however that is."""
    started = Children(folder)
    try:
        yield started
    finally:
        started.end()
