"""Faults that a fault manager keeps: lists, details, clearing, events, reports; and the change between two places."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from medkit_gateway_py.errors import ServiceUnavailable
from medkit_gateway_py.resources.faults import manager, model
from medkit_gateway_py.resources.faults.choice import GONE_S, ChosenFaults
from medkit_gateway_py.resources.faults.embedded import EmbeddedFaults
from medkit_gateway_py.resources.faults.manager import ManagerFaults
from medkit_gateway_py.resources.faults.model import FaultEvent, Report
from support.fake_fault_manager import FakeFaultManager
from support.waiting import async_eventually

HOT = Report("/arm/driver", "MOTOR_HOT", True, model.ERROR, "91 C", 5.0)
COOL = Report("/arm/driver", "MOTOR_HOT", False)


class Room:
    """A fault manager, the backend before it, and the events that came."""

    def __init__(self) -> None:
        self.node = FakeFaultManager()
        self.faults = ManagerFaults(self.node)
        self.events: list[FaultEvent] = []
        self.faults.subscribe(self.events.append)

    async def reported(self, *reports: Report) -> None:
        sent = self.faults.health()["reports_sent"] + len(reports)
        for report in reports:
            self.faults.report(report)
        await async_eventually(lambda: self.faults.health()["reports_sent"] == sent)


@contextlib.asynccontextmanager
async def opened() -> AsyncIterator[Room]:
    room = Room()
    await room.faults.start()
    try:
        yield room
    finally:
        await room.faults.stop()


def using(body: Callable[[Room], Awaitable[None]]) -> None:
    async def whole() -> None:
        with anyio.fail_after(10.0):
            async with opened() as room:
                await body(room)

    anyio.run(whole)


def test_reports_arrive_in_order_and_are_listed() -> None:
    async def body(room: Room) -> None:
        await room.reported(HOT, HOT)
        listing = await room.faults.list((model.CONFIRMED,))
        fault = listing.faults[0]
        assert (fault.fault_code, fault.severity, fault.status) == ("MOTOR_HOT", model.ERROR, model.CONFIRMED)
        assert (fault.occurrence_count, fault.reporting_sources) == (2, ("/arm/driver",))
        assert fault.last_passed is None
        await room.reported(COOL)
        assert (await room.faults.list((model.CONFIRMED,))).faults == ()
        healed = (await room.faults.list((model.HEALED,))).faults[0]
        assert healed.last_passed == pytest.approx(healed.last_occurred, abs=5.0)
        assert [fields["event_type"] for name, fields in room.node.calls if name == "report_fault"] == [0, 0, 1]

    using(body)


def test_what_a_correlation_holds_back_is_shown_when_it_is_asked_for() -> None:
    async def body(room: Room) -> None:
        plain = await room.faults.list((model.CONFIRMED,))
        assert (plain.muted, plain.muted_count, plain.clusters, plain.cluster_count) == ((), 1, (), 1)
        full = await room.faults.list((model.CONFIRMED,), include_muted=True, include_clusters=True)
        assert full.muted == ({"fault_code": "M", "root_cause_code": "R", "rule_id": "rule", "delay_ms": 20},)
        assert full.clusters[0]["fault_codes"] == ["R", "M"]
        assert (full.clusters[0]["first_at"], full.clusters[0]["count"]) == (1.5, 2)

    using(body)


def test_a_detail_has_the_snapshots_and_what_is_not_there_is_none() -> None:
    async def body(room: Room) -> None:
        await room.reported(HOT)
        record = await room.faults.get("MOTOR_HOT")
        assert record is not None
        assert record.fault.description == "91 C"
        assert (record.snapshots[0].name, record.snapshots[0].captured_at) == ("temperature", 1.5)
        assert await room.faults.get("NOBODY") is None
        room.node.error = "database locked"
        with pytest.raises(ServiceUnavailable) as failed:
            await room.faults.get("MOTOR_HOT")
        assert failed.value.parameters["details"] == "database locked"

    using(body)


def test_clearing_tells_what_was_cleared_with_it() -> None:
    async def body(room: Room) -> None:
        await room.reported(HOT, Report("/a", "B", True), Report("/a", "C", True))
        room.node.together = {"MOTOR_HOT": ["B"]}
        assert await room.faults.clear(["MOTOR_HOT", "B", "NOBODY"], False) == ("MOTOR_HOT", "B")
        assert await room.faults.clear(["C"]) == ("C",)
        assert [fields["skip_correlation_auto_clear"] for name, fields in room.node.calls if name == "clear_fault"] == [
            False, False, True,
        ]  # fmt: skip

    using(body)


@pytest.mark.parametrize("trouble", ["away", "silent"])
def test_a_fault_manager_that_does_not_answer_is_an_error_with_its_text(trouble: str) -> None:
    async def body(room: Room) -> None:
        setattr(room.node, trouble, True)
        calls = {
            "Failed to get faults": lambda: room.faults.list((model.CONFIRMED,)),
            "Failed to get fault": lambda: room.faults.get("X"),
            "Failed to clear fault": lambda: room.faults.clear(["X"]),
        }
        for text, call in calls.items():
            with pytest.raises(ServiceUnavailable) as failed:
                await call()
            assert failed.value.message == text
            assert "/fault_manager/" in failed.value.parameters["details"]
        assert room.faults.health()["state"] == "down"
        setattr(room.node, trouble, False)
        await room.faults.list((model.CONFIRMED,))
        assert room.faults.health()["state"] == "ok"

    using(body)


def test_reports_wait_for_a_fault_manager_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager, "RETRY_S", 0.05)
    monkeypatch.setattr(manager, "MAX_REPORTS", 10)

    async def body(room: Room) -> None:
        room.node.away = True
        for number in range(30):
            room.faults.report(Report("/a", f"F{number}", True))
        await async_eventually(lambda: room.node.calls)
        room.node.away = False
        await async_eventually(lambda: "F29" in room.node.faults)
        assert list(room.node.faults) == [f"F{number}" for number in range(20, 30)]
        assert room.faults.health()["reports_dropped"] == 20

    using(body)


def test_a_report_without_an_answer_is_not_sent_twice() -> None:
    async def body(room: Room) -> None:
        room.node.silent = True
        room.faults.report(HOT)
        await async_eventually(lambda: room.faults.health()["reports_dropped"] == 1)
        assert room.node.faults["MOTOR_HOT"].occurrence_count == 1

    using(body)


def test_events_are_passed_on_in_order_and_odd_ones_are_counted() -> None:
    async def body(room: Room) -> None:
        await room.reported(HOT, COOL)
        await async_eventually(lambda: len(room.events) == 2)
        assert [one.event_type for one in room.events] == [model.FAULT_CONFIRMED, model.FAULT_CLEARED]
        room.faults._heard(object())
        assert room.faults.health()["events_unreadable"] == 1

    using(body)


def test_without_the_package_everything_is_unavailable() -> None:
    async def body() -> None:
        faults = ManagerFaults(None)
        await faults.start()
        faults.report(HOT)
        with pytest.raises(ServiceUnavailable) as failed:
            await faults.list((model.CONFIRMED,))
        assert "ros2_medkit_msgs is not installed" in failed.value.parameters["details"]
        assert faults.health()["state"] == "down"
        await faults.stop()

    anyio.run(body)


def test_auto_follows_the_fault_manager_in_the_graph() -> None:
    async def body(room: Room) -> None:
        now, present, changes = [0.0], [False], []
        own = EmbeddedFaults()
        chosen = ChosenFaults(own, room.faults, lambda: present[0], lambda: changes.append(1), lambda: now[0])
        events: list[FaultEvent] = []
        chosen.subscribe(events.append)
        await own.start()
        chosen.report(HOT)
        await async_eventually(lambda: events)
        assert (await chosen.list((model.CONFIRMED,))).faults[0].fault_code == "MOTOR_HOT"

        present[0] = True
        chosen.look()
        assert (await chosen.list((model.CONFIRMED,))).faults == ()
        chosen.report(Report("/arm/driver", "MOTOR_SLOW", True))
        await async_eventually(lambda: len(events) == 2)
        assert events[1].fault.fault_code == "MOTOR_SLOW"
        own.report(Report("/arm/driver", "UNHEARD", True, model.CRITICAL))
        await async_eventually(lambda: own.health()["faults"]["total"] == 2)
        assert chosen.health()["backend"] == "fault_manager"

        present[0], room.node.away, now[0] = False, True, GONE_S - 0.1
        chosen.look()
        with pytest.raises(ServiceUnavailable):
            await chosen.list((model.CONFIRMED,))
        now[0] = GONE_S
        room.faults._waiting.append(Report("/arm/driver", "MOTOR_LATE", True))
        chosen.look()
        await async_eventually(lambda: len(events) == 3)
        codes = {fault.fault_code for fault in (await chosen.list((model.CONFIRMED,))).faults}
        assert codes == {"MOTOR_HOT", "MOTOR_LATE", "UNHEARD"}
        assert len(changes) == 2
        await own.stop()

    using(body)
