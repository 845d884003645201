"""The faults of several gateways as one stream: over real sockets, in chains and rings, with peers that come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest

from medkit_gateway_py.aggregation import fault_streams
from medkit_gateway_py.aggregation.peer_discovery import ADDED, REMOVED, PeerEvent, PeerSpec
from medkit_gateway_py.api.gateway_events import GatewayEvents
from medkit_gateway_py.api.sse import HEADERS, EventStream, frame
from support.compatible import CompatibleGateway, app
from support.fake_peer import TestGateway, running, tree_of
from support.streams import StreamClient
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio
STREAM = "/api/v1/faults/stream"


@asynccontextmanager
async def listening(gateway: TestGateway, **headers: str) -> AsyncIterator[StreamClient]:
    """A client of a gateway's fault stream."""
    async with StreamClient(gateway.port, STREAM, {k.replace("_", "-"): v for k, v in headers.items()}) as client:
        client.read_on()
        await async_eventually(lambda: client.raw)
        yield client


def codes(client: StreamClient) -> list[str]:
    """The codes of all faults that came, in order."""
    return [one["fault"]["fault_code"] for one in client.data() if "fault" in one]


async def heard(client: StreamClient, *wanted: str, within: float = 10.0) -> None:
    """Wait until these codes came."""
    await async_eventually(lambda: set(wanted) <= set(codes(client)), within, lambda: client.raw.decode())


async def followed(*gateways: TestGateway, by: int = 1) -> None:
    """Wait until peers have this many fault streams open at each gateway."""
    for one in gateways:
        await async_eventually(lambda one=one: one.fault_stream._log.followers >= by, within=10)


@asynccontextmanager
async def chain() -> AsyncIterator[tuple[TestGateway, TestGateway, TestGateway]]:
    """A aggregates B, which aggregates C; each has the app `cam`."""
    c = TestGateway("c", {})
    async with running(c):
        b = TestGateway("b", {"c": c.url})
        async with running(b):
            a = TestGateway("a", {"b": b.url})
            async with running(a):
                for one in (c, b, a):
                    await one.serve_tree(tree_of(["cam"]))
                await async_eventually(lambda: len(a.federation.tree.apps) == 3, within=10)
                yield a, b, c


async def test_events_of_all_gateways_come_with_peer_and_our_ids() -> None:
    async with chain() as (a, b, c), listening(a) as client:
        await followed(b, c)
        for one in (a, b, c):
            one.fault(f"F_{one.identity.name}", "/cam")
        await heard(client, "F_a", "F_b", "F_c")
        medkit = {one["fault"]["fault_code"]: one["x-medkit"] for one in client.data()}
        assert medkit["F_a"] == {"entity_type": "apps", "entity_id": "cam"}
        assert (medkit["F_b"]["peer"], medkit["F_b"]["entity_id"]) == ("b", "b__cam")
        assert medkit["F_c"]["peer"] == "b/c"
        assert medkit["F_c"]["entity_id"] in a.federation.tree.apps
        assert a.federation.tree.apps[medkit["F_c"]["entity_id"]].fqn == "/cam"
        assert [int(event.id) for event in client.events] == [1, 2, 3]
        assert {event.event for event in client.events} == {"fault_confirmed"}


async def test_a_local_event_has_exactly_the_members_of_the_contract() -> None:
    a = TestGateway("a", {})
    async with running(a), listening(a) as client:
        await a.serve_tree(tree_of(["cam"]))
        a.fault("X", "/cam")
        await heard(client, "X")
        assert client.raw == (
            b":keepalive\n\nid: 1\nevent: fault_confirmed\ndata: "
            b'{"event_type":"fault_confirmed","fault":{"fault_code":"X","severity":2,"severity_label":"ERROR",'
            b'"description":"x","first_occurred":1.0,"last_occurred":2.0,"occurrence_count":1,"status":"CONFIRMED",'
            b'"reporting_sources":["/cam"]},"timestamp":3.0,"x-medkit":{"entity_type":"apps","entity_id":"cam"}}\n\n'
        )
        a.fault("Y", "/nobody")
        await heard(client, "Y")
        assert "x-medkit" not in client.data()[-1]


