"""What an answer with a gap says of those who are missing, also behind another gateway (AGGREGATION.md §8)."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from medkit_gateway_py.aggregation.fan_out import FanOut, _passed_on, gather_everyone
from medkit_gateway_py.aggregation.request import RequestInfo
from support.fake_peer import TestGateway, answer, running, tree_of
from support.waiting import async_eventually

from .test_fan_out import sleepy

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def chain() -> AsyncIterator[tuple[TestGateway, TestGateway, TestGateway]]:
    """A gateway, its peer `mid`, and that one's peer `leaf`."""
    leaf = TestGateway("leaf", {})
    async with running(leaf):
        await leaf.serve_tree(tree_of(["lidar"]))
        mid = TestGateway("mid", {"leaf": leaf.url}, timeout_ms=500)
        async with running(mid):
            await mid.serve_tree(tree_of(["cam"]))
            head = TestGateway("head", {"mid": mid.url})
            async with running(head):
                await async_eventually(lambda: len(head.federation.tree.apps) == 2)
                yield head, mid, leaf


async def faults(gateway: TestGateway) -> FanOut:
    return await gather_everyone(gateway.federation, RequestInfo(), "/faults")


async def test_of_one_that_fails_behind_a_gateway_it_is_said_what_that_gateway_says() -> None:
    async with chain() as (head, _, leaf):
        leaf.routes["/api/v1/faults"] = sleepy
        found = await faults(head)
        assert found.failed == ["mid/leaf"]
        assert found.peers["mid"]["status"] == "partial"
        report = found.peers["mid/leaf"]
        assert report["status"] == "failed"
        assert "did not answer" in report["error"]
        assert 0 <= report["age_ms"] < 5000
        assert 400 < report["latency_ms"] < 1000


async def test_of_those_behind_one_that_fails_it_is_said_how_old_its_last_word_is() -> None:
    async with chain() as (head, mid, _):
        mid.routes["/api/v1/faults"] = sleepy
        found = await faults(head)
        assert found.failed == ["mid", "mid/leaf"]
        report = found.peers["mid/leaf"]
        assert (report["status"], report["error"]) == ("failed", "was to be asked through 'mid', which failed")
        # Its stream says something each second, and a busy machine says it late.
        assert 0 <= report["age_ms"] < 5000


async def test_of_one_that_is_known_to_be_away_it_is_said_since_when() -> None:
    async with chain() as (head, mid, leaf):
        before = time.monotonic()
        await leaf.stop()
        await async_eventually(lambda: head.federation.tree.missing_anything() == ("mid/leaf",), within=10)
        first = (await faults(head)).peers["mid/leaf"]["age_ms"]
        assert 0 <= first <= (time.monotonic() - before) * 1000
        seen = time.monotonic()
        await mid.stop()
        await async_eventually(lambda: head.federation.tree.missing_anything() == ("mid", "mid/leaf"), within=10)
        found = await faults(head)
        since = (time.monotonic() - seen) * 1000
        # It is away for as long as before and since; the other one only since.
        assert found.peers["mid/leaf"]["age_ms"] >= first + since - 50
        assert found.peers["mid"]["age_ms"] <= found.peers["mid/leaf"]["age_ms"]
        await mid.start(mid.port)
        await leaf.start(leaf.port)


async def test_what_was_before_our_start_has_no_age() -> None:
    async with chain() as (head, mid, _):
        await head.federation.stop()
        again = TestGateway("head", {"mid": mid.url}, state=head.state)
        await mid.stop()
        async with running(again):
            assert again.federation.tree.missing_anything() == ("mid", "mid/leaf")
            found = await faults(again)
            assert found.failed == ["mid", "mid/leaf"]
            assert all("age_ms" not in report for report in found.peers.values())
        await mid.start(mid.port)


async def test_rubbish_about_those_behind_a_gateway_hurts_nothing() -> None:
    async with chain() as (head, mid, _):

        async def rubbish(scope: Any, receive: Any, send: Any) -> None:
            reports: Any = {"leaf": {"status": [], "error": 3, "age_ms": "old", "latency_ms": True}, "x": 1}
            said = {"partial": True, "failed_peers": ["leaf", "x", "y"], "peers": reports}
            await answer(send, {"items": [], "x-medkit": said})

        mid.routes["/api/v1/faults"] = rubbish
        found = await faults(head)
        assert found.failed == ["mid/leaf", "mid/x", "mid/y"]
        plain = {"status": "failed", "error": "not reachable"}
        assert [found.peers[label] for label in found.failed] == [plain] * 3


@pytest.mark.parametrize("value", [-1, 1e300, float("nan"), float("inf"), True, None, "3", [3]])
def test_a_number_that_is_none_is_not_passed_on(value: Any) -> None:
    assert _passed_on({"status": "partial", "age_ms": value, "latency_ms": 2.5}) == {
        "status": "partial",
        "error": "not reachable",
        "latency_ms": 2.5,
    }
