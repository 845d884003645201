"""The fault store of our own as a whole: what is reported, shown, told and kept, in which order, and its bounds."""

from __future__ import annotations

import asyncio
import threading
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from medkit_gateway_py.resources.faults import captures, embedded
from medkit_gateway_py.resources.faults.embedded import EmbeddedFaults
from medkit_gateway_py.resources.faults.engine import Rules
from medkit_gateway_py.resources.faults.intake import MAX_UNKNOWN, Intake
from medkit_gateway_py.resources.faults.model import (
    CLEARED,
    CONFIRMED,
    CRITICAL,
    ERROR,
    HEALED,
    STATUSES,
    WARN,
    Fault,
    FaultEvent,
    Report,
    Snapshot,
)
from medkit_gateway_py.resources.faults.store import FaultStore, StateError
from support.waiting import async_eventually

ONE_PASS = Rules(healing_threshold=1)


def failed(code: str = "F", source: str = "/a", **more: Any) -> Report:
    return Report(source, code, True, **more)


def passed(code: str = "F", source: str = "/a") -> Report:
    return Report(source, code, False)


def using(body: Callable[[EmbeddedFaults, list[str]], Awaitable[None]], **options: Any) -> None:
    """Run `body` with a started store and the list that its events go into, as `type code status`."""

    async def whole() -> None:
        faults, events = EmbeddedFaults(**{"rules": ONE_PASS, **options}), []

        def hear(event: FaultEvent) -> None:
            events.append(f"{event.event_type} {event.fault.fault_code} {event.fault.status}")

        faults.subscribe(hear)
        await faults.start()
        try:
            await body(faults, events)
        finally:
            await faults.stop()

    asyncio.run(whole())


def shown(faults: EmbeddedFaults) -> dict[str, Fault]:
    return dict(faults._shown)


def test_a_report_becomes_a_fault_and_an_event_and_heals() -> None:
    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        faults.report(failed(severity=WARN, description="hot", stamp=5.0))
        await async_eventually(lambda: events)
        assert (await faults.list(STATUSES)).faults == (Fault("F", WARN, "hot", 5.0, 5.0, 1, CONFIRMED, ("/a",)),)
        assert (await faults.list([HEALED])).faults == ()
        faults.report(passed())
        await async_eventually(lambda: len(events) == 2)
        assert events == ["fault_confirmed F CONFIRMED", "fault_cleared F HEALED"]

    using(body)


def test_clearing_is_told_and_judges_what_came_before() -> None:
    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        faults.report(failed("A"))
        assert await faults.clear(["A", "B"]) == ("A",)
        assert events == ["fault_confirmed A CONFIRMED", "fault_cleared A CLEARED"]
        assert await faults.clear(["A"]) == ("A",)
        assert len(events) == 2
        record = await faults.get("A")
        assert record is not None
        assert record.fault.status == CLEARED
        assert await faults.get("B") is None

    using(body)


def test_changes_of_state_of_one_batch_are_all_judged_in_order() -> None:
    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        for _ in range(3):
            faults.report(failed())
            faults.report(passed())
        faults.report(failed())
        await faults.clear([])
        assert events == ["fault_confirmed F CONFIRMED", "fault_cleared F HEALED"] * 3 + ["fault_confirmed F CONFIRMED"]

    using(body)


def test_what_was_confirmed_is_there_after_a_restart(tmp_path: Path) -> None:
    async def first(faults: EmbeddedFaults, events: list[str]) -> None:
        faults.report(failed("KEPT"))
        faults.report(failed("OVER"))
        faults.report(passed("OVER"))
        await async_eventually(lambda: len(events) == 3)

    async def second(faults: EmbeddedFaults, events: list[str]) -> None:
        assert {code: fault.status for code, fault in shown(faults).items()} == {"KEPT": CONFIRMED, "OVER": HEALED}
        faults.report(passed("KEPT"))
        await async_eventually(lambda: events == ["fault_cleared KEPT HEALED"])

    using(first, directory=tmp_path)
    using(second, directory=tmp_path)


def test_a_lower_bound_shrinks_the_file_at_the_next_start(tmp_path: Path) -> None:
    async def first(faults: EmbeddedFaults, events: list[str]) -> None:
        for code in "ABC":
            faults.report(failed(code))
        await faults.clear(["A", "B"])

    async def second(faults: EmbeddedFaults, events: list[str]) -> None:
        assert sorted(shown(faults)) == ["B", "C"]

    using(first, directory=tmp_path)
    using(second, directory=tmp_path, rules=Rules(max_faults=2))
    store = FaultStore.open(tmp_path)
    assert sorted(fault.fault_code for fault in store.load()) == ["B", "C"]
    store.close()


