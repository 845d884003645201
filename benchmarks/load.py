"""One stretch of load on one URL, by wrk where it is installed, else by `client.py`; and what it cost the servers."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .processes import ROOT, Child

MAX_REQUESTS = 2_000_000
# What a generator may take beyond the time it was given, before it is ended.
GRACE_S = 15.0

_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}


@dataclass(frozen=True)
class Measured:
    """One stretch. CPU in microseconds a request: of the server asked, of the peer behind it, of the generator."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    peer_cpu_us: float
    generator_cpu_us: float
    requests: int
    errors: int

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


class Generator:
    """Chooses the program once, so that one run is measured by one."""

    def __init__(self, wanted: str, connections: int, seconds: float) -> None:
        """`wanted`: "wrk", "client" or "auto". Raises ValueError for wrk where it is missing or cannot do it."""
        self._wrk = shutil.which("wrk")
        # wrk takes whole seconds only.
        can_wrk = self._wrk is not None and seconds >= 1 and seconds == int(seconds)
        if wanted == "wrk" and not can_wrk:
            raise ValueError("wrk is not installed" if self._wrk is None else "wrk needs whole seconds")
        self.name = "wrk" if wanted != "client" and can_wrk else "client"
        self.connections = connections

    @property
    def description(self) -> str:
        """Name and version, for the report."""
        if self.name == "client":
            return "own client (benchmarks/client.py: uvloop, httptools, one thread)"
        said = subprocess.run([str(self._wrk), "-v"], capture_output=True, text=True, timeout=5, check=False)
        version = re.search(r"wrk (?:debian/)?(\d[\w.]*)", said.stdout + said.stderr)
        return f"wrk {version.group(1) if version else ''} (one thread)".replace("  ", " ")

    def run(
        self,
        url: str,
        seconds: float,
        server: Child,
        peer: Child | None = None,
        headers: Sequence[str] = (),
        status: int = 200,
        body: str = "",
    ) -> Measured:
        """Load for `seconds`. Raises RuntimeError when the generator fails or nothing at all was answered."""
        # Warming up is shorter than what wrk can do, and nobody looks at its numbers.
        # It would need a script for anything but GET.
        by_wrk = self.name == "wrk" and seconds >= 1 and not body
        command = self._wrk_command(url, seconds, headers) if by_wrk else self._own(url, seconds, headers, status, body)
        own_before = _children_cpu_s()
        before, peer_before = server.cpu_s(), peer.cpu_s() if peer else 0.0
        ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=seconds + GRACE_S, check=False)
        cpu, peer_cpu = server.cpu_s() - before, (peer.cpu_s() if peer else 0.0) - peer_before
        if ran.returncode != 0:
            raise RuntimeError(f"{command[0]} ended with {ran.returncode}: {ran.stderr.strip()[-500:]}")
        seen = parse_wrk(ran.stdout) if by_wrk else json.loads(ran.stdout)
        requests = int(seen["requests"])
        if requests == 0:
            raise RuntimeError(f"no answer to any request: {url}")
        return Measured(
            rps=requests / seen["seconds"],
            p50_ms=seen["p50_ms"],
            p99_ms=seen["p99_ms"],
            cpu_us=cpu / requests * 1e6,
            peer_cpu_us=peer_cpu / requests * 1e6,
            generator_cpu_us=(_children_cpu_s() - own_before) / requests * 1e6,
            requests=requests,
            errors=int(seen["errors"]),
        )

    def _wrk_command(self, url: str, seconds: float, headers: Sequence[str]) -> list[str]:
        named = [item for header in headers for item in ("-H", header)]
        return [
            str(self._wrk), "-t1", f"-c{self.connections}", f"-d{int(seconds)}s", "--timeout", "5s", "--latency",
            *named, url,
        ]  # fmt: skip

    def _own(self, url: str, seconds: float, headers: Sequence[str], status: int, body: str) -> list[str]:
        named = [item for header in headers for item in ("--header", header)]
        return [
            sys.executable, "-m", "benchmarks.client", "--url", url, "--connections", str(self.connections),
            "--seconds", str(seconds), "--status", str(status), "--max-requests", str(MAX_REQUESTS), "--body", body,
            *named,
        ]  # fmt: skip


def parse_wrk(text: str) -> dict[str, float]:
    """The numbers of `wrk --latency`, in the shape that `client.py` prints. Raises RuntimeError for other text."""
    total = re.search(r"(\d+) requests in ([\d.]+)(us|ms|s|m),", text)
    parts = {name: re.search(rf"^\s+{name}%\s+([\d.]+)(us|ms|s|m)\s*$", text, re.M) for name in ("50", "99")}
    if total is None or parts["50"] is None or parts["99"] is None:
        raise RuntimeError(f"wrk printed something else: {text[-500:]}")
    wrong = sum(int(number) for number in re.findall(r"Non-2xx or 3xx responses: (\d+)", text))
    for line in re.findall(r"Socket errors: (.*)", text):
        wrong += sum(int(number) for number in re.findall(r"\d+", line))
    return {
        "requests": float(total.group(1)),
        "seconds": float(total.group(2)) * _UNITS_MS[total.group(3)] / 1e3,
        "p50_ms": float(parts["50"].group(1)) * _UNITS_MS[parts["50"].group(2)],
        "p99_ms": float(parts["99"].group(1)) * _UNITS_MS[parts["99"].group(2)],
        "errors": float(wrong),
    }


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
