"""An SQLite file that is sound or begun anew: how every room that keeps something on disk opens it.

WAL, committed through to the disk, for its owner only; a damaged file is moved aside, never overwritten. What is kept
is no business of this module, nor is the lock that keeps other gateways out (`state.py`). Blocks on the disk.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable
from pathlib import Path

# A data base that goes bad at every start must not fill the disk with its copies.
_KEPT_CORRUPT = 5


class StateError(Exception):
    """The disk did not take it (full, read-only, gone). Nothing was changed there; the caller may go on in memory."""


class Corrupt(Exception):
    """The file is no data base of ours any more."""


def in_memory(schema: str) -> sqlite3.Connection:
    """A data base without a file."""
    connection = _connect(":memory:")
    connection.executescript(schema)
    return connection


def open_database(
    database: Path, schema: str, version: int, probe: Callable[[sqlite3.Connection], None], added: str = ""
) -> tuple[sqlite3.Connection, tuple[str, ...]]:
    """A checked data base with these tables, and what is worth a warning.

    `version` is that of the schema. `added` are tables that came later and that a gateway of this version without them
    leaves alone; they are made where they are missing. `probe` raises Corrupt, or sqlite3.OperationalError or
    ValueError, when the content is not what it should be. Raises sqlite3.Error or OSError when the file cannot be used
    for another reason than damage, StateError when a newer version of the gateway wrote it.
    """
    try:
        return _open_sound(database, schema, version, probe, added), ()
    except Corrupt as error:
        moved = _move_aside(database)
        note = f"The state in {database} is damaged ({error}); it was moved to {moved} and begun anew."
        return _open_sound(database, schema, version, probe, added), (note,)


def _connect(target: str) -> sqlite3.Connection:
    # Transactions are written out (`isolation_level=None`); each room keeps its threads apart itself.
    return sqlite3.connect(target, isolation_level=None, check_same_thread=False, timeout=5.0)


def _open_sound(
    database: Path, schema: str, version: int, probe: Callable[[sqlite3.Connection], None], added: str
) -> sqlite3.Connection:
    os.close(os.open(database, os.O_CREAT | os.O_RDWR, 0o600))  # SQLite gives its WAL files the same mode
    connection = _connect(str(database))
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found > version:
            raise StateError("a newer version of the gateway wrote it")
        connection.execute("PRAGMA journal_mode = WAL")
        # What is said to be kept must be on disk, also when the power fails.
        connection.execute("PRAGMA synchronous = FULL")
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise Corrupt(verdict)
        if found == 0:
            connection.executescript(f"BEGIN IMMEDIATE; {schema} PRAGMA user_version = {version}; COMMIT;")
        try:
            connection.executescript(added)
            probe(connection)
        except (sqlite3.OperationalError, ValueError) as error:
            raise Corrupt(str(error)) from error
        return connection
    except sqlite3.OperationalError:
        connection.close()
        raise
    except sqlite3.DatabaseError as error:
        connection.close()
        raise Corrupt(str(error)) from error
    except BaseException:
        connection.close()
        raise


def _move_aside(database: Path) -> Path:
    """Rename the data base and its WAL files to `*.corrupt-<n>`; only the newest few are kept."""
    pattern = re.compile(re.escape(database.name) + r"(-wal|-shm)?\.corrupt-(\d+)")
    found = [(int(match[2]), path) for path in database.parent.iterdir() if (match := pattern.fullmatch(path.name))]
    number = max((number for number, _ in found), default=0) + 1
    for old, path in found:
        if old <= number - _KEPT_CORRUPT:
            path.unlink(missing_ok=True)
    for suffix in ("-wal", "-shm", ""):
        part = database.with_name(database.name + suffix)
        if part.exists():
            part.rename(part.with_name(f"{part.name}.corrupt-{number}"))
    return database.with_name(f"{database.name}.corrupt-{number}")