async def test_there_is_one_stream_to_a_peer_however_many_clients_and_it_ends_after_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fault_streams, "LINGER_S", 0.2)
    async with chain() as (a, b, c):
        assert sum(path == STREAM for _, path, _ in b.requests) == 0
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(listening(a)) for _ in range(10)]
            await followed(b, c)
            c.fault("X")
            for client in clients:
                await heard(client, "X")
            assert sum(path == STREAM for _, path, _ in b.requests) == 1
            assert b.streams.counts == {"client": 0, "peer": 2}
        await async_eventually(lambda: b.streams.counts["peer"] == 1 and c.streams.counts["peer"] == 1, within=10)


async def test_what_happened_before_is_replayed_and_a_client_resumes_where_it_was() -> None:
    async with chain() as (a, b, c):
        b.fault("EARLY")
        async with listening(a) as client:
            await heard(client, "EARLY")
            await followed(c)
            c.fault("SECOND")
            await heard(client, "SECOND")
            last = client.events[-1].id
        a.fault("THIRD")
        async with listening(a, Last_Event_ID=last) as client:
            await heard(client, "THIRD")
            assert codes(client) == ["THIRD"]
        async with listening(a) as client:
            await heard(client, "EARLY", "SECOND", "THIRD")
        for wrong in ("nonsense", "-4", "9" * 30):
            async with listening(a, Last_Event_ID=wrong) as client:
                await heard(client, "EARLY", "SECOND", "THIRD")
        async with listening(a, Last_Event_ID="77777") as client:
            a.fault("FOURTH")
            await heard(client, "FOURTH")
            assert codes(client) == ["FOURTH"]
            # That id is of another run: none of what happened in this one has been seen.
            (gap,) = client.data("gap")
            assert (gap["first_id"], gap["last_id"], gap["lost"]) == (1, 3, 3)
            # From there it goes on, when it comes back once more.
            assert [one.id for one in client.events] == ["3", "4"]


async def test_who_was_told_of_a_restart_misses_nothing_of_the_new_run() -> None:
    a = TestGateway("a", {})
    async with running(a):
        async with listening(a, Last_Event_ID="7") as client:
            await async_eventually(lambda: client.names() == ["gap"])
            last = client.events[-1].id
        for number in range(1, 9):
            a.fault(f"F{number}")
        async with listening(a, Last_Event_ID=last) as client:
            await heard(client, "F8")
            assert codes(client) == [f"F{number}" for number in range(1, 9)]


async def test_only_the_last_hundred_are_replayed_and_who_comes_back_is_told_of_the_others() -> None:
    a = TestGateway("a", {})
    async with running(a):
        for number in range(1, 251):
            a.fault(f"F{number}")
        async with listening(a) as client:
            await heard(client, "F250")
            assert [int(event.id) for event in client.events] == list(range(151, 251))
        async with listening(a, Last_Event_ID="50") as client:
            await heard(client, "F250")
            (gap,) = client.data("gap")
            assert (gap["first_id"], gap["last_id"], gap["lost"]) == (51, 150, 100)


async def test_whoever_wants_no_fan_out_hears_of_this_gateway_only() -> None:
    async with chain() as (a, b, c), listening(a, X_Medkit_No_Fan_Out="1") as client, listening(a) as other:
        await followed(b, c)
        c.fault("X")
        await heard(other, "X")
        a.fault("Y")
        await heard(client, "Y")
        assert codes(client) == ["Y"]


@pytest.mark.parametrize("shape", ["ring", "mesh"])
async def test_in_a_ring_and_in_a_mesh_every_event_comes_once(shape: str) -> None:
    first = [TestGateway(name, {}) for name in "abcd"]
    async with running(*first):
        urls = [one.url for one in first]
    links = {"ring": lambda i, j: j == (i + 1) % 4, "mesh": lambda i, j: i != j}[shape]
    gateways = [
        TestGateway(name, {"abcd"[j]: urls[j] for j in range(4) if links(i, j)}) for i, name in enumerate("abcd")
    ]
    try:
        for one, old in zip(gateways, first, strict=True):
            await one.start(old.port)
            await one.serve_tree(tree_of([f"app_{one.identity.name}"]))
        for one in gateways:
            await async_eventually(lambda one=one: len(one.federation.tree.apps) == 4, within=15)
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(listening(one)) for one in gateways]
            await followed(*gateways, by=2)
            for round_ in range(3):
                names = [f"F_{one.identity.name}_{round_}" for one in gateways]
                for one, name in zip(gateways, names, strict=True):
                    one.fault(name)
                for client in clients:
                    await heard(client, *names, within=15)
            for client in clients:
                assert len(codes(client)) == 12
                assert client.data("gap") == []
    finally:
        for one in gateways:
            await one.stop()


