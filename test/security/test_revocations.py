"""What happens to revocations when the disk is not what it should be (API.md §9.1)."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from medkit_gateway_py.security.refusals import RevocationError, TokenRefused
from medkit_gateway_py.security.revocations import FILE, PRUNE_AFTER_S, Revocations
from support.auth import authority, token


def at(moment: float) -> Callable[[], float]:
    return lambda: moment


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    found = Revocations.open(tmp_path)
    found.revoke("a", 10.0)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}
    assert (found.problem, found.not_before, found.is_persistent) == ("", 0, True)


def test_without_a_place_on_disk_older_tokens_are_refused_and_revoking_is_an_error() -> None:
    found = Revocations.open(None, "The disk is full.", clock=at(1000.0))
    assert found.not_before == 1001
    assert "The disk is full." in found.problem
    with pytest.raises(RevocationError):
        found.revoke("a", 2000.0)
    assert found.is_revoked("a")


def test_a_damaged_file_is_moved_aside_and_older_tokens_are_refused_from_then_on(tmp_path: Path) -> None:
    one = authority(tmp_path)
    before = token(one)
    one.revoke(before)
    one.close()
    (tmp_path / FILE).write_bytes(b"no data base at all" * 100)
    found = Revocations.open(tmp_path)
    assert "damaged" in found.problem
    found.close()
    again = Revocations.open(tmp_path)  # the start after that
    assert (again.problem, again.not_before) == ("", found.not_before)
    again.close()
    later = authority(tmp_path)
    with pytest.raises(TokenRefused, match="from before the last start"):
        later.principal(before)
    assert later.principal(token(later)).is_admin


def test_a_gateway_that_ended_while_it_moved_the_file_aside_forgets_nothing(tmp_path: Path) -> None:
    (tmp_path / f"{FILE}.corrupt-1").write_bytes(b"")
    assert Revocations.open(tmp_path, clock=at(1000.0)).not_before == 1001


@pytest.mark.parametrize("content", ["directory", "newer"])
def test_a_file_that_cannot_be_used_is_no_reason_to_accept_revoked_tokens(tmp_path: Path, content: str) -> None:
    if content == "directory":
        (tmp_path / FILE).mkdir()
    else:
        import sqlite3

        with sqlite3.connect(tmp_path / FILE) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    found = Revocations.open(tmp_path, clock=at(1000.0))
    assert (found.is_persistent, found.not_before) == (False, 1001)
    assert FILE in found.problem


def test_a_disk_that_stops_writing_makes_revoking_an_error(tmp_path: Path) -> None:
    found = Revocations.open(tmp_path)
    assert found._db is not None
    found._db.execute("PRAGMA query_only = ON")
    with pytest.raises(RevocationError, match="readonly"):
        found.revoke("a", 10.0**10)
    assert found.is_revoked("a")


def test_what_expired_long_ago_is_forgotten_and_nothing_else(tmp_path: Path) -> None:
    now = [1000.0]
    found = Revocations.open(tmp_path, clock=lambda: now[0])
    found.revoke("short", 1010.0)
    found.revoke("long", 1010.0 + 2 * PRUNE_AFTER_S)
    now[0] = 1011.0 + PRUNE_AFTER_S
    found.revoke("other", now[0] + 10)
    assert [found.is_revoked(one) for one in ("short", "long", "other")] == [False, True, True]
    found.close()
    again = Revocations.open(tmp_path, clock=lambda: now[0])
    assert [again.is_revoked(one) for one in ("short", "long", "other")] == [False, True, True]


def test_there_is_a_bound_and_it_is_told(tmp_path: Path) -> None:
    found = Revocations.open(tmp_path, max_revoked=2, clock=at(0.0))
    for one in ("a", "b", "a"):
        found.revoke(one, 10.0)
    with pytest.raises(RevocationError, match="too many"):
        found.revoke("c", 10.0)


def test_a_revocation_never_gets_shorter(tmp_path: Path) -> None:
    now = [0.0]
    found = Revocations.open(tmp_path, clock=lambda: now[0])
    found.revoke("a", PRUNE_AFTER_S * 3)
    found.revoke("a", 1.0)
    now[0] = PRUNE_AFTER_S * 2
    found.revoke("b", now[0])
    found.close()
    assert Revocations.open(tmp_path).is_revoked("a")
