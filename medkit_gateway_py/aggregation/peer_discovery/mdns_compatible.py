"""Finding C++ gateways: they answer a PTR query with an SRV record and no address (AGGREGATION.md §3).

An mDNS library has nothing to resolve there. So they are asked once more, directly: a query with the QU bit from a
port of our own, whose answers come back to that port. The port of the gateway is in the SRV record, its address is
the one that the packet came from. IPv4 only, as those gateways are.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import anyio
from zeroconf import (
    BadTypeInNameException,
    DNSIncoming,
    DNSOutgoing,
    DNSPointer,
    DNSQuestion,
    DNSService,
    DNSText,
    ServiceInfo,
)

GROUP, MDNS_PORT = "224.0.0.251", 5353
# Numbers of RFC 1035 and RFC 6762.
_QUERY, _INTERNET, _PTR = 0x0000, 1, 12
# Answers to one query; a network with more gateways is asked again a minute later.
MAX_ANSWERS = 256
# What an answer may say beyond its own instance, before it is no answer to our question.
MAX_RECORDS = 32

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Heard:
    """An answer: the instance, its port, where the packet came from, its TXT record if there was one."""

    service: str
    address: str
    port: int
    txt: Mapping[bytes, bytes | None] = field(default_factory=dict)
    server: str = ""


class _Ear(asyncio.DatagramProtocol):
    """Collects packets, at most so many."""

    def __init__(self) -> None:
        self.packets: list[tuple[bytes, str]] = []

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if len(self.packets) < MAX_ANSWERS and addr[1] == MDNS_PORT:
            self.packets.append((data, addr[0]))


async def ask(service_type: str, interfaces: Sequence[str], wait_s: float) -> list[Heard]:
    """Ask for instances of `service_type` on these interfaces (IPv4 addresses); waits `wait_s` for answers.

    An interface that cannot send is left out. Each instance once for each address that answers for it.
    """
    query = DNSOutgoing(_QUERY, multicast=True)
    question = DNSQuestion(service_type, _PTR, _INTERNET)
    question.unicast = True
    query.add_question(question)
    loop = asyncio.get_running_loop()
    ears: list[tuple[asyncio.DatagramTransport, _Ear]] = []
    try:
        for interface in interfaces:
            try:
                transport, ear = await loop.create_datagram_endpoint(_Ear, sock=_socket(interface))
                ears.append((transport, ear))
                for packet in query.packets():
                    transport.sendto(packet, (GROUP, MDNS_PORT))
            except OSError as error:
                _log.debug("mDNS: nothing can be asked on %s: %s", interface, error)
        await anyio.sleep(wait_s)
    finally:
        for transport, _ in ears:
            transport.close()
    found: dict[tuple[str, str, int], Heard] = {}
    for _, ear in ears:
        for data, source in ear.packets:
            for heard in read_answer(data, source, service_type):
                found.setdefault((heard.service, heard.address, heard.port), heard)
    return list(found.values())


def read_answer(data: bytes, source: str, service_type: str) -> list[Heard]:
    """The instances of `service_type` that one packet tells of, with their SRV records; [] for anything else."""
    message = DNSIncoming(data)
    if not message.valid or not message.is_response():
        return []
    records = message.answers()[:MAX_RECORDS]
    names = {one.alias.lower() for one in records if isinstance(one, DNSPointer) and _same(one.name, service_type)}
    txt = {one.name.lower(): one.text for one in records if isinstance(one, DNSText)}
    found = []
    for one in records:
        if isinstance(one, DNSService) and one.name.lower() in names and one.ttl > 0:
            if not _same(one.name[-len(service_type) :], service_type):
                continue
            try:
                info = ServiceInfo(service_type, one.name, properties=txt.get(one.name.lower(), b""))
            except BadTypeInNameException:
                # A stranger chose the name; a gateway has none with control characters or without a label.
                continue
            found.append(Heard(one.name, source, one.port, dict(info.properties), one.server))
    return found


def without_identity(heard: Sequence[Heard]) -> list[list[Heard]]:
    """The answers of gateways that announce no identity, all of one instance and port together."""
    found: dict[tuple[str, int], list[Heard]] = {}
    for one in heard:
        if b"id" not in one.txt:
            found.setdefault((one.service, one.port), []).append(one)
    return list(found.values())


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()


def _socket(interface: str) -> socket.socket:
    asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    try:
        asking.setblocking(False)
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
        # As mDNS wants it: packets of the link have this number, and leave the machine for others on it too.
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
        asking.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 1)
        asking.bind((interface, 0))
    except OSError:
        asking.close()
        raise
    return asking