def test_counts_are_written_at_the_end_at_the_latest(tmp_path: Path) -> None:
    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        faults.report(failed())
        await async_eventually(lambda: events)
        for _ in range(41):
            faults.report(failed())

    using(body, directory=tmp_path)
    store = FaultStore.open(tmp_path)
    (fault,) = store.load()
    assert fault.occurrence_count == 42
    store.close()


def test_nobody_hears_of_a_confirmation_before_it_is_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, reached = threading.Event(), threading.Event()
    write = FaultStore.write

    def slow(self: FaultStore, *arguments: Any) -> None:
        reached.set()
        assert gate.wait(10.0)
        write(self, *arguments)

    monkeypatch.setattr(FaultStore, "write", slow)

    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        faults.report(failed())
        await async_eventually(reached.is_set)
        assert (events, shown(faults)) == ([], {})
        gate.set()
        await async_eventually(lambda: events)

    using(body, directory=tmp_path)


def test_a_disk_that_refuses_costs_no_fault_and_is_told_and_caught_up_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "RETRY_S", 0.05)
    monkeypatch.setattr(embedded, "FLUSH_S", 0.05)
    is_full = True
    write = FaultStore.write

    def full(self: FaultStore, *arguments: Any) -> None:
        if is_full:
            raise StateError("disk is full")
        write(self, *arguments)

    monkeypatch.setattr(FaultStore, "write", full)

    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        nonlocal is_full
        assert faults.health()["state"] == "ok"
        faults.report(failed())
        await async_eventually(lambda: events)
        health = faults.health()
        assert (health["state"], health["persistent"]) == ("degraded", False)
        assert "disk is full" in health["reason"]
        is_full = False
        await async_eventually(lambda: faults.health()["state"] == "ok")

    using(body, directory=tmp_path)
    store = FaultStore.open(tmp_path)
    assert [fault.fault_code for fault in store.load()] == ["F"]
    store.close()


def test_after_a_long_outage_the_file_is_written_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "RETRY_S", 0.0)
    is_full = False
    write = FaultStore.write

    def full(self: FaultStore, *arguments: Any) -> None:
        if is_full:
            raise StateError("disk is full")
        write(self, *arguments)

    monkeypatch.setattr(FaultStore, "write", full)

    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        nonlocal is_full
        faults.report(failed("FIRST"))
        await faults.clear(["FIRST"])
        is_full = True
        for number in range(20):
            faults.report(failed(f"F{number}"))
            await faults.clear([f"F{number}"])
        assert len(faults._unwritten) <= 8
        is_full = False
        faults.report(failed("LAST"))
        await faults.clear([])

    using(body, directory=tmp_path, rules=Rules(max_faults=4))
    store = FaultStore.open(tmp_path)
    assert sorted(fault.fault_code for fault in store.load()) == ["F17", "F18", "F19", "LAST"]
    store.close()


def test_a_directory_that_cannot_be_used_is_degraded_and_none_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def broken(faults: EmbeddedFaults, events: list[str]) -> None:
        health = faults.health()
        assert (health["state"], health["persistent"]) == ("degraded", False)
        assert "cannot be used" in health["reason"]
        faults.report(failed())
        await async_eventually(lambda: events)

    async def memory(faults: EmbeddedFaults, events: list[str]) -> None:
        assert (faults.health()["state"], faults.health()["persistent"]) == ("ok", False)

    using(broken, directory=tmp_path / "file")
    using(memory)


def test_snapshots_come_with_the_fault_and_leave_with_the_next_occurrence(tmp_path: Path) -> None:
    asked: list[Fault] = []

    async def capture(fault: Fault) -> Sequence[Snapshot]:
        asked.append(fault)
        return [Snapshot("freeze_frame", "t", str(len(asked)))] if len(asked) < 2 else []

    async def names(faults: EmbeddedFaults) -> list[str]:
        record = await faults.get("F")
        assert record is not None
        return [one.data for one in record.snapshots]

    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        faults.report(failed(stamp=1.0))
        await async_eventually(lambda: asked)
        assert asked[0].status == CONFIRMED
        found: list[str] = []
        for _ in range(1000):
            found = await names(faults)
            if found:
                break
        assert found == ["1"]
        faults.report(passed())
        faults.report(failed(stamp=2.0))
        await async_eventually(lambda: len(asked) == 2)
        assert await names(faults) == []

    using(body, directory=tmp_path, capture=capture)


