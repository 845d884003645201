"""The life of a fault: debounce, confirmation, healing, clearing, bounds; and the same against a plain model."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medkit_gateway_py.resources.faults.engine import (
    BAD_REPORT,
    MAX_DESCRIPTION,
    MAX_SOURCES,
    TOO_MANY_FAULTS,
    TOO_MANY_SOURCES,
    Change,
    FaultEngine,
    Refused,
    Rules,
)
from medkit_gateway_py.resources.faults.model import (
    CLEARED,
    CONFIRMED,
    CRITICAL,
    ERROR,
    FAULT_CLEARED,
    FAULT_CONFIRMED,
    FAULT_UPDATED,
    HEALED,
    INFO,
    PREFAILED,
    PREPASSED,
    WARN,
    Fault,
    Report,
)

DEBOUNCED = Rules(confirmation_threshold=3, healing_threshold=2)


def failed(code: str = "F", source: str = "/a", severity: int = ERROR, stamp: float = 0.0, text: str = "") -> Report:
    return Report(source, code, True, severity, text, stamp)


def passed(code: str = "F", source: str = "/a", stamp: float = 0.0) -> Report:
    return Report(source, code, False, INFO, "", stamp)


def run(engine: FaultEngine, *reports: Report, now: float = 100.0) -> Change | None:
    change = None
    for report in reports:
        change = engine.apply(report, now)
    return change


def only(engine: FaultEngine) -> Fault:
    (fault,) = engine
    return fault


def test_one_failed_report_is_a_confirmed_fault_by_default() -> None:
    change = run(FaultEngine(Rules()), failed(severity=WARN, stamp=7.0, text="hot"))
    fault = Fault("F", WARN, "hot", 7.0, 7.0, 1, CONFIRMED, ("/a",))
    assert change == Change(fault, FAULT_CONFIRMED, is_kept=True, is_new=True)


def test_it_heals_by_default_when_its_source_has_passed_three_times_in_a_row() -> None:
    engine = FaultEngine(Rules())
    run(engine, failed(stamp=1.0), passed(stamp=2.0), passed(stamp=3.0), failed(stamp=4.0), passed(), passed(stamp=6.0))
    assert only(engine).status == CONFIRMED
    change = run(engine, passed(stamp=7.0))
    assert change is not None
    assert (change.event_type, change.fault.status, change.fault.last_passed) == (FAULT_CLEARED, HEALED, 100.0)


def test_a_threshold_keeps_a_fault_pending_and_nobody_is_told() -> None:
    engine = FaultEngine(DEBOUNCED)
    for _ in range(2):
        change = run(engine, failed())
        assert change is not None
        assert (change.fault.status, change.event_type) == (PREFAILED, "")
    change = run(engine, failed())
    assert change is not None
    assert (change.fault.status, change.event_type, change.fault.occurrence_count) == (CONFIRMED, FAULT_CONFIRMED, 3)


def test_a_critical_report_confirms_at_once() -> None:
    change = run(FaultEngine(DEBOUNCED), failed(severity=CRITICAL))
    assert change is not None
    assert change.fault.status == CONFIRMED


def test_a_pass_begins_the_debounce_anew() -> None:
    engine = FaultEngine(DEBOUNCED)
    run(engine, failed(), failed(), passed())
    assert only(engine).status == PREPASSED
    run(engine, failed(), failed())
    assert only(engine).status == PREFAILED
    run(engine, failed())
    assert only(engine).status == CONFIRMED


def test_a_pending_fault_that_heals_was_never_told_of() -> None:
    engine = FaultEngine(DEBOUNCED)
    change = run(engine, failed(), passed(), passed())
    assert change is not None
    assert (change.fault.status, change.event_type) == (HEALED, "")


def test_equal_reports_may_come_as_one_with_a_count() -> None:
    engine = FaultEngine(DEBOUNCED)
    assert engine.apply(failed(), 1.0, 3) is not None
    assert (only(engine).status, only(engine).occurrence_count) == (CONFIRMED, 3)
    engine.apply(passed(), 2.0, 2)
    assert only(engine).status == HEALED


def test_it_heals_only_when_all_its_sources_pass() -> None:
    engine = FaultEngine(Rules(healing_threshold=1))
    run(engine, failed(source="/a"), failed(source="/b"), passed(source="/a"), passed(source="/other"))
    assert (only(engine).status, only(engine).reporting_sources) == (CONFIRMED, ("/a", "/b"))
    run(engine, failed(source="/a"), passed(source="/b"))
    assert only(engine).status == CONFIRMED
    run(engine, passed(source="/a"))
    assert only(engine).status == HEALED


def test_without_healing_only_clearing_ends_it() -> None:
    engine = FaultEngine(Rules(healing_enabled=False))
    run(engine, failed(), *[passed()] * 50)
    assert only(engine).status == CONFIRMED
    (change,) = engine.clear(["F", "F", "UNKNOWN"])
    assert (change.event_type, change.is_kept, change.fault.status) == (FAULT_CLEARED, True, CLEARED)
    assert engine.clear(["F"]) == [Change(only(engine))]


@pytest.mark.parametrize("end", ["heal", "clear"])
def test_what_comes_back_begins_anew_and_only_the_count_goes_on(end: str) -> None:
    engine = FaultEngine(Rules(healing_threshold=1))
    run(engine, failed(source="/a", severity=CRITICAL, stamp=1.0, text="old"))
    run(engine, passed(source="/a", stamp=2.0))
    if end == "clear":
        engine.clear(["F"])
    change = run(engine, failed(source="/b", severity=WARN, stamp=9.0, text="new"))
    assert change == Change(Fault("F", WARN, "new", 9.0, 9.0, 2, CONFIRMED, ("/b",)), FAULT_CONFIRMED, True, True)


def test_a_source_that_passes_after_the_clearing_changes_nothing() -> None:
    engine = FaultEngine(Rules())
    run(engine, failed())
    engine.clear(["F"])
    assert run(engine, passed()) is None
    assert run(engine, passed(code="NEVER_FAILED")) is None
    assert len(engine) == 1


def test_a_worse_severity_or_another_source_is_told_and_more_of_the_same_is_not() -> None:
    engine = FaultEngine(Rules())
    run(engine, failed(severity=WARN, text="one"))
    for report, event_type in [
        (failed(severity=WARN, text="two"), ""),
        (failed(severity=ERROR), FAULT_UPDATED),
        (failed(severity=WARN), ""),
        (failed(source="/b", severity=WARN), FAULT_UPDATED),
    ]:
        change = run(engine, report)
        assert change is not None
        assert (change.event_type, change.is_kept) == (event_type, bool(event_type))
    fault = only(engine)
    assert (fault.severity, fault.description, fault.occurrence_count) == (ERROR, "two", 5)


def test_what_is_pending_for_long_is_confirmed_by_the_time() -> None:
    engine = FaultEngine(Rules(confirmation_threshold=9, auto_confirm_after_s=5.0))
    run(engine, failed(), now=100.0)
    run(engine, failed(), now=104.0)
    assert engine.tick(104.9) == []
    (change,) = engine.tick(105.0)
    assert (change.fault.status, change.event_type, change.is_new) == (CONFIRMED, FAULT_CONFIRMED, True)
    assert engine.tick(200.0) == []


def test_a_fault_that_passes_in_time_is_not_confirmed_by_the_time() -> None:
    engine = FaultEngine(Rules(confirmation_threshold=9, auto_confirm_after_s=5.0))
    run(engine, failed(), passed(), now=100.0)
    assert engine.tick(200.0) == []
    run(engine, failed(), now=200.0)
    assert engine.tick(204.0) == []
    assert len(engine.tick(205.0)) == 1


def test_when_there_is_no_room_those_that_are_over_for_longest_leave_first() -> None:
    engine = FaultEngine(Rules(max_faults=3, healing_threshold=1))
    run(engine, failed("A"), failed("B"), failed("C"), passed("B"))
    engine.clear(["A"])
    run(engine, failed("D"))
    assert engine.take_evicted() == ["B"]
    run(engine, failed("E"))
    assert engine.take_evicted() == ["A"]
    with pytest.raises(Refused, match=TOO_MANY_FAULTS):
        run(engine, failed("F"))
    assert [fault.fault_code for fault in engine] == ["C", "D", "E"]
    # Known ones are heard all the same.
    run(engine, failed("C"))
    assert engine.take_evicted() == []


def test_sources_and_texts_are_bounded() -> None:
    engine = FaultEngine(Rules())
    run(engine, *[failed(source=f"/n{number}") for number in range(MAX_SOURCES)])
    with pytest.raises(Refused, match=TOO_MANY_SOURCES):
        run(engine, failed(source="/one_more"))
    assert only(engine).occurrence_count == MAX_SOURCES
    run(engine, failed(source="/n0", text="x" * 100_000))
    assert len(only(engine).description) == MAX_DESCRIPTION


@pytest.mark.parametrize(
    "report",
    [
        failed(code=""), failed(code="x" * 257), failed(code="a\nb"), failed(source=""), failed(source="/" * 2000),
        failed(severity=4), failed(severity=-1),
    ],
)  # fmt: skip
def test_a_report_that_makes_no_sense_is_refused(report: Report) -> None:
    engine = FaultEngine(Rules())
    with pytest.raises(Refused, match=BAD_REPORT):
        run(engine, report)
    assert len(engine) == 0


@pytest.mark.parametrize("stamp", [0.0, -1.0, float("nan"), float("inf")])
def test_a_stamp_that_is_none_counts_as_now(stamp: float) -> None:
    change = run(FaultEngine(Rules()), failed(stamp=stamp), now=50.0)
    assert change is not None
    assert change.fault.first_occurred == 50.0


def test_after_a_restart_every_source_counts_as_failing() -> None:
    before = FaultEngine(Rules(healing_threshold=2))
    run(before, failed(source="/a"), failed(source="/b"), passed(source="/a"), passed(source="/a"), failed("G"))
    before.clear(["G"])
    engine = FaultEngine(Rules(healing_threshold=2))
    engine.load(before, 500.0)
    assert list(engine) == list(before)
    run(engine, passed(source="/b"), passed(source="/b"))
    assert next(iter(engine)).status == CONFIRMED
    run(engine, passed(source="/a"), passed(source="/a"))
    assert next(iter(engine)).status == HEALED


def test_a_bound_that_is_lower_than_before_lets_those_go_that_are_over() -> None:
    before = FaultEngine(Rules())
    run(before, *[failed(code) for code in "ABCDE"])
    before.clear(["B", "A", "D"])
    engine = FaultEngine(Rules(max_faults=3))
    engine.load([before.get(code) for code in "BACDE"], 1.0)
    assert engine.take_evicted() == ["B", "A"]
    assert [fault.fault_code for fault in engine] == ["C", "D", "E"]
    engine = FaultEngine(Rules(max_faults=1))
    engine.load(before, 1.0)
    assert [fault.fault_code for fault in engine] == ["C", "E"]


@dataclass
class Model:
    """The same said again, slowly: everything is worked out from the whole history of one occurrence."""

    rules: Rules
    history: list[tuple[bool, str, int, float]] = field(default_factory=list)
    status: str = ""
    count: int = 0

    def report(self, is_failed: bool, source: str, severity: int, now: float) -> None:
        if self.status in ("", HEALED, CLEARED):
            if not is_failed:
                return
            self.history, self.status = [], PREFAILED
        if not is_failed and source not in self.sources():
            return
        self.count += is_failed
        self.history.append((is_failed, source, severity, now))
        self.judge()

    def sources(self) -> list[str]:
        return list(dict.fromkeys(source for is_failed, source, _, _ in self.history if is_failed))

    def passes(self, source: str) -> int:
        number = 0
        for is_failed, who, _, _ in reversed(self.history):
            if who == source:
                if is_failed:
                    break
                number += 1
        return number

    def judge(self) -> None:
        fewest = min(self.passes(source) for source in self.sources())
        if self.rules.healing_enabled and fewest >= self.rules.healing_threshold:
            self.status = HEALED
        elif self.status == CONFIRMED:
            pass
        elif fewest > 0:
            self.status = PREPASSED
        elif self.fails() >= self.rules.confirmation_threshold or self.severity() == CRITICAL:
            self.status = CONFIRMED
        else:
            self.status = PREFAILED

    def since_all_passed(self) -> list[tuple[bool, str, int, float]]:
        """What came since the last moment at which no source was failing."""
        last: dict[str, bool] = {}
        begin = 0
        for number, (is_failed, source, _, _) in enumerate(self.history):
            if is_failed or source in last:
                last[source] = is_failed
            if not any(last.values()):
                begin = number + 1
        return self.history[begin:]

    def fails(self) -> int:
        return sum(one[0] for one in self.since_all_passed())

    def severity(self) -> int:
        return max(one[2] for one in self.history if one[0])

    def tick(self, now: float) -> None:
        if self.status == PREFAILED and self.rules.auto_confirm_after_s:
            since = next(one[3] for one in self.since_all_passed() if one[0])
            if now - since >= self.rules.auto_confirm_after_s:
                self.status = CONFIRMED


STEP = st.one_of(
    st.tuples(st.just("fail"), st.sampled_from(["/a", "/b", "/c"]), st.sampled_from([INFO, WARN, ERROR, CRITICAL])),
    st.tuples(st.just("pass"), st.sampled_from(["/a", "/b", "/c"]), st.just(0)),
    st.tuples(st.sampled_from(["clear", "tick"]), st.just(""), st.just(0)),
)


@settings(max_examples=300)
@given(
    st.builds(
        Rules,
        confirmation_threshold=st.integers(1, 4),
        healing_enabled=st.booleans(),
        healing_threshold=st.integers(1, 3),
        auto_confirm_after_s=st.sampled_from([0.0, 3.0]),
    ),
    st.lists(STEP, max_size=25),
)
def test_it_does_what_the_model_does(rules: Rules, steps: list[tuple[str, str, int]]) -> None:
    engine, model = FaultEngine(rules), Model(rules)
    for now, (what, source, severity) in enumerate(steps, 1):
        told: list[Change | None] = []
        before = model.status
        if what == "clear":
            told += engine.clear(["F"])
            model.status = CLEARED if model.status else ""
        elif what == "tick":
            told += engine.tick(float(now))
            model.tick(float(now))
        else:
            told.append(engine.apply(Report(source, "F", what == "fail", severity), float(now)))
            model.report(what == "fail", source, severity, float(now))
        if not model.status:
            assert len(engine) == 0
            continue
        fault = only(engine)
        assert (fault.status, fault.occurrence_count) == (model.status, model.count)
        assert fault.reporting_sources == tuple(model.sources())
        assert fault.severity == model.severity()
        events = [one.event_type for one in told if one is not None and one.event_type]
        if model.status == CONFIRMED and before != CONFIRMED:
            assert events == [FAULT_CONFIRMED]
        elif before == CONFIRMED and model.status in (HEALED, CLEARED):
            assert events == [FAULT_CLEARED]
        elif model.status != before:
            assert events in ([], [FAULT_CLEARED])
