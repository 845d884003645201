"""A peer that misbehaves in every way we know: the client's bounds and errors, and what the federation makes of it."""

from __future__ import annotations

import asyncio
import gzip
import logging
import time

import httpx
import pytest

from medkit_gateway_py.aggregation import kept_running
from medkit_gateway_py.aggregation import peer as peer_module
from medkit_gateway_py.aggregation.client import BadAnswer, PeerClient
from medkit_gateway_py.aggregation.peer import Peer
from medkit_gateway_py.aggregation.request import RequestInfo
from medkit_gateway_py.aggregation.sections import GatewayIdentity
from medkit_gateway_py.errors import GatewayError, NotResponding, PeerUnavailable, ServiceUnavailable
from support.fake_peer import (
    FaultyServer,
    Handler,
    TestGateway,
    always,
    configuration,
    head_of,
    http,
    listen,
    running,
    tree_of,
)
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio
IDENTITY = GatewayIdentity("me", "boot", "me", "1.0.0")


async def ask(url: str, timeout_s: float = 0.4, **arguments: object) -> object:
    """One GET through a client of its own."""
    client = PeerClient("p", url, IDENTITY, timeout_s)
    try:
        return await client.get(b"/api/v1/faults", **arguments)
    finally:
        await client.aclose()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the request and says nothing."""
    await reader.read()


async def endless(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body that never ends, as fast as it goes."""
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n[")
    while True:
        writer.write(b"1," * 30_000)
        await writer.drain()


async def dripping(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte now and then: no read ever times out."""
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def broken_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Half of what was announced, then a reset."""
    await head_of(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    await writer.drain()
    writer.transport.abort()


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the request and resets the connection."""
    await head_of(reader)
    writer.transport.abort()


BOMB = gzip.compress(b"[" + b" " * 50_000_000 + b"]", 9)


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (silent, NotResponding),
        (endless, BadAnswer),
        (dripping, NotResponding),
        (broken_off, PeerUnavailable),
        (reset, PeerUnavailable),
        (always(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), PeerUnavailable),
        (always(b"HTTP/1.1 200 OK\r\n" + b"X: " + b"a" * 100_000 + b"\r\n\r\n"), PeerUnavailable),
        (always(http(BOMB, "200 OK", "Content-Encoding: gzip")), BadAnswer),
        (always(http(b"{}", "200 OK", "Content-Length: 99999999999")), GatewayError),
    ],
)
async def test_each_fault_is_one_error_within_the_time(handler: Handler, error: type[Exception]) -> None:
    async with FaultyServer(handler) as server:
        started = time.monotonic()
        with pytest.raises(error) as caught:
            await ask(server.url)
        assert time.monotonic() - started < 1.5
        assert "Peer 'p'" in str(caught.value) or error is BadAnswer


async def test_nobody_listening_is_502_at_once() -> None:
    bound = listen()
    port = bound.getsockname()[1]
    bound.close()
    started = time.monotonic()
    with pytest.raises(PeerUnavailable, match="connection refused"):
        await ask(f"http://127.0.0.1:{port}")
    assert time.monotonic() - started < 0.3


async def test_an_unknown_host_is_502() -> None:
    with pytest.raises(PeerUnavailable):
        await ask("http://no-such-host.invalid:8080", 2.0)


async def test_a_host_that_does_not_take_the_connection_is_502_after_a_quarter_of_the_time() -> None:
    # A full backlog drops connection requests, as a host that is switched off does.
    bound = listen()
    bound.listen(0)
    address = bound.getsockname()
    fillers = [asyncio.create_task(asyncio.open_connection(*address)) for _ in range(4)]
    try:
        await asyncio.wait(fillers, timeout=0.2)
        started = time.monotonic()
        with pytest.raises(PeerUnavailable, match="no connection in time"):
            await ask(f"http://127.0.0.1:{address[1]}", 1.2)
        assert 0.25 < time.monotonic() - started < 0.9
    finally:
        for filler in fillers:
            filler.cancel()
        for result in await asyncio.gather(*fillers, return_exceptions=True):
            if isinstance(result, tuple):
                result[1].close()
        bound.close()


async def test_tls_towards_a_cleartext_server_is_502() -> None:
    async with FaultyServer(always(http(b"{}"))) as server:
        with pytest.raises(PeerUnavailable):
            await ask(server.url.replace("http:", "https:"), 2.0)


async def test_a_redirect_is_not_followed() -> None:
    async with FaultyServer(always(http(b"", "302 Found", "Location: http://127.0.0.1:1/secret"))) as server:
        answer = await ask(server.url)
        assert answer.status == 302
        assert server.connections == 1


async def test_html_is_no_json() -> None:
    async with FaultyServer(always(http(b"<html>", "200 OK", "Content-Type: text/html"))) as server:
        answer = await ask(server.url)
        with pytest.raises(BadAnswer, match=r"no JSON.*text/html"):
            await answer.json()


async def test_a_get_whose_kept_connection_was_closed_is_sent_once_more_and_a_put_never() -> None:
    seen: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append((await head_of(reader)).split(b" ")[0])
        writer.transport.abort()

    async with FaultyServer(handle) as server:
        client = PeerClient("p", server.url, IDENTITY, 1.0)
        try:
            for method in ("GET", "PUT", "DELETE", "POST"):
                with pytest.raises(PeerUnavailable):
                    async with client.open(method, b"/api/v1/x", first_byte_s=1.0, idle_s=1.0):
                        pass
        finally:
            await client.aclose()
    assert seen == [b"GET", b"GET", b"PUT", b"DELETE", b"POST"]


async def test_with_all_kept_connections_stale_a_get_is_answered_over_a_new_one() -> None:
    both = asyncio.Event()

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        if server.connections == 2:
            both.set()
        await both.wait()
        writer.write(http(b"{}").replace(b"Connection: close", b"Connection: keep-alive"))
        await writer.drain()
        await head_of(reader)
        writer.transport.abort()

    async with FaultyServer(once) as server:
        client = PeerClient("p", server.url, IDENTITY, 3.0)
        await asyncio.gather(*(client.get(b"/api/v1/x") for _ in range(2)))
        assert (await client.get(b"/api/v1/x")).status == 200
        assert server.connections == 3
        await client.aclose()


async def test_a_command_does_not_use_a_connection_that_was_idle_for_a_second() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await head_of(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    async def put(client: PeerClient) -> None:
        async with client.open("PUT", b"/x", first_byte_s=1.0, idle_s=1.0, lane="fresh") as response:
            await response.aread()

    async with FaultyServer(handle) as server:
        client = PeerClient("p", server.url, IDENTITY, 1.0)
        try:
            await put(client)
            await put(client)
            assert server.connections == 1
            await asyncio.sleep(1.2)  # the second is the thing under test
            await put(client)
            assert server.connections == 2
        finally:
            await client.aclose()


async def test_cookies_and_environment_proxies_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await head_of(reader))
        writer.write(http(b"{}", "200 OK", "Set-Cookie: session=1"))

    async with FaultyServer(handle) as server:
        # By name: a cookie jar keeps nothing for bare addresses.
        client = PeerClient("p", server.url.replace("127.0.0.1", "localhost"), IDENTITY, 1.0)
        try:
            await client.get(b"/api/v1/x")
            await client.get(b"/api/v1/x")
        finally:
            await client.aclose()
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


async def test_the_deadline_that_came_in_bounds_the_call_and_shrinks_on_the_way() -> None:
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await head_of(reader))
        await reader.read()

    async with FaultyServer(handle) as server:
        request = RequestInfo(via=("x", "y"), deadline_ms=500)
        with pytest.raises(NotResponding):
            await ask(server.url, 5.0, request=request, first_byte_s=request.bounded(5.0))
        with pytest.raises(NotResponding, match="No time is left"):
            await ask(server.url, 5.0, request=request, first_byte_s=0.01)
        with pytest.raises(NotResponding):
            await ask(server.url, 5.0, request=request, first_byte_s=0.1)
    head, late = heads
    assert b"x-medkit-deadline-ms: 50\r\n" in late.lower()
    lines = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n") if b": " in line)
    assert lines[b"x-medkit-via"] == b"x,y,me"
    assert 300 <= int(lines[b"x-medkit-deadline-ms"]) <= 350


async def test_the_shortest_timeout_that_may_be_configured_is_enough_to_ask() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {"b": b.url}, timeout_ms=100)
        async with running(a), httpx.AsyncClient() as client:
            await async_eventually(lambda: "nav" in a.federation.tree.apps)

            async def answered() -> bool:
                return (await client.get(f"{a.url}/api/v1/apps/nav/x")).status_code == 200

            assert any([await answered() for _ in range(5)])


async def test_too_many_calls_at_once_are_503_and_not_the_peers_fault() -> None:
    async with FaultyServer(silent) as server:
        client = PeerClient("p", server.url, IDENTITY, 3.0)
        calls = [asyncio.create_task(client.get(b"/api/v1/x")) for _ in range(32)]
        try:
            await async_eventually(lambda: server.connections == 32)
            with pytest.raises(ServiceUnavailable):
                await client.get(b"/api/v1/x")
            # Polls have a lane of their own.
            with pytest.raises(NotResponding):
                await client.get(b"/api/v1/x", lane="control", first_byte_s=0.3)
        finally:
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
            await client.aclose()


TREE = b'{"schema":1,"gateway":{"id":"p","boot_id":"1"},"seq":1,"origins":[%s]}'
SECTION = b'{"id":"p","boot_id":"1","seq":1,"path":["p"],"entities":{"apps":[%s]}}'


@pytest.mark.parametrize(
    "response",
    [
        http(b"<html></html>", "200 OK", "Content-Type: text/html"),
        http(b"[]"),
        http(b"null"),
        http(b'{"schema":"1"}'),
        http(TREE % (SECTION % b",".join([b'{"id":"a%d"}' % n for n in range(40)]))),
        http(b"", "302 Found", "Location: /login"),
        http(b"{}", "401 Unauthorized"),
        http(b"oops", "500 Internal Server Error"),
        http(BOMB, "200 OK", "Content-Encoding: gzip"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{",
    ],
)
async def test_rubbish_hurts_neither_our_tree_nor_another_peer(response: bytes) -> None:
    good = TestGateway("good", {})
    async with running(good), FaultyServer(always(response)) as bad:
        await good.serve_tree(tree_of(["nav"]))
        a = TestGateway("a", {"bad": bad.url, "good": good.url}, max_entities_per_peer=30)
        async with running(a):
            await a.serve_tree(tree_of(["cam"]))
            await async_eventually(lambda: set(a.federation.tree.apps) == {"cam", "nav"})
            await async_eventually(lambda: a.federation.peers[0].last_error)
            status = a.federation.peers[0]
            assert (status.status, status.counts) == ("offline", None)
            assert "bad" in status.last_error


@pytest.mark.parametrize("length", [0, 4000], ids=["read on the loop", "read in a thread"])
async def test_a_tree_with_too_many_entities_is_refused_whole_and_the_last_good_one_stays(length: int) -> None:
    many = b",".join(b'{"id":"a%d","description":"%s"}' % (number, b"x" * length) for number in range(100))
    answers = [http(TREE % (SECTION % b'{"id":"cam"}'))]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(answers[0])

    async with FaultyServer(handle) as server:
        a = TestGateway("a", {"p": server.url}, max_entities_per_peer=99)
        async with running(a):
            await async_eventually(lambda: set(a.federation.tree.apps) == {"cam"})
            answers[0] = http(TREE % (SECTION % many))
            await async_eventually(lambda: "more than 99 entities" in a.federation.peers[0].last_error)
            assert set(a.federation.tree.apps) == {"cam"}
            assert a.federation.peers[0].status == "online"


async def test_a_bad_document_leaves_the_last_good_tree_while_the_peer_lives() -> None:
    answers = [http(TREE % (SECTION % b'{"id":"cam"},{"id":7},{"id":"x y"},{"id":"nav","name":3}'))]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(answers[0])

    async with FaultyServer(handle) as server:
        a = TestGateway("a", {"p": server.url})
        async with running(a):
            await async_eventually(lambda: set(a.federation.tree.apps) == {"cam"})
            assert a.federation.peers[0].dropped_count == 3
            assert "id" in a.federation.peers[0].dropped[0].reason
            answers[0] = http(b'{"schema":99}')
            await async_eventually(lambda: "schema" in a.federation.peers[0].last_error)
            assert (a.federation.peers[0].status, set(a.federation.tree.apps)) == ("online", {"cam"})
            answers[0] = http(TREE % (SECTION.replace(b'"seq":1', b'"seq":2') % b'{"id":"lidar"}'))
            await async_eventually(lambda: set(a.federation.tree.apps) == {"lidar"})
            assert a.federation.peers[0].last_error == ""


async def test_a_hanging_peer_goes_offline_and_its_polls_back_off() -> None:
    hang = [False]

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        if hang[0]:
            await reader.read()
        writer.write(http(TREE % (SECTION % b'{"id":"cam"}')))

    async with FaultyServer(handle) as server:
        a = TestGateway("a", {"p": server.url}, timeout_ms=300)
        async with running(a):
            await async_eventually(lambda: "cam" in a.federation.tree.apps)
            hang[0] = True
            await async_eventually(lambda: not a.federation.tree.apps, within=4)
            assert a.federation.peers[0].state in ("open", "half_open")
            peer = a.federation.peer("p")
            assert peer is not None
            with pytest.raises(PeerUnavailable, match="tried again"):
                peer.check_callable()
            hang[0] = False
            await async_eventually(lambda: "cam" in a.federation.tree.apps, within=6)
            assert a.federation.peers[0].state == "closed"


async def test_our_own_address_is_dropped_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    a = TestGateway("a", {})
    async with running(a):
        await a.federation.stop()
    me = TestGateway("a", {"me": a.url}, state=a.state)
    with caplog.at_level(logging.WARNING):
        await me.start(a.port)
        try:
            await me.serve_tree(tree_of(["cam"]))
            await async_eventually(lambda: me.federation.peers[0].role == "self")
            await me.serve_tree(tree_of(["cam", "nav"]))
            await async_eventually(lambda: me.federation.peers[0].counts["apps"] == 2)
            assert set(me.federation.tree.apps) == {"cam", "nav"}
            assert me.federation.tree.peers == ()
            assert me.federation.tree.sections == ()
        finally:
            await me.stop()
    assert [a.url in record.message for record in caplog.records if "itself" in record.message] == [True]


async def test_a_second_address_of_a_peer_is_its_fallback() -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"one": b.url, "two": b.url.replace("127.0.0.1", "localhost")})
        async with running(a):
            await async_eventually(lambda: [peer.role for peer in a.federation.peers] == ["peer", "fallback"])
            assert [peer.status for peer in a.federation.peers] == ["online", "online"]
            assert a.federation.tree.remote.popitem()[1].peer == "one"
            assert a.federation.warnings() == ()


async def test_two_living_gateways_with_one_instance_id_are_both_shown_and_warned_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    b, clone = TestGateway("b", {}), TestGateway("b", {})
    clone.identity = GatewayIdentity(b.identity.id, clone.identity.boot_id, "b", "1.0.0")
    clone.federation = type(clone.federation)(configuration({}), clone.identity, clone.state)
    async with running(b, clone):
        await b.serve_tree(tree_of(["cam"], function="all"))
        await clone.serve_tree(tree_of(["cam"], function="all"))
        a = TestGateway("a", {"one": b.url, "two": clone.url})
        async with running(a):
            await async_eventually(lambda: set(a.federation.tree.apps) == {"cam", "two__cam"}, within=6)
            assert [warning.code for warning in a.federation.warnings()] == ["duplicate_instance_id"]
            assert a.federation.warnings()[0].peer_names == ("one", "two")
            assert [r.levelname for r in caplog.records if "duplicate_instance_id" in r.message] == ["ERROR"]
            async with httpx.AsyncClient() as client:
                data = (await client.get(f"{a.url}/api/v1/functions/all/data")).json()
                assert [item["x-medkit"]["peer"] for item in data["items"]] == ["one", "two"]


async def test_ids_that_cannot_be_kept_are_used_all_the_same_and_warned_of(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"b": b.url})

        def full(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr(a.state, "remember", full)
        async with running(a):
            await async_eventually(lambda: "cam" in a.federation.tree.apps)
            assert [warning.code for warning in a.federation.warnings()] == ["state_not_persistent"]
            assert [r.levelname for r in caplog.records if "disk full" in r.message] == ["ERROR"]


async def test_stopping_takes_two_seconds_at_most_with_a_peer_that_hangs() -> None:
    async with FaultyServer(silent) as server:
        a = TestGateway("a", {"p": server.url}, timeout_ms=60_000)
        await a.start()
        await async_eventually(lambda: server.connections == 1)
        started = time.monotonic()
        await a.stop()
        assert time.monotonic() - started < 2.0


async def test_a_fault_of_ours_while_a_peer_is_followed_is_logged_and_the_peer_followed_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kept_running, "AGAIN_S", 0.1)
    monkeypatch.setattr(peer_module, "MEASURE_S", 0.2)
    measured = Peer._took
    times = iter([ValueError("of ours")])

    def took(self: Peer, seconds: float) -> None:
        measured(self, seconds)
        if self.is_online and (error := next(times, None)):
            raise error

    b = TestGateway("b", {})
    async with running(b):
        await b.serve_tree(tree_of(["cam"]))
        a = TestGateway("a", {"b": b.url})
        async with running(a):
            await async_eventually(lambda: "cam" in a.federation.tree.apps)
            monkeypatch.setattr(Peer, "_took", took)
            await async_eventually(lambda: "Following peer 'b' failed" in caplog.text)
            await b.serve_tree(tree_of(["nav"]))
            await async_eventually(lambda: set(a.federation.tree.apps) == {"nav"})
