"""Which addresses a discovered peer may have, and the addresses of this machine (AGGREGATION.md §1).

Anybody on the network can announce anything. What is refused here is never contacted, so that an announcement cannot
make the gateway talk to itself, to everybody at once, or to the metadata service of a cloud.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence

import ifaddr

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# Where clouds tell a machine its credentials; those inside 169.254.0.0/16 would be refused as link-local anyway.
METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",  # AWS, Azure, GCP, and most others
        "169.254.170.2",  # AWS, of a container
        "169.254.170.23",  # AWS, of a pod
        "fd00:ec2::254",
        "fd00:ec2::23",
        "fd20:ce::254",  # GCP
        "100.100.100.200",  # Alibaba
        "192.0.0.192",  # Oracle
        "168.63.129.16",  # Azure, the wire server
    )
)
_THIS_NETWORK = ipaddress.ip_network("0.0.0.0/8")
# Addresses of IPv6 that stand for one of IPv4: the translated ones (NAT64), 6to4.
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SIX_TO_FOUR = ipaddress.ip_network("2002::/16")


class AddressRefused(ValueError):
    """No address of an announcement may be used, or one shows that it is no honest one; the text says why."""


def parse(text: str) -> Address | None:
    """The address, with the scope of a link-local one of IPv6; None when the text is none."""
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def parse_all(texts: Iterable[str]) -> list[Address]:
    """Those of the texts that are addresses."""
    return [address for address in map(parse, texts) if address is not None]


def never(address: Address) -> str:
    """Why no honest gateway has this address; "" when one may."""
    for one in (address, *_embedded(address)):
        if one in METADATA or _without_scope(one) in METADATA:
            return "is the metadata service of a cloud"
        if one.is_unspecified or (one.version == 4 and one in _THIS_NETWORK):
            return "is unspecified"
        if one.is_multicast:
            return "is a multicast address"
        if one.version == 4 and one.is_reserved:
            return "is a broadcast or reserved address"
    return ""


def not_here(address: Address, allow_loopback: bool) -> str:
    """Why we do not use this address, though a gateway may honestly have it; "" when we do."""
    for one in (address, *_embedded(address)):
        if one.is_loopback and not allow_loopback:
            return "is a loopback address, and aggregation.allow_loopback_discovery is false"
        if one.is_link_local and not _scope(address):
            return "is link-local without a scope"
    return ""


def usable(texts: Iterable[str], allow_loopback: bool) -> tuple[str, ...]:
    """The addresses that may be tried, in this order: routable ones of IPv4, of IPv6, link-local ones, loopback.

    Raises AddressRefused when one is of a kind that nobody honestly announces, or when none is left.
    """
    found: dict[str, tuple[bool, bool, int]] = {}
    reasons: list[str] = []
    for text in texts:
        address = parse(text)
        if address is None:
            raise AddressRefused("holds something that is no IP address")
        reason = never(address)
        if reason:
            raise AddressRefused(f"{address} {reason}")
        reason = not_here(address, allow_loopback)
        if reason:
            reasons.append(f"{address} {reason}")
        else:
            found.setdefault(str(address), (address.is_loopback, address.is_link_local, address.version))
    if not found:
        raise AddressRefused(reasons[0] if reasons else "has no address")
    return tuple(sorted(found, key=lambda text: found[text]))


def machine_addresses() -> tuple[str, ...]:
    """All addresses of this machine, those of IPv6 with their scope where they are link-local."""
    found: list[str] = []
    for adapter in ifaddr.get_adapters():
        for one in adapter.ips:
            if isinstance(one.ip, str):
                found.append(one.ip)
            else:
                text, _, scope = one.ip
                found.append(f"{text}%{scope}" if scope else text)
    return tuple(dict.fromkeys(found))


def machine_interfaces() -> list[str | int]:
    """What to send and listen on, as python-zeroconf takes it: addresses of IPv4, numbers of interfaces for IPv6.

    Not `::1`: IPv6 has no multicast there, and every packet would fail.
    """
    found: dict[str | int, None] = {}
    for adapter in ifaddr.get_adapters():
        for one in adapter.ips:
            if isinstance(one.ip, str):
                found[one.ip] = None
            elif adapter.index is not None and not ipaddress.IPv6Address(one.ip[0]).is_loopback:
                found[adapter.index] = None
    return list(found)


def is_one_of(text: str, of_machine: Iterable[str]) -> bool:
    """Whether an address is among these; scopes do not count, for they are written as numbers or as names."""
    wanted = parse(text)
    return wanted is not None and _without_scope(wanted) in map(_without_scope, parse_all(of_machine))


def announced(host: str, interfaces: Sequence[str], of_machine: Sequence[str]) -> tuple[str, ...]:
    """The addresses to announce for a server that listens on `host`.

    `interfaces` as in `aggregation.mdns_interfaces`; without them all of the machine but loopback, which is announced
    only where there is nothing else.
    """
    bound = parse("127.0.0.1" if host == "localhost" else host)
    if bound is not None and not bound.is_unspecified:
        return (str(bound),)
    chosen = parse_all(interfaces or of_machine)
    if bound is None or bound.version == 4:
        chosen = [address for address in chosen if address.version == 4]
    if not interfaces:
        chosen = [address for address in chosen if not address.is_loopback] or chosen
    return tuple(dict.fromkeys(str(_without_scope(address)) for address in chosen))


def _embedded(address: Address) -> tuple[ipaddress.IPv4Address, ...]:
    """The IPv4 address that an IPv6 address stands for."""
    if isinstance(address, ipaddress.IPv4Address):
        return ()
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    plain = _without_scope(address)
    if plain in _NAT64:
        return (ipaddress.IPv4Address(int(plain) & 0xFFFFFFFF),)
    if plain in _SIX_TO_FOUR:
        return (ipaddress.IPv4Address(int(plain) >> 80 & 0xFFFFFFFF),)
    return ()


def _scope(address: Address) -> str:
    return (address.scope_id or "") if isinstance(address, ipaddress.IPv6Address) else ""


def _without_scope(address: Address) -> Address:
    return ipaddress.IPv6Address(int(address)) if _scope(address) else address
