"""What asking all peers costs, by their number; and what those of them cost that are dead, slow or silent.

The same request with `X-Medkit-No-Fan-Out: 1`, which asks nobody, is what each is compared with.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .cases import medians
from .fake_fleet import FUNCTION, Mode
from .load import Generator, Measured
from .processes import Child, Failed, Server, wait_for
from .topology import API

PATHS = {"GET /faults": f"{API}/faults", "GET a function's data": f"{API}/functions/{FUNCTION}/data"}
TIMEOUT_MS = 500
# A slow peer answers, but too late; so every request that asks it waits for the timeout.
LATE_S = 2 * TIMEOUT_MS / 1000
NOTICE_S = 20.0
WARM_UP_S = 0.3
MODES = ((Mode.SLOW,), (Mode.DEAD,), (Mode.SILENT,), (Mode.DEAD, Mode.SLOW))


@dataclass
class Trouble:
    """One peer of all, or one of each `modes`, that is not well. `first_ms`: the slowest request until it was known to
    be away, of which there were `waited` that took longer than half the timeout; known after `known_s`. `after`:
    requests from then on."""

    modes: Sequence[Mode]
    after: Measured
    first_ms: float = 0.0
    waited: int = 0
    known_s: float = 0.0

    @property
    def title(self) -> str:
        """`one slow`, `one dead, one slow`."""
        return ", ".join(f"one {mode.value}" for mode in self.modes)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "modes": self.title,
            "first_ms": self.first_ms,
            "waited": self.waited,
            "known_s": self.known_s,
            **self.after.as_json(),
        }


@dataclass
class FanOut:
    """One request to so many peers; `alone` asks nobody, in the same round. CPU in microseconds a request."""

    title: str
    peers: int
    stretches: list[Measured] = field(default_factory=list)
    alone: list[Measured] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Medians over the rounds; `cpu_us_a_peer` is what each peer adds."""
        pairs = list(zip(self.stretches, self.alone, strict=True))
        return {
            "title": self.title,
            "peers": self.peers,
            **medians(self.stretches),
            "alone": medians(self.alone),
            "cpu_us_a_peer": statistics.median((one.cpu_us - bare.cpu_us) / self.peers for one, bare in pairs),
            "p50_ratios": [one.p50_ms / bare.p50_ms for one, bare in pairs],
            "cpu_ratios": [one.cpu_us / bare.cpu_us if bare.cpu_us else 0.0 for one, bare in pairs],
            "troubles": [one.as_json() for one in self.troubles],
        }


def measure(
    aggregator: Server, fleet: Child, peers: int, generator: Generator, seconds: float, rounds: int,
    say: Callable[[str], None], troubles: Sequence[Sequence[Mode]] = MODES,
) -> list[FanOut]:  # fmt: skip
    """Both requests at an aggregator with so many peers, all online. Raises Failed when a peer is not noticed."""
    found = []
    for title, path in PATHS.items():
        one = FanOut(title, peers)
        url = f"{aggregator.url}{path}"
        _wait_for_all(aggregator, path, peers)
        generator.run(url, min(WARM_UP_S, seconds), aggregator)
        for _ in range(rounds):
            one.alone.append(generator.run(url, seconds, aggregator, headers=["X-Medkit-No-Fan-Out: 1"]))
            one.stretches.append(generator.run(url, seconds, aggregator))
        for modes in troubles:
            one.troubles.append(_trouble(aggregator, fleet, path, peers, modes, generator, seconds))
        well = one.stretches[-1]
        worse = ", ".join(f"{each.title} {each.first_ms or each.after.p50_ms:.0f} ms" for each in one.troubles)
        say(f"{peers} peers  {title:24} {well.p50_ms:7.2f} ms  {well.cpu_us:7.0f} us CPU, {worse}")
        found.append(one)
    return found


def online(aggregator: Server) -> int:
    """How many peers are online."""
    aggregator.check()
    peers = json.loads(aggregator.get(f"{API}/health")[2]).get("peers", [])
    return sum(one["status"] == "online" for one in peers)


def _wait_for_all(aggregator: Server, path: str, peers: int) -> None:
    """Until the answer has everybody's share. Raises Failed when that does not come."""

    def is_complete() -> bool:
        status, _, body = aggregator.get(path)
        items = json.loads(body)["items"] if status == 200 else []
        told = {item.get("x-medkit", {}).get("peer") for item in items}
        return len(told - {None}) == peers and b'"partial"' not in body

    wait_for(is_complete, NOTICE_S, f"the shares of {peers} peers in {path}", 0.1)


def _trouble(
    aggregator: Server, fleet: Child, path: str, peers: int, modes: Sequence[Mode], generator: Generator, seconds: float
) -> Trouble:
    """The last peers behave so for a while, each in its manner."""
    began = time.monotonic()
    for number, mode in enumerate(modes, 1):
        fleet.ask(f"mode {peers - number} {mode.value}")
        began = float(fleet.answer())
    away = sum(mode is not Mode.SLOW for mode in modes)
    first_ms, waited, known_s = 0.0, 0, 0.0
    if away:
        while online(aggregator) > peers - away:
            if time.monotonic() - began > NOTICE_S:
                raise Failed(f"a peer that is {modes[0].value} was not noticed in {NOTICE_S:g} s")
            asked = time.perf_counter()
            status, _, _ = aggregator.get(path)
            took_ms = (time.perf_counter() - asked) * 1e3
            if status != 200:
                raise Failed(f"GET {path} answered {status} with one peer {modes[0].value}")
            first_ms = max(first_ms, took_ms)
            waited += took_ms > TIMEOUT_MS / 2
        known_s = time.monotonic() - began
    enough_s = max(seconds, 4 * TIMEOUT_MS / 1000) if Mode.SLOW in modes else seconds
    after = generator.run(f"{aggregator.url}{path}", enough_s, aggregator)
    for number, _ in enumerate(modes, 1):
        fleet.ask(f"mode {peers - number} {Mode.WELL.value}")
        fleet.answer()
    _wait_for_all(aggregator, path, peers)
    return Trouble(modes, after, first_ms, waited, known_s)