def test_captures_that_are_late_or_fail_are_counted_and_delay_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captures, "CAPTURE_S", 0.05)

    async def capture(fault: Fault) -> Sequence[Snapshot]:
        if fault.fault_code == "BROKEN":
            raise RuntimeError("no")
        await asyncio.sleep(60)
        return ()

    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        for code in ("BROKEN", *(f"LATE{number}" for number in range(captures.MAX_WAITING + 9))):
            faults.report(failed(code))
        await async_eventually(lambda: len(events) == captures.MAX_WAITING + 10)
        assert faults.health()["refused"]["captures_skipped"] == 10
        await async_eventually(lambda: faults.health()["refused"].get("captures_late") == captures.MAX_WAITING - 1)
        assert faults.health()["refused"]["captures_failed"] == 1

    using(body, capture=capture)


def test_what_is_refused_is_counted() -> None:
    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        for code in ("A", "B", "C", ""):
            faults.report(failed(code))
        await async_eventually(lambda: len(events) == 2)
        health = faults.health()
        assert health["refused"] == {"too_many_faults": 1, "bad_report": 1}
        assert (health["faults"], health["capacity"]) == ({"total": 2, "confirmed": 2}, 2)

    using(body, rules=Rules(max_faults=2))


def test_a_text_that_keeps_changing_is_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0

    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        nonlocal now
        faults.report(failed(description="1"))
        await faults.clear([])
        for number in range(5):
            faults.report(failed(description=f"again {number}"))
            await faults.clear([])
        assert shown(faults)["F"].description == "again 4"
        assert events == ["fault_confirmed F CONFIRMED"]
        now += embedded.UPDATE_S
        await faults.clear([])
        assert events[1:] == ["fault_updated F CONFIRMED"]
        now += embedded.UPDATE_S
        await faults.clear([])
        assert len(events) == 2

    using(body, clock=lambda: now)


def test_a_subscriber_that_fails_keeps_no_other_from_hearing() -> None:
    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        later: list[FaultEvent] = []

        def broken(event: FaultEvent) -> None:
            raise RuntimeError("no")

        faults.subscribe(broken)
        faults.subscribe(later.append)
        faults.report(failed())
        await async_eventually(lambda: later)

    using(body)


def test_reports_from_many_threads_all_count() -> None:
    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        def work(source: str) -> None:
            for _ in range(500):
                faults.report(failed(source=source))

        threads = [threading.Thread(target=work, args=(f"/n{number}",)) for number in range(8)]
        for thread in threads:
            thread.start()
        await async_eventually(lambda: shown(faults).get("F", None) and shown(faults)["F"].occurrence_count == 4000)
        for thread in threads:
            thread.join(10)

    using(body)


def test_a_storm_of_a_hundred_thousand_codes_does_not_grow_the_memory() -> None:
    async def body(faults: EmbeddedFaults, events: list[str]) -> None:
        async def storm(name: str) -> None:
            for number in range(50_000):
                faults.report(failed(f"{name}_{number}"))
                if number % 2000 == 0:
                    await faults.clear([f"{name}_{one}" for one in range(number - 3000, number)])
            await faults.clear([])

        await storm("warm")
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        events.clear()
        await storm("more")
        events.clear()
        grown = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        assert len(shown(faults)) == 500
        assert grown < 3_000_000

    using(body, rules=Rules(max_faults=500))


def test_what_waits_is_bounded_and_known_faults_are_heard_all_the_same() -> None:
    intake = Intake(lambda code: code == "KNOWN")
    for number in range(MAX_UNKNOWN + 100):
        intake.put(failed(f"F{number}"))
    assert (len(intake), dict(intake.refused)) == (MAX_UNKNOWN, {"queue_full": 100})
    intake.put(passed("KNOWN"))
    assert len(intake) == MAX_UNKNOWN + 1


def test_equal_reports_wait_as_one_with_the_worst_severity_and_the_latest_text() -> None:
    intake = Intake(lambda code: False)
    intake.put(failed(severity=CRITICAL, description="bad"))
    for number in range(1000):
        intake.put(failed(severity=ERROR, description=f"n{number}"))
    assert intake.take() == [(failed(severity=CRITICAL, description="n999"), 1001)]
    assert intake.take() == []


def test_a_source_that_flickers_keeps_its_latest_state_and_a_bounded_past() -> None:
    for latest in (True, False):
        intake = Intake(lambda code: False)
        for number in range(10_001 if latest else 10_000):
            intake.put(failed() if number % 2 == 0 else passed())
        found = intake.take()
        assert len(found) <= 32
        assert found[-1][0].failed is latest
        states = [report.failed for report, _ in found]
        assert states == [number % 2 == 0 for number in range(len(states))]
        assert intake.refused["flickers_folded"] > 4000
