"""Faults and their snapshots on disk: `faults.db` in the directory of the gateway's state.

`FaultStore` blocks on the disk, and all of it belongs to one thread; `StoreThread` is that thread, and the way to it
from the asyncio loop. What a fault is and when it changes is no business of this module.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import queue
import sqlite3
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import anyio
import orjson

from ...database import StateError, in_memory, open_database
from .model import STATUSES, Fault, Snapshot

FILE = "faults.db"
IN_MEMORY = "Faults are kept in memory only."
SCHEMA_VERSION = 1
# What waits for the thread; the engine's owner has at most one write and a few reads under way.
MAX_WAITING = 64
_WAL_BYTES = 4 * 1024 * 1024
_SCHEMA = """
CREATE TABLE IF NOT EXISTS faults (
    code TEXT PRIMARY KEY, severity INTEGER NOT NULL, description TEXT NOT NULL, first_occurred REAL NOT NULL,
    last_occurred REAL NOT NULL, occurrence_count INTEGER NOT NULL, status TEXT NOT NULL, sources TEXT NOT NULL,
    last_passed REAL, changed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS snapshots (
    code TEXT PRIMARY KEY, bytes INTEGER NOT NULL, kept INTEGER NOT NULL, content BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS snapshots_kept ON snapshots (kept);
"""
_READ = (
    "SELECT code, severity, description, first_occurred, last_occurred, occurrence_count, status, sources, last_passed"
    " FROM faults ORDER BY changed, code"
)

_log = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True)
class SnapshotLimits:
    """How much is kept of the moments at which faults were confirmed. Bytes count the JSON of the values."""

    max_per_fault: int = 20
    max_bytes_per_fault: int = 262_144
    max_bytes: int = 67_108_864


class FaultStore:
    """The file. Every method may raise StateError, and then changed nothing.

    persistent: whether it is on disk. problem: "" or why it is not, in a sentence. notes: what else was found at
    opening and is worth a warning.
    """

    def __init__(
        self, connection: sqlite3.Connection, limits: SnapshotLimits, problem: str, notes: Sequence[str]
    ) -> None:
        self._db = connection
        self._limits = limits
        self.persistent = not problem
        self.problem = problem
        self.notes = tuple(notes)
        self._clock = self._highest("faults", "changed")
        self._kept = self._highest("snapshots", "kept")
        self._bytes: int = self._db.execute("SELECT coalesce(sum(bytes), 0) FROM snapshots").fetchone()[0]

    @classmethod
    def open(cls, directory: Path | None, limits: SnapshotLimits = SnapshotLimits()) -> FaultStore:
        """Open the file in `directory`, which this gateway holds the lock of; never raises for the disk.

        None: in memory, and `problem` is IN_MEMORY.
        """
        problem = IN_MEMORY
        if directory is not None:
            try:
                connection, notes = open_database(directory / FILE, _SCHEMA, SCHEMA_VERSION, _probe)
                connection.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
                return cls(connection, limits, "", notes)
            except (OSError, sqlite3.Error, StateError) as error:
                problem = f"The fault store {directory / FILE} cannot be used: {error}. {problem}"
        return cls(in_memory(_SCHEMA), limits, problem, ())

    def load(self) -> list[Fault]:
        """All faults, longest unchanged first."""
        with _told():
            return [_fault(row) for row in self._db.execute(_READ)]

    def write(self, faults: Collection[Fault], gone: Collection[str] = (), void: Collection[str] = ()) -> None:
        """Keep these faults, forget those that are `gone`, and the snapshots of `void`: all at once, or nothing."""
        before = self._clock
        try:
            with self._writing() as db:
                rows = []
                for fault in faults:
                    self._clock += 1
                    rows.append((*_row(fault), self._clock))
                db.executemany("INSERT OR REPLACE INTO faults VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
                db.executemany("DELETE FROM faults WHERE code = ?", [(code,) for code in gone])
                removed = self._forget([*gone, *void])
            self._bytes -= removed
        except StateError:
            self._clock = before
            raise

    def replace_all(self, faults: Collection[Fault], void: Collection[str] = ()) -> None:
        """Keep these faults and no others."""
        codes = {fault.fault_code for fault in faults}
        with _told():
            gone = [row[0] for row in self._db.execute("SELECT code FROM faults") if row[0] not in codes]
        self.write(faults, gone, void)

    def attach(self, code: str, snapshots: Sequence[Snapshot]) -> int:
        """Keep the snapshots of a fault in the place of those it had; gives how many were left out for their size.

        Beyond the bound of all faults together, the sets kept longest ago leave.
        """
        kept: list[Snapshot] = []
        size = 0
        for snapshot in snapshots[: self._limits.max_per_fault]:
            length = len(snapshot.data.encode("utf-8", "replace"))
            if size + length <= self._limits.max_bytes_per_fault:
                kept.append(snapshot)
                size += length
        content = orjson.dumps([asdict(snapshot) for snapshot in kept])
        with self._writing() as db:
            total = self._bytes - self._forget([code]) + len(content)
            number = self._kept + 1
            db.execute("INSERT INTO snapshots VALUES (?, ?, ?, ?)", (code, len(content), number, content))
            while total > self._limits.max_bytes:
                oldest, length = db.execute("SELECT code, bytes FROM snapshots ORDER BY kept LIMIT 1").fetchone()
                db.execute("DELETE FROM snapshots WHERE code = ?", (oldest,))
                total -= length
        self._bytes, self._kept = total, number
        return len(snapshots) - len(kept)

    def snapshots(self, code: str) -> tuple[Snapshot, ...]:
        """What is kept of the confirmation of a fault."""
        with _told():
            row = self._db.execute("SELECT content FROM snapshots WHERE code = ?", (code,)).fetchone()
        return tuple(Snapshot(**one) for one in orjson.loads(row[0])) if row else ()

    def close(self) -> None:
        """Release the file; may be called twice."""
        self._db.close()

    def _forget(self, codes: Sequence[str]) -> int:
        """Delete the snapshots of these faults; gives their bytes."""
        total = 0
        for code in codes:
            row = self._db.execute("SELECT bytes FROM snapshots WHERE code = ?", (code,)).fetchone()
            if row:
                self._db.execute("DELETE FROM snapshots WHERE code = ?", (code,))
                total += row[0]
        return total

    def _highest(self, table: str, column: str) -> int:
        number: int = self._db.execute(f"SELECT coalesce(max({column}), 0) FROM {table}").fetchone()[0]
        return number

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction, on disk at the end or rolled back whole."""
        with _told():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


class StoreThread:
    """The thread that a store belongs to. A daemon: a disk that hangs must not keep the process."""

    def __init__(self, open_store: Callable[[], FaultStore]) -> None:
        self._open = open_store
        self._queue: queue.Queue[tuple[Callable[[FaultStore], Any], concurrent.futures.Future[Any]] | None]
        self._queue = queue.Queue(MAX_WAITING)
        self._thread = threading.Thread(target=self._main, name="faults", daemon=True)

    def start(self) -> None:
        """Begin; the store is opened in the thread, before the first job."""
        self._thread.start()

    async def run(self, job: Callable[[FaultStore], T], within_s: float) -> T:
        """What `job` gives. Raises StateError for a disk that refuses or is not done in time.

        A job that is late goes on in the thread, and is not waited for.
        """
        future: concurrent.futures.Future[T] = concurrent.futures.Future()
        try:
            self._queue.put_nowait((job, future))
        except queue.Full:
            raise StateError("the disk is too slow") from None
        try:
            with anyio.fail_after(within_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise StateError(f"the disk did not answer in {within_s:g} s") from None

    def stop(self) -> None:
        """End after what is waiting; does not wait itself."""
        with contextlib.suppress(queue.Full):  # then the thread hangs, and ends with the process
            self._queue.put_nowait(None)

    def join(self, within_s: float) -> bool:
        """Wait for the end; False when it did not come in time."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _main(self) -> None:
        store: FaultStore | None = None
        try:
            while (work := self._queue.get()) is not None:
                job, future = work
                if not future.set_running_or_notify_cancel():
                    continue
                try:
                    if store is None:
                        store = self._open()
                    future.set_result(job(store))
                except BaseException as error:
                    future.set_exception(error)
        finally:
            if store is not None:
                store.close()


@contextmanager
def _told() -> Iterator[None]:
    """Errors of SQLite as StateError."""
    try:
        yield
    except sqlite3.Error as error:
        raise StateError(str(error)) from error


def _row(fault: Fault) -> tuple[Any, ...]:
    return (
        fault.fault_code, fault.severity, fault.description, fault.first_occurred, fault.last_occurred,
        fault.occurrence_count, fault.status, orjson.dumps(fault.reporting_sources).decode(), fault.last_passed,
    )  # fmt: skip


def _fault(row: Sequence[Any]) -> Fault:
    code, severity, description, first, last, count, status, sources, passed = row
    return Fault(code, severity, description, first, last, count, status, tuple(orjson.loads(sources)), passed)


def _probe(connection: sqlite3.Connection) -> None:
    """Raises when tables, columns or contents are not ours."""
    for row in connection.execute(_READ):
        fault = _fault(row)
        if fault.status not in STATUSES or not fault.reporting_sources:
            raise ValueError(f"fault {fault.fault_code} makes no sense")
    connection.execute("SELECT code, bytes, kept, content FROM snapshots LIMIT 1")