async def test_that_a_peer_is_away_is_said_once_to_each_also_in_a_ring() -> None:
    # The ring a, b, c, and d behind a alone.
    d = TestGateway("d", {})
    first = [TestGateway(name, {}) for name in "abc"]
    async with running(d), running(*first):
        urls = {one.identity.name: one.url for one in (d, *first)}
    d, ring = TestGateway("d", {}), {"a": "bd", "b": "c", "c": "a"}
    gateways = [TestGateway(name, {peer: urls[peer] for peer in peers}) for name, peers in ring.items()]
    try:
        for one, url in zip((d, *gateways), urls.values(), strict=True):
            await one.start(int(url.rpartition(":")[2]))
            await one.serve_tree(tree_of([f"app_{one.identity.name}"]))
        for one in gateways:
            await async_eventually(lambda one=one: len(one.federation.tree.apps) == 4, within=15)
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(listening(one)) for one in gateways]
            await followed(*gateways, by=2)
            await d.stop()
            for client in clients:
                await async_eventually(lambda client=client: "peer_down" in client.names(), within=15)
            # Twice round the ring: what would go on for ever has come by again.
            for code in ("FIRST", "SECOND"):
                for one in gateways:
                    one.fault(f"{code}_{one.identity.name}")
                for client in clients:
                    await heard(client, *(f"{code}_{one.identity.name}" for one in gateways), within=15)
            told = [[one["peer"] for one in client.data("peer_down")] for client in clients]
            assert told == [["d"], ["c/a/d"], ["a/d"]]
    finally:
        for one in gateways:
            await one.stop()


async def test_a_peer_that_goes_and_returns_is_said_and_its_events_go_on() -> None:
    b = TestGateway("b", {})
    await b.start()
    await b.serve_tree(tree_of(["cam"]))
    a = TestGateway("a", {"b": b.url})
    async with running(a):
        await async_eventually(lambda: "cam" in a.federation.tree.apps)
        async with listening(a) as client:
            await followed(b)
            b.fault("BEFORE")
            await heard(client, "BEFORE")
            await b.stop()
            await async_eventually(lambda: "peer_down" in client.names(), within=10)
            assert client.data("peer_down")[0]["peer"] == "b"
            again = TestGateway("b", {}, state=b.state)
            await again.start(b.port)
            try:
                await again.serve_tree(tree_of(["cam"]))
                again.fault("AFTER")
                await heard(client, "AFTER", within=20)
                names = client.names()
                assert names.index("peer_down") < names.index("peer_up") < len(names) - 1
                # It was another process: what the first one said last may never have come.
                assert client.data("gap")[0]["peer"] == "b"
                assert codes(client) == ["BEFORE", "AFTER"]
            finally:
                await again.stop()


async def test_a_stream_that_broke_is_resumed_without_loss_or_repetition() -> None:
    async with chain() as (a, b, c), listening(a) as client:
        await followed(b, c)
        for number in range(5):
            for gateway in (b, c):
                for stream in tuple(gateway.streams._open):
                    stream.break_off()
            c.fault(f"C{number}")
            b.fault(f"B{number}")
            await heard(client, f"C{number}", f"B{number}", within=20)
        assert len(codes(client)) == 10
        assert client.data("gap") == []


async def test_a_client_hears_at_once_who_is_silent() -> None:
    dead = TestGateway("dead", {})
    async with running(dead):
        url = dead.url
    a = TestGateway("a", {"dead": url})
    async with running(a), listening(a) as client:
        await async_eventually(lambda: client.names() == ["peer_down"])
        assert client.data()[0]["peer"] == "dead"


async def test_who_is_no_peer_any_more_is_said_once_and_not_missed() -> None:
    b, c = TestGateway("b", {}), TestGateway("c", {})
    async with running(b, c):
        await b.serve_tree(tree_of(["cam"]))
        await c.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {"b": b.url, "c": c.url})
        async with running(a):
            await async_eventually(lambda: len(a.federation.tree.apps) == 2)
            async with listening(a) as client:
                await followed(b, c)
                c.fault("HEARD")
                await heard(client, "HEARD")
                gone = a.federation.peer("c")
                assert gone is not None
                a.federation.change(PeerEvent(REMOVED, gone.spec))
                await async_eventually(lambda: "peer_down" in client.names(), within=10)
                assert client.data("peer_down")[0]["reason"] == "it is no peer any more"
                streams = a.fault_stream.peers
                assert streams is not None
                await async_eventually(lambda: streams.place("c") == ("", 0))
                b.fault("STILL")
                await heard(client, "STILL")
                async with listening(a) as late:
                    await heard(late, "HEARD", "STILL")
                    assert late.names().count("peer_down") == 1, "the one that is replayed, and none in the greeting"


