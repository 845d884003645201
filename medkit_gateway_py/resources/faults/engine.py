"""What becomes of a fault when its sources report: pending, confirmed, healed, cleared. Pure: time is passed in.

One state machine per code (API.md §7.1 names the states):

* the first failed report makes it PREFAILED, `confirmation_threshold` of them make it CONFIRMED, a CRITICAL one does
  so at once, and so does `auto_confirm_after_s` without a source that passes;
* a pending fault whose sources all pass again is PREPASSED, and PREFAILED with the next failed report;
* every source that failed has to pass `healing_threshold` times in a row for the fault to be HEALED;
* CLEARED is what somebody said; a failed report after HEALED or CLEARED begins anew, and only the count goes on.

A code that passes and never failed is no fault.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from .model import (
    CLEARED,
    CONFIRMED,
    CRITICAL,
    FAULT_CLEARED,
    FAULT_CONFIRMED,
    FAULT_UPDATED,
    HEALED,
    INFO,
    PREFAILED,
    PREPASSED,
    Fault,
    Report,
)

MAX_CODE = 256  # API.md §7.5
MAX_SOURCE = 1024
MAX_SOURCES = 64  # sources of one fault; whoever shares a code among more nodes has named it badly
MAX_DESCRIPTION = 4096
MAX_COUNT = 2**32 - 1  # `occurrence_count` is a uint32 in `Fault.msg`

ACTIVE = frozenset({PREFAILED, CONFIRMED})

TOO_MANY_FAULTS, TOO_MANY_SOURCES, BAD_REPORT = "too_many_faults", "too_many_sources", "bad_report"


class Refused(Exception):
    """A report that was not taken; `reason` is one of the three names above."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Rules:
    """When a fault is believed, and when it is over. Thresholds are numbers of reports; 0 s means never."""

    confirmation_threshold: int = 1
    healing_enabled: bool = True
    healing_threshold: int = 3
    auto_confirm_after_s: float = 0.0
    max_faults: int = 10_000


@dataclass(frozen=True)
class Change:
    """What one report, one clearing or the time did to one fault.

    * `event_type`: the event to publish, "" for none.
    * `is_kept`: it has to be on disk before anybody hears of it; other changes may wait.
    * `is_new`: an occurrence was confirmed, so that what was recorded of the one before is void.
    """

    fault: Fault
    event_type: str = ""
    is_kept: bool = False
    is_new: bool = False


@dataclass
class _State:
    code: str
    severity: int
    description: str
    first: float
    last: float
    status: str
    count: int = 0
    passed: float | None = None
    fails: int = 0
    pending_since: float = 0.0
    # Source to the number of times it has passed since it last failed.
    sources: dict[str, int] = field(default_factory=dict)

    def fault(self) -> Fault:
        return Fault(
            self.code, self.severity, self.description, self.first, self.last, self.count, self.status,
            tuple(self.sources), self.passed,
        )  # fmt: skip


