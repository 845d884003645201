"""Following a peer's tree by its changes: what is applied, what is fetched again, and peers that stream nonsense."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.aggregation import tree_sync
from medkit_gateway_py.aggregation.section_reader import apply_delta, tree_from_wire
from medkit_gateway_py.aggregation.sections import (
    GatewayIdentity,
    OriginSection,
    TreeDocumentError,
    delta_to_wire,
    tree_to_wire,
)
from medkit_gateway_py.api.sse import HEADERS, frame
from support.fake_peer import TestGateway, answer, running, tree_of
from support.streams import StreamClient
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio

GATEWAY = GatewayIdentity("g", "boot", "g", "1.0.0")
STREAM = "/api/v1/x-medkit/tree/stream"
TREE = "/api/v1/x-medkit/tree"


def sections(contents: dict[str, list[str]]) -> list[OriginSection]:
    """A section for each origin, with these apps."""
    return [
        OriginSection(origin, origin, f"boot-{origin}", len(apps), ("g", origin), tree=tree_of(apps))
        for origin, apps in contents.items()
    ]


CONTENTS = st.dictionaries(
    st.sampled_from(["o1", "o2", "o3", "o4"]), st.lists(st.sampled_from("abcd"), unique=True, max_size=3)
)


@given(st.lists(CONTENTS, min_size=1, max_size=6))
def test_the_changes_in_order_make_the_same_tree_as_the_whole(states: list[dict[str, list[str]]]) -> None:
    document = tree_from_wire(tree_to_wire(GATEWAY, 0, sections(states[0])), 1000)
    for seq, (before, after) in enumerate(itertools.pairwise(states), 1):
        delta = orjson.loads(orjson.dumps(delta_to_wire(sections(before), sections(after), seq - 1, seq)))
        following = apply_delta(document, delta, 1000)
        assert following is not None
        document = following
        whole = tree_from_wire(tree_to_wire(GATEWAY, seq, sections(after)), 1000)
        assert document.seq == whole.seq
        assert {one.id: one for one in document.sections} == {one.id: one for one in whole.sections}


def test_a_change_names_only_what_changed() -> None:
    before, after = sections({"o1": ["a"], "o2": ["b"], "o3": []}), sections({"o1": ["a"], "o2": ["b", "c"]})
    delta = delta_to_wire(before, after, 4, 5)
    assert (delta["base"], delta["seq"], delta["gone"]) == (4, 5, ["o3"])
    assert [one["id"] for one in delta["set"]] == ["o2"]


@pytest.mark.parametrize(
    "delta",
    [
        {"base": 2, "seq": 3},
        {"base": 0, "seq": 1},
        {"base": 1, "seq": 0},
        {"base": 1, "seq": 2, "set": [{"id": "o1"}]},
        {"base": 1, "seq": 2, "set": [{"id": "x", "boot_id": "b", "seq": 1, "path": ["other", "x"]}]},
    ],
)
def test_a_change_that_does_not_follow_or_cannot_be_read_asks_for_the_whole(delta: dict[str, Any]) -> None:
    document = tree_from_wire(tree_to_wire(GATEWAY, 1, sections({"o1": ["a"]})), 1000)
    assert apply_delta(document, delta, 1000) is None


@pytest.mark.parametrize(
    "delta", [[], {"base": True, "seq": 2}, {"base": 1}, {"base": 1, "seq": 2, "set": {}}, 7, None]
)
def test_a_change_that_is_none_is_an_error(delta: Any) -> None:
    document = tree_from_wire(tree_to_wire(GATEWAY, 1, sections({"o1": ["a"]})), 1000)
    with pytest.raises(TreeDocumentError):
        apply_delta(document, delta, 1000)


def test_small_changes_cannot_grow_a_tree_beyond_the_bound_of_the_whole() -> None:
    document = tree_from_wire(tree_to_wire(GATEWAY, 1, sections({"o1": ["a", "b"]})), 3)
    (more,) = sections({"o2": ["c", "d"]})
    with pytest.raises(TreeDocumentError, match="more than 3 entities"):
        apply_delta(document, delta_to_wire([], [more], 1, 2), 3)


async def follows(a: TestGateway, b: TestGateway) -> None:
    """Wait until A has B's stream open."""
    await async_eventually(lambda: b.streams.counts["peer"] > 0)