async def test_what_is_lost_behind_a_peer_is_said_with_its_way() -> None:
    async with chain() as (a, b, c), listening(a) as client:
        await followed(b, c)
        await c.stop()
        await async_eventually(lambda: any(one["peer"] == "b/c" for one in client.data("peer_down")), within=15)


async def test_what_is_not_heard_behind_a_peer_is_up_when_it_is_heard_another_way() -> None:
    async with chain() as (a, b, c), listening(a) as client:
        await followed(b, c)
        streams = b.fault_stream.peers
        assert streams is not None
        streams.down("c", "its stream broke")
        await async_eventually(lambda: "peer_down" in client.names(), within=10)
        assert client.data("peer_down")[0]["peer"] == "b/c"
        async with listening(a) as late:
            assert [one["peer"] for one in late.data("peer_down")][:1] == ["b/c"]
        a.federation.change(PeerEvent(ADDED, PeerSpec("c", c.url)))
        await async_eventually(lambda: {"b/c", "c"} <= {one["peer"] for one in client.data("peer_up")}, within=10)
        # That b cannot hear it is nothing to those who can.
        streams.up("c")
        streams.down("c", "its stream broke")
        b.fault("AFTER")
        await heard(client, "AFTER")
        assert [one["peer"] for one in client.data("peer_down")].count("b/c") == 1


async def test_an_event_that_comes_again_by_another_way_or_after_a_resumption_is_known() -> None:
    event = {"event_type": "fault_confirmed", "fault": {"fault_code": "ONCE"}, "timestamp": 1.0}

    async def repeats(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
        origin = b.identity.id
        for number, key in ((1, "x-1"), (2, "x-1"), (3, "x-2"), (4, "x-1")):
            data = {**event, "x-medkit": {"origin": origin, "event_id": key, "peer": "far"}}
            body = frame(orjson.dumps(data), event="fault_confirmed", number=str(number))
            await send({"type": "http.response.body", "body": body, "more_body": True})
        end = frame(orjson.dumps({**event, "fault": {"fault_code": "END"}}), event="fault_confirmed", number="5")
        await send({"type": "http.response.body", "body": end, "more_body": True})
        await asyncio.sleep(30)

    b = TestGateway("b", {})
    b.routes[STREAM] = repeats
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"b": b.url})
        async with running(a):
            await async_eventually(lambda: "cam" in a.federation.tree.apps)
            async with listening(a) as client:
                await heard(client, "END")
                assert codes(client) == ["ONCE", "ONCE", "END"]
                assert [one["x-medkit"]["event_id"] for one in client.data()][:2] == ["x-1", "x-2"]


async def test_a_hostile_peer_changes_nothing_for_the_others() -> None:
    other = {"event_type": "fault_confirmed", "fault": {"fault_code": "FORGED"}, "timestamp": 1.0}

    async def hostile(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": list(HEADERS)})
        forged = {**other, "x-medkit": {"origin": good.identity.id, "event_id": "x-1"}}
        for body in (
            b"event: fault_confirmed\nid: 1\ndata: {nonsense\n\n",
            frame(b"[1]", event="fault_confirmed", number="2"),
            frame(b'{"fault": 7}', event="fault_confirmed", number="x"),
            frame(orjson.dumps(forged), event="fault_confirmed", number="3"),
            frame(b'{"a": 1}', event="evil", number="4"),
            frame(orjson.dumps({"peer": 5, "reason": "r" * 10_000}), event="gap"),
            b"data: " + b"x" * 400_000,
        ):
            await send({"type": "http.response.body", "body": body, "more_body": True})
        await asyncio.sleep(30)

    bad, good = TestGateway("bad", {}), TestGateway("good", {})
    bad.routes[STREAM] = hostile
    async with running(bad, good):
        await bad.serve_tree(tree_of(["evil"]))
        await good.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"bad": bad.url, "good": good.url})
        async with running(a):
            await async_eventually(lambda: len(a.federation.tree.apps) == 2)
            async with listening(a) as client:
                await followed(good)
                await async_eventually(lambda: "peer_down" in client.names(), within=10)
                good.fault("REAL", "/cam")
                await heard(client, "REAL")
                assert codes(client) == ["REAL"]
                assert all(len(one.get("reason", "")) <= 500 for one in client.data("gap"))


