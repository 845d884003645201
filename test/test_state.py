"""What a gateway keeps over restarts, and what becomes of it when disk, power or another gateway is in the way."""

from __future__ import annotations

import os
import select
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from medkit_gateway_py import state as state_module
from medkit_gateway_py.entities.ids import GivenId
from medkit_gateway_py.state import StateError, StateStore, state_directory

ROOT = Path(__file__).resolve().parent.parent
A = GivenId("origin-a", "apps", "/arm/driver", "driver", "arm", "")
B = GivenId("origin-b", "apps", "/base/driver", "base__driver", "base", "far")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state" / "port-8080"


@pytest.fixture
def store(folder: Path) -> Iterator[StateStore]:
    opened = StateStore.open(folder, now=100.0)
    yield opened
    opened.close()


def ids(store: StateStore) -> set[str]:
    return {one.id for one in store.given()}


def test_identity_and_ids_survive_a_restart(folder: Path) -> None:
    first = StateStore.open(folder, now=100.0)
    assert (first.persistent, first.problem, first.notes) == (True, "", ())
    first.remember([A, B], now=100.0)
    first.close()
    second = StateStore.open(folder, now=200.0)
    assert second.instance_id == first.instance_id
    assert set(second.given()) == {A, B}
    second.close()


def test_the_nodes_that_were_there_survive_a_restart(folder: Path) -> None:
    with closing(StateStore.open(folder)) as first:
        assert first.known_nodes() is None, "no run before this one"
        first.keep_nodes({"/b", "/a/c"})
        first.keep_nodes({"/a/c"})
    with closing(StateStore.open(folder)) as second:
        assert second.known_nodes() == {"/a/c"}
        second.keep_nodes(())
        assert second.known_nodes() == frozenset(), "an empty graph is known, too"


def test_boot_ids_of_one_instance_sort_by_age_whatever_the_clock_says(folder: Path) -> None:
    boots = []
    for now in (1_700_000_000.0, 5.0, 5.0, 1_700_000_001.0, 1_800_000_000.0, 1e15, 0.0):
        store = StateStore.open(folder, now=now)
        boots.append(store.boot_id)
        store.close()
    assert boots == sorted(boots)
    assert len(set(boots)) == len(boots)
    assert all(len(boot) == 17 and boot[8] == "-" for boot in boots)


def test_boot_ids_rise_also_when_the_counter_was_lost(folder: Path) -> None:
    before = StateStore.open(folder, "fixed", now=1_700_000_000.0)
    before.close()
    memory = StateStore.open(None, "fixed", now=1_700_000_009.0)
    assert memory.boot_id[:8] > before.boot_id[:8]


def test_a_configured_instance_id_wins_and_leaves_the_stored_one(folder: Path) -> None:
    first = StateStore.open(folder)
    first.close()
    second = StateStore.open(folder, "robot-7")
    assert second.instance_id == "robot-7"
    second.close()
    third = StateStore.open(folder)
    assert third.instance_id == first.instance_id
    third.close()


def test_no_directory_is_a_gateway_in_memory_without_a_problem() -> None:
    store = StateStore.open(None)
    assert (store.persistent, store.problem) == (False, "")
    store.remember([A], now=1.0)
    assert ids(store) == {"driver"}
    store.close()


def test_the_directory_and_its_files_are_for_their_owner_only(store: StateStore, folder: Path) -> None:
    store.remember([A], now=1.0)
    assert folder.stat().st_mode & 0o777 == 0o700
    files = list(folder.iterdir())
    assert {file.name for file in files} >= {"state.db", "state.db-wal", "state.lock"}
    for file in files:
        assert file.stat().st_mode & 0o077 == 0, file


