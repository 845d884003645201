"""Forwarding: bodies streamed both ways, streams passed at once, failures told apart, nothing held up or sent twice."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import anyio
import httpx
import pytest

from medkit_gateway_py.aggregation.forward import Target, target_of
from medkit_gateway_py.entities.model import Kind
from support.fake_peer import FaultyServer, TestGateway, answer, head_of, http, running, tree_of
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio
MIB = 1024 * 1024


@asynccontextmanager
async def pair(**aggregation: Any) -> AsyncIterator[tuple[TestGateway, TestGateway, httpx.AsyncClient]]:
    """A aggregates B; B's `nav` has its own id here, its `cam` is `b__cam`."""
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam", "nav"], "arm"))
        a = TestGateway("a", {"b": b.url}, **aggregation)
        async with running(a), httpx.AsyncClient(timeout=20) as client:
            await a.serve_tree(tree_of(["cam"], "base"))
            await async_eventually(lambda: "nav" in a.federation.tree.apps)
            yield a, b, client


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/api/v1/apps/cam", Target(Kind.APP, "cam", "")),
        ("/api/v1/apps/cam/", Target(Kind.APP, "cam", "/")),
        ("/api/v1/apps/cam/data/%2Fa%2fb", Target(Kind.APP, "cam", "/data/%2Fa%2fb")),
        ("/api%2Fv1%2fapps/c%61m%2Fdata", Target(Kind.APP, "cam", "%2Fdata")),
        ("/api/v1/components/x/data", Target(Kind.COMPONENT, "x", "/data")),
        ("/api/v1/apps", None),
        ("/api/v1/apps/", None),
        ("/api/v1/faults/x", None),
        ("/api/v1//cam", None),
        ("/api/v2/apps/cam", None),
        ("api/v1/apps/cam", None),
        ("/", None),
    ],
)
def test_the_entity_of_a_path(path: str, found: Target | None) -> None:
    assert target_of({"raw_path": path.encode(), "path": path}) == found


class Memory:
    """How much more memory this process (client and both gateways) has while a body goes through."""

    def __init__(self) -> None:
        self._before = self._now()
        self.growth_mib = 0.0

    def look(self) -> None:
        """Measure once."""
        self.growth_mib = max(self.growth_mib, self._now() - self._before)

    def _now(self) -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / MIB


@pytest.mark.parametrize("announced", [True, False])
async def test_an_upload_of_256_mib_goes_through_with_flat_memory(announced: bool) -> None:
    piece = bytes(64 * 1024)
    count = 256 * MIB // len(piece)

    async def body() -> AsyncIterator[bytes]:
        for number in range(count):
            if number % 64 == 0:
                memory.look()
            yield piece

    async with pair() as (a, _, client):
        headers = {"content-length": str(256 * MIB)} if announced else {}
        await client.post(f"{a.url}/api/v1/apps/nav/bulk-data/x", content=b"warm")
        memory = Memory()
        answer_ = await client.post(f"{a.url}/api/v1/apps/nav/bulk-data/x", content=body(), headers=headers)
        seen = answer_.json()["data"]
        assert seen["size"] == 256 * MIB
        assert ("transfer-encoding" in seen["headers"]) != announced
        assert memory.growth_mib < 24


