"""What tests of mDNS share: service types of their own, announcements of strangers, a responder as of C++ gateways."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from typing import Any

from zeroconf import DNSIncoming, DNSOutgoing, DNSPointer, DNSQuestion, DNSService, DNSText
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

LOOPBACK = "127.0.0.1"
GROUP, PORT = "224.0.0.251", 5353
PTR, TXT, SRV, IN, UNIQUE = 12, 16, 33, 1, 0x8001
RESPONSE = 0x8400


def private_service() -> str:
    """A service type that no other test uses: all of a machine hear each other."""
    return f"_mt{secrets.token_hex(5)}._tcp.local"


def mdns_settings(service: str, **more: Any) -> dict[str, Any]:
    """`aggregation.*` of a gateway that announces and looks on the loopback interface only."""
    return {
        "announce": True,
        "discover": True,
        "mdns_service": service,
        "mdns_interfaces": (LOOPBACK,),
        "allow_loopback_discovery": True,
        **more,
    }


@contextlib.asynccontextmanager
async def stranger() -> AsyncIterator[AsyncZeroconf]:
    """Somebody on the network who may announce anything; says goodbye for all of it at the end."""
    zeroconf = AsyncZeroconf(interfaces=[LOOPBACK])
    try:
        yield zeroconf
    finally:
        await zeroconf.async_unregister_all_services()
        await zeroconf.async_close()


async def announce(
    zeroconf: AsyncZeroconf, service: str, label: str, port: int, txt: Mapping[str, str], *addresses: str
) -> AsyncServiceInfo:
    """Announce a gateway, or announce it anew; whether the name is taken is not asked, as by one who means no good."""
    kind = f"{service}."
    info = AsyncServiceInfo(
        kind, f"{label}.{kind}", port=port, server=f"{label}-host.local.",
        parsed_addresses=list(addresses or (LOOPBACK,)), properties=dict(txt),
    )  # fmt: skip
    if zeroconf.zeroconf.registry.async_get_info_name(info.key) is None:
        zeroconf.zeroconf.registry.async_add(info)
    else:
        zeroconf.zeroconf.registry.async_update(info)
    zeroconf.zeroconf.async_send(zeroconf.zeroconf.generate_service_broadcast(info, None))
    return info


class CompatibleResponder:
    """Answers PTR queries as the C++ gateway does: with PTR and SRV, without an address; TXT only where it is given."""

    def __init__(self, service: str, label: str, port: int, txt: bytes = b"") -> None:
        self._type = f"{service}."
        self._txt = txt
        self.name = f"{label}.{self._type}"
        self._port = port
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.asked_for_unicast = 0

    async def __aenter__(self) -> CompatibleResponder:
        sock = self._socket
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(("", PORT))
        member = struct.pack("4s4s", socket.inet_aton(GROUP), socket.inet_aton(LOOPBACK))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
        asyncio.get_running_loop().add_reader(sock.fileno(), self._read)
        return self

    async def __aexit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self._socket.fileno())
        self._socket.close()

    def _read(self) -> None:
        data, source = self._socket.recvfrom(9000)
        message = DNSIncoming(data)
        if not message.valid or message.is_response():
            return
        for question in message.questions:
            if question.type == PTR and question.name == self._type:
                self.asked_for_unicast += question.unicast
                self._send(source if question.unicast else (GROUP, PORT))

    def _send(self, target: tuple[str, int], ttl: int = 120) -> None:
        out = DNSOutgoing(RESPONSE, multicast=True)
        out.add_answer_at_time(DNSPointer(self._type, PTR, IN, ttl, self.name), 0)
        out.add_additional_answer(DNSService(self.name, SRV, UNIQUE, ttl, 0, 0, self._port, "robot.local."))
        if self._txt:
            out.add_additional_answer(DNSText(self.name, TXT, UNIQUE, ttl, self._txt))
        for packet in out.packets():
            self._socket.sendto(packet, target)

    def say_hello(self) -> None:
        """Both records, unasked."""
        self._send((GROUP, PORT))

    def say_goodbye(self) -> None:
        """Both records with a time to live of zero."""
        self._send((GROUP, PORT), 0)


async def simple_client(service: str, *, unicast: bool, wait_s: float = 1.5) -> list[DNSIncoming]:
    """What a simple client gets that asks for PTR once, from a port of its own."""
    query = DNSOutgoing(0, multicast=True)
    question = DNSQuestion(f"{service}.", PTR, IN)
    question.unicast = unicast
    query.add_question(question)
    heard: list[DNSIncoming] = []

    class Ear(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            heard.append(DNSIncoming(data))

    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
    sock.bind((LOOPBACK, 0))
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Ear, sock=sock)
    try:
        for packet in query.packets():
            transport.sendto(packet, (GROUP, PORT))
        await asyncio.sleep(wait_s)
    finally:
        transport.close()
    return heard
