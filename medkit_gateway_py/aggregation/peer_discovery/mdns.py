"""Peers that announce themselves by mDNS, and this gateway's own announcement (AGGREGATION.md §3).

python-zeroconf speaks the protocol; `announcement.py` reads what was said, `candidates.py` decides who becomes a peer.
What is measured: a goodbye is heard at once, a gateway that was killed is never reported, and one that comes back on
the same port neither. So what is heard here are addresses, and nothing else is concluded from silence.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from zeroconf import (
    DNSPointer,
    RecordUpdate,
    RecordUpdateListener,
    ServiceStateChange,
    Zeroconf,
)
from zeroconf import Error as ZeroconfError
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from . import DiscoveryContext, PeerEvent, announcement
from .addresses import announced, is_one_of, machine_addresses, machine_interfaces, parse, parse_all
from .announcement import Announcement, CleartextRefused, Refused, Rules
from .candidate import Ask, Limits
from .candidates import Candidates
from .health_probe import HealthProbe
from .mdns_compatible import ask, without_identity

# Names that wait to be resolved. A flood beyond is looked at later, from the library's bounded cache.
MAX_WAITING = 256
RESOLVERS = 4
RESOLVE_MS = 3000
# How often addresses of this machine are compared: a robot's wireless network comes up after the gateway.
ADDRESSES_S = 10.0
# How often everything that is announced is looked at again: gateways that were dropped may answer by now.
LOOK_AGAIN_S = 120.0
# After a failure to open the sockets.
REOPEN_S = 30.0
# When C++ gateways are asked directly: soon after the start, then rarely; a name without an address asks at once.
ASK_AFTER_S = (0.5, 3.0, 10.0)
ASK_EVERY_S = 60.0
ASK_WAIT_S = 1.0
ASK_GAP_S = 3.0
STOP_S = 0.8

OFF, STARTING, OK, DEGRADED, DOWN = "off", "starting", "ok", "degraded", "down"

NO_SOCKET = (
    "mDNS: Failed to open mDNS announce socket on port 5353: {cause}. Static peers are used; it is tried again every "
    "{again:.0f} s. Ways out: 1. give the capability: sudo setcap cap_net_bind_service=+ep $(which gateway_node) (does "
    "nothing for a Python script, and port 5353 needs none); 2. run as root; 3. use Docker with host networking "
    "(--net=host); 4. use static peers: aggregation.announce and aggregation.discover false, aggregation.peer_urls and "
    "aggregation.peer_names set. Usually another mDNS responder holds the port without sharing it: stop that one."
)

_log = logging.getLogger(__name__)


class MdnsPeers:
    """Announces and browses, each as configured. All methods are called on the asyncio loop."""

    name = "mdns"

    def __init__(self, context: DiscoveryContext, limits: Limits | None = None, probe: Ask | None = None) -> None:
        settings = context.config.aggregation
        server = context.config.server
        self._context = context
        self._announce, self._discover = bool(settings.announce), bool(settings.discover)
        self._type = settings.mdns_service.rstrip(".") + "."
        self._interfaces = tuple(settings.mdns_interfaces)
        self._rules = Rules(settings.peer_scheme, settings.require_tls, settings.allow_loopback_discovery)
        self._host, self._port = server.host, server.port
        self._limits = limits
        self._probe = probe or HealthProbe(context)
        self._own = announcement.own(
            context.identity,
            settings.mdns_name,
            context.config.gateway.name,
            socket.gethostname(),
            "https" if server.tls.enabled else "http",
        )
        self._state, self._since, self._reason = OFF, time.time(), ""
        self._machine: tuple[str, ...] = ()
        self._zeroconf: AsyncZeroconf | None = None
        self._browser: AsyncServiceBrowser | None = None
        self._info: AsyncServiceInfo | None = None
        self._candidates: Candidates | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._waiting: dict[str, None] = {}
        self._woken = asyncio.Event()
        self._asked = asyncio.Event()

    def health(self) -> dict[str, Any]:
        """The block of `/health` (DECISIONS 25)."""
        block: dict[str, Any] = {"state": self._state, "since": round(self._since, 3)}
        if self._reason:
            block["reason"] = self._reason
        if self._info is not None:
            block["announced_as"] = self._info.name
        if self._candidates is not None:
            block["discovered_peers"] = len(self._candidates.peers)
            block["refused"] = self._candidates.counts.refused + self._candidates.counts.dropped
        return block

    async def start(self, emit: Callable[[PeerEvent], None]) -> None:
        """Begin in the background: opening and announcing take two seconds."""
        if not self._announce and not self._discover:
            return
        self._become(STARTING)
        work = [self._stay_open()]
        if self._discover:
            self._candidates = Candidates(self._context, emit, self._probe, self.name, self._limits)
            work += [self._candidates.run(), self._ask_directly(), self._look_again()]
            work += [self._resolve_waiting() for _ in range(RESOLVERS)]
        self._tasks = [asyncio.create_task(self._watched(one), name="mdns") for one in work]

    async def stop(self) -> None:
        """Say goodbye and close the sockets, in less than a second."""
        for task in self._tasks:
            task.cancel()
        with anyio.move_on_after(STOP_S) as scope:
            await self._close()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._candidates is not None:
                await self._candidates.close()
        if scope.cancelled_caught:
            _log.warning("mDNS did not end in time; others may not have heard the goodbye")
        self._become(OFF)

    async def _watched(self, work: Coroutine[Any, Any, None]) -> None:
        """None of the loops ends by itself; one that does must not do so in silence."""
        try:
            await work
        except Exception as error:
            self._become(DEGRADED, f"a part of it ended: {type(error).__name__}: {error}")
            _log.exception("mDNS: a part of it ended")

    # The sockets and our announcement

    async def _stay_open(self) -> None:
        """Open, and follow the addresses of this machine, until cancelled."""
        said = ""
        while True:
            if self._zeroconf is None:
                problem = await self._open()
                if problem and problem != said:
                    _log.error("%s", problem)
                said = problem
            else:
                await self._follow_addresses()
            await anyio.sleep(ADDRESSES_S if self._zeroconf is not None else REOPEN_S)

    async def _open(self) -> str:
        """Open everything; "" or what went wrong, in words for the log."""
        wrong = [text for text in self._interfaces if parse(text) is None]
        if wrong:
            self._become(DOWN, f"aggregation.mdns_interfaces: '{wrong[0]}' is no IP address")
            return f"mDNS is not used: {self._reason}"
        try:
            self._machine = await anyio.to_thread.run_sync(machine_addresses)
            if self._interfaces and not any(is_one_of(text, self._machine) for text in self._interfaces):
                self._judge()
                return f"mDNS is not used yet: {self._reason}"
            self._zeroconf = self._sockets()
            await self._zeroconf.zeroconf.async_wait_for_start()
            if self._discover:
                self._browse(self._zeroconf.zeroconf)
            if self._announce:
                await self._register(self._zeroconf)
        except OSError as error:
            await self._close()
            taken = "another process holds it and does not share it" if error.errno == errno.EADDRINUSE else str(error)
            self._become(DOWN, f"port 5353: {taken}")
            return NO_SOCKET.format(cause=taken, again=REOPEN_S)
        except (ZeroconfError, RuntimeError, asyncio.TimeoutError) as error:
            await self._close()
            self._become(DOWN, f"{type(error).__name__}: {error}")
            return f"mDNS is not used: {self._reason}"
        self._judge()
        if self._state == DEGRADED:
            _log.warning("mDNS: %s", self._reason)
        return ""

    def _judge(self) -> None:
        """`ok`, or `degraded` because there is less to announce on than asked for."""
        missing = [text for text in self._interfaces if not is_one_of(text, self._machine)]
        if missing:
            text = f"aggregation.mdns_interfaces: {', '.join(missing)} is no address of this machine"
            self._become(DEGRADED if len(missing) < len(self._interfaces) else DOWN, text)
        elif self._info is not None and not self._info.addresses:
            self._become(DEGRADED, "this machine has no address to announce")
        else:
            self._become(OK)

    def _sockets(self) -> AsyncZeroconf:
        if self._interfaces:
            return AsyncZeroconf(interfaces=[text for text in self._interfaces if is_one_of(text, self._machine)])
        every = machine_interfaces()
        try:
            return AsyncZeroconf(interfaces=every)
        except OSError as error:
            only_ipv4 = [one for one in every if isinstance(one, str)]
            if error.errno == errno.EADDRINUSE or len(only_ipv4) == len(every):
                raise
            _log.info("mDNS: without IPv6: %s", error)
            return AsyncZeroconf(interfaces=only_ipv4)

    def _browse(self, zeroconf: Zeroconf) -> None:
        zeroconf.async_add_listener(_Goodbyes(self._type, self._goodbye), None)
        self._browser = AsyncServiceBrowser(zeroconf, self._type, handlers=[self._heard])

    async def _register(self, zeroconf: AsyncZeroconf) -> None:
        addresses = announced(self._host, self._interfaces, self._machine)
        if addresses and all(address.is_loopback for address in parse_all(addresses)):
            _log.warning(
                "mDNS: this gateway is announced at %s, where no other machine reaches it", ", ".join(addresses)
            )
        self._info = AsyncServiceInfo(
            self._type,
            f"{self._own.label}.{self._type}",
            port=self._port,
            server=f"{self._own.host}.local.",
            parsed_addresses=list(addresses),
            properties=dict(self._own.txt),
        )
        # Two of one name tell themselves apart by their ids; the second gets a number.
        broadcast = await zeroconf.async_register_service(self._info, allow_name_change=True)
        where = ", ".join(addresses) or "no address"
        _log.info("mDNS: announced as '%s' at %s, port %d", self._info.name, where, self._port)
        await broadcast

    async def _follow_addresses(self) -> None:
        try:
            before, self._machine = self._machine, await anyio.to_thread.run_sync(machine_addresses)
            if set(before) == set(self._machine) or self._zeroconf is None:
                return
            if self._interfaces or not hasattr(self._zeroconf, "async_update_interfaces"):
                await self._close()
                _log.info("mDNS: the addresses of this machine changed")
                _report(await self._open())
                return
            await self._zeroconf.async_update_interfaces(machine_interfaces())
            addresses = announced(self._host, self._interfaces, self._machine)
            if self._info is not None and addresses != announced(self._host, self._interfaces, before):
                self._info.addresses = [one.packed for one in parse_all(addresses)]
                await (await self._zeroconf.async_update_service(self._info))
                _log.info("mDNS: announced at %s now", ", ".join(addresses) or "no address")
            self._judge()
        except (OSError, ZeroconfError, RuntimeError) as error:
            self._become(DEGRADED, f"after a change of addresses: {error}")
            _log.warning("mDNS: %s", self._reason)

    async def _close(self) -> None:
        zeroconf, self._zeroconf, browser, self._browser = self._zeroconf, None, self._browser, None
        self._info = None
        if browser is not None:
            await browser.async_cancel()
        if zeroconf is not None:
            await zeroconf.async_unregister_all_services()
            await zeroconf.async_close()

    def _become(self, state: str, reason: str = "") -> None:
        if state != self._state:
            self._since = time.time()
        self._state, self._reason = state, reason

    # What is heard

    def _heard(self, zeroconf: Zeroconf, service_type: str, name: str, state_change: ServiceStateChange) -> None:
        # What the library removes has expired: that says nothing about who is away (the goodbye is heard elsewhere).
        if state_change is not ServiceStateChange.Removed:
            self._want(name)

    def _want(self, name: str) -> None:
        if len(self._waiting) < MAX_WAITING:
            self._waiting[name] = None
            self._woken.set()

    def _goodbye(self, name: str) -> None:
        self._waiting.pop(name, None)
        if self._candidates is not None:
            self._candidates.lost(name)

    async def _resolve_waiting(self) -> None:
        while True:
            await self._woken.wait()
            if not self._waiting:
                self._woken.clear()
                continue
            name = next(iter(self._waiting))
            del self._waiting[name]
            try:
                await self._resolve(name)
            except Exception:
                # Strangers choose what is read here; whatever it is, it must not end the looking.
                _log.exception("mDNS: an announcement could not be read")

    async def _resolve(self, name: str) -> None:
        if self._zeroconf is None or (self._info is not None and name == self._info.name):
            return
        try:
            info = AsyncServiceInfo(self._type, name)
            complete = await info.async_request(self._zeroconf.zeroconf, RESOLVE_MS)
        except ZeroconfError as error:
            self._refuse(name, f"has a name that is none ({type(error).__name__})")
            return
        if not complete or not info.parsed_scoped_addresses():
            self._asked.set()
            return
        self._read(name, info.parsed_scoped_addresses(), info.port, dict(info.properties), info.server or "")

    def _read(
        self, name: str, addresses: list[str], port: int | None, txt: dict[bytes, bytes | None], server: str
    ) -> None:
        try:
            found = announcement.read(name, self._type, addresses, port, txt, server, self._rules)
        except CleartextRefused as error:
            self._refuse(name, f"is not used: {error}", logging.ERROR)
        except Refused as error:
            self._refuse(name, f"is not used: {error}")
        else:
            if self._candidates is not None and not self._is_self(found):
                self._candidates.found(found)

    def _refuse(self, name: str, reason: str, level: int = logging.WARNING) -> None:
        if self._candidates is not None:
            self._candidates.refuse(name, reason, level)

    def _is_self(self, found: Announcement) -> bool:
        """Of a gateway without an identity: whether it is at our own address and port (AGGREGATION.md §3)."""
        return (
            not found.instance_id
            and found.port == self._port
            and any(address in self._machine for address in found.addresses)
        )

    async def _look_again(self) -> None:
        """Take up what is announced and was dropped: it may answer by now."""
        while True:
            await anyio.sleep(LOOK_AGAIN_S)
            if self._zeroconf is None or self._candidates is None:
                continue
            for record in list(self._zeroconf.zeroconf.cache.async_entries_with_name(self._type)):
                if isinstance(record, DNSPointer) and not self._candidates.knows(record.alias):
                    self._want(record.alias)

    async def _ask_directly(self) -> None:
        """Ask for gateways that an mDNS library cannot resolve."""
        pauses = iter(ASK_AFTER_S)
        while True:
            with anyio.move_on_after(next(pauses, ASK_EVERY_S)):
                await self._asked.wait()
            self._asked.clear()
            if self._zeroconf is None:
                continue
            try:
                await self._ask_once()
            except Exception:
                # As above: strangers choose what is read.
                _log.exception("mDNS: answers could not be read")
            await anyio.sleep(ASK_GAP_S)

    async def _ask_once(self) -> None:
        chosen = self._interfaces or self._machine
        heard = await ask(self._type, [text for text in chosen if ":" not in text], ASK_WAIT_S)
        for first, *more in without_identity(heard):
            addresses = [one.address for one in (first, *more)]
            self._read(first.service, addresses, first.port, dict(first.txt), first.server)


class _Goodbyes(RecordUpdateListener):
    """Hears instances say goodbye. A browser reports those, too, that have merely expired."""

    def __init__(self, service_type: str, said: Callable[[str], None]) -> None:
        super().__init__()
        self._type = service_type.lower()
        self._said = said

    def async_update_records(self, zc: Zeroconf, now: float, records: list[RecordUpdate]) -> None:
        """Called by the library with the records of each packet."""
        for update in records:
            record = update.new
            if isinstance(record, DNSPointer) and record.ttl == 0 and record.name.lower() == self._type:
                self._said(record.alias)


def _report(problem: str) -> None:
    if problem:
        _log.error("%s", problem)