def test_a_directory_that_was_there_keeps_its_mode(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    StateStore.open(folder).close()
    assert folder.stat().st_mode & 0o777 == 0o755


def test_two_gateways_never_share_a_directory(store: StateStore, folder: Path) -> None:
    store.remember([A], now=1.0)
    other = StateStore.open(folder)
    assert not other.persistent
    assert f"process {os.getpid()}" in other.problem
    assert other.instance_id != store.instance_id
    assert ids(other) == set()
    other.remember([B], now=1.0)
    assert ids(store) == {"driver"}
    other.close()


def test_a_closed_directory_can_be_opened_again(folder: Path) -> None:
    StateStore.open(folder).close()
    again = StateStore.open(folder)
    assert again.persistent
    again.close()
    again.close()
    with pytest.raises(StateError, match="closed"):
        again.given()


@pytest.mark.parametrize("obstacle", ["file", "file above", "directory for the data base"])
def test_a_directory_that_cannot_be_used_means_memory_and_a_reason(folder: Path, obstacle: str) -> None:
    if obstacle == "file":
        folder.parent.mkdir(parents=True)
        folder.write_text("")
    elif obstacle == "file above":
        folder.parent.parent.mkdir(parents=True, exist_ok=True)
        folder.parent.write_text("")
    else:
        (folder / "state.db").mkdir(parents=True)
    store = StateStore.open(folder)
    assert not store.persistent
    assert str(folder) in store.problem
    store.remember([A], now=1.0)
    assert ids(store) == {"driver"}
    store.close()


def test_a_directory_without_permission_means_memory_and_a_reason(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write everywhere, so the refusal of the system is played.
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(state_module.os, "open", refuse)
    store = StateStore.open(folder)
    assert not store.persistent
    assert "Permission denied" in store.problem


DAMAGES = {
    "rubbish": lambda file: file.write_bytes(os.urandom(8192)),
    "another text": lambda file: file.write_text("no data base\n" * 400),
    "cut": lambda file: file.write_bytes(file.read_bytes()[:5000]),
    "holes": lambda file: file.write_bytes(file.read_bytes()[:100] + bytes(len(file.read_bytes()) - 100)),
}


@pytest.mark.parametrize("damage", list(DAMAGES))
def test_a_damaged_data_base_is_moved_aside_and_begun_anew(folder: Path, damage: str) -> None:
    store = StateStore.open(folder)
    store.remember([A, B], now=1.0)
    store.close()
    DAMAGES[damage](folder / "state.db")
    damaged = (folder / "state.db").read_bytes()
    again = StateStore.open(folder)
    assert (again.persistent, again.problem) == (True, "")
    assert ids(again) == set()
    assert len(again.notes) == 1
    assert "state.db.corrupt-1" in again.notes[0]
    assert (folder / "state.db.corrupt-1").read_bytes() == damaged
    again.remember([A], now=1.0)
    again.close()
    third = StateStore.open(folder)
    assert (third.notes, ids(third)) == ((), {"driver"})
    third.close()


def test_foreign_tables_under_our_version_count_as_damage(folder: Path) -> None:
    folder.mkdir(parents=True)
    with sqlite3.connect(folder / "state.db") as other:
        other.execute("CREATE TABLE given (x)")
        other.execute("PRAGMA user_version = 1")
    other.close()
    store = StateStore.open(folder)
    assert store.persistent
    assert len(store.notes) == 1
    store.close()


def test_damage_at_every_start_does_not_fill_the_disk(folder: Path) -> None:
    folder.mkdir(parents=True)
    for _ in range(12):
        (folder / "state.db").write_bytes(b"rubbish" * 1000)
        StateStore.open(folder).close()
    kept = sorted(int(file.name.rsplit("-", 1)[1]) for file in folder.glob("*.corrupt-*"))
    assert kept == [8, 9, 10, 11, 12]


def test_the_state_of_a_newer_version_is_left_alone(folder: Path) -> None:
    StateStore.open(folder).close()
    with sqlite3.connect(folder / "state.db") as newer:
        newer.execute("PRAGMA user_version = 99")
    newer.close()
    store = StateStore.open(folder)
    assert not store.persistent
    assert "newer version" in store.problem
    assert not list(folder.glob("*.corrupt-*"))
    store.close()


def test_an_owner_keeps_the_id_it_has(store: StateStore) -> None:
    store.remember([A], now=1.0)
    store.remember([GivenId(*A.owner, "other")], now=2.0)
    assert ids(store) == {"driver"}


def test_internal_nodes_are_never_kept(store: StateStore) -> None:
    store.remember(
        [GivenId("o", "apps", "/ns/_ros2cli_1", "_ros2cli_1"), GivenId("o", "apps", "/_x", "_x"), A], now=1.0
    )
    store.remember([GivenId("o", "functions", "_fleet", "_fleet")], now=1.0)
    assert ids(store) == {"driver", "_fleet"}


def test_what_was_not_seen_for_long_is_forgotten(store: StateStore) -> None:
    store.remember([A, B], now=1000.0)
    store.touch([A.owner, ("unknown", "apps", "/x")], now=2000.0)
    assert store.forget_older_than(2500.0, 1000.0) == [B.owner]
    assert set(store.given()) == {A}
    assert store.forget_older_than(3000.0, 1000.0) == []


def test_a_clock_set_back_ages_nothing(store: StateStore) -> None:
    store.remember([A], now=1_700_000_000.0)
    store.remember([B], now=10.0)
    assert store.forget_older_than(1_700_000_001.0, 3600.0) == []
    assert store.forget_older_than(20.0, 3600.0) == []
    assert set(store.given()) == {A, B}


def test_an_origin_is_forgotten_whole(store: StateStore) -> None:
    more = GivenId(A.origin, "functions", "arm", "arm")
    store.remember([A, B, more], now=1.0)
    assert sorted(store.forget_origin(A.origin)) == sorted([A.owner, more.owner])
    assert set(store.given()) == {B}


def test_beyond_the_bound_what_was_seen_longest_ago_leaves_first(
    store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_module, "MAX_GIVEN", 100)
    for number in range(100):
        store.remember([GivenId("o", "apps", f"/n{number}", f"n{number}")], now=1000.0 + number)
    store.touch([("o", "apps", "/n0")], now=2000.0)
    store.remember([GivenId("o", "apps", f"/m{number}", f"m{number}") for number in range(3)], now=3000.0)
    left = ids(store)
    assert len(left) == 100
    assert {"n0", "m0", "m1", "m2", "n4"} <= left
    assert not {"n1", "n2", "n3"} & left


def test_a_full_store_opens_and_takes_one_more_in_reasonable_time(store: StateStore) -> None:
    store.remember([GivenId("o", "apps", f"/n{number}", f"n{number}") for number in range(100_000)], now=1.0)
    started = time.monotonic()
    store.remember([A], now=2.0)
    assert len(store.given()) == 100_000
    assert time.monotonic() - started < 5.0


def test_a_full_disk_raises_and_leaves_what_was_there(store: StateStore) -> None:
    store.remember([A], now=1.0)
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    many = [GivenId("o", "apps", f"/n{number}", f"n{number}") for number in range(1000)]
    with pytest.raises(StateError, match="full"):
        store.remember([*many, B], now=2.0)
    assert ids(store) == {"driver"}, "all or nothing"
    store._db.execute("PRAGMA max_page_count = 100000")
    store.remember([*many, B], now=3.0)
    assert len(ids(store)) == 1002


def test_a_disk_that_becomes_read_only_raises(store: StateStore) -> None:
    store._db.execute("PRAGMA query_only = 1")
    with pytest.raises(StateError):
        store.remember([A], now=1.0)
    with pytest.raises(StateError):
        store.touch([A.owner], now=1.0)
    assert ids(store) == set()


def test_many_threads_may_use_it(store: StateStore) -> None:
    problems: list[BaseException] = []

    def work(thread: int) -> None:
        try:
            for number in range(20):
                store.remember([GivenId("o", "apps", f"/t{thread}/{number}", f"t{thread}_{number}")], now=float(number))
                store.touch([("o", "apps", f"/t{thread}/0")], now=float(number))
                store.given()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert problems == []
    assert len(store.given()) == 120


WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from medkit_gateway_py.entities.ids import GivenId
    from medkit_gateway_py.state import StateStore

    store = StateStore.open(Path(sys.argv[1]))
    print(store.instance_id, store.boot_id, flush=True)
    for number in range(100000):
        pair = [GivenId("o", "apps", f"/{store.boot_id}/{number}/{half}", f"{number}_{half}") for half in "ab"]
        store.remember(pair, float(number))
        print(number, flush=True)
    """
)


def lines_until(process: subprocess.Popen[str], enough: int, within: float) -> list[str]:
    assert process.stdout is not None
    deadline = time.monotonic() + within
    lines: list[str] = []
    while len(lines) < enough:
        ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
        assert ready, f"only {len(lines)} lines within {within} s"
        line = process.stdout.readline()
        assert line, f"the writer ended after {len(lines)} lines"
        lines.append(line.strip())
    return lines


def test_kill_9_in_the_middle_leaves_a_sound_store_with_all_that_was_said_to_be_kept(folder: Path) -> None:
    identities = set()
    boots = []
    promised = 0
    for enough in (2, 9, 30):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT
        )
        try:
            lines = lines_until(process, enough, within=30.0)
        finally:
            process.send_signal(signal.SIGKILL)
            rest = (process.communicate(timeout=10)[0] or "").split("\n")[:-1]
        instance, boot = lines[0].split()
        identities.add(instance)
        boots.append(boot)
        promised += len(lines) - 1 + len(rest)

        store = StateStore.open(folder)
        assert store.persistent, store.problem
        assert store.notes == ()
        assert store.instance_id == instance
        boots.append(store.boot_id)
        kept = [one.key for one in store.given()]
        assert len(kept) >= 2 * promised
        assert len(kept) % 2 == 0, "both halves of a call, or none"
        promised = len(kept) // 2
        store.close()
    assert len(identities) == 1
    assert boots == sorted(boots)


@pytest.mark.parametrize(
    ("configured", "environ", "path"),
    [
        ("", {"XDG_STATE_HOME": "/x"}, "/x/medkit_gateway_py/port-8081"),
        ("", {"HOME": "/home/r"}, "/home/r/.local/state/medkit_gateway_py/port-8081"),
        ("", {"HOME": "/home/r", "XDG_STATE_HOME": ""}, "/home/r/.local/state/medkit_gateway_py/port-8081"),
        ("", {"HOME": "/home/r", "XDG_STATE_HOME": "relative"}, "/home/r/.local/state/medkit_gateway_py/port-8081"),
        ("/var/lib/gw", {"XDG_STATE_HOME": "/x"}, "/var/lib/gw"),
    ],
)
def test_where_the_state_is(configured: str, environ: dict[str, str], path: str) -> None:
    assert state_directory(configured, 8081, environ) == Path(path)
