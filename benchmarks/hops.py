"""What a hop costs: the same data item asked of its own gateway, through one gateway and through two."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .cases import medians
from .load import Generator, Measured
from .processes import START_S, Children, Server, free_ports, wait_for
from .topology import API, SOURCE_A, data_item, gateway, has_data

TITLES = ("directly", "through one hop", "through two hops")


@dataclass
class Hops:
    """One way to the data item; each stretch stands beside one of the direct way, in the same round."""

    title: str
    stretches: list[Measured] = field(default_factory=list)
    direct: list[Measured] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Medians over the rounds, and the ratios of every round. CPU is that of the gateway that was asked."""
        pairs = list(zip(self.stretches, self.direct, strict=True))
        rps = [one.rps / bare.rps for one, bare in pairs]
        cpu = [one.cpu_us / bare.cpu_us if bare.cpu_us else 0.0 for one, bare in pairs]
        return {
            "title": self.title,
            **medians(self.stretches),
            "rps_ratio": statistics.median(rps),
            "rps_ratios": rps,
            "cpu_ratio": statistics.median(cpu),
            "cpu_ratios": cpu,
        }


def measure(
    children: Children, folder: Path, domains: tuple[int, ...], generator: Generator, seconds: float, rounds: int,
    say: Callable[[str], None],
) -> list[Hops]:  # fmt: skip
    """Three gateways in a row, the last with one node that publishes. Raises Failed when one does not come up."""
    robot = children.python(
        "hops-robot", "benchmarks.ros_nodes", "--count", "0", "--source", SOURCE_A, domain=domains[0], piped=True
    )
    robot.answer()
    row: list[Server] = []
    for name, port, domain in zip(("hops-far", "hops-middle", "hops-head"), free_ports(3), domains, strict=True):
        behind: dict[str, object] = {}
        if row:
            behind = {
                "aggregation.enabled": True,
                "aggregation.peer_urls": [row[-1].url],
                "aggregation.peer_names": ["behind"],
            }
        row.append(gateway(children, folder, name, port, domain, behind))
    path = data_item(SOURCE_A)
    for one in row:
        wait_for(lambda one=one: one.answers(f"{API}/health"), START_S, one.name)
        wait_for(lambda one=one: has_data(one, path), START_S, "a message through all hops")
    found = [Hops(title) for title in TITLES]
    for number in range(rounds):
        direct = generator.run(f"{row[0].url}{path}", seconds, row[0])
        for hops, server in zip(found, row, strict=True):
            one = direct if server is row[0] else generator.run(f"{server.url}{path}", seconds, server, row[0])
            hops.stretches.append(one)
            hops.direct.append(direct)
            say(
                f"round {number + 1}/{rounds}  a data item {hops.title:18} {one.rps:8.0f} requests/s"
                f"  {one.cpu_us:6.1f} us CPU"
            )
    return found