async def test_a_download_of_256_mib_goes_through_with_flat_memory_and_its_headers() -> None:
    piece = hashlib.sha256(b"x").digest() * 2048

    async def download(scope: Any, receive: Any, send: Any) -> None:
        headers = [
            (b"content-type", b"application/x-mcap"),
            (b"content-disposition", b'attachment; filename="a.mcap"'),
            (b"etag", b'"1"'),
            (b"accept-ranges", b"bytes"),
            (b"content-encoding", b"gzip"),
            (b"connection", b"x-private"),
            (b"x-private", b"1"),
            (b"set-cookie", b"a=b"),
            (b"access-control-allow-origin", b"http://elsewhere"),
            (b"content-length", str(256 * MIB).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(256 * MIB // len(piece)):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with pair() as (a, b, client):
        b.routes["/api/v1/apps/cam/bulk-data/rosbags/1"] = download
        memory, size, count = Memory(), 0, 0
        async with client.stream("GET", f"{a.url}/api/v1/apps/b__cam/bulk-data/rosbags/1") as found:
            async for chunk in found.aiter_raw():
                size, count = size + len(chunk), count + 1
                if count % 64 == 0:
                    memory.look()
        assert size == 256 * MIB
        assert memory.growth_mib < 24
        assert found.headers["content-disposition"] == 'attachment; filename="a.mcap"'
        # Not JSON, so nothing was rewritten: the file's own ETag, still compressed.
        assert (found.headers["etag"], found.headers["content-encoding"]) == ('"1"', "gzip")
        assert not {"x-private", "set-cookie", "access-control-allow-origin"} & set(found.headers)
        assert len(found.headers.get_list("date")) == 1


async def test_a_range_and_conditions_are_passed_on() -> None:
    async def ranged(scope: Any, receive: Any, send: Any) -> None:
        asked = {name.decode(): value.decode() for name, value in scope["headers"]}
        assert asked["range"] == "bytes=2-3"
        headers = [(b"content-range", b"bytes 2-3/10"), (b"content-type", b"application/json"), (b"retry-after", b"3")]
        await send({"type": "http.response.start", "status": 206, "headers": headers})
        await send({"type": "http.response.body", "body": b"23"})

    async with pair() as (a, b, client):
        b.routes["/api/v1/apps/cam/bulk-data/x/1"] = ranged
        found = await client.get(f"{a.url}/api/v1/apps/b__cam/bulk-data/x/1", headers={"range": "bytes=2-3"})
        assert (found.status_code, found.content, found.headers["retry-after"]) == (206, b"23", "3")
        assert found.headers["x-medkit-not-rewritten"] == "true"


async def test_a_refusal_of_the_owner_comes_whole() -> None:
    async def refused(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"www-authenticate", b'Bearer realm="b"'), (b"retry-after", b"7"), (b"x-ratelimit-remaining", b"0")]
        await answer(send, {"error": "invalid_token"}, 401, headers)

    async with pair() as (a, b, client):
        for app in ("nav", "b__cam"):
            b.routes[f"/api/v1/apps/{app.removeprefix('b__')}/x"] = refused
            found = await client.get(f"{a.url}/api/v1/apps/{app}/x")
            assert (found.status_code, found.json()) == (401, {"error": "invalid_token"})
            assert found.headers["www-authenticate"] == 'Bearer realm="b"'
            assert (found.headers["retry-after"], found.headers["x-ratelimit-remaining"]) == ("7", "0")


async def test_a_request_says_once_whom_it_is_meant_for() -> None:
    found: list[bytes] = []

    async def note(scope: Any, receive: Any, send: Any) -> None:
        found.extend(value for name, value in scope["headers"] if name == b"x-medkit-origins")
        await answer(send, {})

    async with pair() as (a, b, client):
        b.routes["/api/v1/apps/nav/x"] = note
        # As a gateway asks us that means more than this one entity.
        headers = {"x-medkit-origins": f"{a.identity.id},{b.identity.id},another"}
        await client.get(f"{a.url}/api/v1/apps/nav/x", headers=headers)
        assert found == [b.identity.id.encode()]


async def test_head_is_asked_as_head() -> None:
    async with pair() as (a, b, client):
        found = await client.head(f"{a.url}/api/v1/apps/nav/x")
        assert (found.status_code, found.content) == (200, b"")
        assert b.requests[-1][:2] == ("HEAD", "/api/v1/apps/nav/x")


async def events(scope: Any, receive: Any, send: Any) -> None:
    """An event stream: the first event at once, the next when asked to go on."""
    headers = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b":keepalive\n\n", "more_body": True})
    line = b'id: 1\ndata: {"resource":"/api/v1/apps/cam/data/x","payload":{"id":"cam","text":"/api/v1/apps/cam"}}\n\n'
    await send({"type": "http.response.body", "body": line, "more_body": True})
    try:
        while (await receive())["type"] != "http.disconnect":
            pass
    finally:
        LEFT.append(scope["path"])


LEFT: list[str] = []


