"""What one gateway keeps over restarts: who it is, the ids it gave, what it knows of others (AGGREGATION.md §1-§5).

SQLite in WAL mode in a directory of its own, under a file lock, so that two gateways never share one (DECISIONS 28).
When the directory is taken or not writable, the same object works in memory and says so in `problem`. Everything here
blocks on the disk: call it in a worker thread. It does not decide which id anything gets.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from .database import StateError as StateError
from .database import in_memory, open_database
from .entities.ids import GivenId, GivenIds

# Far more gateways than any fleet has; beyond, what was seen longest ago leaves first.
MAX_ORIGINS = 10_000
MAX_GIVEN = 100_000  # AGGREGATION.md §4: about 20 MB; beyond, what was seen longest ago leaves first
SCHEMA_VERSION = 1
_LOCK_WAIT_S = 10.0
_BOOT_CEILING = 0xFFFF0000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS given (
    origin TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, id TEXT NOT NULL, via TEXT NOT NULL,
    origin_name TEXT NOT NULL, given_at REAL NOT NULL, last_seen REAL NOT NULL, PRIMARY KEY (origin, kind, key)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS given_last_seen ON given (last_seen);
"""
# Added when gateways of version 1 were in use already; those leave it alone.
_ADDED = """
CREATE TABLE IF NOT EXISTS origins (
    origin TEXT PRIMARY KEY, boot_id TEXT NOT NULL, seq INTEGER NOT NULL, pin TEXT NOT NULL, certificate TEXT NOT NULL,
    peer TEXT NOT NULL, label TEXT NOT NULL, plate TEXT NOT NULL, last_seen REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS retained (origin TEXT PRIMARY KEY, section TEXT NOT NULL);
"""

Owner = tuple[str, str, str]


@dataclass(frozen=True)
class OriginRecord:
    """What is kept of one gateway, by its instance id; what it means is `aggregation/origins.py`'s business.

    `boot_id`, `seq`: the newest state of it that was seen ("" and 0: none). `pin`, `certificate`: who alone may speak
    as it. `peer`, `label`, `plate`: the last way to it, "" where none is known.
    """

    origin: str
    boot_id: str = ""
    seq: int = 0
    pin: str = ""
    certificate: str = ""
    peer: str = ""
    label: str = ""
    plate: str = ""


def state_directory(configured: str, port: int, environ: Mapping[str, str] = os.environ) -> Path:
    """The directory of this gateway: as configured, or one per port below `$XDG_STATE_HOME` (AGGREGATION.md §1)."""
    if configured:
        return Path(configured).expanduser()
    base = environ.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    root = Path(base) if base.startswith("/") else Path(environ.get("HOME") or "~").expanduser() / ".local" / "state"
    return root / "medkit_gateway_py" / f"port-{port}"


