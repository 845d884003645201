"""What is known of other gateways outlives a restart, also one by kill -9 (AGGREGATION.md §2, §5, §6)."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from medkit_gateway_py import state as state_module
from medkit_gateway_py.aggregation import origin_keeper
from medkit_gateway_py.aggregation.access import Access
from medkit_gateway_py.aggregation.peer_discovery import ADDED, PeerEvent, PeerSpec
from medkit_gateway_py.aggregation.routing import Away, FederatedTree
from medkit_gateway_py.aggregation.sections import GatewayIdentity
from medkit_gateway_py.entities.model import Kind
from medkit_gateway_py.state import OriginRecord, StateError, StateStore
from support.certificates import Authority
from support.fake_peer import TestGateway, running, tree_of
from support.waiting import async_eventually

from .test_retain import declared

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def gateway_on(folder: Path, peers: dict[str, str], **aggregation: Any) -> AsyncIterator[TestGateway]:
    """A gateway whose state is in `folder`; at the end only what was on the disk before it stopped is left."""
    state = StateStore.open(folder)
    assert state.persistent, state.problem
    gateway = TestGateway("a", peers, state=state, **aggregation)
    async with running(gateway):
        yield gateway
        # As with kill -9: from here on nothing is written.
        state.close()


def with_boot(gateway: TestGateway, boot_id: str, instance_id: str = "") -> TestGateway:
    """The gateway as another start of itself, or as one that says that it is another."""
    identity = GatewayIdentity(instance_id or gateway.identity.id, boot_id, gateway.identity.name, "1.0.0")
    gateway.identity = gateway.federation.identity = identity
    return gateway


def found_by_mdns(gateway: TestGateway, name: str, url: str) -> None:
    gateway.federation.change(PeerEvent(ADDED, PeerSpec(name, url, "mdns")))


def codes(gateway: TestGateway) -> list[str]:
    return [one.code for one in gateway.federation.warnings()]


async def test_nobody_poses_as_a_configured_peer_after_our_restart(tmp_path: Path) -> None:
    b = with_boot(TestGateway("b", {}), "00000005-0")
    rogue = with_boot(TestGateway("rogue", {}), "00000009-0", b.identity.id)
    loopback = {"allow_loopback_discovery": True}
    async with running(b, rogue):
        await b.serve_tree(tree_of(["nav"]))
        await rogue.serve_tree(tree_of(["nav", "trap"]))
        async with gateway_on(tmp_path, {"b": b.url}, **loopback) as a:
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
        await b.stop()
        async with gateway_on(tmp_path, {"b": b.url}, **loopback) as a:
            found_by_mdns(a, "rogue", rogue.url)
            await async_eventually(lambda: "origin_conflict" in codes(a), within=10)
            assert not a.federation.tree.apps
            assert a.federation.tree.resolve(Kind.APP, "nav") == Away("b")
        await b.start(b.port)


async def test_nobody_poses_as_a_gateway_that_is_known_by_its_certificate(tmp_path: Path) -> None:
    certificate, key = Authority(tmp_path).certificate("b")
    pin = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate.read_text())).hexdigest()
    b = with_boot(TestGateway("b", {}, certificate=(certificate, key)), "00000005-0")
    rogue = with_boot(TestGateway("rogue", {}), "00000005-0", b.identity.id)
    later = with_boot(TestGateway("later", {}), "00000009-0", b.identity.id)
    async with running(b, rogue, later):
        await b.serve_tree(tree_of(["nav"]))
        for one in (rogue, later):
            await one.serve_tree(tree_of(["nav", "trap"]))

        def found_with_certificate(a: TestGateway) -> None:
            a.federation.change(PeerEvent(ADDED, PeerSpec("b", b.url, "mdns", Access(fingerprints=(pin,)))))

        async with gateway_on(tmp_path / "state", {}, allow_loopback_discovery=True) as a:
            found_with_certificate(a)
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            found_by_mdns(a, "later", later.url)
            await async_eventually(lambda: conflicting(a) == ["later"], within=10)
            assert set(a.federation.tree.apps) == {"nav"}
            assert "duplicate_instance_id" not in codes(a)
            await b.stop()
            await async_eventually(lambda: not a.federation.tree.apps, within=10)
            assert conflicting(a) == ["later"]
        async with gateway_on(tmp_path / "state", {}, allow_loopback_discovery=True) as a:
            found_by_mdns(a, "rogue", rogue.url)
            found_with_certificate(a)
            await async_eventually(lambda: conflicting(a) == ["rogue"], within=10)
            assert not a.federation.tree.apps
            await b.start(b.port)
            await async_eventually(lambda: set(a.federation.tree.apps) == {"nav"}, within=15)


def conflicting(gateway: TestGateway) -> list[str]:
    """The peers that are not believed."""
    return [name for one in gateway.federation.warnings() if one.code == "origin_conflict" for name in one.peer_names]


async def test_an_older_state_is_not_shown_after_our_restart(tmp_path: Path) -> None:
    b = with_boot(TestGateway("b", {}), "00000005-0")
    older = with_boot(TestGateway("b", {}), "00000004-0", b.identity.id)
    async with running(b, older):
        await b.serve_tree(tree_of(["nav"]))
        await older.serve_tree(tree_of(["past"]))
        m, n = TestGateway("m", {"b": b.url}), TestGateway("n", {"b": older.url})
        async with running(m, n):
            async with gateway_on(tmp_path, {"m": m.url}) as a:
                await async_eventually(lambda: "nav" in a.federation.tree.apps)
            await m.stop()
            async with gateway_on(tmp_path, {"m": m.url, "n": n.url}) as a:
                peer = a.federation.peer("n")
                assert peer is not None
                await async_eventually(lambda: len(peer.sections or ()) == 2, within=10)
                # Its own change is taken in, what it says of the other gateway is not.
                await n.serve_tree(tree_of(["mine"]))
                await async_eventually(lambda: "mine" in a.federation.tree.apps, within=10)
                assert "past" not in a.federation.tree.apps
                assert a.federation.tree.missing_anything() == ("m", "m/b")
            await m.start(m.port)


async def test_a_change_that_is_no_new_start_is_kept_soon_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin_keeper, "WRITE_S", 0.05)
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["nav"]))
        async with gateway_on(tmp_path, {"b": b.url}) as a:

            def kept() -> int:
                return next((one.seq for one in a.state.origins() if one.origin == b.identity.id), -1)

            await async_eventually(lambda: kept() > 0)
            first = kept()
            await b.serve_tree(tree_of(["nav", "cam"]))
            await async_eventually(lambda: kept() > first)
            (record,) = a.state.origins()
            assert (record.boot_id, record.pin, record.peer, record.label) == (b.identity.boot_id, "b", "b", "b")


async def test_a_new_start_is_on_disk_before_it_is_served(tmp_path: Path) -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["nav"]))
        async with gateway_on(tmp_path, {"b": b.url}) as a:
            seen: list[bool] = []

            def look(tree: FederatedTree) -> None:
                kept = [one.boot_id for one in a.state.origins()]
                seen.append([one.boot_id for one in tree.sections] == kept)

            a.federation.subscribe(look)
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            assert seen
            assert all(seen)


async def test_what_is_retained_is_listed_when_its_gateway_is_down_at_our_start(tmp_path: Path) -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(declared(tree_of(["cam", "nav"], "arm", "vision")))
        async with gateway_on(tmp_path, {"b": b.url}, unreachable="retain") as a:
            await a.serve_tree(tree_of(["cam"]))
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
        await b.stop()
        async with gateway_on(tmp_path, {"b": b.url}, unreachable="retain") as a:
            await a.serve_tree(tree_of(["cam"]))
            tree = a.federation.tree
            assert set(tree.apps) == {"cam", "b__cam", "nav"}
            assert not tree.apps["nav"].available
            assert tree.apps["b__cam"].name == "b__The cam"
            assert not tree.components["arm"].available
            assert tree.resolve(Kind.APP, "nav") == Away("b", is_retained=True)
        # Without the parameter it is not shown, and with a smaller bound neither.
        for options in ({}, {"unreachable": "retain", "max_entities_per_peer": 2}):
            async with gateway_on(tmp_path, {"b": b.url}, **options) as a:
                assert not a.federation.tree.apps
        await b.start(b.port)


async def test_what_a_gateway_declares_no_more_is_not_retained_over_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(origin_keeper, "WRITE_S", 0.05)
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(declared(tree_of(["nav"])))
        async with gateway_on(tmp_path, {"b": b.url}, unreachable="retain") as a:
            await async_eventually(lambda: len(a.state.retained()) == 1)
            await b.serve_tree(tree_of(["nav"]))
            await async_eventually(lambda: not a.state.retained())


async def test_who_is_forgotten_is_forgotten_on_disk(tmp_path: Path) -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(declared(tree_of(["nav"])))
        async with gateway_on(tmp_path, {"b": b.url}, unreachable="retain", forget_after_s=3600) as a:
            await async_eventually(lambda: bool(a.state.retained()))
            await b.stop()
            await async_eventually(lambda: not a.federation.tree.apps["nav"].available, within=6)
            await a.federation.forget("b")
            assert a.state.origins() == []
            assert a.state.retained() == {}
            await b.start(b.port)
            await async_eventually(lambda: len(a.state.origins()) == 1, within=10)
            # It was there all the time; one that was seen two hours ago is forgotten.
            a.state._db.execute("UPDATE origins SET last_seen = 1.0")
            a.state._latest = 0.0
            await a.federation._mark_and_forget()
            assert [one.origin for one in a.state.origins()] == [b.identity.id]
            await b.stop()
            await async_eventually(lambda: a.federation.tree.missing_anything() == ("b",), within=6)
            a.state._db.execute("UPDATE origins SET last_seen = 1.0")
            a.state._db.execute("UPDATE given SET last_seen = 1.0")
            await a.federation._mark_and_forget()
            assert a.state.origins() == []
            await b.start(b.port)


async def test_a_disk_that_is_full_is_told_of_and_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(origin_keeper, "RETRY_S", 0.05)
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["nav"]))
        state = StateStore.open(tmp_path)
        keep = state.keep_origins

        def refuse(*_: object) -> None:
            raise StateError("database or disk is full")

        monkeypatch.setattr(state, "keep_origins", refuse)
        a = TestGateway("a", {"b": b.url}, state=state)
        async with running(a):
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            assert "state_not_persistent" in codes(a)
            assert "disk is full" in caplog.text
            monkeypatch.setattr(state, "keep_origins", keep)
            await async_eventually(lambda: len(state.origins()) == 1)
            assert "state_not_persistent" not in codes(a)


def test_a_record_that_cannot_be_read_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = StateStore.open(tmp_path)
    good = OriginRecord("d", "00000002-0", 7, "d_peer", "", "d_peer", "d_peer", "")
    state.keep_origins([good, replace(good, origin="e", peer="e_peer", plate="{")], {"d": "[]", "e": "\\"}, 1.0)
    with caplog.at_level(logging.WARNING):
        keeper = origin_keeper.OriginKeeper(state, state.given(), retain=True, max_entities=9, now=0.0)
    assert len(caplog.records) == 3
    assert keeper.memory.remembered("d").age == ("00000002-0", 7)
    assert keeper.memory.remembered("e").pin is not None
    assert keeper.memory.past.retained == {}
    state.close()


def test_a_state_from_before_there_were_records_is_taken_over(tmp_path: Path) -> None:
    first = StateStore.open(tmp_path)
    first._db.executescript("DROP TABLE origins; DROP TABLE retained")
    first.close()
    second = StateStore.open(tmp_path)
    assert (second.instance_id, second.notes, second.origins()) == (first.instance_id, (), [])
    second.close()


def test_records_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "MAX_ORIGINS", 5)
    state = StateStore.open(tmp_path)
    for number in range(8):
        state.keep_origins([OriginRecord(f"o{number}", "1", number)], {f"o{number}": "{}"}, 1000.0 + number)
    state.touch_origins(["o3", "unknown"], 2000.0)
    state.keep_origins([OriginRecord("last")], {}, 2001.0)
    assert [one.origin for one in state.origins()] == ["o5", "o6", "o7", "o3", "last"]
    assert set(state.retained()) == {"o5", "o6", "o7", "o3"}
    assert state.forget_origins_older_than(2008.0, 1000.0) == ["o5", "o6", "o7"]
    assert dataclasses.astuple(state.origins()[0])[:3] == ("o3", "1", 3)
    state.close()