@pytest.mark.parametrize("app", ["nav", "b__cam"])
async def test_events_pass_at_once_and_the_peer_hears_when_the_client_leaves(app: str) -> None:
    LEFT.clear()
    there = f"/api/v1/apps/{app.removeprefix('b__')}/triggers/1/events"
    async with pair() as (a, b, client):
        b.routes[there] = events
        async with client.stream("GET", f"{a.url}/api/v1/apps/{app}/triggers/1/events") as stream:
            assert stream.headers["content-type"] == "text/event-stream"
            lines = stream.aiter_lines()
            with anyio.fail_after(1):
                found = [await lines.__anext__() for _ in range(4)]
            assert found[:3] == [":keepalive", "", "id: 1"]
            assert '"/api/v1/apps/b__cam/data/x"' in found[3]
            # What a robot said is not ours to change.
            assert '{"id":"cam","text":"/api/v1/apps/cam"}' in found[3]
            assert LEFT == []
        await async_eventually(lambda: [there] == LEFT, within=2)


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.2])
async def test_a_client_that_leaves_ends_the_peers_request_whenever_it_does(after_s: float) -> None:
    seen: list[str] = []

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        seen.append("asked")
        while (await receive())["type"] != "http.disconnect":
            pass
        seen.append("left")

    async with pair(timeout_ms=8000) as (a, b, _):
        b.routes["/api/v1/apps/nav/data/x"] = hang
        _, writer = await asyncio.open_connection("127.0.0.1", a.port)
        writer.write(b"GET /api/v1/apps/nav/data/x HTTP/1.1\r\nHost: a\r\n\r\n")
        await async_eventually(lambda: seen == ["asked"])
        await asyncio.sleep(after_s)
        writer.transport.abort()
        await async_eventually(lambda: seen == ["asked", "left"], within=3)
        assert a.federation.peers[0].status == "online"


async def test_a_client_that_leaves_while_uploading_ends_the_peers_request() -> None:
    seen: list[str] = []

    async def upload(scope: Any, receive: Any, send: Any) -> None:
        while True:
            message = await receive()
            seen.append(message["type"])
            if message["type"] == "http.disconnect":
                return

    async with pair() as (a, b, _):
        b.routes["/api/v1/apps/nav/bulk-data/x"] = upload
        _, writer = await asyncio.open_connection("127.0.0.1", a.port)
        writer.write(b"POST /api/v1/apps/nav/bulk-data/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
        await async_eventually(lambda: "http.request" in seen)
        writer.transport.abort()
        await async_eventually(lambda: seen[-1] == "http.disconnect", within=2)
        assert a.federation.peers[0].status == "online"


async def test_a_peers_early_no_ends_an_upload() -> None:
    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, {"error_code": "payload-too-large", "message": "too large"}, 413)

    async def body() -> AsyncIterator[bytes]:
        for _ in range(10_000):
            yield bytes(100_000)

    async with pair() as (a, b, client):
        b.routes["/api/v1/apps/nav/bulk-data/x"] = refuse
        with anyio.fail_after(5):
            try:
                found = await client.post(f"{a.url}/api/v1/apps/nav/bulk-data/x", content=body())
                assert found.status_code == 413
            except httpx.TransportError:
                pass  # the client was still writing when the connection ended


async def faulty_app(handler: Any) -> tuple[FaultyServer, TestGateway]:
    """A gateway whose peer `p` has the app `cam` and answers everything but its tree by `handler`."""
    document = (
        b'{"schema":1,"gateway":{"id":"p","boot_id":"1"},"seq":1,"origins":[{"id":"p","boot_id":"1","seq":1,'
        b'"path":["p"],"entities":{"apps":[{"id":"cam"}]}}]}'
    )

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await head_of(reader)
        if b"/x-medkit/tree" in head:
            writer.write(http(document))
        else:
            await handler(head, reader, writer)

    server = FaultyServer(handle)
    await server.__aenter__()
    gateway = TestGateway("a", {"p": server.url}, timeout_ms=400)
    await gateway.start()
    await async_eventually(lambda: "cam" in gateway.federation.tree.apps)
    return server, gateway


@asynccontextmanager
async def faulty_peer(handler: Any) -> AsyncIterator[tuple[TestGateway, httpx.AsyncClient]]:
    """`faulty_app` with a client."""
    server, gateway = await faulty_app(handler)
    try:
        async with httpx.AsyncClient(timeout=20) as client:
            yield gateway, client
    finally:
        await gateway.stop()
        await server.__aexit__()


