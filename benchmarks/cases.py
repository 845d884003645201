"""The requests that are measured, and how one round of them is run."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .load import Generator, Measured
from .processes import Failed, wait_for
from .topology import API, NODES, SOURCE_A, SOURCE_B, Topology, data_item

WARM_UP_S = 0.3
FAULTS_WITHIN_S = 30.0


@dataclass(frozen=True)
class Case:
    """A path of gateway A. `revalidates`: sent with the ETag of the answer before, so 304 is right. `body`: POST."""

    name: str
    title: str
    path: str
    revalidates: bool = False
    body: str = ""


CASES = (
    Case("health", "GET /health", f"{API}/health"),
    Case("apps", f"GET /apps, {NODES} nodes", f"{API}/apps"),
    Case("apps_304", f"GET /apps, {NODES} nodes, If-None-Match", f"{API}/apps", revalidates=True),
    Case("detail", "GET /apps/{id}", f"{API}/apps/{SOURCE_A}"),
    Case("data", "GET a data item", data_item(SOURCE_A)),
    Case("data_forwarded", "GET a data item through one forward", data_item(SOURCE_B)),
    Case("faults", "GET /faults, fan-out to one peer", f"{API}/faults"),
    Case("service", "POST a service call", f"{API}/apps/{SOURCE_A}/operations/trigger/executions", body="{}"),
    Case("parameters", "GET the parameters of a node", f"{API}/apps/{SOURCE_A}/configurations"),
)
FAULTS = 1000
# Only once these faults are there, which would make the case `faults` another one.
LATE_CASES = (Case("faults_1000", f"GET {FAULTS} faults of an app", f"{API}/apps/{SOURCE_A}/faults"),)


@dataclass
class Series:
    """One case over all rounds, each stretch beside the stretch of the yardstick right before it."""

    case: Case
    size: int = 0
    stretches: list[Measured] = field(default_factory=list)
    yardsticks: list[Measured] = field(default_factory=list)

    def rps_ratios(self) -> list[float]:
        """Requests a second, yardstick = 1."""
        return [one.rps / bare.rps for one, bare in zip(self.stretches, self.yardsticks, strict=True)]

    def cpu_ratios(self) -> list[float]:
        """Server CPU a request, yardstick = 1; 0.0 where a stretch was too short for the clock (10 ms)."""
        pairs = zip(self.stretches, self.yardsticks, strict=True)
        return [one.cpu_us / bare.cpu_us if bare.cpu_us else 0.0 for one, bare in pairs]

    def as_json(self) -> dict[str, Any]:
        """Medians over the rounds, the ratios of every round, and every stretch."""
        return {
            "name": self.case.name,
            "title": self.case.title,
            "path": self.case.path,
            "answer_bytes": self.size,
            **medians(self.stretches),
            "rps_ratio": statistics.median(self.rps_ratios()),
            "cpu_ratio": statistics.median(self.cpu_ratios()),
            "rps_ratios": self.rps_ratios(),
            "cpu_ratios": self.cpu_ratios(),
            "stretches": [one.as_json() for one in self.stretches],
        }


def medians(stretches: Sequence[Measured]) -> dict[str, Any]:
    """The median of each number over the rounds; errors are added up."""
    each = [one.as_json() for one in stretches]
    found: dict[str, Any] = {key: statistics.median(one[key] for one in each) for key in each[0] if key != "errors"}
    found["errors"] = sum(one.errors for one in stretches)
    return found


def run_cases(
    topology: Topology,
    generator: Generator,
    seconds: float,
    rounds: int,
    say: Callable[[str], None],
    wanted: Sequence[Case] = CASES,
) -> list[Series]:
    """Every case once a round, the yardstick before each. Raises Failed when an answer is not the one expected."""
    every = [Series(case) for case in wanted]
    yardstick, a, b = topology.yardstick, topology.a, topology.b
    generator.run(yardstick.url, min(WARM_UP_S, seconds), yardstick)
    for number in range(rounds):
        for series in every:
            case = series.case
            headers, status = _expected(topology, series)
            url = f"{a.url}{case.path}"
            if number == 0:
                generator.run(url, min(WARM_UP_S, seconds), a, b, headers, status, case.body)
            bare = generator.run(f"{yardstick.url}/", seconds, yardstick)
            one = generator.run(url, seconds, a, b, headers, status, case.body)
            series.yardsticks.append(bare)
            series.stretches.append(one)
            say(
                f"round {number + 1}/{rounds}  {case.title:42} {one.rps:8.0f} requests/s  {one.cpu_us:6.1f} us CPU"
                f"  (yardstick {bare.rps:.0f}, {bare.cpu_us:.1f})"
            )
    return every


def provoke_faults(topology: Topology) -> None:
    """Have source_a report so many faults, and wait until gateway A lists all of them."""
    topology.robot_a.ask(f"faults {SOURCE_A}:F {FAULTS} {FAULTS}")
    topology.robot_a.answer()

    def listed() -> bool:
        body = topology.a.get(f"{API}/apps/{SOURCE_A}/faults")[2]
        return len(json.loads(body)["items"]) >= FAULTS

    wait_for(listed, FAULTS_WITHIN_S, f"{FAULTS} faults to be listed")


def _expected(topology: Topology, series: Series) -> tuple[list[str], int]:
    """The headers to send now, and the status that is right; asks once to see that the path answers at all."""
    path = series.case.path
    status, headers, body = topology.a.get(path, series.case.body)
    if status != 200:
        raise Failed(f"{path} answered {status}: {body[:300].decode(errors='replace')}")
    series.size = 0 if series.case.revalidates else len(body)
    if not series.case.revalidates:
        return [], 200
    return [f"If-None-Match: {headers['etag']}"], 304
