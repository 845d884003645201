"""Which tokens were revoked, on disk, so that they stay revoked over a restart (API.md §9.1).

An SQLite file of its own in the state directory, whose lock `state.py` holds. Where it cannot be read, nobody can say
which tokens were revoked: then every token from before this start is refused (`not_before`). `revoke` blocks on the
disk: call it in a worker thread.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ..database import Corrupt, StateError, open_database
from .refusals import RevocationError

FILE = "auth.db"
SCHEMA_VERSION = 1
# Only who has a good token can add one, and a client gets tokens slowly; about 20 MB.
MAX_REVOKED = 100_000
# An entry is kept for a day more than its token lives, should the clock have been ahead.
PRUNE_AFTER_S = 86400.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revoked (id TEXT PRIMARY KEY, until REAL NOT NULL) WITHOUT ROWID;
"""


class Revocations:
    """Ids of revoked tokens. `is_revoked` is for every thread and never waits."""

    def __init__(
        self,
        connection: sqlite3.Connection | None,
        problem: str,
        not_before: int,
        revoked: dict[str, float],
        clock: Callable[[], float],
        max_revoked: int,
    ) -> None:
        self._db = connection
        self._guard = threading.Lock()
        self._revoked = revoked
        self._clock = clock
        self._max_revoked = max_revoked
        self.problem = problem
        self.not_before = not_before

    @classmethod
    def open(
        cls,
        directory: Path | None,
        reason: str = "",
        *,
        clock: Callable[[], float] = time.time,
        max_revoked: int = MAX_REVOKED,
    ) -> Revocations:
        """Read the file in `directory`; None: in memory only, because of `reason`. Never raises for a bad file.

        `problem` is "" or a sentence to warn with.
        """
        if directory is None:
            problem = f"Revoked tokens cannot be kept: {reason or 'there is no state directory'}. {_CONSEQUENCE}"
            return cls(None, problem, int(clock()) + 1, {}, clock, max_revoked)
        file = directory / FILE
        try:
            connection, notes = open_database(file, _SCHEMA, SCHEMA_VERSION, _probe)
            revoked = dict(connection.execute("SELECT id, until FROM revoked").fetchall())
            meta = dict(connection.execute("SELECT name, value FROM meta").fetchall())
            not_before = int(meta.get("not_before", 0))
            # Also when a damaged file was moved aside and the gateway ended before it noted this.
            if notes or (not not_before and any(directory.glob(f"{FILE}.corrupt-*"))):
                not_before = int(clock()) + 1
                connection.execute("INSERT OR REPLACE INTO meta VALUES ('not_before', ?)", (str(not_before),))
        except (OSError, sqlite3.Error, StateError, Corrupt) as error:
            problem = f"Revoked tokens cannot be kept in {file}: {error}. {_CONSEQUENCE}"
            return cls(None, problem, int(clock()) + 1, {}, clock, max_revoked)
        problem = f"{notes[0]} {_REFUSED}" if notes else ""
        return cls(connection, problem, not_before, revoked, clock, max_revoked)

    @property
    def is_persistent(self) -> bool:
        """Whether they survive this gateway."""
        return self._db is not None

    def is_revoked(self, *ids: str) -> bool:
        """Whether one of these was revoked."""
        return any(one in self._revoked for one in ids)

    def revoke(self, token_id: str, until: float) -> None:
        """Revoke a token that lives until then (seconds since the epoch). On disk when it returns.

        Raises RevocationError when it could not be kept; it holds for this run even then.
        """
        with self._guard:
            self._prune()
            if token_id not in self._revoked and len(self._revoked) >= self._max_revoked:
                raise RevocationError("too many tokens are revoked at once")
            self._revoked[token_id] = max(until, self._revoked.get(token_id, 0.0))
            if self._db is None:
                raise RevocationError("there is no place on disk for it")
            try:
                self._db.execute(
                    "INSERT INTO revoked VALUES (?, ?)"
                    " ON CONFLICT (id) DO UPDATE SET until = max(until, excluded.until)",
                    (token_id, until),
                )
            except sqlite3.Error as error:
                raise RevocationError(str(error)) from error

    def close(self) -> None:
        """Close the file; may be called twice."""
        with self._guard:
            if self._db is not None:
                self._db.close()
                self._db = None

    def _prune(self) -> None:
        before = self._clock() - PRUNE_AFTER_S
        old = [one for one, until in self._revoked.items() if until < before]
        if not old:
            return
        for one in old:
            del self._revoked[one]
        if self._db is not None:
            try:
                self._db.execute("DELETE FROM revoked WHERE until < ?", (before,))
            except sqlite3.Error as error:
                raise RevocationError(str(error)) from error


_REFUSED = "Tokens from before this start are refused."
_CONSEQUENCE = "Tokens from before this start are refused, and revoking one ends in an error."


def _probe(connection: sqlite3.Connection) -> None:
    """Raises for a file whose tables are not ours."""
    connection.execute("SELECT id, until FROM revoked LIMIT 1")
    int((connection.execute("SELECT value FROM meta WHERE name = 'not_before'").fetchone() or ("0",))[0])