async def test_changes_arrive_by_the_stream_and_nothing_is_asked_meanwhile() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"b": b.url})
        async with running(a):
            await follows(a, b)
            b.requests.clear()
            for number in range(5):
                await b.serve_tree(tree_of(["cam", f"new{number}"]))
                started = time.monotonic()
                await async_eventually(lambda number=number: f"new{number}" in a.federation.tree.apps, within=5)
                assert time.monotonic() - started < 1.0
            assert b.requests == []
            assert set(a.federation.tree.apps) == {"cam", "new4"}


async def test_a_change_comes_through_two_gateways_in_less_than_a_second() -> None:
    c = TestGateway("c", {})
    async with running(c):
        b = TestGateway("b", {"c": c.url})
        async with running(b):
            a = TestGateway("a", {"b": b.url})
            async with running(a):
                await c.serve_tree(tree_of(["far"]))
                await async_eventually(lambda: "far" in a.federation.tree.apps, within=10)
                await follows(a, b)
                await follows(b, c)
                started = time.monotonic()
                await c.serve_tree(tree_of(["far", "farther"]))
                await async_eventually(lambda: "farther" in a.federation.tree.apps)
                assert time.monotonic() - started < 1.0


async def test_a_follower_that_was_away_gets_what_it_missed_or_the_whole() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"b": b.url})
        async with running(a):
            for number in range(3):
                await follows(a, b)
                for stream in tuple(b.streams._open):
                    stream.break_off()
                await b.serve_tree(tree_of(["cam", f"missed{number}"]))
                await async_eventually(lambda number=number: f"missed{number}" in a.federation.tree.apps)
            assert a.federation.peers[0].status == "online"


@pytest.mark.parametrize("place", ["", "nonsense", "boot-3", "@boot-999999", "@boot--1", "@boot-", "@boot-" + "9" * 40])
async def test_a_follower_that_is_nowhere_is_told_where_the_tree_is(place: str) -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        headers = {"Last-Event-ID": place.replace("@boot", b.identity.boot_id), "X-Medkit-Via": "a"}
        async with StreamClient(b.port, STREAM, headers) as client:
            client.read_on()
            await async_eventually(lambda: client.events)
            version = b.federation.tree.version
            assert client.data() == [{"base": version, "seq": version, "set": [], "gone": []}]
            await b.serve_tree(tree_of(["cam", "new"]))
            await async_eventually(lambda: len(client.events) == 2)
            assert (client.data()[1]["base"], client.events[1].id) == (version, f"{b.identity.boot_id}-{version + 1}")


async def test_a_peer_whose_places_are_taken_is_polled() -> None:
    b = TestGateway("b", {})
    b.streams = type(b.streams)(100, 0)
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"b": b.url})
        async with running(a):
            await async_eventually(lambda: any(path == STREAM for _, path, _ in b.requests))
            await b.serve_tree(tree_of(["cam", "new"]))
            await async_eventually(lambda: "new" in a.federation.tree.apps)
            assert sum(path == STREAM for _, path, _ in b.requests) == 1


Send = Callable[[Any], Awaitable[None]]
Talk = Callable[[Send], Awaitable[None]]


