"""Memory and CPU of a gateway with many peers, idle and while all of them change; how soon a change is listed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .client import percentile
from .processes import ROOT, Child, Server, wait_for
from .topology import API

LIMIT_S = 20.0
POLL_S = 0.004
MERGE_LIMIT_S = 120.0
# Tries must not begin at one phase of a timer.
PAUSES_S = (0.05, 0.31, 0.17, 0.43, 0.11)


@dataclass
class Aggregator:
    """One gateway with so many peers. CPU in % of a core, `cpu_ms_a_merge` in milliseconds, delays in seconds.

    `merge` is what `merge_cost.py` says of as many peers.
    """

    peers: int
    apps: int
    rss_mb: float = 0.0
    rss_after_mb: float = 0.0
    idle_cpu_percent: float = 0.0
    churn_cpu_percent: float = 0.0
    merges_a_second: float = 0.0
    cpu_ms_a_merge: float = 0.0
    quiet: list[float] = field(default_factory=list)
    churning: list[float] = field(default_factory=list)
    merge: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain values, delays as percentiles in milliseconds."""
        plain = {name: value for name, value in vars(self).items() if name not in ("quiet", "churning")}
        delays = {
            f"{name}_p{percent}_ms": percentile(sorted(seconds), percent) * 1e3
            for name, seconds in (("quiet", self.quiet), ("churning", self.churning)) if seconds
            for percent in (50, 95)
        }  # fmt: skip
        return {**plain, **delays, "tries": len(self.quiet)}


def measure(
    aggregator: Server, fleet: Child | None, peers: int, apps: int, idle_s: float, tries: int,
    say: Callable[[str], None],
) -> Aggregator:  # fmt: skip
    """All of it; with no peers (`fleet` None) only what can be. Raises Failed when a change is not listed."""
    found = Aggregator(peers, apps)
    found.idle_cpu_percent, _ = _over(aggregator, idle_s)
    found.rss_mb = found.rss_after_mb = aggregator.rss_mb()
    if fleet is not None:
        found.quiet = _tries(aggregator, fleet, peers, "quiet", tries)
        _command(fleet, "churn 1")
        found.churn_cpu_percent, found.merges_a_second = _over(aggregator, idle_s)
        if found.merges_a_second:
            more = found.churn_cpu_percent - found.idle_cpu_percent
            found.cpu_ms_a_merge = more / 100 / found.merges_a_second * 1e3
        found.churning = _tries(aggregator, fleet, peers, "churn", tries)
        _command(fleet, "churn 0")
        found.rss_after_mb = aggregator.rss_mb()
        found.merge = _merge_cost(peers, apps)
    say(
        f"{peers} peers  {found.rss_mb:.0f} MB, idle {found.idle_cpu_percent:.1f} %, while they change"
        f" {found.churn_cpu_percent:.1f} % of a core"
    )
    return found


def _over(aggregator: Server, seconds: float) -> tuple[float, float]:
    """CPU in % of a core, and new trees a second."""
    version, began, used = _version(aggregator), time.monotonic(), aggregator.cpu_s()
    time.sleep(seconds)
    took, used = time.monotonic() - began, aggregator.cpu_s() - used
    return used / took * 100, (_version(aggregator) - version) / took


def _version(aggregator: Server) -> int:
    """How many trees there were so far."""
    headers = aggregator.get(f"{API}/x-medkit/tree")[1]
    return int(headers["etag"].strip('"').rpartition("-")[2])


def _command(fleet: Child, line: str) -> float:
    fleet.ask(line)
    return float(fleet.answer())


def _tries(aggregator: Server, fleet: Child, peers: int, word: str, tries: int) -> list[float]:
    """Seconds from the change of a peer to a list of all apps that shows it, for an app that comes or goes."""
    found = []
    for number in range(tries):
        time.sleep(PAUSES_S[number % len(PAUSES_S)])
        who, name = number // 2 % peers, f"fresh_{word}_{number // 2:02d}"
        line = f"{'remove' if number % 2 else 'add'} {who} {name}"
        found.append(_until(aggregator, fleet, line, f'"id":"{name}"'.encode(), listed=number % 2 == 0))
    return found


def _until(aggregator: Server, fleet: Child, line: str, wanted: bytes, *, listed: bool) -> float:
    etag = ""

    def shown() -> bool:
        nonlocal etag
        status, headers, body = aggregator.get(f"{API}/apps", headers={"If-None-Match": etag} if etag else None)
        if status == 304:
            return False
        etag = headers["etag"]
        return (wanted in body) == listed

    began = _command(fleet, line)
    wait_for(shown, LIMIT_S, f"the effect of '{line}'", POLL_S)
    return time.monotonic() - began


def _merge_cost(peers: int, apps: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.merge_cost", "--peers", str(peers), "--apps", str(apps)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=MERGE_LIMIT_S, check=True)
    found: dict[str, float] = json.loads(ran.stdout)
    return found
