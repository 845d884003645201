"""Host names of peers that somebody else named, looked up and judged at each connection (AGGREGATION.md §1, §9).

A name may lead to a harmless address when the peer is added and to this machine a minute later (DNS rebinding), so it
is not enough to look once. Peers of the configuration are not judged: whoever writes it may name any address.
"""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult

from .lookup import SystemResolver
from .peer_discovery.addresses import never, not_here, parse


class AddressNotAllowed(OSError):
    """A name leads to where no such peer may be; the text says where and why."""


class JudgedResolver(AbstractResolver):
    """The system's resolver, but what leads to an address that such a peer must not have is an error."""

    def __init__(self, allow_loopback: bool) -> None:
        self._allow_loopback = allow_loopback
        self._system = SystemResolver()

    def refused(self, host: str) -> str:
        """Why the host of a URL must not be contacted; "" when it may, or is a name that has to be looked up."""
        reason = refusal(host, self._allow_loopback) if parse(host) is not None else ""
        return f"{host} {reason}" if reason else ""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses, or AddressNotAllowed when one of them is refused."""
        found = await self._system.resolve(host, port, family)
        for one in found:
            reason = refusal(one["host"], self._allow_loopback)
            if reason:
                raise AddressNotAllowed(f"{host} leads to {one['host']}, which {reason}")
        return found

    async def close(self) -> None:
        """Nothing is held."""
        await self._system.close()


def refusal(text: str, allow_loopback: bool) -> str:
    """Why an address must not be contacted for a peer that is not of the configuration; "" when it may."""
    address = parse(text)
    if address is None:
        return "is no IP address"
    if not allow_loopback and not_here(address, allow_loopback=False).startswith("is a loopback"):
        return "is loopback, which only the configuration may name"
    return never(address) or not_here(address, allow_loopback=True)