def streaming(talk: Talk, boot_id: str = "") -> Any:
    """A route that begins a stream and then does what `talk` does; `@boot` in it is the boot id of the gateway."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})

        async def say(body: bytes) -> None:
            await send(
                {"type": "http.response.body", "body": body.replace(b"@boot", boot_id.encode()), "more_body": True}
            )

        await talk(say)

    return app


async def nothing(say: Any) -> None:
    await asyncio.sleep(30)


async def garbage(say: Any) -> None:
    for _ in range(100):
        await say(b"event: delta\nid: @boot-1\ndata: {nonsense\n\n\x00\xff\xfe")
        await asyncio.sleep(0.01)


async def wrong_json(say: Any) -> None:
    await say(frame(b'{"base": "one", "set": 5}', event="delta", number="@boot-1"))
    await asyncio.sleep(30)


async def endless_line(say: Any) -> None:
    for _ in range(500):
        await say(b"data: " + b"x" * 65536)
        await asyncio.sleep(0.001)


async def ends_at_once(say: Any) -> None:
    await say(b":\n\n")


@pytest.mark.parametrize(
    ("talk", "most"),
    [
        (nothing, 1),
        (garbage, 1),
        (wrong_json, 1),
        (endless_line, 1),
        (ends_at_once, tree_sync.SHORT_STREAMS_TO_POLL),
    ],
)
async def test_a_peer_with_a_useless_stream_stays_online_and_its_changes_are_polled(
    talk: Talk, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medkit_gateway_py.aggregation.tree_sync.MAX_TREE", 300_000)
    b, good = TestGateway("b", {}), TestGateway("good", {})
    b.routes[STREAM] = streaming(talk, b.identity.boot_id)
    async with running(b, good):
        await b.serve_tree(tree_of(["cam"]))
        await good.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {"b": b.url, "good": good.url})
        async with running(a):
            await async_eventually(lambda: {"cam", "nav"} <= set(a.federation.tree.apps))
            await async_eventually(lambda: any(path == STREAM for _, path, _ in b.requests))
            await b.serve_tree(tree_of(["cam", "new"]))
            await good.serve_tree(tree_of(["nav", "fresh"]))
            await async_eventually(lambda: "fresh" in a.federation.tree.apps, within=2)
            await async_eventually(lambda: "new" in a.federation.tree.apps, within=10)
            assert a.federation.peers[0].status == "online"
            # It is not asked for a stream over and over.
            b_polls = sum(path == TREE for _, path, _ in b.requests)
            await async_eventually(lambda: sum(path == TREE for _, path, _ in b.requests) > b_polls + 1, within=10)
            assert sum(path == STREAM for _, path, _ in b.requests) <= most


async def test_a_peer_that_falls_silent_is_offline_after_three_seconds() -> None:
    b = TestGateway("b", {})
    silent = asyncio.Event()

    async def fall_silent(say: Any) -> None:
        for _ in range(5):
            await say(b":\n\n")
            await asyncio.sleep(0.02)
        silent.set()
        await asyncio.sleep(30)

    async def frozen(scope: Any, receive: Any, send: Any) -> None:
        if silent.is_set():
            await asyncio.sleep(30)
        etag, body = b.federation.tree_document()
        await answer(send, orjson.loads(body), 200, [(b"etag", etag.encode())])

    b.routes[STREAM], b.routes[TREE] = streaming(fall_silent), frozen
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"b": b.url})
        async with running(a):
            await asyncio.wait_for(silent.wait(), 10)
            started = time.monotonic()
            await async_eventually(lambda: a.federation.peers[0].status == "offline", within=6)
            assert 2.5 < time.monotonic() - started < 4.5
            # Merges that peers cause are gathered for a moment.
            await async_eventually(lambda: "cam" not in a.federation.tree.apps, within=2)


async def test_a_peer_of_which_nothing_may_be_asked_is_followed_all_the_same(tmp_path: Path) -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        file = tmp_path / "peers.yaml"
        file.write_text(f"peers:\n  - name: b\n    url: {b.url}\n    allow:\n      collections: [logs]\n")
        a = TestGateway("a", {}, peers_file=str(file))
        async with running(a):
            await async_eventually(lambda: "cam" in a.federation.tree.apps)
            await follows(a, b)
            async with StreamClient(a.port, "/api/v1/faults/stream") as client:
                client.read_on()
                await async_eventually(lambda: client.names() == ["peer_down"])
                assert "may not be asked" in client.data()[0]["reason"]
