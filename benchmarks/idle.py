"""Memory and CPU of the gateways while nobody asks them anything, and memory after all the load."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from .processes import Server
from .topology import NODES, Topology


@dataclass
class Idle:
    """One gateway. `cpu_percent` of one core; a peer that asks for changes is part of being idle."""

    title: str
    server: Server
    rss_mb: float = 0.0
    cpu_percent: float = 0.0
    rss_after_mb: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "title": self.title,
            "rss_mb": self.rss_mb,
            "cpu_percent": self.cpu_percent,
            "rss_after_load_mb": self.rss_after_mb,
        }


def measure(topology: Topology, seconds: float) -> list[Idle]:
    """Both gateways over the same `seconds`."""
    found = [
        Idle(f"A: {NODES + 1} nodes, one peer", topology.a),
        Idle("B: 1 node, no peer", topology.b),
    ]
    began = time.monotonic()
    before = [one.server.cpu_s() for one in found]
    time.sleep(seconds)
    took = time.monotonic() - began
    for one, cpu_s in zip(found, before, strict=True):
        one.cpu_percent = (one.server.cpu_s() - cpu_s) / took * 100
        one.rss_mb = one.server.rss_mb()
    return found


def after_load(found: list[Idle]) -> None:
    """Fill in the memory at the end."""
    for one in found:
        one.rss_after_mb = one.server.rss_mb()
