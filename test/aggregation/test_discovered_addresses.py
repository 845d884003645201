"""Which addresses discovered peers may have, and what is read from announcements, whatever a stranger sends. Pure."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.aggregation.names import is_valid_peer_name
from medkit_gateway_py.aggregation.peer_discovery.addresses import AddressRefused, announced, is_one_of, usable
from medkit_gateway_py.aggregation.peer_discovery.announcement import (
    Announcement,
    CleartextRefused,
    Refused,
    Rules,
    own,
    read,
    unique_name,
)
from medkit_gateway_py.aggregation.sections import GatewayIdentity
from medkit_gateway_py.parameters import PeerUrl, peer_url

TYPE = "_medkit._tcp.local."
IDENTITY = GatewayIdentity("4b88c988-20fc-4cf3-aee7-80f62cd53b77", "6b01416a-2fe9075d", "node", "1.2.3")


def announce(
    addresses: tuple[str, ...] = ("192.168.1.5",),
    port: int | None = 8080,
    rules: Rules | None = None,
    **txt: bytes | None,
) -> Announcement:
    records = {key.encode(): value for key, value in txt.items()}
    return read(f"robot.{TYPE}", TYPE, addresses, port, records, "robot.local.", rules or Rules())


@pytest.mark.parametrize(
    "address",
    [
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "fd00:ec2::254",
        "::ffff:169.254.169.254",
        "64:ff9b::a9fe:a9fe",
        "2002:a9fe:a9fe::1",
        "0.0.0.0",
        "0.1.2.3",
        "::",
        "224.0.0.251",
        "ff02::fb",
        "255.255.255.255",
        "240.0.0.1",
        "::ffff:0.0.0.0",
    ],
)
def test_an_address_that_nobody_honestly_announces_spoils_the_announcement(address: str) -> None:
    with pytest.raises(AddressRefused):
        usable([address], allow_loopback=True)
    with pytest.raises(AddressRefused):
        usable(["192.168.1.5", address], allow_loopback=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"])
def test_loopback_is_used_only_when_allowed(address: str) -> None:
    assert len(usable([address], allow_loopback=True)) == 1
    with pytest.raises(AddressRefused, match="loopback"):
        usable([address], allow_loopback=False)
    assert usable([address, "10.0.0.1"], allow_loopback=False) == ("10.0.0.1",)


def test_link_local_addresses_need_a_scope() -> None:
    assert usable(["fe80::1%2"], allow_loopback=False) == ("fe80::1%2",)
    for address in ("fe80::1", "169.254.3.4"):
        with pytest.raises(AddressRefused, match="without a scope"):
            usable([address], allow_loopback=False)


def test_addresses_are_tried_from_the_likeliest_to_the_least() -> None:
    given_in_any_order = ["fe80::1%2", "127.0.0.1", "2001:db8::1", "10.0.0.1", "10.0.0.1"]
    assert usable(given_in_any_order, True) == ("10.0.0.1", "2001:db8::1", "fe80::1%2", "127.0.0.1")


@given(st.lists(st.ip_addresses(), max_size=6), st.booleans())
def test_what_is_used_is_always_one_host_of_a_network(addresses: list[ipaddress.IPv4Address], loopback: bool) -> None:
    try:
        used = usable(map(str, addresses), loopback)
    except AddressRefused:
        return
    assert used
    for text in used:
        address = ipaddress.ip_address(text)
        assert not (address.is_multicast or address.is_unspecified or address.is_link_local)
        assert loopback or not address.is_loopback
        assert text in map(str, addresses)


@given(st.text(max_size=40))
def test_text_that_is_no_address_is_refused(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        with pytest.raises(AddressRefused):
            usable([text], True)


# --- announcements ---------------------------------------------------------------------------------------------


def test_an_announcement_is_read() -> None:
    found = announce(
        ("192.168.1.5", "fe80::1%2"), 8080, id=b"abc-1", boot=b"b1", name=b"arm", path=b"/gw/", version=b"2"
    )
    assert found.urls == ("http://192.168.1.5:8080/gw", "http://[fe80::1%2]:8080/gw")
    assert (found.name, found.instance_id, found.boot_id, found.version) == ("arm", "abc-1", "b1", "2")
    assert found.server_name == "robot.local"


def test_a_gateway_without_a_txt_record_is_named_by_its_label_and_has_the_configured_scheme() -> None:
    found = announce(rules=Rules(scheme="https"))
    assert (found.name, found.instance_id, found.urls) == ("robot", "", ("https://192.168.1.5:8080",))


@pytest.mark.parametrize(
    ("txt", "reason"),
    [
        ({"path": b"/../etc"}, "path"),
        ({"path": b"/a/%2e%2e/../b"}, "path"),
        ({"path": b"@evil/"}, "slash"),
        ({"path": b"/@evil"}, "user name"),
        ({"path": b"/a?token=1"}, "query"),
        ({"path": b"/a#b"}, "fragment"),
        ({"path": b"/a b"}, "white space"),
        ({"path": b"//evil"}, "path"),
        ({"scheme": b"ftp"}, "scheme"),
        ({"scheme": b"javascript"}, "scheme"),
        ({"id": b"a b"}, "id"),
        ({"id": b"x" * 65}, "id"),
        ({"id": b"\xff\xfe"}, "id"),
        ({"boot": b"../"}, "boot"),
        ({"name": b"a\nb"}, "control characters"),
        ({"version": b"\x1b[31m"}, "control characters"),
        ({"name": b"x" * 256}, "too long"),
    ],
)
def test_a_spoiled_txt_record_refuses_the_announcement(txt: dict[str, bytes], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        announce(**txt)


@pytest.mark.parametrize("port", [None, 0, 22, 443443, 79, 1023, -1])
def test_ports_where_no_gateway_listens_are_refused(port: int | None) -> None:
    with pytest.raises(Refused, match="port"):
        announce(port=port)


def test_a_flood_of_addresses_is_refused() -> None:
    with pytest.raises(Refused, match="more than 16"):
        announce(tuple(f"10.0.0.{number}" for number in range(1, 18)))


def test_require_tls_refuses_what_is_reached_by_http() -> None:
    with pytest.raises(CleartextRefused):
        announce(rules=Rules(require_tls=True))
    assert announce(rules=Rules(require_tls=True), scheme=b"https").urls == ("https://192.168.1.5:8080",)


@given(
    st.lists(st.one_of(st.ip_addresses().map(str), st.text(max_size=10)), max_size=3).map(tuple),
    st.one_of(st.none(), st.integers(-1, 70000)),
    st.dictionaries(
        st.sampled_from(["id", "boot", "name", "scheme", "path", "version", "api", "x"]),
        st.one_of(st.none(), st.binary(max_size=80), st.text(max_size=80).map(str.encode), st.just(b"/..")),
    ),
)
def test_whatever_is_announced_gives_checked_urls_and_a_valid_name_or_a_refusal(
    addresses: tuple[str, ...], port: int | None, txt: dict[str, bytes | None]
) -> None:
    try:
        found = announce(addresses, port, **txt)
    except Refused:
        return
    assert is_valid_peer_name(found.name)
    assert found.urls
    for url in found.urls:
        parts = peer_url(url)
        assert isinstance(parts, PeerUrl)
        assert parts.host in found.addresses
        assert ".." not in parts.path.split("/")


@given(st.text(max_size=100), st.text(max_size=80), st.lists(st.text(max_size=10), max_size=5))
def test_a_name_is_valid_unique_and_as_wished_where_it_can_be(wish: str, distinct: str, others: list[str]) -> None:
    first = announce(name=wish.encode()[:200]) if wish.isprintable() else announce()
    taken = {first.name, *others}
    name = unique_name(first.name, distinct, taken)
    assert name not in taken
    assert is_valid_peer_name(name)
    assert unique_name(first.name, distinct, set()) == first.name


@given(st.text(max_size=200), st.text(max_size=100), st.text(max_size=80))
def test_our_own_announcement_fits_into_dns_and_is_read_by_ourselves(mdns: str, gateway: str, host: str) -> None:
    mine = own(IDENTITY, mdns, gateway, host, "http")
    assert 0 < len(mine.label.encode()) <= 63
    assert "." not in mine.label
    assert 0 < len(mine.host) <= 63
    assert mine.host.replace("-", "").isalnum()
    assert all(len(f"{key}={value}".encode()) < 256 for key, value in mine.txt.items())
    if mine.txt["name"].isprintable():
        found = announce(**{key: value.encode() for key, value in mine.txt.items()})
        assert (found.instance_id, found.boot_id) == (IDENTITY.id, IDENTITY.boot_id)


def test_the_label_is_the_given_name_or_the_host_with_part_of_the_id() -> None:
    assert own(IDENTITY, "gateway_a", "", "host", "http").label == "gateway_a"
    assert own(IDENTITY, "", "", "host", "http").label == "host-4b88c988"
    assert own(IDENTITY, "", "", "host", "http").txt["name"] == "host"
    assert own(IDENTITY, "", "named", "host", "https").txt["name"] == "named"


def test_the_txt_record_says_who_announces_what() -> None:
    assert own(IDENTITY, "arm", "", "host", "https").txt == {
        "id": IDENTITY.id, "boot": IDENTITY.boot_id, "name": "arm", "scheme": "https", "path": "",
        "version": IDENTITY.version, "api": "v1",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("host", "interfaces", "machine", "expected"),
    [
        ("0.0.0.0", (), ("127.0.0.1", "10.0.0.2", "::1", "fd00::2"), ("10.0.0.2",)),
        ("::", (), ("127.0.0.1", "10.0.0.2", "::1", "fd00::2", "fe80::1%2"), ("10.0.0.2", "fd00::2", "fe80::1")),
        ("0.0.0.0", (), ("127.0.0.1", "::1"), ("127.0.0.1",)),
        ("0.0.0.0", ("127.0.0.1",), ("127.0.0.1", "10.0.0.2"), ("127.0.0.1",)),
        ("10.0.0.2", (), ("127.0.0.1", "10.0.0.2", "10.0.0.3"), ("10.0.0.2",)),
        ("localhost", (), ("127.0.0.1", "10.0.0.2"), ("127.0.0.1",)),
    ],
)
def test_only_addresses_where_the_server_listens_are_announced(
    host: str, interfaces: tuple[str, ...], machine: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert announced(host, interfaces, machine) == expected


def test_an_address_of_this_machine_is_known_with_any_scope() -> None:
    machine = ("10.0.0.2", "fe80::1%2")
    assert is_one_of("fe80::1%eth0", machine)
    assert is_one_of("10.0.0.2", machine)
    assert not is_one_of("10.0.0.3", machine)
    assert not is_one_of("eth0", machine)
