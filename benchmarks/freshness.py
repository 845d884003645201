"""How long until a node that appeared is listed, and one that went is not: locally, and through one hop.

The node is created in a process that takes part in the ROS graph already, so what is measured is the gateway's own
delay, not how DDS finds a new process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from .client import percentile
from .processes import Child, Server, wait_for
from .topology import API, Topology

LIMIT_S = 20.0
POLL_S = 0.004
# Tries must not begin at one phase of a timer of the gateway.
PAUSES_S = (0.05, 0.31, 0.17, 0.43, 0.11)


@dataclass
class Delays:
    """Seconds from the creation, or the destruction, of a node to the answer that shows it."""

    title: str
    appeared: list[float] = field(default_factory=list)
    vanished: list[float] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Milliseconds."""
        return {
            "title": self.title,
            "tries": len(self.appeared),
            **{
                f"{name}_p{percent}_ms": percentile(sorted(seconds), percent) * 1e3
                for name, seconds in (("appeared", self.appeared), ("vanished", self.vanished))
                for percent in (50, 95)
            },
        }


def measure(topology: Topology, tries: int) -> list[Delays]:
    """A node of A seen at A, and a node of B seen at A. Raises Failed when one is not seen in 20 s."""
    local = _tries(Delays("listed by its own gateway"), topology.robot_a, topology.a, "local", tries)
    hop = _tries(Delays("listed through one hop"), topology.robot_b, topology.a, "hop", tries)
    return [local, hop]


def measure_chain(topology: Topology, head: Server, tries: int) -> Delays:
    """A node of B seen at the head of the chain: B, A, and two more."""
    return _tries(Delays("listed through three hops"), topology.robot_b, head, "chain", tries)


def _tries(delays: Delays, robot: Child, gateway: Server, word: str, tries: int) -> Delays:
    for number in range(tries):
        time.sleep(PAUSES_S[number % len(PAUSES_S)])
        name = f"fresh_{word}_{number:02d}"
        delays.appeared.append(_until(robot, f"create {name}", gateway, name, listed=True))
        time.sleep(PAUSES_S[-1 - number % len(PAUSES_S)])
        delays.vanished.append(_until(robot, f"destroy {name}", gateway, name, listed=False))
    return delays


def _until(robot: Child, command: str, gateway: Server, name: str, *, listed: bool) -> float:
    # The list and not the detail: that of a node behind another gateway is forwarded, so its owner would answer.
    wanted = f'"id":"{name}"'.encode()
    robot.ask(command)
    wait_for(lambda: (wanted in gateway.get(f"{API}/apps")[2]) == listed, LIMIT_S, f"the effect of '{command}'", POLL_S)
    seen = time.monotonic()
    return seen - float(robot.answer())