class FaultEngine:
    """All faults of one gateway. Not thread-safe."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._states: dict[str, _State] = {}
        self._inactive: OrderedDict[str, None] = OrderedDict()  # longest inactive first
        self._pending: dict[str, None] = {}
        self._evicted: list[str] = []

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, code: str) -> bool:
        return code in self._states

    def __iter__(self) -> Iterator[Fault]:
        return (state.fault() for state in self._states.values())

    def get(self, code: str) -> Fault | None:
        """The fault of this code as it is now."""
        state = self._states.get(code)
        return state.fault() if state is not None else None

    def load(self, faults: Iterable[Fault], now: float) -> None:
        """Take what an earlier process knew, longest unchanged first: every source counts as failing."""
        for fault in faults:
            state = _State(
                fault.fault_code, fault.severity, fault.description, fault.first_occurred, fault.last_occurred,
                fault.status, fault.occurrence_count, fault.last_passed, fails=1, pending_since=now,
                sources=dict.fromkeys(fault.reporting_sources, 0),
            )  # fmt: skip
            self._states[state.code] = state
            self._note(state)
        # The bound may be lower than it was; those that are active stay.
        while len(self._states) > self._rules.max_faults and self._inactive:
            self._evict()

    def apply(self, report: Report, now: float, count: int = 1) -> Change | None:
        """Take `count` equal reports in a row; None when they changed nothing. Raises Refused, with nothing changed."""
        check(report)
        stamp = report.stamp if math.isfinite(report.stamp) and report.stamp > 0 else now
        state = self._states.get(report.fault_code)
        if report.failed:
            return self._failed(state, report, stamp, now, count)
        return self._passed(state, report.source_id, stamp, count)

    def tick(self, now: float) -> list[Change]:
        """What the time did: pending faults that waited long enough are confirmed."""
        after = self._rules.auto_confirm_after_s
        if after <= 0 or not self._pending:
            return []
        due = [code for code in self._pending if now - self._states[code].pending_since >= after]
        return [self._confirm(self._states[code]) for code in due]

    def clear(self, codes: Sequence[str]) -> list[Change]:
        """Clear those of the codes that there are; cleared ones are there too, and give no event."""
        changes = []
        for code in dict.fromkeys(codes):
            state = self._states.get(code)
            if state is None:
                continue
            if state.status == CLEARED:
                changes.append(Change(state.fault()))
                continue
            self._set(state, CLEARED)
            changes.append(Change(state.fault(), FAULT_CLEARED, is_kept=True))
        return changes

    def take_evicted(self) -> list[str]:
        """The codes that made room for others since the last call."""
        evicted, self._evicted = self._evicted, []
        return evicted

    def _failed(self, state: _State | None, report: Report, stamp: float, now: float, count: int) -> Change:
        severity = report.severity
        before = state.fault() if state is not None else None
        if state is None:
            self._make_room()
            state = self._states[report.fault_code] = self._begin(report.fault_code, severity, stamp, now)
        elif state.status in (HEALED, CLEARED):
            known = state.count
            state = self._states[report.fault_code] = self._begin(report.fault_code, severity, stamp, now)
            state.count = known
        elif report.source_id not in state.sources and len(state.sources) >= MAX_SOURCES:
            raise Refused(TOO_MANY_SOURCES)
        state.sources[report.source_id] = 0
        state.severity = max(state.severity, severity)
        state.description = _text(report.description) or state.description
        state.first = min(state.first, stamp)
        state.last = max(state.last, stamp)
        state.count = min(state.count + count, MAX_COUNT)
        state.fails = min(state.fails + count, MAX_COUNT)
        if state.status == CONFIRMED:
            return self._updated(state, before)
        if state.status == PREPASSED:
            state.pending_since = now
        self._set(state, PREFAILED)
        if state.fails >= self._rules.confirmation_threshold or severity >= CRITICAL:
            return self._confirm(state)
        return Change(state.fault(), is_kept=before is None or before.status != PREFAILED)

    def _passed(self, state: _State | None, source: str, stamp: float, count: int) -> Change | None:
        if state is None or state.status in (HEALED, CLEARED) or source not in state.sources:
            return None
        state.sources[source] = min(state.sources[source] + count, self._rules.healing_threshold)
        state.passed = max(state.passed or 0.0, stamp)
        passes = min(state.sources.values())
        if self._rules.healing_enabled and passes >= self._rules.healing_threshold:
            was_confirmed = state.status == CONFIRMED
            self._set(state, HEALED)
            # A heal is told as a clearing (API.md §7.7); of a fault that was only pending nobody was told.
            return Change(state.fault(), FAULT_CLEARED if was_confirmed else "", is_kept=True)
        if state.status == PREFAILED and passes > 0:
            state.fails = 0
            self._set(state, PREPASSED)
            return Change(state.fault(), is_kept=True)
        return Change(state.fault())

    def _begin(self, code: str, severity: int, stamp: float, now: float) -> _State:
        return _State(code, severity, "", stamp, stamp, PREFAILED, pending_since=now)

    def _confirm(self, state: _State) -> Change:
        self._set(state, CONFIRMED)
        return Change(state.fault(), FAULT_CONFIRMED, is_kept=True, is_new=True)

    def _updated(self, state: _State, before: Fault | None) -> Change:
        after = state.fault()
        assert before is not None
        worse = after.severity != before.severity or after.reporting_sources != before.reporting_sources
        return Change(after, FAULT_UPDATED if worse else "", is_kept=worse)

    def _set(self, state: _State, status: str) -> None:
        if state.status != status or status == PREFAILED:
            state.status = status
            self._note(state)

    def _note(self, state: _State) -> None:
        self._pending.pop(state.code, None)
        self._inactive.pop(state.code, None)
        if state.status == PREFAILED:
            self._pending[state.code] = None
        elif state.status not in ACTIVE:
            self._inactive[state.code] = None

    def _make_room(self) -> None:
        if len(self._states) < self._rules.max_faults:
            return
        if not self._inactive:
            raise Refused(TOO_MANY_FAULTS)
        self._evict()

    def _evict(self) -> None:
        code, _ = self._inactive.popitem(last=False)
        del self._states[code]
        self._evicted.append(code)


def _text(description: str) -> str:
    """Bounded, and fit for JSON and the disk, whatever bytes a node had put into its string."""
    return description[:MAX_DESCRIPTION].encode("utf-8", "replace").decode()


def check(report: Report) -> None:
    """Raises Refused for a report that no fault can be made of."""
    texts = (report.fault_code, report.source_id)
    if not all(isinstance(text, str) and text and text.isprintable() for text in texts):
        raise Refused(BAD_REPORT)
    if len(report.fault_code) > MAX_CODE or len(report.source_id) > MAX_SOURCE:
        raise Refused(BAD_REPORT)
    if not INFO <= report.severity <= CRITICAL:
        raise Refused(BAD_REPORT)
