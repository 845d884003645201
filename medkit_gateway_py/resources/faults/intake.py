"""Where reports wait until they are judged: equal ones become one, changes of state stay apart, in order.

A node that says the same a thousand times a second costs one entry. Knows nothing of what a report does.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import anyio

from .engine import MAX_DESCRIPTION, MAX_SOURCES, TOO_MANY_SOURCES, Refused, check
from .model import Report

# Codes that wait and are no known fault; far more than come in one batch of an honest robot.
MAX_UNKNOWN = 20_000
# Changes of state of one source that wait; when it flickers faster, its latest state is kept and a flicker is lost.
MAX_FLIPS = 32
# All that waits, about 60 MB at worst: a bound for what the two above still let through.
MAX_RUNS = 100_000

QUEUE_FULL, FLICKER = "queue_full", "flickers_folded"


class _Run:
    """Reports of one source in a row that say the same; `severity` is the worst of them."""

    __slots__ = ("count", "latest", "severity")

    def __init__(self, report: Report) -> None:
        self.latest = report
        self.severity = report.severity
        self.count = 1

    def add(self, report: Report) -> None:
        self.latest = report
        self.severity = max(self.severity, report.severity)
        self.count += 1

    def report(self) -> Report:
        latest = self.latest
        return latest if latest.severity == self.severity else replace(latest, severity=self.severity)


class Intake:
    """The waiting reports. `put` from any thread, all else on the loop.

    :param is_known: whether a code is that of a fault; called from any thread.
    """

    def __init__(self, is_known: Callable[[str], bool]) -> None:
        self._is_known = is_known
        self._lock = threading.Lock()
        self._by_code: dict[str, list[_Run]] = {}
        self._by_source: dict[tuple[str, str], list[_Run]] = {}
        self._runs = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_woken = False
        self._event = asyncio.Event()
        self.refused: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._runs

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake `wait` on this loop from now on; what came before waits already."""
        with self._lock:
            self._loop = loop
            self._is_woken = False
            if self._runs:
                self._wake()

    def detach(self) -> None:
        """Wake nobody any more."""
        with self._lock:
            self._loop = None

    def put(self, report: Report) -> None:
        """Take a report without waiting; one that is not taken is counted in `refused`."""
        if len(report.description) > MAX_DESCRIPTION:
            report = replace(report, description=report.description[:MAX_DESCRIPTION])
        with self._lock:
            try:
                self._put(report)
            except Refused as refused:
                self.refused[refused.reason] += 1
                return
            if not self._is_woken:
                self._wake()

    def take(self) -> list[tuple[Report, int]]:
        """All that waits, each with the number of equal reports that it stands for, in the order of their codes."""
        with self._lock:
            by_code = self._by_code
            self._by_code, self._by_source = {}, {}
            self._runs = 0
            self._is_woken = False
        return [(run.report(), run.count) for runs in by_code.values() for run in runs]

    async def wait(self, within_s: float) -> None:
        """Until something waits, or so long."""
        with anyio.move_on_after(within_s):
            await self._event.wait()
        self._event.clear()

    def wake(self) -> None:
        """Let `wait` end now; on the loop."""
        self._event.set()

    def _put(self, report: Report) -> None:
        code, source = report.fault_code, report.source_id
        check(report)
        mine = self._by_source.get((code, source))
        if mine is None:
            runs = self._by_code.get(code)
            if self._runs >= MAX_RUNS:
                raise Refused(QUEUE_FULL)
            if runs is None and len(self._by_code) >= MAX_UNKNOWN and not self._is_known(code):
                raise Refused(QUEUE_FULL)
            if runs is not None and len(runs) >= MAX_SOURCES * MAX_FLIPS:
                raise Refused(TOO_MANY_SOURCES)
            self._by_source[code, source] = mine = []
        elif mine[-1].latest.failed == report.failed:
            mine[-1].add(report)
            return
        elif len(mine) >= MAX_FLIPS or self._runs >= MAX_RUNS:
            self._fold(code, mine, report)
            return
        run = _Run(report)
        mine.append(run)
        self._by_code.setdefault(code, []).append(run)
        self._runs += 1

    def _fold(self, code: str, mine: list[_Run], report: Report) -> None:
        """Take a change of state of a source that has too many: the one before it is forgotten, the latest counts."""
        self.refused[FLICKER] += 1
        if len(mine) == 1:
            mine[0].add(report)
            return
        gone = mine.pop()
        self._by_code[code].remove(gone)
        self._runs -= 1
        mine[-1].add(report)

    def _wake(self) -> None:
        if self._loop is not None:
            self._is_woken = True
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self._loop.call_soon_threadsafe(self._event.set)
