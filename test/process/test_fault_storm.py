"""A thousand diagnostics messages a second for half a minute: nothing is lost, and the memory does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.gateways import Fleet, Gateway, fleet
from support.ros import Nodes
from support.waiting import eventually

pytestmark = pytest.mark.process

SECONDS, PER_SECOND = 30, 1000
NAMES, FLIP_EVERY = 50, 10
MESSAGES = SECONDS * PER_SECOND
# Each name is good for 10 of its messages and then bad for 10: half a second each.
TURNS = MESSAGES // NAMES
BAD_TIMES = TURNS // (2 * FLIP_EVERY)
GROWTH_MB = 15  # half a megabyte was seen; a leak of a kilobyte a message would be 25


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Fleet]:
    with fleet(tmp_path) as found:
        yield found


def memory_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def messages(gateway: Gateway) -> int:
    return int(gateway.get("/health").json()["x-medkit"]["fault_sources"]["diagnostics"]["messages"])


@pytest.mark.timeout(240)
def test_a_storm_of_statuses_loses_no_change_and_no_memory(one: Fleet, ros_domain: int) -> None:
    gateway = one.gateway("a", ros_domain, parameters={"faults.healing_threshold": 1, "faults.snapshots.enabled": True})
    with Nodes() as nodes:
        fqn = nodes.add_node("storm", "/weather")
        nodes.publish(fqn, "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
        gateway.lists("apps", "storm")

        def heard() -> int:
            nodes.publish_again(fqn, "/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", {"status": []})
            return messages(gateway)

        # Also the first good statuses of a storm must be nothing new: its publisher may match a moment later.
        eventually(heard, within=15.0)
        nodes.storm(fqn, names=NAMES, messages=MESSAGES, flip_every=FLIP_EVERY, per_second=PER_SECOND)
        eventually(lambda: nodes.stormed() > 5 * PER_SECOND, within=60.0)
        before = memory_mb(gateway.pid)
        eventually(lambda: nodes.stormed() == MESSAGES, within=120.0)
        eventually(lambda: messages(gateway) >= MESSAGES, within=60.0)
        assert (TURNS - 1) // FLIP_EVERY % 2, "the last turns are bad, so that every fault is confirmed in the end"
        expected = {f"STORM_PART_{number}": (BAD_TIMES, "CONFIRMED") for number in range(NAMES)}

        def items() -> list[dict[str, Any]]:
            return list(gateway.get("/faults?status=all").json()["items"])

        def counted() -> dict[str, tuple[int, str]]:
            return {fault["fault_code"]: (fault["occurrence_count"], fault["status"]) for fault in items()}

        eventually(
            lambda: counted() == expected, within=60.0, message=lambda: f"{counted()}\n{gateway.get('/health').text}"
        )
        faults = {fault["fault_code"]: fault for fault in items()}
        assert {tuple(fault["reporting_sources"]) for fault in faults.values()} == {("/weather/storm",)}
        health = gateway.get("/health").json()["x-medkit"]
        assert "refused" not in health["faults"] or not set(health["faults"]["refused"]) & {
            "queue_full",
            "flickers_folded",
        }
        assert health["fault_sources"]["diagnostics"]["unreadable"] == 0
        assert memory_mb(gateway.pid) - before < GROWTH_MB
        assert gateway.get("/apps/storm/faults").json()["x-medkit"]["count"] == NAMES
