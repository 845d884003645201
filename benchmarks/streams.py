"""What it costs to tell 200 clients of a fault, beside a bare server that sends the same to as many."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .processes import Child, Children, Failed, Server, wait_for
from .topology import API, Topology

CLIENTS = 200
EVENTS = 100
PER_SECOND = 25
LIMIT_S = 30.0


@dataclass
class FanOut:
    """Rounds of the gateway, each beside one of the yardstick. Delays in milliseconds, CPU in microseconds."""

    title: str = f"SSE fan-out to {CLIENTS} clients"
    rounds: list[dict[str, float]] = field(default_factory=list)
    yardsticks: list[dict[str, float]] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Medians over the rounds, and the ratios of CPU of every round."""
        pairs = zip(self.rounds, self.yardsticks, strict=True)
        return {
            "title": self.title,
            "clients": CLIENTS,
            "events_per_second": PER_SECOND,
            **medians_of(self.rounds),
            "yardstick": medians_of(self.yardsticks),
            "cpu_ratios": [one["cpu_us"] / bare["cpu_us"] if bare["cpu_us"] else 0.0 for one, bare in pairs],
        }


def medians_of(rounds: list[dict[str, float]]) -> dict[str, float]:
    """The median of each number."""
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def measure(topology: Topology, children: Children, events: int, rounds: int, say: Callable[[str], None]) -> FanOut:
    """So many events a round, to all clients. Raises Failed when a client does not get all of them."""
    found = FanOut()
    for number in range(rounds):
        bare = _round(children, topology.yardstick, f"/stream/{events}/{PER_SECOND}", events, "YARD", None)
        marked = f"ROUND_{number}_"
        one = _round(
            children, topology.a, f"{API}/faults/stream", events, marked,
            lambda marked=marked: _provoke(topology.robot_a, marked, events),
        )  # fmt: skip
        found.yardsticks.append(bare)
        found.rounds.append(one)
        say(
            f"round {number + 1}/{rounds}  {found.title:42} {one['p50_ms']:8.1f} ms  {one['cpu_us']:6.1f} us CPU"
            f"  (yardstick {bare['p50_ms']:.1f}, {bare['cpu_us']:.1f})"
        )
    return found


def _provoke(robot: Child, marked: str, events: int) -> None:
    robot.ask(f"faults {marked} {events} {PER_SECOND}")
    robot.answer()


def _round(
    children: Children, server: Server, path: str, events: int, marked: str, begin: Callable[[], None] | None
) -> dict[str, float]:
    client = children.python(
        f"stream-clients-{marked}-{server.name}", "benchmarks.stream_client", "--url", f"{server.url}{path}",
        "--clients", str(CLIENTS), "--events", str(events), "--seconds", str(LIMIT_S), "--marked", marked, piped=True,
    )  # fmt: skip
    if client.answer() != "ready":
        raise Failed("the clients of a stream did not begin")
    before = server.cpu_s()
    if begin is not None:
        begin()
    else:
        # The connection of an earlier question may have been closed meanwhile.
        wait_for(lambda: server.answers("/stream-begin"), 5.0, "the yardstick to begin")
    seen = json.loads(client.answer())
    used = server.cpu_s() - before
    if seen["missing"] or seen["broken"]:
        raise Failed(f"{server.name}: {seen['missing']} events missing, {seen['broken']} streams broken")
    return {"p50_ms": seen["p50_ms"], "p99_ms": seen["p99_ms"], "cpu_us": used / seen["received"] * 1e6}
