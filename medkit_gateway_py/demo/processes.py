"""Children of the demo: started, waited for, stopped within a bounded time. Knows nothing of what they are."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import httpx

STOP_WITHIN_S = 5.0
"""A gateway promises to end this soon after SIGINT."""

_FIRST_DOMAIN, _LAST_DOMAIN = 20, 99
_UDP_TABLES = ("/proc/net/udp", "/proc/net/udp6")


class StartFailed(Exception):
    """A child ended or did not answer in time; the text holds the end of its output."""


class Child:
    """A process whose output is kept (the last 200 lines) and, when wanted, shown line by line."""

    def __init__(
        self, name: str, command: Sequence[str], env: Mapping[str, str], log: Path, show: bool = False
    ) -> None:
        self.name = name
        self._tail: deque[str] = deque(maxlen=200)
        # A session of its own: Ctrl-C in the terminal reaches the demo only, which then stops its children in order.
        self._process = subprocess.Popen(
            list(command),
            env={**os.environ, **env, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, args=(log, show), name=f"output of {name}", daemon=True)
        self._reader.start()

    def _read(self, log: Path, show: bool) -> None:
        assert self._process.stdout is not None
        with log.open("a") as file:
            for line in self._process.stdout:
                self._tail.append(line)
                file.write(line)
                file.flush()
                if show:
                    print(f"  [{self.name}] {line}", end="", flush=True)

    @property
    def running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """The exit code; negative for the signal that ended it, None while it runs."""
        return self._process.poll()

    def last_output(self, lines: int = 20) -> str:
        """The end of what it printed."""
        return "".join(list(self._tail)[-lines:])

    def interrupt(self) -> None:
        """Asks it to end."""
        if self.running:
            self._process.send_signal(signal.SIGINT)

    def join(self, deadline: float) -> bool:
        """Waits for the end until `deadline` (monotonic); kills it then, says so, and returns False."""
        in_time = True
        try:
            self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            in_time = False
            print(f"  {self.name} did not end within {STOP_WITHIN_S:.0f} s: killed", file=sys.stderr)
            self._process.kill()
            self._process.wait(STOP_WITHIN_S)
        self._reader.join(1.0)
        return in_time


def stop(children: Iterable[Child]) -> bool:
    """Interrupts all of them at once and waits; True when each ended by itself within `STOP_WITHIN_S`."""
    waiting = list(children)
    for child in waiting:
        child.interrupt()
    deadline = time.monotonic() + STOP_WITHIN_S
    # Every one has to be waited for, also after the first that was late.
    ended = [child.join(deadline) for child in waiting]
    return all(ended)


def wait_for_health(child: Child, url: str, within_s: float) -> None:
    """Returns when `url`/api/v1/health says it is healthy. Raises StartFailed."""

    def healthy() -> bool:
        if not child.running:
            raise StartFailed(f"{child.name} ended with exit code {child.exit_code}:\n{child.last_output()}")
        try:
            return bool(httpx.get(f"{url}/api/v1/health", timeout=2.0, trust_env=False).json()["status"] == "healthy")
        except (httpx.HTTPError, ValueError, KeyError):
            return False

    if not until(healthy, within_s):
        raise StartFailed(f"{child.name} did not answer at {url} within {within_s:.0f} s:\n{child.last_output()}")


def until(condition: Callable[[], bool], within_s: float, every_s: float = 0.1) -> bool:
    """Asks again and again; True as soon as `condition` holds, False when `within_s` is over."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(every_s)
    return True


def free_ports(first: int, count: int) -> list[int]:
    """The first `count` TCP ports from `first` on that nobody listens on at 127.0.0.1."""
    found: list[int] = []
    for port in range(first, 65536):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise StartFailed(f"no {count} free TCP ports from {first} on")


def free_domains(count: int) -> list[int]:
    """ROS domain ids that no process on this host takes part in.

    DDS gives domain d the UDP ports from 7400 + 250 d on (RTPS 2.3, 9.6.1.1), so open ports tell.
    """
    used: set[int] = set()
    for table in _UDP_TABLES:
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            port = int(line.split()[1].rpartition(":")[2], 16)
            used.add((port - 7400) // 250)
    free = [domain for domain in range(_FIRST_DOMAIN, _LAST_DOMAIN + 1) if domain not in used]
    if len(free) < count:
        raise StartFailed(f"no {count} free ROS domains between {_FIRST_DOMAIN} and {_LAST_DOMAIN}")
    return free[:count]