async def hang(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """No answer."""
    await reader.read()


async def test_no_answer_in_time_is_504_and_does_not_cut_off_the_peer() -> None:
    async with faulty_peer(hang) as (a, client):
        started = time.monotonic()
        answers = await asyncio.gather(*(client.get(f"{a.url}/api/v1/apps/cam/data/x") for _ in range(4)))
        assert 0.3 < time.monotonic() - started < 1.0
        for found in answers:
            assert (found.status_code, found.json()["error_code"]) == (504, "not-responding")
            assert "details" not in found.json()["parameters"]
        assert a.federation.peers[0].state == "closed"
        assert a.federation.peers[0].status == "online"


async def test_a_command_waits_longer_and_its_504_says_that_the_outcome_is_unknown() -> None:
    async with faulty_peer(hang) as (a, client):
        for path, extra in (("configurations/rate", 2.0), ("data/x", 10.0)):
            headers = {"x-medkit-deadline-ms": "3000"}
            started = time.monotonic()
            found = await client.put(f"{a.url}/api/v1/apps/cam/{path}", json={"value": 1}, headers=headers)
            assert abs(time.monotonic() - started - min(0.4 + extra, 3.0)) < 0.4
            assert found.status_code == 504
            assert found.json()["parameters"] == {"peer": "p", "entity_id": "cam", "details": "outcome unknown"}


async def test_a_connection_that_ends_without_an_answer_is_502_and_a_command_is_sent_once() -> None:
    heads: list[bytes] = []

    async def reset(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(head.split(b" ")[0])
        writer.transport.abort()

    async with faulty_peer(reset) as (a, client):
        found = await client.put(f"{a.url}/api/v1/apps/cam/data/x", json={})
        assert (found.status_code, found.json()["vendor_code"]) == (502, "x-medkit-peer-unavailable")
        assert "outcome unknown" in found.json()["parameters"]["details"]
        assert heads == [b"PUT"]
        found = await client.get(f"{a.url}/api/v1/apps/cam/data/x")
        assert (found.status_code, heads[1:]) == (502, [b"GET", b"GET"])
        assert "outcome" not in found.json()["parameters"]["details"]


@pytest.mark.parametrize("framing", [b"Content-Length: 1000", b"Transfer-Encoding: chunked"])
async def test_an_answer_that_breaks_off_is_never_taken_for_whole(framing: bytes) -> None:
    async def break_off(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        piece = b"5\r\nhello\r\n" if b"chunked" in framing else b"hello"
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + framing + b"\r\n\r\n" + piece)
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.transport.abort()

    async with faulty_peer(break_off) as (a, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get(f"{a.url}/api/v1/apps/cam/data/x")


async def test_a_slow_body_is_passed_on_beyond_the_time_for_the_first_byte() -> None:
    async def slowly(head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\n")
        for _ in range(10):
            await asyncio.sleep(0.1)
            writer.write(b"x")
            await writer.drain()

    async with faulty_peer(slowly) as (a, client):
        found = await client.get(f"{a.url}/api/v1/apps/cam/data/x")
        assert found.content == b"x" * 10


async def test_a_long_json_answer_is_passed_on_as_it_is_and_says_so() -> None:
    text = b'{"id":"/x","href":"/api/v1/apps/cam","data":"' + b"x" * (11 * MIB) + b'"}'

    async def chunked(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for start in range(0, len(text), MIB):
            await send({"type": "http.response.body", "body": text[start : start + MIB], "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def announced(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async with pair() as (a, b, client):
        for app in (chunked, announced):
            b.routes["/api/v1/apps/cam/data/x"] = app
            found = await client.get(f"{a.url}/api/v1/apps/b__cam/data/x")
            assert found.content == text
            assert found.headers["x-medkit-not-rewritten"] == "true"


async def test_an_answer_of_millions_of_objects_is_passed_on_as_it_is_and_says_so() -> None:
    body = b'{"id":"cam","items":[' + b"{}," * 600_000 + b"{}]}"

    async def many(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async with pair() as (a, b, client):
        b.routes["/api/v1/apps/cam/x"] = many
        found = await client.get(f"{a.url}/api/v1/apps/b__cam/x")
        assert (found.content == body, found.headers["x-medkit-not-rewritten"]) == (True, "true")


async def test_the_etag_of_a_rewritten_answer_comes_back_as_the_peers() -> None:
    async def tagged(scope: Any, receive: Any, send: Any) -> None:
        asked = dict(scope["headers"]).get(b"if-none-match", b"")
        etag = (b"etag", b'"v1"')
        if asked == b'"v1"':
            # As a gateway says it: without a body there is no type of it.
            await send({"type": "http.response.start", "status": 304, "headers": [etag]})
            await send({"type": "http.response.body", "body": b""})
        elif scope["path"].endswith("/file"):
            await send({"type": "http.response.start", "status": 200, "headers": [etag, (b"content-type", b"x/y")]})
            await send({"type": "http.response.body", "body": b"cam"})
        else:
            await answer(send, {"x-medkit": {"entity_id": "cam"}}, 200, [etag])

    async with pair() as (a, b, client):
        b.routes["/api/v1/apps/cam/x"] = b.routes["/api/v1/apps/cam/file"] = tagged
        url = f"{a.url}/api/v1/apps/b__cam/x"
        first = await client.get(url)
        assert first.json() == {"x-medkit": {"entity_id": "b__cam"}}
        assert first.headers["etag"].startswith('W/"v1-')
        second = await client.get(url, headers={"if-none-match": first.headers["etag"]})
        assert (second.status_code, second.headers["etag"]) == (304, first.headers["etag"])
        # The tag of another gateway's ids is no match here.
        assert (await client.get(url, headers={"if-none-match": 'W/"v1-s00000000"'})).status_code == 200
        # What is no JSON keeps its own.
        file = await client.get(f"{a.url}/api/v1/apps/b__cam/file")
        kept = await client.get(f"{a.url}/api/v1/apps/b__cam/file", headers={"if-none-match": file.headers["etag"]})
        assert (kept.status_code, file.headers["etag"], kept.headers["etag"]) == (304, '"v1"', '"v1"')


async def test_a_location_leads_through_this_gateway() -> None:
    async def created(scope: Any, receive: Any, send: Any) -> None:
        location = dict(scope["headers"])[b"x-client-id"]
        await answer(send, {"id": "1"}, 201, [(b"location", location)])

    async with pair() as (a, b, client):
        b.routes["/api/v1/apps/cam/locks"] = created
        for location in ("/api/v1/apps/cam/locks/1", f"{b.url}/api/v1/apps/cam/locks/1"):
            found = await client.post(f"{a.url}/api/v1/apps/b__cam/locks", headers={"x-client-id": location})
            assert found.headers["location"] == "/api/v1/apps/b__cam/locks/1"


async def test_the_location_of_what_a_member_does_names_the_member_as_it_is_called_here() -> None:
    async def started(scope: Any, receive: Any, send: Any) -> None:
        await answer(send, {"id": "7"}, 202, [(b"location", f"{quote(scope['path'])}/7".encode())])

    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"], component="arm"))
        b.routes["/api/v1/components/arm/operations/cam:go/executions"] = started
        a = TestGateway("a", {"b": b.url})
        async with running(a), httpx.AsyncClient() as client:
            await a.serve_tree(tree_of(["cam"]))
            await async_eventually(lambda: "b__cam" in a.federation.tree.apps)
            path = "/api/v1/components/arm/operations/b__cam%3Ago/executions"
            found = await client.post(f"{a.url}{path}")
            assert (found.status_code, found.headers["location"]) == (202, f"{path}/7")


async def test_the_resource_of_a_new_trigger_goes_out_with_the_peers_id_and_comes_back_with_ours() -> None:
    async def create(scope: Any, receive: Any, send: Any) -> None:
        body = await receive()
        SEEN.append(body["body"])
        await answer(send, {"id": "t", "observed_resource": "/api/v1/apps/cam/data/x"}, 201)

    SEEN: list[bytes] = []
    async with pair() as (a, b, client):
        b.routes["/api/v1/apps/cam/triggers"] = create
        url = f"{a.url}/api/v1/apps/b__cam/triggers"
        found = await client.post(url, json={"resource": "/api/v1/apps/b__cam/data/x", "path": "/b__cam"})
        assert SEEN[-1] == b'{"resource":"/api/v1/apps/cam/data/x","path":"/b__cam"}'
        assert found.json()["observed_resource"] == "/api/v1/apps/b__cam/data/x"
        await client.post(url, content=b"not json")
        assert SEEN[-1] == b"not json"


async def test_a_slow_request_does_not_hold_up_the_others() -> None:
    async def slow(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.6)
        await answer(send, {"slow": True})

    async with pair() as (a, b, client):
        b.routes["/api/v1/apps/nav/slow"] = slow
        task = asyncio.create_task(client.get(f"{a.url}/api/v1/apps/nav/slow"))
        await asyncio.sleep(0.05)
        started = time.monotonic()
        await client.get(f"{a.url}/api/v1/apps/nav/x")
        assert time.monotonic() - started < 0.4
        assert (await task).json() == {"slow": True}
