"""What diagnostic statuses say about faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.resources.faults import model
from medkit_gateway_py.resources.faults.diagnostics import (
    MESSAGE_S,
    REPEAT_S,
    DiagnosticStatuses,
    Observation,
)

OK, WARN, ERROR, STALE = (bytes([level]) for level in range(4))
TOPIC = "/diagnostics"


@dataclass
class Status:
    """Has the members of a DiagnosticStatus."""

    name: str
    level: bytes = OK
    message: str = ""
    hardware_id: str = ""
    values: Sequence[object] = field(default_factory=list)


def take(
    statuses: DiagnosticStatuses, name: str, level: bytes, message: str = "", now: float = 0.0
) -> Observation | None:
    return statuses.take(Status(name, level, message), TOPIC, now)


@pytest.mark.parametrize(
    ("level", "severity"),
    [(WARN, model.WARN), (ERROR, model.ERROR), (STALE, model.CRITICAL), (b"\x09", model.ERROR)],
)
def test_whatever_is_not_ok_has_failed(level: bytes, severity: int) -> None:
    seen = take(DiagnosticStatuses(), "motor: temp", level, "hot")
    assert seen is not None
    assert (seen.fault_code, seen.failed, seen.severity, seen.description) == ("MOTOR_TEMP", True, severity, "hot")


def test_what_was_never_bad_passes_once_and_then_says_nothing() -> None:
    statuses = DiagnosticStatuses()
    first = take(statuses, "motor: temp", OK)
    assert first is not None
    assert not first.failed
    assert [take(statuses, "motor: temp", OK, f"{now}", now) for now in range(100)] == [None] * 100


def test_every_change_of_level_is_told_at_once() -> None:
    statuses = DiagnosticStatuses()
    levels = [ERROR, WARN, OK, STALE, OK, ERROR]
    told = [take(statuses, "m", level, "", 0.0) for level in levels]
    assert [one is not None and one.failed for one in told] == [True, True, False, True, False, True]


def test_what_does_not_change_is_told_again_now_and_then() -> None:
    statuses = DiagnosticStatuses()
    assert take(statuses, "m", ERROR, "x", 0.0)
    assert not take(statuses, "m", ERROR, "x", REPEAT_S - 0.1)
    assert take(statuses, "m", ERROR, "x", REPEAT_S)


def test_other_words_for_the_same_are_told_once_a_second() -> None:
    statuses = DiagnosticStatuses()
    assert take(statuses, "m", ERROR, "91 C", 0.0)
    assert not take(statuses, "m", ERROR, "92 C", MESSAGE_S / 2)
    told = take(statuses, "m", ERROR, "93 C", MESSAGE_S)
    assert told is not None
    assert told.description == "93 C"


def test_a_code_of_two_statuses_passes_when_both_have() -> None:
    statuses = DiagnosticStatuses()
    assert take(statuses, "a b", ERROR)
    assert take(statuses, "a-b", ERROR)
    assert statuses.shared_codes == 1
    assert take(statuses, "a b", OK) is None
    assert take(statuses, "a:b", OK) is None
    passed = take(statuses, "a-b", OK)
    assert passed is not None
    assert not passed.failed


def test_as_many_are_told_as_it_takes_to_confirm_and_to_heal() -> None:
    statuses = DiagnosticStatuses(failed_times=2, passed_times=3)
    assert [bool(take(statuses, "m", ERROR)) for _ in range(4)] == [True, True, False, False]
    assert [bool(take(statuses, "m", OK)) for _ in range(5)] == [True, True, True, False, False]
    assert [bool(take(statuses, "m", level)) for level in (WARN, OK, OK, ERROR)] == [True] * 4


def test_everything_is_told_again_to_somebody_else() -> None:
    statuses = DiagnosticStatuses()
    for name, level in (("good", OK), ("bad", ERROR)):
        assert take(statuses, name, level)
        assert not take(statuses, name, level)
    statuses.tell_again()
    assert take(statuses, "good", OK)
    assert take(statuses, "bad", ERROR)


def test_the_table_is_bounded_and_bad_statuses_come_first() -> None:
    statuses = DiagnosticStatuses(max_statuses=3)
    for number in range(10):
        take(statuses, f"good {number}", OK)
    assert len(statuses) == 3
    assert all(take(statuses, f"bad {number}", ERROR) for number in range(3))
    assert take(statuses, "bad 3", ERROR) is None
    assert (len(statuses), statuses.bad, statuses.refused) == (3, 3, 1)
    assert take(statuses, "bad 0", OK)
    assert take(statuses, "bad 3", ERROR)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a b", "a-b", "c", ""]), st.sampled_from([OK, WARN, ERROR, STALE]), st.text(max_size=5)
        ),
        max_size=60,
    )
)
def test_the_last_word_on_a_code_is_what_its_statuses_say(history: list[tuple[str, bytes, str]]) -> None:
    statuses = DiagnosticStatuses()
    said: dict[str, bool] = {}
    last: dict[str, bytes] = {}
    codes: dict[str, set[str]] = {}
    for now, (name, level, message) in enumerate(history):
        last[name] = level
        told = take(statuses, name, level, message, now * 0.01)
        code = DiagnosticStatuses().take(Status(name, ERROR), TOPIC, 0.0)
        assert code is not None
        codes.setdefault(code.fault_code, set()).add(name)
        if told is not None:
            said[told.fault_code] = told.failed
    for one, names in codes.items():
        assert said[one] == any(last[name] != OK for name in names)
