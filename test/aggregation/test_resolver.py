"""Names of peers that others gave, judged at every connection: a name may lead elsewhere a minute later."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from medkit_gateway_py.aggregation.client import PeerClient
from medkit_gateway_py.aggregation.lookup import SystemResolver
from medkit_gateway_py.aggregation.resolver import AddressNotAllowed, JudgedResolver, refusal
from medkit_gateway_py.aggregation.sections import GatewayIdentity
from medkit_gateway_py.errors import PeerUnavailable
from support.fake_peer import FaultyServer, head_of, http

pytestmark = pytest.mark.anyio
IDENTITY = GatewayIdentity("me", "boot", "me", "1.0.0")


@pytest.mark.parametrize(
    ("address", "refused"),
    [
        ("192.168.1.7", ""),
        ("2001:db8::7", ""),
        ("fe80::7%eth0", ""),
        ("127.0.0.1", "is loopback"),
        ("::1", "is loopback"),
        ("::ffff:127.0.0.1", "is loopback"),
        ("169.254.169.254", "metadata"),
        ("0.0.0.0", "unspecified"),
        ("224.0.0.251", "multicast"),
        ("255.255.255.255", "broadcast"),
        ("fe80::7", "without a scope"),
        ("gibberish", "no IP address"),
    ],
)
def test_addresses_that_only_the_configuration_may_name(address: str, refused: str) -> None:
    said = refusal(address, allow_loopback=False)
    assert (refused in said) if refused else said == ""


def test_loopback_may_be_allowed_and_nothing_else_with_it() -> None:
    assert refusal("127.0.0.1", allow_loopback=True) == refusal("::1", allow_loopback=True) == ""
    assert refusal("169.254.169.254", allow_loopback=True)


async def test_a_name_that_moves_to_this_machine_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    async def handle(reader: Any, writer: Any) -> None:
        asked.append(await head_of(reader))
        writer.write(http(b"{}"))

    leads_to = "127.0.0.1"

    async def resolve(self: Any, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
        one = {"hostname": host, "host": leads_to, "port": port, "family": socket.AF_INET, "proto": 0, "flags": 0}
        return [one]

    monkeypatch.setattr(SystemResolver, "resolve", resolve)
    async with FaultyServer(handle) as server:
        url = server.url.replace("127.0.0.1", "robot.example")
        client = PeerClient("p", url, IDENTITY, 1.0, resolver=JudgedResolver(False))
        with pytest.raises(PeerUnavailable, match=r"robot\.example leads to 127\.0\.0\.1, which is loopback"):
            await client.get(b"/api/v1/health")
        await client.aclose()
        assert asked == []
        allowed = PeerClient("p", url, IDENTITY, 1.0, resolver=JudgedResolver(True))
        assert (await allowed.get(b"/api/v1/health")).status == 200
        await allowed.aclose()
    assert len(asked) == 1


async def test_one_refused_address_among_good_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(self: Any, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[Any]:
        return [{"host": "192.0.2.1"}, {"host": "169.254.169.254"}]

    monkeypatch.setattr(SystemResolver, "resolve", resolve)
    with pytest.raises(AddressNotAllowed, match=r"169\.254\.169\.254, which is the metadata service"):
        await JudgedResolver(True).resolve("robot.example")


@pytest.mark.parametrize(("url", "reason"), [("http://169.254.169.254", "metadata"), ("http://[::1]:1", "loopback")])
async def test_an_address_in_the_url_is_judged_as_one_that_a_name_leads_to(url: str, reason: str) -> None:
    client = PeerClient("p", url, IDENTITY, 1.0, resolver=JudgedResolver(False))
    with pytest.raises(PeerUnavailable, match=reason):
        await client.get(b"/api/v1/health")
    await client.aclose()