class StateStore:
    """The state of one gateway. Thread-safe; `open` it, `close` it.

    persistent: whether it is on disk. problem: "" or why it is not, in a sentence. notes: what else was found at
    opening and is worth a warning. directory: where more may be kept under this one's lock, None in memory.
    instance_id, boot_id: AGGREGATION.md §2; the boot ids of one instance sort by age.
    """

    def __init__(
        self, connection: sqlite3.Connection, lock_file: int | None, problem: str, notes: tuple[str, ...]
    ) -> None:
        self._db = connection
        self._lock_file = lock_file
        self._guard = threading.Lock()
        self._latest = 0.0
        self._closed = False
        self.persistent = lock_file is not None
        self.directory: Path | None = None
        self.problem = problem
        self.notes = notes
        self.instance_id = ""
        self.boot_id = ""

    @classmethod
    def open(cls, path: Path | None, instance_id: str = "", *, now: float | None = None) -> StateStore:
        """Open the state in the directory `path`, or in memory when it cannot be used; never raises for that.

        None: in memory, without a problem. `instance_id` (aggregation.instance_id) is used instead of the stored
        one, which stays. `now` is seconds since the epoch.
        """
        now = time.time() if now is None else now
        problem = ""
        if path is not None:
            try:
                store = cls._open_directory(path)
                try:
                    store._identify(instance_id, now)
                except BaseException:
                    store.close()
                    raise
                return store
            except (OSError, sqlite3.Error, StateError) as error:
                problem = f"The state directory {path} cannot be used: {error}."
        store = cls(in_memory(_SCHEMA + _ADDED), None, problem, ())
        store._identify(instance_id, now)
        return store

    @classmethod
    def _open_directory(cls, path: Path) -> StateStore:
        # Only a directory that is made here gets the mode: one that was there may belong to others too.
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
        lock_file = _take_lock(path / "state.lock")
        try:
            connection, notes = open_database(path / "state.db", _SCHEMA, SCHEMA_VERSION, _probe, _ADDED)
            store = cls(connection, lock_file, "", notes)
            store.directory = path
            return store
        except BaseException:
            os.close(lock_file)
            raise

    def given(self) -> GivenIds:
        """All remembered ids."""
        with self._using() as db:
            rows = db.execute("SELECT origin, kind, key, id, via, origin_name FROM given ORDER BY given_at, id")
            return GivenIds(GivenId(*row) for row in rows)

    def remember(self, new: Sequence[GivenId], now: float) -> list[Owner]:
        """Keep new ids; all of them are on disk when it returns, or none is and StateError was raised.

        An owner that has an id already keeps it. ROS-internal nodes (`_...`) are left out (AGGREGATION.md §4).
        Returned are the owners that had to leave for them (`MAX_GIVEN`).
        """
        kept = [one for one in new if not _is_internal(one)]
        if not kept:
            return []
        evicted: list[Owner] = []
        with self._writing() as db:
            seen = self._advance(now)
            db.executemany(
                "INSERT INTO given VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (origin, kind, key) DO UPDATE SET last_seen = excluded.last_seen",
                [(*one.owner, one.id, one.via, one.origin_name, seen, seen) for one in kept],
            )
            surplus = db.execute("SELECT count(*) FROM given").fetchone()[0] - MAX_GIVEN
            if surplus > 0:
                evicted = [(row[0], row[1], row[2]) for row in db.execute(_OLDEST, (surplus,)).fetchall()]
                _delete(db, evicted)
        return evicted

    def touch(self, keys: Iterable[Owner], now: float) -> None:
        """Note that these owners exist now; unknown ones are ignored."""
        with self._writing() as db:
            seen = self._advance(now)
            db.executemany(
                "UPDATE given SET last_seen = ? WHERE origin = ? AND kind = ? AND key = ?",
                ((seen, *key) for key in keys),
            )

    def forget_older_than(self, now: float, seconds: float) -> list[Owner]:
        """Forget owners not seen for so long; they are returned, for `GivenIds.discard`."""
        return self._forget("last_seen < ?", lambda: self._advance(now) - seconds)

    def forget_origin(self, origin: str) -> list[Owner]:
        """Forget a gateway and every id of it; the owners are returned, for `GivenIds.discard`."""
        owners = self._forget("origin = ?", lambda: origin)
        with self._writing() as db:
            _delete_origins(db, [(origin,)])
        return owners

    def origins(self) -> list[OriginRecord]:
        """What is kept of gateways, of those seen longest ago first."""
        with self._using() as db:
            rows = db.execute(f"SELECT {_ORIGIN_COLUMNS} FROM origins ORDER BY last_seen, origin")
            return [OriginRecord(*row) for row in rows]

    def retained(self) -> dict[str, str]:
        """The sections that `unreachable: retain` keeps, by origin."""
        with self._using() as db:
            return dict(db.execute("SELECT origin, section FROM retained").fetchall())

    def keep_origins(self, records: Sequence[OriginRecord], retained: Mapping[str, str], now: float) -> None:
        """Write records and sections anew ("": none any more); all of it is on disk when it returns, or nothing is.

        Raises StateError. Beyond MAX_ORIGINS those seen longest ago leave.
        """
        with self._writing() as db:
            seen = self._advance(now)
            db.executemany(
                f"INSERT OR REPLACE INTO origins ({_ORIGIN_COLUMNS}, last_seen) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                ((*astuple(one), seen) for one in records),
            )
            db.executemany(
                "DELETE FROM retained WHERE origin = ?", ((one,) for one, text in retained.items() if not text)
            )
            db.executemany("INSERT OR REPLACE INTO retained VALUES (?, ?)", (one for one in retained.items() if one[1]))
            surplus = db.execute("SELECT count(*) FROM origins").fetchone()[0] - MAX_ORIGINS
            if surplus > 0:
                oldest = "SELECT origin FROM origins ORDER BY last_seen, origin LIMIT ?"
                _delete_origins(db, db.execute(oldest, (surplus,)).fetchall())

    def touch_origins(self, origins: Iterable[str], now: float) -> None:
        """Note that these gateways are there now; unknown ones are ignored."""
        with self._writing() as db:
            seen = self._advance(now)
            db.executemany("UPDATE origins SET last_seen = ? WHERE origin = ?", ((seen, one) for one in origins))

    def forget_origins_older_than(self, now: float, seconds: float) -> list[str]:
        """Forget what is kept of gateways not seen for so long, but for their ids; they are returned."""
        with self._writing() as db:
            rows = db.execute(
                "SELECT origin FROM origins WHERE last_seen < ?", (self._advance(now) - seconds,)
            ).fetchall()
            _delete_origins(db, rows)
            return [row[0] for row in rows]

    def known_nodes(self) -> frozenset[str] | None:
        """The FQNs that `keep_nodes` was given last, in this run or one before; None: never. Raises StateError."""
        with self._using() as db:
            row = db.execute("SELECT value FROM meta WHERE name = 'nodes'").fetchone()
        return frozenset(row[0].split()) if row else None

    def keep_nodes(self, fqns: Iterable[str]) -> None:
        """Note which nodes are in our own graph, for the next start. Raises StateError."""
        with self._writing() as db:
            db.execute("INSERT OR REPLACE INTO meta VALUES ('nodes', ?)", ("\n".join(sorted(fqns)),))

    def close(self) -> None:
        """Release the data base and the lock; may be called twice."""
        with self._guard:
            if self._closed:
                return
            self._closed = True
            self._db.close()
            if self._lock_file is not None:
                os.close(self._lock_file)

    def _forget(self, condition: str, value: Callable[[], object]) -> list[Owner]:
        with self._writing() as db:
            rows = db.execute(f"SELECT origin, kind, key FROM given WHERE {condition}", (value(),)).fetchall()
            _delete(db, rows)
            return [(row[0], row[1], row[2]) for row in rows]

    def _identify(self, instance_id: str, now: float) -> None:
        """Read or make the instance id, and count this boot."""
        with self._writing() as db:
            meta = dict(db.execute("SELECT name, value FROM meta").fetchall())
            stored = meta.get("instance_id") or str(uuid.uuid4())
            # The clock keeps boot ids rising also where the counter is lost or in memory; the counter, where the
            # clock stands still (boards without a battery begin in 1970 at every boot).
            boot = max(int(meta.get("boot", 0)) + 1, min(int(now), _BOOT_CEILING))
            db.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", [("instance_id", stored), ("boot", str(boot))])
            self._latest = max(
                db.execute(f"SELECT coalesce(max(last_seen), 0) FROM {table}").fetchone()[0]
                for table in ("given", "origins")
            )
        self.instance_id = instance_id or stored
        self.boot_id = f"{boot:08x}-{secrets.token_hex(4)}"

    def _advance(self, now: float) -> float:
        """The time to write: never before what is written already, so that a clock set back ages nothing."""
        self._latest = max(self._latest, now)
        return self._latest

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        if not self._guard.acquire(timeout=_LOCK_WAIT_S):
            raise StateError("another thread holds the state for too long")
        try:
            if self._closed:
                raise StateError("the state is closed")
            yield self._db
        except sqlite3.Error as error:
            raise StateError(str(error)) from error
        finally:
            self._guard.release()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, rolled back whole on any error."""
        with self._using() as db:
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise


_OLDEST = "SELECT origin, kind, key FROM given ORDER BY last_seen, given_at LIMIT ?"


def _delete(db: sqlite3.Connection, owners: Iterable[Sequence[Any]]) -> None:
    db.executemany("DELETE FROM given WHERE origin = ? AND kind = ? AND key = ?", owners)


_ORIGIN_COLUMNS = "origin, boot_id, seq, pin, certificate, peer, label, plate"


def _delete_origins(db: sqlite3.Connection, origins: Sequence[Sequence[Any]]) -> None:
    db.executemany("DELETE FROM origins WHERE origin = ?", origins)
    db.executemany("DELETE FROM retained WHERE origin = ?", origins)


def _is_internal(one: GivenId) -> bool:
    return one.kind == "apps" and one.key.rsplit("/", 1)[-1].startswith("_")


def _probe(connection: sqlite3.Connection) -> None:
    """Raises when tables, columns or the boot counter are not ours."""
    connection.execute("SELECT origin, kind, key, id, via, origin_name, given_at, last_seen FROM given LIMIT 1")
    connection.execute(f"SELECT {_ORIGIN_COLUMNS}, last_seen FROM origins LIMIT 1")
    connection.execute("SELECT origin, section FROM retained LIMIT 1")
    int((connection.execute("SELECT value FROM meta WHERE name = 'boot'").fetchone() or ("0",))[0])


def _take_lock(path: Path) -> int:
    """An open, locked file. The lock goes with the process, however that ends. Raises StateError when it is taken."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        return descriptor
    except BlockingIOError:
        holder = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        raise StateError(f"another gateway is using it (process {holder or 'unknown'})") from None
    except BaseException:
        os.close(descriptor)
        raise
