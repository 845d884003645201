"""What statuses of `diagnostic_msgs` say about faults. Pure: statuses and times go in, observations come out.

OK is passed; WARN, ERROR and STALE are failed with the severities WARN, ERROR and CRITICAL (silence can hide
anything, so it counts most), any other level is an ERROR. A status is told at once when its level changes, and then
as often in a row as it takes to believe it. While it stays bad it is told again every REPEAT_S, so that a fault that
was cleared too early comes back; with another message every MESSAGE_S at most. A status that is OK from the start is
told as well, because a fault of an earlier run may wait for it; what was never bad makes no fault of that.

Several names can make one code: it has passed when the last of them has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import model
from .naming import MAX_DESCRIPTION, Subject, bounded_name, description, fault_code, subject_of_status

REPEAT_S = 10.0
MESSAGE_S = 1.0
# A large robot has some hundred statuses. Names made of counters or times must not fill the memory: 4096 names of
# 512 characters and as many messages of 1024 are some 10 MB at worst.
MAX_STATUSES = 4096

OK = 0
_SEVERITIES = {1: model.WARN, 2: model.ERROR, 3: model.CRITICAL}


@dataclass(frozen=True)
class Observation:
    """A report whose source is not looked up yet."""

    fault_code: str
    failed: bool
    subject: Subject
    severity: int = model.ERROR
    description: str = ""


@dataclass
class _Bad:
    """What was told last of a status that is not OK."""

    level: int
    message: str
    code: str
    told_at: float
    to_tell: int


class DiagnosticStatuses:
    """The statuses that were heard, by name; never more than `max_statuses`.

    :param failed_times: how many reports in a row confirm a fault; `passed_times`: how many heal it.
    """

    def __init__(self, failed_times: int = 1, passed_times: int = 1, max_statuses: int = MAX_STATUSES) -> None:
        self._failed_times, self._passed_times, self._max = failed_times, passed_times, max_statuses
        self._good: dict[str, int] = {}  # name to how often it is still to be told
        self._bad: dict[str, _Bad] = {}
        self._failing: dict[str, set[str]] = {}  # the bad names of each code
        self._shared: set[str] = set()
        self.refused = 0  # bad statuses for which there was no room

    def __len__(self) -> int:
        return len(self._good) + len(self._bad)

    @property
    def bad(self) -> int:
        """How many statuses are not OK now."""
        return len(self._bad)

    @property
    def shared_codes(self) -> int:
        """Codes that more than one bad status had at once, so far; counted up to 1000."""
        return len(self._shared)

    def tell_again(self) -> None:
        """Tell of every status with its next message, as if nothing had been told: somebody else listens now."""
        self._good = dict.fromkeys(self._good, self._passed_times)
        for bad in self._bad.values():
            bad.to_tell = self._failed_times

    def take(self, status: Any, topic: str, now: float) -> Observation | None:
        """What is new about a `DiagnosticStatus` (or whatever has its members); None when nothing is.

        `now` in seconds, of any clock that does not jump.
        """
        level = _level(status.level)
        name = status.name if len(status.name) <= 512 else bounded_name(status.name)
        if level == OK:
            return self._passed(name, status, topic)
        bad = self._bad.get(name)
        message = status.message[:MAX_DESCRIPTION]
        if bad is None:
            bad = self._make_room_for(name)
            if bad is None:
                return None
        if bad.level != level:
            bad.to_tell = self._failed_times
        elif not bad.to_tell and now - bad.told_at < (REPEAT_S if bad.message == message else MESSAGE_S):
            return None
        bad.level, bad.message, bad.told_at, bad.to_tell = level, message, now, max(0, bad.to_tell - 1)
        return Observation(
            bad.code,
            True,
            subject_of_status(name, status.hardware_id, topic),
            _SEVERITIES.get(level, model.ERROR),
            description(message, _pairs(status.values), name),
        )

    def _passed(self, name: str, status: Any, topic: str) -> Observation | None:
        bad = self._bad.pop(name, None)
        if bad is not None:
            self._good[name] = self._passed_times
            self._failing[bad.code].discard(name)
            if not self._failing[bad.code]:
                del self._failing[bad.code]
        elif name not in self._good:
            if len(self) >= self._max:
                return None
            self._good[name] = self._passed_times
        to_tell = self._good[name]
        if not to_tell:
            return None
        code = bad.code if bad is not None else fault_code(name)
        if code in self._failing:
            return None  # another status of this code still fails; this one goes on telling when that is over
        self._good[name] = to_tell - 1
        subject = subject_of_status(name, status.hardware_id, topic)
        return Observation(code, False, subject, model.INFO, description(status.message, (), name))

    def _make_room_for(self, name: str) -> _Bad | None:
        """An entry for a status that has become bad; statuses that are OK give way to it."""
        self._good.pop(name, None)
        if len(self) >= self._max:
            if not self._good:
                self.refused += 1
                return None
            del self._good[next(iter(self._good))]
        bad = self._bad[name] = _Bad(OK, "", fault_code(name), 0.0, 0)
        failing = self._failing.setdefault(bad.code, set())
        failing.add(name)
        if len(failing) > 1 and len(self._shared) < 1000:
            self._shared.add(bad.code)
        return bad


def _level(level: Any) -> int:
    """`byte` fields arrive as bytes of length one."""
    return level[0] if isinstance(level, bytes) and level else int(level or 0)


def _pairs(values: Any) -> Iterator[tuple[str, str]]:
    return ((pair.key, pair.value) for pair in values)
