"""How long ids are remembered, who is forgotten, and gateways that share an identity (AGGREGATION.md §2, §4)."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from medkit_gateway_py import state as state_module
from medkit_gateway_py.aggregation import federation as federation_module
from medkit_gateway_py.aggregation import id_keeper
from medkit_gateway_py.aggregation.peer_discovery import REMOVED, PeerEvent
from medkit_gateway_py.aggregation.routing import Away, Remote
from medkit_gateway_py.entities.ids import GivenId
from medkit_gateway_py.entities.model import Kind
from medkit_gateway_py.state import StateStore
from support.fake_peer import TestGateway, running, tree_of
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio


def remembered(gateway: TestGateway) -> set[tuple[str, str]]:
    """(origin, id) of the apps that are remembered on disk."""
    return {(one.origin, one.id) for one in gateway.state.given() if one.kind == "apps"}


async def test_ids_in_use_are_kept_and_those_unused_for_too_long_are_forgotten() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam", "nav"]))
        a = TestGateway("a", {"b": b.url}, forget_after_s=3600)
        async with running(a):
            await a.serve_tree(tree_of(["own", "old"]))
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            await a.serve_tree(tree_of(["own"]))
            await b.serve_tree(tree_of(["nav"]))
            await async_eventually(lambda: "cam" not in a.federation.tree.apps, within=5)
            # All of it was seen two hours ago, as the state believes.
            a.state._db.execute("UPDATE given SET last_seen = ?", (time.time() - 7200,))
            a.state._latest = 0.0
            await a.federation._mark_and_forget()
            assert remembered(a) == {(a.identity.id, "own"), (b.identity.id, "nav")}
            assert not a.federation.given.holders(Kind.APP, "cam")
            assert a.federation.tree.resolve(Kind.APP, "cam") is None
            await b.serve_tree(tree_of(["nav", "cam"]))
            await async_eventually(lambda: "cam" in a.federation.tree.apps, within=5)


async def test_the_keeper_runs_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(federation_module, "MAINTENANCE_S", 0.05)
    a = TestGateway("a", {}, forget_after_s=3600)
    async with running(a):
        await a.serve_tree(tree_of(["own", "old"]))
        await a.serve_tree(tree_of(["own"]))
        a.state._db.execute("UPDATE given SET last_seen = ?", (time.time() - 7200,))
        a.state._latest = 0.0
        await async_eventually(lambda: remembered(a) == {(a.identity.id, "own")}, within=5)


async def test_ids_of_a_peer_that_is_away_stay_until_it_is_forgotten() -> None:
    b, c = TestGateway("b", {}), TestGateway("c", {})
    async with running(b, c):
        await b.serve_tree(tree_of(["nav"]))
        await c.serve_tree(tree_of(["arm"]))
        a = TestGateway("a", {"b": b.url, "c": c.url})
        async with running(a):
            await async_eventually(lambda: {"nav", "arm"} <= set(a.federation.tree.apps))
            await b.stop()
            await async_eventually(lambda: "nav" not in a.federation.tree.apps, within=6)
            assert a.federation.tree.resolve(Kind.APP, "nav") == Away("b")
            assert await a.federation.forget("c") == 0, "it is here"
            assert await a.federation.forget("nobody") == 0
            assert await a.federation.forget("b") == 1
            assert remembered(a) == {(c.identity.id, "arm")}
            await async_eventually(lambda: a.federation.tree.resolve(Kind.APP, "nav") is None, within=3)
            # The id is free again: another robot may have it now.
            await c.serve_tree(tree_of(["arm", "nav"]))
            await async_eventually(lambda: isinstance(a.federation.tree.resolve(Kind.APP, "nav"), Remote), within=5)
            # A peer that was removed a moment ago is here no more.
            peer = a.federation.peer("c")
            assert peer is not None
            a.federation.change(PeerEvent(REMOVED, peer.spec))
            assert await a.federation.forget("c") == 2
            assert remembered(a) == set()
            await b.start(b.port)


async def test_beyond_the_bound_those_that_vanished_leave_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (state_module, id_keeper):
        monkeypatch.setattr(module, "MAX_GIVEN", 6)
    a = TestGateway("a", {})
    async with running(a):
        await a.serve_tree(tree_of(["stays0", "stays1"]))
        for number in range(10):
            await a.serve_tree(tree_of(["stays0", "stays1", f"gone{number}"]))
        assert len(remembered(a)) == len(a.federation.given) == 6
        assert {"stays0", "stays1", "gone9"} <= {app_id for _, app_id in remembered(a)}


async def test_ids_in_use_do_not_change_even_when_there_are_more_than_can_be_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for module in (state_module, id_keeper):
        monkeypatch.setattr(module, "MAX_GIVEN", 6)
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of([f"n{number}" for number in range(9)]))
        a = TestGateway("a", {"b": b.url})
        async with running(a):
            await a.serve_tree(tree_of(["n0"]))
            await async_eventually(lambda: "n8" in a.federation.tree.apps)
            before = set(a.federation.tree.apps)
            assert "b__n0" in before
            await a.serve_tree(tree_of(["n0", "more"]))
            assert set(a.federation.tree.apps) == before | {"more"}
            assert len(a.state.given()) == 6


def test_a_hundred_thousand_ids_are_remembered_and_read_back_soon(tmp_path: object) -> None:
    store = StateStore.open(None)
    ids = [GivenId("o", "apps", f"/node_{number}", f"node_{number}") for number in range(100_000)]
    began = time.monotonic()
    assert store.remember(ids, 1000.0) == []
    evicted = store.remember([GivenId("o", "apps", "/one_more", "one_more")], 1001.0)
    assert len(evicted) == 1
    given = store.given()
    assert len(given) == 100_000
    assert given.holders(Kind.APP, "one_more")
    # About a second on an idle machine.
    assert time.monotonic() - began < 30


def clone_of(b: TestGateway) -> TestGateway:
    """Another gateway with the state directory of `b`, as on a copied disk."""
    clone = TestGateway("clone", {})
    clone.identity = replace(clone.identity, id=b.identity.id)
    clone.federation.identity = clone.identity
    return clone


async def test_two_gateways_of_one_disk_image_are_both_shown_and_told_of(caplog: pytest.LogCaptureFixture) -> None:
    b = TestGateway("b", {})
    clone = clone_of(b)
    async with running(b, clone):
        await b.serve_tree(tree_of(["nav"], "base"))
        await clone.serve_tree(tree_of(["nav", "extra"], "base"))
        a = TestGateway("a", {"b": b.url, "clone": clone.url})
        async with running(a):
            await async_eventually(lambda: len(a.federation.tree.apps) == 3, within=10)
            assert set(a.federation.tree.apps) == {"nav", "clone__nav", "extra"}
            (warning,) = [one for one in a.federation.warnings() if one.code == "duplicate_instance_id"]
            assert warning.peer_names == ("b", "clone")
            assert any(record.levelname == "ERROR" and "duplicate" in record.message for record in caplog.records)
            for app_id, peer in (("nav", "b"), ("clone__nav", "clone")):
                found = a.federation.tree.resolve(Kind.APP, app_id)
                assert isinstance(found, Remote)
                assert found.peer == peer


@pytest.mark.parametrize("is_restarted", [False, True])
async def test_of_two_copies_the_one_that_is_left_is_not_given_the_ids_of_the_other(
    is_restarted: bool, tmp_path: Path
) -> None:
    b = TestGateway("b", {})
    clone = clone_of(b)
    peers = {"b": b.url, "clone": clone.url}
    store = StateStore.open(tmp_path)
    async with running(clone):
        async with running(b):
            await b.serve_tree(tree_of(["nav"]))
            await clone.serve_tree(tree_of(["nav"]))
            peers = {"b": b.url, "clone": clone.url}
            a = TestGateway("a", peers, state=store)
            await a.start()
            await async_eventually(lambda: set(a.federation.tree.apps) == {"nav", "clone__nav"}, within=10)
        if is_restarted:
            await a.stop()
            a = TestGateway("a", peers, state=store)
            await a.start()
        try:
            await async_eventually(lambda: [one.status for one in a.federation.peers] == ["offline", "online"])
            # Merges that peers cause are gathered for a moment; after a restart the clone is looked at for a while.
            await async_eventually(lambda: set(a.federation.tree.apps) == {"clone__nav"}, within=35)
            assert a.federation.tree.resolve(Kind.APP, "nav") == Away("b")
        finally:
            await a.stop()


async def test_both_of_one_disk_image_are_shown_further_away_as_well_where_one_gateway_told_them_apart() -> None:
    b = TestGateway("b", {})
    clone = clone_of(b)
    async with running(b, clone):
        await b.serve_tree(tree_of(["nav"], function="all"))
        await clone.serve_tree(tree_of(["nav"], function="all"))
        mid = TestGateway("mid", {"b": b.url, "clone": clone.url})
        async with running(mid):
            head = TestGateway("head", {"mid": mid.url})
            async with running(head), httpx.AsyncClient() as client:
                await async_eventually(lambda: set(head.federation.tree.apps) == {"nav", "clone__nav"}, within=15)
                for app_id, name in (("nav", "b"), ("clone__nav", "clone")):
                    seen = (await client.get(f"{head.url}/api/v1/apps/{app_id}/x")).json()["data"]
                    assert seen["gateway"] == name
                gathered = (await client.get(f"{head.url}/api/v1/faults")).json()
                assert [item["fault_code"] for item in gathered["items"]] == [
                    "FAULT_OF_head",
                    "FAULT_OF_mid",
                    "FAULT_OF_b",
                    "FAULT_OF_clone",
                ]
                await clone.stop()
                await async_eventually(lambda: set(head.federation.tree.apps) == {"nav"}, within=10)
                assert head.federation.tree.missing_anything() == ("mid/clone",)
                assert isinstance(head.federation.tree.resolve(Kind.APP, "clone__nav"), Away)
                await clone.start(clone.port)


async def test_a_discovered_peer_that_says_it_is_a_configured_one_is_refused() -> None:
    b = TestGateway("b", {})
    rogue = clone_of(b)
    async with running(b, rogue):
        await b.serve_tree(tree_of(["nav"]))
        await rogue.serve_tree(tree_of(["nav", "trap"]))
        a = TestGateway("a", {"b": b.url, "rogue": rogue.url})
        async with running(a):
            peer = a.federation.peer("rogue")
            assert peer is not None
            peer.spec = replace(peer.spec, source="mdns")
            await async_eventually(
                lambda: "origin_conflict" in [one.code for one in a.federation.warnings()], within=10
            )
            assert set(a.federation.tree.apps) == {"nav"}
            await b.stop()
            await async_eventually(lambda: not a.federation.tree.apps, within=6)
            assert "origin_conflict" in [one.code for one in a.federation.warnings()]
            assert a.federation.tree.resolve(Kind.APP, "nav") == Away("b")
            await b.start(b.port)


async def test_a_gateway_passes_nothing_on_that_is_meant_for_another() -> None:
    """The address of one robot has gone to another, and nobody has noticed yet."""
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {"b": b.url})
        async with running(a):
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            async with httpx.AsyncClient() as client:
                url = f"{b.url}/api/v1/apps/nav/x"
                assert (await client.get(url, headers={"x-medkit-origins": b.identity.id})).status_code == 200
                answer = await client.get(url, headers={"x-medkit-origins": "another"})
                assert (answer.status_code, answer.json()["vendor_code"]) == (502, "x-medkit-peer-unavailable")
                # The id that the one before had given; here it was never one.
                url = f"{b.url}/api/v1/apps/c__nav/x"
                answer = await client.get(url, headers={"x-medkit-origins": b.identity.id})
                assert (answer.status_code, answer.json()["vendor_code"]) == (502, "x-medkit-peer-unavailable")
                seen = (await client.get(f"{a.url}/api/v1/apps/nav/x")).json()["data"]["headers"]
                assert seen["x-medkit-origins"] == b.identity.id


async def test_an_app_that_its_gateway_had_and_has_no_more_is_unknown_there() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["nav"]))
        b.federation.given.add([GivenId(b.identity.id, Kind.APP.value, "/nav", "nav")])
        await b.serve_tree(tree_of([]))
        async with httpx.AsyncClient() as client:
            url = f"{b.url}/api/v1/apps/nav"
            answer = await client.get(url, headers={"x-medkit-origins": b.identity.id})
            assert answer.status_code == 404
