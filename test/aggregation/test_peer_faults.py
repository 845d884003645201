"""PEER_OFFLINE: when a peer that does not answer becomes a fault, and when it is over."""

from __future__ import annotations

import pytest

from medkit_gateway_py.aggregation.peer_faults import GRACE_S, PeerFaults
from medkit_gateway_py.aggregation.peer_status import PeerStatus
from medkit_gateway_py.errors import ServiceUnavailable
from medkit_gateway_py.resources.faults.engine import Rules
from medkit_gateway_py.resources.faults.model import WARN, Report
from support.api import Faults
from support.fake_peer import TestGateway, running
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


class Watched:
    """Peers by name and status, a clock, and the real engine that three passes heal."""

    def __init__(self, **peers: str) -> None:
        self.peers, self.now = peers, 0.0
        self.faults = Faults(rules=Rules(healing_threshold=3))
        self.watch = PeerFaults(self.status, self.faults, 3, clock=lambda: self.now)

    def status(self) -> list[PeerStatus]:
        found = []
        for name, status in self.peers.items():
            online, role = status == "online", "self" if status == "self" else "peer"
            state = "paused" if status == "paused" else "closed"
            found.append(PeerStatus(name, f"http://{name}:8080", "online" if online else "offline", state, role=role))
        return found

    def look(self, **peers: str) -> str:
        self.peers.update(peers)
        self.watch.look()
        return self.faults.status("PEER_OFFLINE")


def test_a_peer_that_goes_is_a_fault_at_once_and_is_over_when_it_is_back() -> None:
    watched = Watched(b="online", c="online")
    assert watched.look() == ""
    assert watched.look(b="offline") == "CONFIRMED"
    fault = watched.faults.engine.get("PEER_OFFLINE")
    assert fault is not None
    assert (fault.severity, fault.reporting_sources, fault.occurrence_count) == (WARN, ("b",), 1)
    assert fault.description == "Peer b (http://b:8080) does not answer: no reason known"
    assert watched.look() == "CONFIRMED"
    assert watched.look(b="online") == "HEALED"


def test_it_is_over_only_when_all_are_back() -> None:
    watched = Watched(b="online", c="online")
    watched.look()
    watched.look(b="offline", c="offline")
    assert watched.look(b="online") == "CONFIRMED"
    assert watched.look(c="online") == "HEALED"


def test_a_peer_that_was_never_seen_has_time_to_start() -> None:
    watched = Watched(b="offline")
    assert watched.look() == ""
    watched.now = GRACE_S - 0.1
    assert watched.look() == ""
    watched.now = GRACE_S
    assert watched.look() == "CONFIRMED"


def test_who_is_paused_or_removed_or_ourselves_is_no_fault() -> None:
    watched = Watched(me="self", b="online", c="online")
    watched.look()
    watched.now = 2 * GRACE_S
    assert watched.look(b="paused") == ""
    assert watched.look(b="online", c="offline") == "CONFIRMED"
    del watched.peers["c"]
    assert watched.look() == "HEALED"


async def test_what_an_earlier_process_told_is_taken_back() -> None:
    watched = Watched(b="online")
    for name in ("b", "gone"):
        watched.faults.report(Report(name, "PEER_OFFLINE", True, WARN))
    await watched.watch.start()
    await async_eventually(lambda: watched.faults.status("PEER_OFFLINE") == "HEALED")
    await watched.watch.stop()


async def test_a_backend_that_does_not_answer_does_not_keep_it_from_looking() -> None:
    watched = Watched(b="online")
    watched.faults.error = ServiceUnavailable("Failed to get faults")
    await watched.watch.start()
    await async_eventually(lambda: watched.watch._told)
    assert watched.look(b="offline") == "CONFIRMED"
    await watched.watch.stop()


async def test_a_real_peer_that_dies_and_returns() -> None:
    b = TestGateway("b", {})
    faults = Faults()
    async with running(b):
        a = TestGateway("a", {"b": b.url})
        async with running(a):
            watch = PeerFaults(lambda: a.federation.peers, faults)
            await watch.start()
            await async_eventually(lambda: a.federation.peers[0].status == "online", within=20.0)
            watch.look()
            await b.stop()
            await async_eventually(lambda: faults.status("PEER_OFFLINE") == "CONFIRMED", within=30.0)
            await b.start(b.port)
            await async_eventually(lambda: faults.status("PEER_OFFLINE") == "HEALED", within=30.0)
            await watch.stop()
