"""The fault store of our own: reports in, faults and events out, everything confirmed on disk first.

    faults = EmbeddedFaults(rules, directory)
    await faults.start()
    faults.report(Report("/arm/driver", "MOTOR_HOT", failed=True))      # from any thread

Reports wait in `intake.py`; one task on the loop takes them in batches: the engine judges them, what matters is
committed, then the lists show it and subscribers hear of it. While a commit is under way the next batch gathers, so a
storm costs few commits. What does not matter so much (counts, texts) is written every FLUSH_S.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio

from ...database import StateError
from ...parameters.faults import Faults
from .captures import Capture, Captures
from .engine import Change, FaultEngine, Refused, Rules
from .intake import Intake
from .model import CONFIRMED, FAULT_UPDATED, Fault, FaultEvent, FaultListing, FaultRecord, Report, Snapshot
from .store import IN_MEMORY, FaultStore, SnapshotLimits, StoreThread

# Reports are gathered for this long before they are judged: nobody sees the delay, and a storm becomes one batch.
GATHER_S = 0.02
# The loop serves others after so many reports.
SLICE = 500
# How soon counts and texts are written, and events tell of new texts.
FLUSH_S = 1.0
UPDATE_S = 10.0
WRITE_S = 5.0
READ_S = 2.0
# How soon a disk that refused is tried again.
RETRY_S = 5.0
STOP_S = 0.8

_log = logging.getLogger(__name__)


class EmbeddedFaults:
    """FaultBackend over `FaultEngine` and `FaultStore`.

    :param directory: that of the gateway's state, whose lock this process holds; None: in memory.
    :param capture: makes the snapshots of a fault that was just confirmed; called on the loop, see `captures.py`.
    :param clock: seconds since the epoch.
    """

    def __init__(
        self,
        rules: Rules = Rules(),
        directory: Path | None = None,
        limits: SnapshotLimits = SnapshotLimits(),
        capture: Capture | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._engine = FaultEngine(rules)
        self._intake = Intake(self._engine.__contains__)
        self._store = StoreThread(lambda: FaultStore.open(directory, limits))
        self._captures = Captures(capture, self._attach)
        self._clock = clock
        self._max_faults = rules.max_faults
        self._shown: dict[str, Fault] = {}
        # What the disk does not have yet; None: gone. `_rewrite`: it has missed more than can be listed.
        self._unwritten: dict[str, Fault | None] = {}
        self._void: set[str] = set()
        self._rewrite = False
        self._told: dict[str, float] = {}
        self._untold: dict[str, None] = {}
        self._refused: Counter[str] = Counter()
        self._subscribers: list[Callable[[FaultEvent], None]] = []
        self._turn = anyio.Lock()
        self._task: asyncio.Task[None] | None = None
        self._clearing: set[asyncio.Task[tuple[str, ...]]] = set()
        self._is_stopping = False
        self._flush_at = self._retry_at = 0.0
        self._problem = ""
        self._memory_only = ""
        self._notes: tuple[str, ...] = ()
        self._state, self._since = "starting", clock()

    @classmethod
    def of(cls, config: Faults, directory: Path | None, capture: Capture | None = None) -> EmbeddedFaults:
        """The store that the parameters ask for."""
        rules = Rules(
            config.confirmation_threshold, config.healing_enabled, config.healing_threshold,
            config.auto_confirm_after_s, config.max_faults,
        )  # fmt: skip
        kept = config.snapshots
        limits = SnapshotLimits(kept.max_per_fault, kept.max_bytes_per_fault, kept.max_bytes)
        return cls(rules, directory, limits, capture)

    async def start(self) -> None:
        """Open the file and load what it has."""
        self._store.start()
        try:
            faults, self._memory_only, self._notes = await self._store.run(_load, WRITE_S)
        except StateError as error:
            faults, self._memory_only = [], f"The fault store cannot be used: {error}."
        for text in (*self._notes, self._memory_only):
            # Without a directory the state is in memory, too, and that has been said already.
            if text and text != IN_MEMORY:
                _log.warning("%s", text)
        self._engine.load(faults, self._clock())
        self._shown = {fault.fault_code: fault for fault in self._engine}
        self._set_state()
        self._intake.attach(asyncio.get_running_loop())
        self._task = asyncio.create_task(self._run(), name="faults")

    async def stop(self) -> None:
        """Judge and write what is there, and end."""
        task, self._task = self._task, None
        if task is not None:
            # Not cancelled: what it has taken it must settle.
            self._is_stopping = True
            self._intake.wake()
            await self._captures.stop()
            with anyio.move_on_after(STOP_S, shield=True) as scope:
                await asyncio.wait({task})
                self._intake.detach()
                async with self._turn:
                    await self._take_batch(final=True)
            if scope.cancelled_caught:
                _log.warning("The latest changes of faults were not written: the disk is too slow.")
        self._store.stop()

    def report(self, report: Report) -> None:
        """Take a report, from any thread, without waiting."""
        self._intake.put(report)

    async def list(
        self, statuses: Sequence[str], include_muted: bool = False, include_clusters: bool = False
    ) -> FaultListing:
        """All faults in these statuses; nothing is ever muted here."""
        wanted = frozenset(statuses)
        return FaultListing(tuple(fault for fault in self._shown.values() if fault.status in wanted))

    async def get(self, fault_code: str) -> FaultRecord | None:
        """One fault in any status; without snapshots when the disk does not give them."""
        fault = self._shown.get(fault_code)
        if fault is None:
            return None
        try:
            snapshots = await self._store.run(lambda store: store.snapshots(fault_code), READ_S)
        except StateError as error:
            self._refused["snapshots_unreadable"] += 1
            _log.warning("The snapshots of fault %s cannot be read: %s", fault_code, error)
            snapshots = ()
        return FaultRecord(fault, snapshots)

    async def clear(self, fault_codes: Sequence[str], skip_correlation_auto_clear: bool = True) -> tuple[str, ...]:
        """Clear faults; on disk when it returns. Reports that came before are judged before."""
        # A client that leaves must not leave the half of it behind.
        task = asyncio.create_task(self._clear(tuple(fault_codes)), name="clearing of faults")
        self._clearing.add(task)
        task.add_done_callback(self._clearing.discard)
        return await asyncio.shield(task)

    def subscribe(self, callback: Callable[[FaultEvent], None]) -> None:
        """Call `callback` on the loop with each change, in order, after it is on disk."""
        self._subscribers.append(callback)

    def health(self) -> Mapping[str, Any]:
        """State, counts by status, and all that was refused or left out."""
        counts = Counter(fault.status.lower() for fault in self._shown.values())
        block: dict[str, Any] = {
            "state": self._state,
            "since": self._since,
            "backend": "embedded",
            "persistent": not (self._memory_only or self._problem),
            "faults": {"total": len(self._shown), **counts},
            "capacity": self._max_faults,
            "pending_reports": len(self._intake),
        }
        reason = " ".join(text for text in (self._problem, self._memory_only) if text)
        if reason:
            block["reason"] = reason
        refused = {**self._intake.refused, **self._refused, **self._captures.refused}
        if refused:
            block["refused"] = refused
        return block

    # The one task

    async def _run(self) -> None:
        while not self._is_stopping:
            await self._intake.wait(FLUSH_S / 2)
            if not self._is_stopping:
                await asyncio.sleep(GATHER_S)
            try:
                async with self._turn:
                    await self._take_batch()
            except Exception:
                _log.exception("Judging reports of faults failed")

    async def _clear(self, codes: tuple[str, ...]) -> tuple[str, ...]:
        async with self._turn:
            await self._take_batch()
            changes = self._engine.clear(codes)
            await self._settle(changes)
        return tuple(change.fault.fault_code for change in changes)

    async def _take_batch(self, final: bool = False) -> None:
        """Judge all reports that wait, and settle what they changed. Only with `_turn`."""
        changes: list[Change] = []
        for number, (report, count) in enumerate(self._intake.take(), 1):
            try:
                change = self._engine.apply(report, self._clock(), count)
            except Refused as refused:
                self._refused[refused.reason] += count
            else:
                if change is not None:
                    changes.append(change)
            if number % SLICE == 0:
                await asyncio.sleep(0)
        now = self._clock()
        await self._settle([*changes, *self._engine.tick(now), *self._overdue(now)], final)

    async def _settle(self, changes: Sequence[Change], final: bool = False) -> None:
        """Write what has to be written, then show and tell it."""
        for change in changes:
            code = change.fault.fault_code
            self._unwritten[code] = change.fault
            if change.is_new:
                self._void.add(code)
            if change.fault.status == CONFIRMED and not change.event_type:
                self._untold[code] = None
        evicted = [code for code in self._engine.take_evicted() if code not in self._engine]
        self._unwritten.update(dict.fromkeys(evicted))
        if len(self._unwritten) > 2 * self._max_faults:
            self._unwritten.clear()
            self._void.intersection_update(code for code in self._shown if code in self._engine)
            self._rewrite = True
        is_due = time.monotonic() >= self._flush_at and bool(self._unwritten or self._rewrite)
        if any(change.is_kept for change in changes) or is_due or final:
            await self._write()
        for code in evicted:
            self._shown.pop(code, None)
            self._told.pop(code, None)
            self._untold.pop(code, None)
        for change in changes:
            self._show(change)

    def _show(self, change: Change) -> None:
        fault = change.fault
        code = fault.fault_code
        if code not in self._engine:
            return  # it made room for others in the same batch
        self._shown[code] = fault
        if not change.event_type:
            return
        now = self._clock()
        self._told[code] = now
        self._untold.pop(code, None)
        event = FaultEvent(change.event_type, fault, now)
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(event)
            except Exception:
                _log.exception("A subscriber of fault events failed")
        if change.is_new:
            self._captures.begin(fault)

    def _overdue(self, now: float) -> Iterable[Change]:
        """Confirmed faults whose text or count changed and whose last event is long ago."""
        due = [code for code in self._untold if abs(now - self._told.get(code, 0.0)) >= UPDATE_S]
        for code in due:
            del self._untold[code]
            fault = self._engine.get(code)
            if fault is not None and fault.status == CONFIRMED:
                yield Change(fault, FAULT_UPDATED)

    # The disk

    async def _write(self) -> None:
        """Commit what is not on disk. A disk that refuses is told of in `health`, and faults go on in memory."""
        if time.monotonic() < self._retry_at:
            return
        faults = [fault for fault in self._unwritten.values() if fault is not None]
        gone = [code for code, fault in self._unwritten.items() if fault is None]
        void = tuple(self._void)
        rewrite = tuple(self._engine) if self._rewrite else None

        def job(store: FaultStore) -> None:
            if rewrite is None:
                store.write(faults, gone, void)
            else:
                store.replace_all(rewrite, void)

        try:
            await self._store.run(job, WRITE_S)
        except StateError as error:
            self._retry_at = time.monotonic() + RETRY_S
            problem = f"Faults cannot be written: {error}."
            if not self._problem:
                _log.error("%s They are kept in memory until the disk takes them.", problem)
            self._problem = problem
        else:
            if self._problem:
                _log.info("Faults are written to the disk again.")
            self._problem, self._rewrite = "", False
            self._unwritten.clear()
            self._void.clear()
            self._flush_at = time.monotonic() + FLUSH_S
        self._set_state()

    async def _attach(self, fault: Fault, snapshots: Sequence[Snapshot]) -> int:
        """Keep the snapshots of a fault, unless it has gone or begun anew meanwhile."""
        async with self._turn:
            now = self._shown.get(fault.fault_code)
            if now is None or now.first_occurred != fault.first_occurred:
                return len(snapshots)
            self._void.discard(fault.fault_code)
            return await self._store.run(lambda store: store.attach(fault.fault_code, snapshots), WRITE_S)

    def _set_state(self) -> None:
        state = "degraded" if self._problem or (self._memory_only and self._memory_only != IN_MEMORY) else "ok"
        if state != self._state:
            self._state, self._since = state, self._clock()


def _load(store: FaultStore) -> tuple[list[Fault], str, tuple[str, ...]]:
    return store.load(), store.problem, store.notes
