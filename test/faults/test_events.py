"""The buffer of fault events: what it keeps, what leaves it first, and who hears of what (API.md §7.7)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.resources.faults.events import MAX_EVENTS, FaultEvents
from medkit_gateway_py.resources.faults.model import (
    CONFIRMED,
    ERROR,
    FAULT_CLEARED,
    FAULT_CONFIRMED,
    FAULT_UPDATED,
    Fault,
    FaultEvent,
)


def event(code: str, event_type: str = FAULT_CONFIRMED) -> FaultEvent:
    return FaultEvent(event_type, Fault(code, ERROR, "", 1.0, 1.0, 1, CONFIRMED, ("/a",)), 1.0)


def ids(events: FaultEvents, last: int = 0) -> list[int]:
    return [number for number, _ in events.after(last)]


def test_ids_count_from_one_and_replay_begins_after_the_last_one_seen():
    events = FaultEvents()
    assert (events.newest, events.after(0)) == (0, [])
    assert [events.add(event(code)) for code in "ABC"] == [1, 2, 3]
    assert events.newest == 3
    assert [(number, one.fault.fault_code) for number, one in events.after(1)] == [(2, "B"), (3, "C")]
    assert events.after(99) == []


def test_a_subscriber_hears_each_event_once_until_it_leaves():
    events, heard = FaultEvents(), []
    events.add(event("BEFORE"))
    unsubscribe = events.subscribe(lambda number, one: heard.append((number, one.fault.fault_code)))
    events.add(event("DURING"))
    unsubscribe()
    unsubscribe()
    events.add(event("AFTER"))
    assert heard == [(2, "DURING")]


def test_a_subscriber_that_fails_keeps_no_other_from_hearing():
    events, heard = FaultEvents(), []

    def broken(number: int, one: FaultEvent) -> None:
        raise RuntimeError("no")

    events.subscribe(broken)
    events.subscribe(lambda number, one: heard.append(number))
    events.add(event("A"))
    assert heard == [1]


def test_what_every_subscriber_has_had_leaves_first():
    events = FaultEvents(capacity=3)
    events.add(event("UNSEEN"))
    leave = events.subscribe(lambda number, one: None)
    events.add(event("SEEN"))
    leave()
    events.add(event("LATER"))
    events.add(event("LATEST"))
    assert ids(events) == [1, 3, 4]


def test_unseen_updates_that_were_overtaken_leave_before_the_rest():
    events = FaultEvents(capacity=3)
    events.add(event("A"))
    events.add(event("B", FAULT_UPDATED))
    events.add(event("B", FAULT_CLEARED))
    events.add(event("C"))
    assert ids(events) == [1, 3, 4]
    events.add(event("D", FAULT_UPDATED))
    # Nothing is overtaken now, so the oldest one leaves.
    assert ids(events) == [3, 4, 5]


@given(st.lists(st.tuples(st.sampled_from("ABC"), st.sampled_from((FAULT_UPDATED, FAULT_CLEARED)), st.booleans())))
def test_it_never_keeps_more_than_its_bound_nor_loses_the_newest(steps: list[tuple[str, str, bool]]):
    events = FaultEvents(capacity=5)
    for code, event_type, watched in steps:
        leave = events.subscribe(lambda number, one: None) if watched else lambda: None
        number = events.add(event(code, event_type))
        leave()
        kept = ids(events)
        assert len(kept) == min(number, 5)
        assert kept == sorted(kept)
        assert kept[-1] == number == events.newest


def test_the_bound_is_that_of_the_contract():
    events = FaultEvents()
    for number in range(MAX_EVENTS + 7):
        events.add(event(f"F{number}"))
    assert ids(events) == list(range(8, MAX_EVENTS + 8))