async def test_the_stream_of_everything_tells_of_peers_and_of_their_faults() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"b": b.url})
        events = GatewayEvents(a.federation, a.fault_stream)

        async def serve(scope: Any, receive: Any, send: Any) -> None:
            await EventStream(a.streams, events.cursor(""))(scope, receive, send)

        a.routes["/api/v1/x-medkit/events"] = serve
        async with running(a), StreamClient(a.port, "/api/v1/x-medkit/events") as client:
            client.read_on()
            await async_eventually(lambda: _last(client, "peer").get("status") == "online")
            await async_eventually(lambda: client.data("tree")[-1].get("changes", {}).get("apps") == {"added": ["cam"]})
            await followed(b)
            b.fault("X", "/cam")
            await heard(client, "X")
            await b.stop()
            await async_eventually(lambda: _last(client, "peer") and _last(client, "peer")["status"] == "offline", 10)
            await async_eventually(lambda: client.data("tree")[-1]["changes"]["apps"] == {"removed": ["cam"]})
        greeting = events.cursor("9000").greeting()
        assert greeting.index(b"event: gap") < greeting.index(b"event: tree"), "an id of another run"
        assert b"gap" not in events.cursor("1").greeting()


def _last(client: StreamClient, event: str) -> dict[str, Any]:
    found = client.data(event)
    return dict(found[-1]) if found else {}


class StreamingCompatible(CompatibleGateway):
    """A gateway of the other kind that streams faults; a connection ends when it is told `None`."""

    def __init__(self, **entities: list[Any]) -> None:
        super().__init__(**entities)
        self.said: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.stream_heads: list[bytes] = []
        self._others = self._handler
        self._handler = self._serve

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"GET /api/v1/faults/stream "):
            again = asyncio.StreamReader()
            again.feed_data(head)
            await self._others(again, writer)
            return
        self.stream_heads.append(head.lower())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n:keepalive\n\n")
        while (said := await self.said.get()) is not None:
            writer.write(said)
            await writer.drain()

    def fault(self, number: int, code: str) -> None:
        """Tell of a fault of its app `cam`."""
        data = {
            "event_type": "fault_confirmed",
            "fault": {"fault_code": code, "status": "CONFIRMED"},
            "timestamp": 1.0,
            "x-medkit": {"entity_type": "apps", "entity_id": "cam", "origin": "forged", "event_id": "forged"},
        }
        self.said.put_nowait(f"id: {number}\nevent: fault_confirmed\ndata: ".encode() + orjson.dumps(data) + b"\n\n")


async def test_a_gateway_without_a_tree_is_heard_too_and_its_restart_is_a_gap() -> None:
    async with StreamingCompatible(apps=[app("cam")]) as cpp:
        a = TestGateway("a", {"cpp": cpp.url})
        async with running(a):
            await a.serve_tree(tree_of(["cam"]))
            await async_eventually(lambda: "cpp__cam" in a.federation.tree.apps, within=10)
            async with listening(a) as client:
                await async_eventually(lambda: cpp.stream_heads)
                assert b"x-medkit-no-fan-out: 1\r\n" in cpp.stream_heads[0]
                assert b"last-event-id" not in cpp.stream_heads[0]
                cpp.fault(41, "ONE")
                await heard(client, "ONE")
                medkit = client.data()[0]["x-medkit"]
                assert (medkit["peer"], medkit["entity_id"]) == ("cpp", "cpp__cam")
                cpp.said.put_nowait(None)
                await async_eventually(lambda: len(cpp.stream_heads) == 2, within=10)
                assert b"last-event-id: 41\r\n" in cpp.stream_heads[1]
                # Ids begin anew only in another process, and what the first one said last may be lost.
                cpp.fault(1, "TWO")
                await heard(client, "TWO")
                assert client.names() == ["fault_confirmed", "peer_down", "peer_up", "gap", "fault_confirmed"]
