"""Real gateways and robots as processes, for tests of what crosses processes.

A gateway gets its own port, state folder and ROS domain; everything it prints is kept and shown when a test fails.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import httpx

from .waiting import eventually

START_S = 30.0


def free_port() -> int:
    """A TCP port that nobody listens on and no other test run was given; below those of outgoing connections.

    It is kept under a file lock until this process ends: between this look and a gateway's start another run would
    find it free as well.
    """
    folder = Path(tempfile.gettempdir()) / "medkit-test-ports"
    folder.mkdir(exist_ok=True)
    first = os.getpid() * 37 % 9000
    for number in range(9000):
        port = 20000 + (first + number) % 9000
        if port in _given or not _take(folder / str(port)):
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise RuntimeError("no free port")


def _take(file: Path) -> bool:
    """Whether the lock could be had; the port that is its name is then ours."""
    lock = file.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return False
    _given[int(file.name)] = lock
    return True


# By port, the lock on it.
_given: dict[int, IO[str]] = {}


class Process:
    """A child process whose output is collected by a thread."""

    def __init__(self, command: Sequence[str], environment: dict[str, str] | None = None) -> None:
        self.command = list(command)
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self.lines: list[str] = []
        self._child: subprocess.Popen[str] | None = None

    @property
    def output(self) -> str:
        """All that was printed so far, stderr too."""
        return "".join(self.lines)

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    def spawn(self) -> None:
        """Start the process; it may not be ready yet."""
        self._child = subprocess.Popen(
            self.command, env=self._environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        stream = self._child.stdout
        assert stream is not None
        threading.Thread(target=lambda: self.lines.extend(stream), daemon=True).start()

    @property
    def returncode(self) -> int | None:
        return None if self._child is None else self._child.poll()

    def send(self, number: int) -> None:
        """Send a signal."""
        assert self._child is not None
        self._child.send_signal(number)

    def wait(self, timeout_s: float = 10.0) -> int:
        """The exit code; subprocess.TimeoutExpired when it does not end."""
        assert self._child is not None
        return self._child.wait(timeout_s)

    def stop(self, number: int = signal.SIGINT, timeout_s: float = 10.0) -> int:
        """Ask to end, wait, and give the exit code; killed when it does not end."""
        if self.returncode is None:
            self.send(number)
        try:
            return self.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._child is not None and self.returncode is None:
            self._child.kill()
            self._child.wait(10)


class Gateway(Process):
    """`gateway_node` with a client for its API; `url` ends without a slash."""

    def __init__(
        self,
        state: Path,
        domain: int,
        *,
        port: int | None = None,
        node: str = "",
        namespace: str = "",
        parameters: dict[str, Any] | None = None,
        arguments: Sequence[str] = (),
        own_parameters: bool = True,
        ca: Path | None = None,
    ) -> None:
        self.port = port or free_port()
        self.ca = ca
        self.url = f"{'http' if ca is None else 'https'}://127.0.0.1:{self.port}"
        given = {"server.port": self.port, "state_dir": str(state), **(parameters or {})} if own_parameters else {}
        ros = [item for name, value in given.items() for item in ("-p", f"{name}:={json.dumps(value)}")]
        ros += ["-r", f"__node:={node}"] if node else []
        ros += ["-r", f"__ns:={namespace}"] if namespace else []
        command = [sys.executable, "-m", "medkit_gateway_py.gateway_node", "--ros-args", *ros, *arguments]
        super().__init__(command, {"ROS_DOMAIN_ID": str(domain)})
        self.client = self._new_client()

    def _new_client(self) -> httpx.Client:
        verify = True if self.ca is None else ssl.create_default_context(cafile=str(self.ca))
        return httpx.Client(base_url=f"{self.url}/api/v1", timeout=10.0, trust_env=False, verify=verify)

    def start(self) -> Gateway:
        """Start and wait until `/health` answers."""
        self.spawn()
        eventually(self._answers, within=START_S, message=lambda: self.output)
        return self

    def _answers(self) -> bool:
        assert self.returncode is None, f"the gateway ended with {self.returncode}:\n{self.output}"
        with contextlib.suppress(httpx.TransportError):
            # 401 is an answer, too, where reading needs a token.
            return self.client.get("/health").status_code in (200, 401)
        return False

    def get(self, path: str, **options: Any) -> httpx.Response:
        """GET below `/api/v1`."""
        return self.client.get(path, **options)

    def ids(self, collection: str) -> set[str]:
        """The ids of a collection."""
        return {item["id"] for item in self.get(f"/{collection}").json()["items"]}

    def items(self, path: str) -> dict[str, dict[str, Any]]:
        """The items of a list by their id."""
        return {item["id"]: item for item in self.get(path).json()["items"]}

    def lists(self, collection: str, *ids: str, within: float = 15.0) -> None:
        """Wait until all `ids` are listed."""
        eventually(lambda: set(ids) <= self.ids(collection), within=within, message=lambda: self.output)

    def lists_no(self, collection: str, *ids: str, within: float = 15.0) -> None:
        """Wait until none of `ids` is listed."""
        eventually(lambda: not set(ids) & self.ids(collection), within=within, message=lambda: self.output)


class Fleet:
    """Starts gateways and robots in folders and domains of their own; ends all of them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[Process] = []

    def gateway(self, name: str, domain: int, *, start: bool = True, **options: Any) -> Gateway:
        """A gateway that is ready; `options` are those of `Gateway`."""
        one = Gateway(self.folder / f"state-{name}-{len(self.processes)}", domain, **options)
        self.processes.append(one)
        return one.start() if start else one

    def again(self, gateway: Gateway) -> Gateway:
        """The same command once more, after `gateway` ended: same port, same state."""
        gateway.client.close()
        one = object.__new__(Gateway)
        Process.__init__(one, gateway.command, gateway._environment)
        one.port, one.url, one.ca = gateway.port, gateway.url, gateway.ca
        one.client = one._new_client()
        self.processes.append(one)
        return one.start()

    def robot(self, which: str, domain: int) -> Process:
        """A demo robot, started and not waited for."""
        one = Process(
            [sys.executable, "-m", "medkit_gateway_py.demo.robot", "--robot", which], {"ROS_DOMAIN_ID": str(domain)}
        )
        self.processes.append(one)
        one.spawn()
        return one

    def close(self) -> None:
        """End everything, politely first, all at once."""
        living = [one for one in self.processes if one._child is not None and one.returncode is None]
        for one in living:
            one.send(signal.SIGTERM)
        deadline = time.monotonic() + 8.0
        for one in living:
            with contextlib.suppress(subprocess.TimeoutExpired):
                one.wait(max(0.1, deadline - time.monotonic()))
            one.kill()


@contextlib.contextmanager
def fleet(folder: Path) -> Iterator[Fleet]:
    """A fleet that is ended when the block is left."""
    one = Fleet(folder)
    try:
        yield one
    finally:
        one.close()
