"""Gateways that find each other by mDNS on the loopback interface, with strangers among them, over real sockets."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme
from zeroconf import DNSAddress, DNSIncoming, DNSPointer, DNSService, DNSText

from medkit_gateway_py.aggregation.peer_discovery import candidates, mdns
from medkit_gateway_py.aggregation.peer_discovery.candidate import Limits
from medkit_gateway_py.aggregation.peer_discovery.mdns_compatible import ask, read_answer
from medkit_gateway_py.aggregation.routing import Away
from medkit_gateway_py.aggregation.sections import GatewayIdentity
from medkit_gateway_py.entities.model import Kind
from medkit_gateway_py.parameters.aggregation import PeerTls
from medkit_gateway_py.state import StateStore
from support.fake_peer import FaultyServer, TestGateway, always, head_of, http, listen, running, tree_of
from support.mdns import (
    LOOPBACK,
    CompatibleResponder,
    announce,
    mdns_settings,
    private_service,
    simple_client,
    stranger,
)
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio
FOUND_S = 15.0


def gateway(service: str, name: str, *, state: StateStore | None = None, **settings: Any) -> TestGateway:
    return TestGateway(name, {}, state=state, **mdns_settings(service, mdns_name=name, **settings))


def online(gateway: TestGateway) -> dict[str, str]:
    return {peer.name: peer.url for peer in gateway.federation.peers if peer.status == "online"}


async def test_two_gateways_of_one_host_find_each_other_without_a_name_and_a_goodbye_removes_at_once() -> None:
    service = private_service()
    a, b = TestGateway("a", {}, **mdns_settings(service)), TestGateway("b", {}, **mdns_settings(f"{service}."))
    async with running(a):
        async with running(b):
            await a.serve_tree(tree_of(["cam"]))
            await b.serve_tree(tree_of(["lidar"]))
            for one in (a, b):
                await async_eventually(lambda one=one: set(one.federation.tree.apps) == {"cam", "lidar"}, FOUND_S)
            await async_eventually(lambda: a.federation.discovery_health()["mdns"]["state"] == "ok", FOUND_S)
            assert list(online(a).values()) == [b.url]
            (peer,) = a.federation.peers
            assert peer.source == "mdns"
            name = peer.name
            # As a gateway stops: it answers no more, then it says goodbye.
            b._server.should_exit = True  # type: ignore[union-attr]
            await b._task  # type: ignore[misc]
        await async_eventually(lambda: not a.federation.peers, within=3)
        await async_eventually(lambda: set(a.federation.tree.apps) == {"cam"})
        # Its ids are remembered, so that a client that asks for one is told that it is away.
        assert isinstance(a.federation.tree.resolve(Kind.APP, "lidar"), Away)
        assert isinstance(a.federation.tree.resolve(Kind.APP, f"{name}__lidar"), Away)
        assert a.federation.tree.resolve(Kind.APP, f"{name}__other") is None


async def test_announcing_and_looking_are_independent() -> None:
    service = private_service()
    seen, looks = gateway(service, "seen", discover=False), gateway(service, "looks", announce=False)
    async with running(seen, looks):
        await async_eventually(lambda: online(looks) == {"seen": seen.url}, FOUND_S)
        assert not seen.federation.peers
        assert "announced_as" not in looks.federation.discovery_health()["mdns"]
    neither = gateway(service, "neither", announce=False, discover=False)
    async with running(neither):
        assert neither.federation.discovery_health()["mdns"]["state"] == "off"


async def test_one_that_was_killed_is_offline_and_comes_back_on_another_port_under_the_same_ids(tmp_path: Path) -> None:
    service = private_service()
    a = gateway(service, "a")
    store = StateStore.open(tmp_path)
    b = TestGateway("b", {}, state=store)
    async with running(a), stranger() as network:
        await a.serve_tree(tree_of(["cam"]))
        async with running(b):
            await b.serve_tree(tree_of(["cam", "lidar"]))
            # Somebody else announces it, so that nothing says goodbye when it ends.
            await announce(network, service, "b", b.port, {"id": b.identity.id, "boot": "1", "name": "b"})
            await async_eventually(lambda: set(a.federation.tree.apps) == {"cam", "b__cam", "lidar"}, FOUND_S)
        await async_eventually(lambda: not online(a))
        assert [peer.name for peer in a.federation.peers] == ["b"]
        again = TestGateway("b", {}, state=store)
        async with running(again):
            await again.serve_tree(tree_of(["cam", "lidar"]))
            assert again.url != b.url
            await announce(network, service, "b", again.port, {"id": b.identity.id, "boot": "2", "name": "b"})
            await async_eventually(lambda: online(a) == {"b": again.url}, FOUND_S)
            await async_eventually(lambda: set(a.federation.tree.apps) == {"cam", "b__cam", "lidar"})
            assert len(a.federation.peers) == 1
    store.close()


async def test_the_same_gateway_by_configuration_and_by_mdns_is_listed_once_and_static_wins() -> None:
    service = private_service()
    b = gateway(service, "b")
    async with running(b):
        await b.serve_tree(tree_of(["lidar"]))
        a = TestGateway("a", {"fixed": b.url}, **mdns_settings(service))
        async with running(a):
            await async_eventually(lambda: len(online(a)) == 2, FOUND_S)
            await async_eventually(lambda: {peer.role for peer in a.federation.peers} == {"peer", "fallback"})
            assert {peer.name: peer.role for peer in a.federation.peers} == {"fixed": "peer", "b": "fallback"}
            assert set(a.federation.tree.apps) == {"lidar"}


@pytest.mark.parametrize(
    ("txt", "port", "addresses", "said"),
    [
        ({"id": "x", "path": "/../admin"}, 8080, (), "path"),
        ({"id": "x", "path": "/@evil"}, 8080, (), "user name"),
        ({"id": "no id!"}, 8080, (), "no valid id"),
        ({"id": "x"}, 22, (), "port 22"),
        ({"id": "x"}, 8080, ("169.254.169.254",), "metadata"),
        ({"id": "x"}, 8080, ("224.0.0.1",), "multicast"),
    ],
)
async def test_a_spoofed_announcement_is_refused_with_one_line(
    txt: dict[str, str], port: int, addresses: tuple[str, ...], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    service = private_service()
    a = gateway(service, "a", announce=False)
    async with running(a), stranger() as someone:
        await announce(someone, service, "evil", port, txt, *addresses)
        await async_eventually(lambda: said in caplog.text, FOUND_S)
        await announce(someone, service, "evil", port, txt, *addresses)
        assert not a.federation.peers
        lines = [one for one in caplog.records if "'evil." in one.getMessage()]
        assert [one.levelno for one in lines] == [logging.WARNING]


async def test_loopback_is_refused_unless_allowed_and_http_where_tls_is_required(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = private_service()
    b = gateway(service, "b", discover=False)
    careful = gateway(service, "careful", announce=False, allow_loopback_discovery=False)
    strict = gateway(service, "strict", announce=False, require_tls=True)
    async with running(b, careful, strict):
        await async_eventually(lambda: "allow_loopback_discovery is false" in caplog.text, FOUND_S)
        await async_eventually(lambda: "require_tls is true, and it is reached by http" in caplog.text, FOUND_S)
        levels = {one.levelno for one in caplog.records if "require_tls is true" in one.getMessage()}
        assert levels == {logging.ERROR}
        assert not careful.federation.peers
        assert not strict.federation.peers


async def test_fifty_rogue_announcements_displace_no_good_peer_and_are_not_taken_in() -> None:
    service = private_service()
    a, b = gateway(service, "a"), gateway(service, "b", discover=False)
    async with running(a, b), FaultyServer(always(http(b"<html>hello</html>"))) as web:
        await async_eventually(lambda: online(a) == {"b": b.url}, FOUND_S)
        port = int(web.url.rsplit(":", 1)[1])
        async with stranger() as someone:
            for number in range(50):
                await announce(someone, service, f"rogue{number}", port, {"id": f"rogue{number}", "boot": "b"})
            await async_eventually(lambda: web.connections >= 50, FOUND_S)
            late = gateway(service, "late", discover=False)
            async with running(late):
                await async_eventually(lambda: online(a) == {"b": b.url, "late": late.url}, FOUND_S)
        assert {peer.name for peer in a.federation.peers} == {"b", "late"}


async def test_our_own_name_announced_by_another_neither_stops_us_nor_becomes_a_peer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    service = private_service()
    a = gateway(service, "a")
    async with stranger() as someone:
        await announce(someone, service, "a", 9, {"id": "evil"})
        async with running(a):
            b = gateway(service, "b")
            async with running(b):
                await async_eventually(lambda: b.url in online(a).values(), FOUND_S)
                await async_eventually(lambda: a.url in online(b).values(), FOUND_S)


async def test_the_certificate_of_a_found_gateway_must_be_for_the_target_of_its_srv_record(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("good-host.local").configure_cert(context)
    health = http(b'{"status": "healthy", "timestamp": 1, "x-medkit": {"instance_id": "x", "boot_id": "b"}}')

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(health)
        await writer.drain()
        writer.close()

    service = private_service()
    tls = PeerTls(ca_file=str(tmp_path / "ca.pem"))
    a = gateway(service, "a", announce=False, require_tls=True, tls=tls)
    server = await asyncio.start_server(handle, sock=listen(), ssl=context)
    port = server.sockets[0].getsockname()[1]
    async with server, running(a), stranger() as network:
        (discovery,) = [one for one in a.federation._discoveries if isinstance(one, mdns.MdnsPeers)]
        said = {"id": "x", "boot": "b", "scheme": "https"}
        await announce(network, service, "evil", port, said)
        # Known, asked, and found wanting.
        await async_eventually(
            lambda: any(one.failures for one in discovery._candidates._pending.values()),
            FOUND_S,  # type: ignore[union-attr]
        )
        await announce(network, service, "good", port, said)
        await async_eventually(lambda: len(a.federation.peers) == 1, FOUND_S)
        (peer,) = a.federation.peers
        assert (peer.name, peer.url) == ("good", f"https://127.0.0.1:{port}")


async def test_the_scheme_of_one_that_announces_none_is_the_configured_one() -> None:
    service = private_service()
    a = gateway(service, "a", announce=False, peer_scheme="https")
    async with running(a), stranger() as network:
        (discovery,) = [one for one in a.federation._discoveries if isinstance(one, mdns.MdnsPeers)]
        await announce(network, service, "plain", 8080, {"id": "x"})
        await async_eventually(lambda: discovery._candidates._pending, FOUND_S)  # type: ignore[union-attr]
        (pending,) = discovery._candidates._pending.values()  # type: ignore[union-attr]
        assert pending.announcement.urls == ("https://127.0.0.1:8080",)


@pytest.mark.parametrize(
    ("interfaces", "state"), [((LOOPBACK, "192.0.2.1"), "degraded"), (("192.0.2.1",), "down"), ((LOOPBACK,), "ok")]
)
async def test_an_interface_that_this_machine_has_not_is_told_in_health(
    interfaces: tuple[str, ...], state: str
) -> None:
    a = gateway(private_service(), "a", mdns_interfaces=interfaces)
    async with running(a):
        await async_eventually(lambda: a.federation.discovery_health()["mdns"]["state"] == state, FOUND_S)
        assert ("192.0.2.1" in a.federation.discovery_health()["mdns"].get("reason", "")) == (state != "ok")


# --- C++ gateways ----------------------------------------------------------------------------------------------


async def test_a_gateway_that_announces_no_address_is_found_by_asking_it_directly() -> None:
    service = private_service()
    cpp = TestGateway("cpp", {})
    cpp.identity = GatewayIdentity("", "", "cpp")
    async with running(cpp), CompatibleResponder(service, "cpp_robot", cpp.port) as responder:
        await cpp.serve_tree(tree_of(["wheel"]))
        a = gateway(service, "a", announce=False)
        async with running(a):
            await async_eventually(lambda: [peer.name for peer in a.federation.peers] == ["cpp_robot"], FOUND_S)
            assert a.federation.peers[0].url == cpp.url
            assert responder.asked_for_unicast
            await cpp.stop()
            responder.say_goodbye()
            await async_eventually(lambda: not a.federation.peers)


async def test_a_stranger_with_a_name_that_is_none_keeps_no_other_from_being_found() -> None:
    service = private_service()
    cpp = TestGateway("cpp", {})
    cpp.identity = GatewayIdentity("", "", "cpp")
    evil = CompatibleResponder(service, "e\x01vil", 8080, txt=b"\x03a=b")
    async with running(cpp), evil, CompatibleResponder(service, "cpp_robot", cpp.port):
        a = gateway(service, "a", announce=False)
        async with running(a):
            await async_eventually(lambda: [peer.name for peer in a.federation.peers] == ["cpp_robot"], FOUND_S)


async def test_a_fault_while_answers_are_read_does_not_end_the_asking(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mdns, "ASK_GAP_S", 0.1)
    monkeypatch.setattr(mdns, "ASK_AFTER_S", (0.1,) * 100)
    asked = 0

    async def broken(*_: object) -> list[Any]:
        nonlocal asked
        asked += 1
        raise ValueError("of ours")

    monkeypatch.setattr(mdns, "ask", broken)
    async with running(gateway(private_service(), "a", announce=False)):
        await async_eventually(lambda: asked >= 2, FOUND_S)
    assert "answers could not be read" in caplog.text


async def test_a_loop_that_ends_says_so_in_the_log_and_in_health(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise ValueError("of ours")

    monkeypatch.setattr(mdns.Candidates, "sweep", broken)
    a = gateway(private_service(), "a", announce=False)
    async with running(a):
        await async_eventually(lambda: "of ours" in a.federation.discovery_health()["mdns"].get("reason", ""), FOUND_S)
        assert a.federation.discovery_health()["mdns"]["state"] == "degraded"
    assert "a part of it ended" in caplog.text


async def test_a_name_without_an_address_is_reason_enough_to_ask_directly(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not asked by the clock.
    monkeypatch.setattr(mdns, "ASK_AFTER_S", ())
    monkeypatch.setattr(mdns, "ASK_EVERY_S", 1000.0)
    service = private_service()
    cpp = TestGateway("cpp", {})
    cpp.identity = GatewayIdentity("", "", "cpp")
    a = gateway(service, "a", announce=False)
    async with running(cpp, a), CompatibleResponder(service, "cpp", cpp.port) as responder:
        await async_eventually(lambda: a.federation.discovery_health()["mdns"]["state"] == "ok", FOUND_S)
        responder.say_hello()
        await async_eventually(lambda: [peer.name for peer in a.federation.peers] == ["cpp"], FOUND_S)


async def test_one_that_was_dropped_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mdns, "LOOK_AGAIN_S", 0.3)
    monkeypatch.setattr(candidates, "Limits", lambda: candidates_limits)
    candidates_limits = Limits(candidate_s=0.2, first_retry_s=0.1)
    service = private_service()
    a, b = gateway(service, "a", announce=False), TestGateway("b", {})
    with listen() as closed:
        port = closed.getsockname()[1]
    async with running(a), stranger() as network:
        await announce(network, service, "b", port, {"id": b.identity.id, "boot": b.identity.boot_id})
        await async_eventually(lambda: a.federation.discovery_health()["mdns"]["refused"] > 0, FOUND_S)
        await b.start(port)
        try:
            await async_eventually(lambda: online(a) == {"b": b.url}, FOUND_S)
        finally:
            await b.stop()


async def test_a_direct_answer_gives_the_port_of_the_srv_record_and_the_address_of_the_packet() -> None:
    service = private_service()
    async with CompatibleResponder(service, "cpp", 8181):
        (heard,) = await ask(f"{service}.", [LOOPBACK], 0.5)
    assert (heard.service, heard.address, heard.port, dict(heard.txt)) == (f"cpp.{service}.", LOOPBACK, 8181, {})


@pytest.mark.parametrize("data", [b"", b"\x00" * 12, b"\xff" * 600, b"\x00\x00\x84\x00\x00\x00\xff\xff" + b"\xc0" * 90])
def test_a_packet_that_is_no_answer_is_ignored(data: bytes) -> None:
    assert read_answer(data, "10.0.0.1", "_x._tcp.local.") == []


async def test_of_a_gateway_without_an_identity_our_own_address_and_port_tell_that_it_is_us() -> None:
    service = private_service()
    a = gateway(service, "a", announce=False)
    async with running(a), CompatibleResponder(service, "me", a.port) as responder:
        await async_eventually(lambda: responder.asked_for_unicast >= 2, FOUND_S)
        b = gateway(service, "b", discover=False)
        async with running(b):
            await async_eventually(lambda: online(a) == {"b": b.url}, FOUND_S)
        assert not any(method == "GET" and path == "/api/v1/health" for method, path, _ in a.requests)


@pytest.mark.parametrize("unicast", [True, False])
async def test_a_simple_client_gets_name_port_and_address_with_one_question(unicast: bool) -> None:
    service = private_service()
    a = gateway(service, "a", discover=False)
    async with running(a):
        await async_eventually(lambda: a.federation.discovery_health()["mdns"]["state"] == "ok", FOUND_S)

        def records(messages: list[DNSIncoming]) -> list[Any]:
            return [record for message in messages for record in message.answers()]

        found = records(await simple_client(service, unicast=unicast))
        (pointer,) = {one.alias for one in found if isinstance(one, DNSPointer)}
        assert pointer == f"a.{service}."
        srv = next(one for one in found if isinstance(one, DNSService) and one.name == pointer)
        assert srv.port == a.port
        addresses = {one.address for one in found if isinstance(one, DNSAddress) and one.name == srv.server}
        assert addresses == {socket.inet_aton(LOOPBACK)}
        assert any(isinstance(one, DNSText) for one in found)
