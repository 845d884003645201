"""A peer that writes down all it gets and leads elsewhere; TLS that is not what it should be (AGGREGATION.md §9)."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trustme

from medkit_gateway_py.aggregation.access import Access, access_of, fingerprint_of
from medkit_gateway_py.aggregation.client import PeerClient
from medkit_gateway_py.aggregation.peer_discovery import ADDED, PeerEvent, PeerSpec
from medkit_gateway_py.aggregation.sections import GatewayIdentity
from medkit_gateway_py.errors import Forbidden, PeerUnavailable
from medkit_gateway_py.parameters.aggregation import Aggregation, PeerTls
from support.fake_peer import FaultyServer, TestGateway, head_of, http, listen, running
from support.waiting import async_eventually

pytestmark = pytest.mark.anyio
IDENTITY = GatewayIdentity("me", "boot", "me", "1.0.0")
TREE = (
    b'{"schema":1,"gateway":{"id":"%s","boot_id":"1"},"seq":1,"origins":[{"id":"%s","boot_id":"1","seq":1,'
    b'"path":["%s"],"entities":{"apps":[{"id":"app_of_%s"}]}}]}'
)
# What a client may send and a peer must not see, each in a request of its own kind.
SECRETS = {
    "authorization": "Bearer of-the-client",
    "cookie": "session=of-the-client",
    "proxy-authorization": "Basic b2YtdGhlLWNsaWVudA==",
    "x-api-key": "of-the-client",
    "origin": "http://127.0.0.1",
    "te": "trailers",
    "keep-alive": "timeout=5",
    "x-forwarded-for": "10.1.2.3",
}


class Recorder:
    """A peer with one app that keeps the head of every request, answers with cookies, and redirects its data."""

    def __init__(self, name: str) -> None:
        self.name = name.encode()
        self.heads: list[str] = []
        self.elsewhere = ""
        self.server = FaultyServer(self._handle)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await head_of(reader)).decode("latin-1").lower()
            self.heads.append(head)
            if "/x-medkit/tree" in head:
                body, status = TREE % (self.name, self.name, self.name, self.name), "200 OK"
            else:
                body, status = b"{}", "307 Temporary Redirect"
            more = f"Location: {self.elsewhere}/api/v1/apps/x/data/secret"
            writer.write(http(body, status, "Set-Cookie: peer=1; Path=/", more).replace(b"close", b"keep-alive"))
            await writer.drain()

    def saw(self, text: str) -> bool:
        """Whether any request held this text."""
        return any(text.lower() in head for head in self.heads)


@asynccontextmanager
async def two_recorders(**aggregation: object) -> AsyncIterator[tuple[TestGateway, Recorder, Recorder]]:
    """A gateway whose peers `one` and `two` have tokens of their own."""
    one, two = Recorder("one"), Recorder("two")
    async with one.server, two.server:
        one.elsewhere = two.elsewhere = two.server.url.replace("127.0.0.1", "localhost")
        gateway = TestGateway("a", {}, **aggregation)
        async with running(gateway):
            for recorder in (one, two):
                name = recorder.name.decode()
                spec = PeerSpec(name, recorder.server.url, access=Access(token=f"token-of-{name}"))
                gateway.federation.change(PeerEvent(ADDED, spec))
            await async_eventually(lambda: {"app_of_one", "app_of_two"} <= set(gateway.federation.tree.apps))
            yield gateway, one, two


async def send_everything(gateway: TestGateway) -> list[httpx.Response]:
    """Reads and commands with every secret there is, forwarded and gathered."""
    async with httpx.AsyncClient(timeout=10) as client:
        base = f"{gateway.url}/api/v1"
        return [
            await client.get(f"{base}/apps/app_of_one/data/x", headers=SECRETS),
            await client.put(f"{base}/apps/app_of_one/data/x", json={}, headers=SECRETS),
            await client.post(f"{base}/apps/app_of_one/triggers", json={}, headers=SECRETS),
            await client.get(f"{base}/apps/app_of_one/data/x", headers=SECRETS),
            await client.get(f"{base}/faults", headers=SECRETS),
        ]


async def test_a_peer_gets_its_own_token_and_nothing_of_the_client_or_of_another_peer() -> None:
    async with two_recorders() as (gateway, one, two):
        before = len(two.heads)
        answers = await send_everything(gateway)
        assert one.heads and all("authorization: bearer token-of-one\r\n" in head for head in one.heads)
        for recorder, other in ((one, "two"), (two, "one")):
            assert not recorder.saw("of-the-client")
            assert not recorder.saw(f"token-of-{other}")
            for name in SECRETS:
                assert name == "authorization" or not recorder.saw(f"\r\n{name}:"), name
        # The redirects went to the client as they are, and nobody followed them.
        assert [answer.status_code for answer in answers[:4]] == [307] * 4
        assert not any("set-cookie" in answer.headers for answer in answers)
        assert not any("secret" in head for head in two.heads[before:])


async def test_with_forward_auth_the_clients_token_goes_on_instead_of_our_own() -> None:
    async with two_recorders(forward_auth=True) as (gateway, one, _):
        await send_everything(gateway)
        forwarded = [head for head in one.heads if "/apps/app_of_one/" in head]
        assert len(forwarded) == 4
        assert all("authorization: bearer of-the-client\r\n" in head for head in forwarded)
        assert all(head.count("authorization:") == 1 for head in forwarded)
        assert not one.saw("cookie:")


def test_a_token_is_in_no_text_about_a_peer() -> None:
    spec = PeerSpec("one", "https://one", access=Access(token="geheim"))
    assert "geheim" not in f"{spec!r} {spec} {PeerEvent(ADDED, spec)!r}"


@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("GET", b"/api/v1/apps/x/data", True),
        ("HEAD", b"/api/v1/apps/x/data/a%2Fb", True),
        ("GET", b"/api/v1/apps/x/data//chatter", True),
        ("GET", b"/api/v1/apps/x", True),
        ("GET", b"/api/v1/faults?status=all", True),
        ("PUT", b"/api/v1/apps/x/data/a", False),
        ("DELETE", b"/api/v1/apps/x", False),
        ("GET", b"/api/v1/apps/x/operations", False),
        ("GET", b"/api/v1/apps/x/%6fperations", False),
        ("GET", b"/api/v1/apps/x%2Foperations", False),
        ("GET", b"/api/v1/apps/x/data/../operations", False),
        ("GET", b"/api/v1/apps/x/data/%2e%2e/operations", False),
        ("GET", b"/api/v1/x-medkit/../updates", False),
        ("GET", b"/api/v1/apps/x//operations", False),
        ("GET", b"/api/v1/updates", False),
        ("GET", b"/api/v1/x-medkit/tree/stream", True),
        ("GET", b"/api/v1/version-info", True),
    ],
)
def test_the_allow_lists_judge_a_path_as_its_server_may_understand_it(
    method: str, target: bytes, allowed: bool
) -> None:
    access = Access(methods=frozenset({"GET"}), collections=frozenset({"data", "faults"}))
    if allowed:
        access.check("p", method, target)
    else:
        with pytest.raises(Forbidden, match="Peer 'p'"):
            access.check("p", method, target)


async def test_what_the_allow_lists_refuse_is_403_and_never_sent() -> None:
    recorder = Recorder("one")
    async with recorder.server:
        gateway = TestGateway("a", {})
        async with running(gateway), httpx.AsyncClient() as client:
            access = Access(methods=frozenset({"GET"}))
            gateway.federation.change(PeerEvent(ADDED, PeerSpec("one", recorder.server.url, access=access)))
            await async_eventually(lambda: "app_of_one" in gateway.federation.tree.apps)
            answer = await client.put(f"{gateway.url}/api/v1/apps/app_of_one/data/x", json={})
            assert (answer.status_code, answer.json()["error_code"]) == (403, "forbidden")
            assert answer.json()["parameters"] == {"peer": "one", "method": "PUT", "entity_id": "app_of_one"}
            assert not recorder.saw("put /api")


def test_settings_of_a_peer_win_over_those_of_all_and_a_pin_replaces_shared_authorities() -> None:
    all_peers = Aggregation(forward_auth=True, tls=PeerTls("/all/ca", "/all/cert", "/all/key"))
    pin = "ab" * 32
    assert access_of(None, all_peers) == Access(
        ca_file="/all/ca", client_cert="/all/cert", client_key="/all/key", forward_auth=True
    )
    own = access_of(Access(client_cert="/own/both", fingerprints=(pin,), forward_auth=False), all_peers)
    assert (own.ca_file, own.client_cert, own.client_key, own.forward_auth) == ("", "/own/both", "", False)
    assert access_of(Access(ca_file="/own/ca", fingerprints=(pin,)), all_peers).ca_file == "/own/ca"


@pytest.mark.parametrize("text", ["AB:" * 31 + "AB", "sha256:" + "ab" * 32, " " + "Ab" * 32])
def test_a_fingerprint_may_be_written_as_tools_print_it(text: str) -> None:
    assert fingerprint_of(text) == "ab" * 32


@pytest.mark.parametrize("text", ["", "ab" * 20, "zz" * 32, "ab" * 33])
def test_anything_else_is_no_fingerprint(text: str) -> None:
    assert fingerprint_of(text) is None


# TLS


class Authority:
    """A certificate authority, and servers with certificates of it."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.folder = folder
        self.ca_file = str(folder / "ca.pem")
        self.ca.cert_pem.write_to_path(self.ca_file)

    def issue(self, *names: str, expired: bool = False) -> tuple[ssl.SSLContext, str]:
        """A server's context, and the SHA-256 of its certificate."""
        past = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=2)
        certificate = self.ca.issue_cert(*names, not_after=past if expired else None)
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        certificate.configure_cert(context)
        der = ssl.PEM_cert_to_DER_cert(certificate.cert_chain_pems[0].bytes().decode())
        return context, hashlib.sha256(der).hexdigest()

    def client_certificate(self) -> str:
        """A file with a certificate and its key."""
        path = self.folder / "client.pem"
        self.ca.issue_cert("gateway-a").private_key_and_cert_chain_pem.write_to_path(str(path))
        return str(path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def tls_server(context: ssl.SSLContext) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Its URL by address, and the heads of the requests that it got."""
    heads: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            heads.append(await head_of(reader))
            writer.write(http(b"{}"))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, sock=listen(), ssl=context)
    try:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", heads
    finally:
        server.close()


async def ask(url: str, access: Access) -> int:
    """The status of one GET with these settings."""
    client = PeerClient("p", url, IDENTITY, 5.0, access=access)
    try:
        return (await client.get(b"/api/v1/faults")).status
    finally:
        await client.aclose()


async def test_a_certificate_of_the_right_authority_and_name_is_accepted(authority: Authority) -> None:
    context, pin = authority.issue("127.0.0.1")
    async with tls_server(context) as (url, heads):
        assert await ask(url, Access(token="t", ca_file=authority.ca_file)) == 200
        assert await ask(url, Access(token="t", ca_file=authority.ca_file, fingerprints=("00" * 32, pin))) == 200
        assert b"Bearer t" in heads[0]


async def test_a_pin_alone_accepts_its_certificate_and_no_other(authority: Authority) -> None:
    context, pin = authority.issue("another-name", expired=True)
    async with tls_server(context) as (url, heads):
        assert await ask(url, Access(fingerprints=(pin,))) == 200
        heads.clear()
        with pytest.raises(PeerUnavailable, match="not the pinned one"):
            await ask(url, Access(token="t", fingerprints=("00" * 32,)))
        assert heads == []


@pytest.mark.parametrize("wrong", ["authority", "name", "date", "pin beside an authority", "server name"])
async def test_a_wrong_certificate_is_502_and_gets_no_request(authority: Authority, wrong: str) -> None:
    context, _ = authority.issue("other.example" if wrong == "name" else "127.0.0.1", expired=wrong == "date")
    access = {
        "authority": Access(token="t"),
        "pin beside an authority": Access(token="t", ca_file=authority.ca_file, fingerprints=("00" * 32,)),
        "server name": Access(token="t", ca_file=authority.ca_file, server_name="robot.local"),
    }.get(wrong, Access(token="t", ca_file=authority.ca_file))
    async with tls_server(context) as (url, heads):
        with pytest.raises(PeerUnavailable, match="certificate"):
            await ask(url, access)
        assert heads == []


async def test_a_peer_found_by_address_is_verified_against_the_name_it_was_found_under(authority: Authority) -> None:
    context, _ = authority.issue("robot.local")
    async with tls_server(context) as (url, _):
        assert await ask(url, Access(ca_file=authority.ca_file, server_name="robot.local")) == 200


async def test_a_peer_that_asks_for_a_certificate_gets_ours(authority: Authority) -> None:
    context, pin = authority.issue("127.0.0.1")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(authority.ca_file)
    certificate = authority.client_certificate()
    async with tls_server(context) as (url, _):
        assert await ask(url, Access(ca_file=authority.ca_file, client_cert=certificate)) == 200
        assert await ask(url, Access(fingerprints=(pin,), client_cert=certificate)) == 200
        with pytest.raises(PeerUnavailable):
            await ask(url, Access(ca_file=authority.ca_file))


async def test_files_that_cannot_be_used_are_named_and_nothing_is_sent_without_them(authority: Authority) -> None:
    context, _ = authority.issue("127.0.0.1")
    broken = authority.folder / "broken.pem"
    broken.write_text("no certificate")
    async with tls_server(context) as (url, heads):
        for access in (
            Access(ca_file="/no/such/ca.pem"),
            Access(ca_file=str(broken)),
            Access(ca_file=authority.ca_file, client_cert=str(broken)),
        ):
            with pytest.raises(PeerUnavailable, match=r"(/no/such/ca|broken)\.pem"):
                await ask(url, access)
        assert heads == []
