"""The HTTP client towards one peer: what is sent with every call, bounds on what comes back, failures as errors.

`get` reads a bounded JSON answer whole, `open` streams. Neither knows whether the peer is thought to be up: that is
`peer.py`. Errors name the peer, never its URL's credentials or a header.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import anyio
import httpx
from aiohttp.abc import AbstractResolver

from ..errors import NotResponding, PeerUnavailable, ServiceUnavailable
from ..parameters.aggregation import Aggregation
from .access import Access, access_of
from .call_stats import LATE, UNAVAILABLE, CallStats
from .decoding import TooManyValues, decode
from .peer_discovery import BY_OPERATOR, BY_PARAMETERS, PeerSpec
from .request import DEADLINE, GATEWAY, HOP_MARGIN_S, VIA, RequestInfo
from .resolver import JudgedResolver
from .sections import GatewayIdentity
from .tls import Pins, TlsProblem, context_of
from .transport import CALLS, CONTROL, FRESH, LANE_LIMITS, Disconnected, Outgoing, PeerTransport

MAX_JSON = 10 * 1024 * 1024
# 20 000 entities of a peer are about 8 MiB; one order of magnitude more is no tree.
MAX_TREE = 64 * 1024 * 1024
# Longest wait for a place in a lane; who waits longer gets 503, the peer is not to blame.
LANE_WAIT_S = 0.5
# Less than this is not worth a request.
MIN_BUDGET_S = 0.02
# Calls begun with settings that were replaced may end with them: longer than any command takes. A stream or download
# that goes on is cut then, and asked for again by its client.
DRAIN_S = 120.0
DRAIN_LOOK_S = 0.1
# A body that is decoded on the loop; a longer one is decoded in a thread.
DECODE_ON_LOOP = 256 * 1024

Headers = Iterable[tuple[bytes, bytes]]

_log = logging.getLogger(__name__)


class BadAnswer(ValueError):
    """The peer is alive, and what it answered cannot be used; the text says why."""


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    headers: httpx.Headers
    body: bytes

    async def json(self) -> Any:
        """The decoded body; raises BadAnswer."""
        try:
            if len(self.body) > DECODE_ON_LOOP:
                return await anyio.to_thread.run_sync(decode, self.body)
            return decode(self.body)
        except TooManyValues as error:
            raise BadAnswer(f"answered {self.status} with {error}, which is not read") from None
        except ValueError:
            kind = self.headers.get("content-type", "no content type").split(";")[0][:60]
            raise BadAnswer(f"answered {self.status} with something that is no JSON ({kind})") from None


class PeerClient:
    """One peer's connections. `url` is the base URL, already checked; made and used on the loop."""

    def __init__(
        self,
        name: str,
        url: str,
        identity: GatewayIdentity,
        timeout_s: float,
        *,
        access: Access | None = None,
        resolver: AbstractResolver | None = None,
        stats: CallStats | None = None,
    ) -> None:
        self._resolver = resolver
        self.name = name
        self.url = url
        self.timeout_s = timeout_s
        self._identity = identity
        self._access = access or Access()
        self._parsed = httpx.URL(url)
        self._base_path = self._parsed.raw_path.rstrip(b"/")
        self._problem = ""
        self._pins: Pins | None = None
        self._hurried = False
        self.stats = stats or CallStats()
        self._transport = self._connections()
        if isinstance(resolver, JudgedResolver):
            # An address in the URL is never looked up, so it is judged here.
            self._problem = resolver.refused(self._parsed.host) or self._problem
        self._limiters = {lane: anyio.CapacityLimiter(limit) for lane, limit in LANE_LIMITS.items()}

    def _connections(self) -> PeerTransport:
        """The transport that the settings ask for; with settings that cannot be used nothing is ever sent."""
        if not self.url.startswith("https:"):
            return PeerTransport(self._parsed, self.stats, resolver=self._resolver)
        access = self._access
        try:
            pins = Pins(access.fingerprints) if access.fingerprints else None
            context = context_of(access)
            self._pins = pins
            return PeerTransport(self._parsed, self.stats, context, pins, access.server_name, self._resolver)
        except TlsProblem as problem:
            self._problem = f"its TLS settings cannot be used: {problem}"
            _log.error("Peer '%s' is not asked: %s", self.name, self._problem)
            return PeerTransport(self._parsed, self.stats, resolver=self._resolver)

    @property
    def certificate(self) -> str:
        """The SHA-256 of the certificate that the peer showed, where its settings pin one; else ""."""
        return self._pins.shown if self._pins is not None else ""

    @property
    def base_path(self) -> bytes:
        """The path of the base URL, without a slash at its end; usually empty."""
        return self._base_path

    def use_short_connections(self, short: bool) -> None:
        """Reuse only connections that were idle for less than a second (C++ gateways, AGGREGATION.md §11)."""
        self._transport.short_lived = short

    async def get(
        self,
        target: bytes,
        *,
        request: RequestInfo | None = None,
        headers: Headers = (),
        lane: str = CALLS,
        first_byte_s: float | None = None,
        total_s: float | None = None,
        max_bytes: int = MAX_JSON,
    ) -> Answer:
        """The whole answer to a GET. `target` begins with `/api/v1`.

        Raises PeerUnavailable, NotResponding, ServiceUnavailable, BadAnswer (longer than `max_bytes`, or compressed
        although we asked for plain bytes: that is how bombs come).
        """
        first_byte_s = self.timeout_s if first_byte_s is None else first_byte_s
        total_s = first_byte_s if total_s is None else total_s
        asked = [(b"accept", b"application/json"), (b"accept-encoding", b"identity"), *headers]
        with anyio.move_on_after(total_s):
            async with self.open(
                "GET", target, request=request, headers=asked, lane=lane, first_byte_s=first_byte_s,
                idle_s=first_byte_s,
            ) as response:  # fmt: skip
                return Answer(response.status_code, response.headers, await self._read(response, max_bytes))
        raise NotResponding(f"Peer '{self.name}' did not answer in {total_s:.1f} s", peer=self.name)

    async def _read(self, response: httpx.Response, max_bytes: int) -> bytes:
        encoding = response.headers.get("content-encoding", "identity")
        if encoding.lower() != "identity":
            raise BadAnswer(f"answered in an encoding that was not asked for ({encoding[:20]})")
        announced = response.headers.get("content-length", "")
        if announced.isdigit() and int(announced) > max_bytes:
            raise BadAnswer(f"announced an answer of {announced} bytes; at most {max_bytes} are read")
        body = bytearray()
        try:
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > max_bytes:
                    raise BadAnswer(f"answered more than {max_bytes} bytes")
        except httpx.TimeoutException:
            raise NotResponding(f"Peer '{self.name}' stopped in the middle of its answer", peer=self.name) from None
        except httpx.HTTPError:
            raise self._unavailable("the connection broke in the middle of its answer") from None
        return bytes(body)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        target: bytes,
        *,
        request: RequestInfo | None = None,
        headers: Headers = (),
        content: Any = None,
        lane: str = CALLS,
        first_byte_s: float,
        idle_s: float,
        waiting: anyio.CancelScope | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request and give the answer as soon as its head is there; its body is read by the caller.

        `first_byte_s` bounds the wait for the head, connecting at most a quarter of it, `idle_s` each read of the
        body. `waiting` is a scope whose deadline the sender of `content` moves while it uploads. A GET whose
        connection ended before any byte came is sent once more; nothing else ever is. Raises Forbidden (403) for what
        the peer's allow-lists do not have; polls, in the lane `control`, are not subject to them.
        """
        if self._problem:
            raise self._unavailable(self._problem)
        if lane != CONTROL:
            self._access.check(self.name, method, target)
        limiter = self._limiters[lane]
        borrower = object()
        try:
            limiter.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            await self._place(limiter, borrower)
        try:
            outgoing = self._request(method, target, request, headers, content, lane, first_byte_s, idle_s)
            response = await self._send(outgoing, first_byte_s, waiting)
            try:
                yield response
            finally:
                # Ends without ever waiting, so nothing can cancel it half-way.
                await response.aclose()
        finally:
            limiter.release_on_behalf_of(borrower)

    async def _place(self, limiter: anyio.CapacityLimiter, borrower: object) -> None:
        with anyio.move_on_after(LANE_WAIT_S) as wait:
            await limiter.acquire_on_behalf_of(borrower)
        if wait.cancelled_caught:
            raise ServiceUnavailable(f"Too many calls to peer '{self.name}' at once", peer=self.name)

    def _request(
        self, method: str, target: bytes, request: RequestInfo | None, headers: Headers, content: Any, lane: str,
        first_byte_s: float, idle_s: float,
    ) -> Outgoing:  # fmt: skip
        if first_byte_s < MIN_BUDGET_S:
            raise NotResponding(f"No time is left to ask peer '{self.name}'", peer=self.name)
        sent = [*headers, *self._own_headers(request, first_byte_s)]
        access = self._access
        if request is not None and request.authorization is not None and access.forward_auth:
            sent.append((b"authorization", request.authorization))
        elif access.token:
            sent.append((b"authorization", f"Bearer {access.token}".encode("ascii", "replace")))
        connect_s, read_s = first_byte_s / 4, max(idle_s, first_byte_s + 1)
        return Outgoing(method, self._base_path + target, sent, content, lane, connect_s, read_s)

    def _own_headers(self, request: RequestInfo | None, budget_s: float) -> list[tuple[bytes, bytes]]:
        via = (*(request.via if request else ()), self._identity.id)
        # Of a short wait (`aggregation.timeout_ms` begins at 50) the margin takes half, or nothing could be asked.
        margin_s = HOP_MARGIN_S if budget_s >= HOP_MARGIN_S + MIN_BUDGET_S else budget_s / 2
        return [
            (VIA.encode(), ",".join(via).encode("latin-1", "replace")),
            (DEADLINE.encode(), str(int((budget_s - margin_s) * 1000)).encode()),
            (GATEWAY.encode(), f"{self._identity.id}/{self._identity.boot_id}".encode("latin-1", "replace")),
            (b"user-agent", f"medkit_gateway_py/{self._identity.version or '0'}".encode("latin-1", "replace")),
        ]

    async def _send(self, outgoing: Outgoing, first_byte_s: float, waiting: anyio.CancelScope | None) -> httpx.Response:
        again = outgoing.method in ("GET", "HEAD")
        lane = outgoing.lane
        started = time.monotonic()
        scope = waiting or anyio.CancelScope()
        scope.deadline = anyio.current_time() + first_byte_s
        with scope:
            while True:
                try:
                    response = await self._transport.send(outgoing)
                    self.stats.answered(lane, time.monotonic() - started)
                    return response
                except Disconnected as error:
                    if not again:
                        self.stats.failed(lane, UNAVAILABLE)
                        # A command may have been heard by the time the connection broke.
                        known = outgoing.method in ("GET", "HEAD")
                        raise self._unavailable(str(error) if known else f"{error}; outcome unknown") from None
                    # After a cable was out, all kept connections are stale, not only the one that was tried.
                    again, outgoing = False, replace(outgoing, lane=FRESH)
                except (httpx.ReadTimeout, httpx.WriteTimeout):
                    break
                except httpx.HTTPError as error:
                    self.stats.failed(lane, UNAVAILABLE)
                    raise self._unavailable(str(error)) from None
        self.stats.failed(lane, LATE)
        raise NotResponding(f"Peer '{self.name}' did not answer in {first_byte_s:.1f} s", peer=self.name)

    def _unavailable(self, reason: str) -> PeerUnavailable:
        return PeerUnavailable(f"Peer '{self.name}' cannot be reached: {reason}", peer=self.name, details=reason)

    async def aclose_when_done(self) -> None:
        """Close all connections once the calls that are under way are over, after `DRAIN_S`, or hurried."""
        until = time.monotonic() + DRAIN_S
        while any(limiter.borrowed_tokens for limiter in self._limiters.values()):
            if self._hurried or time.monotonic() > until:
                break
            await anyio.sleep(DRAIN_LOOK_S)
        await self.aclose()

    def hurry(self) -> None:
        """Do not wait for calls that are under way, if they are waited for."""
        self._hurried = True

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()


def client_of(
    spec: PeerSpec, aggregation: Aggregation, identity: GatewayIdentity, stats: CallStats | None = None
) -> PeerClient:
    """The client for a peer, with the settings that hold for it; `stats` go on from those of the client before it."""
    # Whoever did not write the configuration may not lead us to this machine.
    by_others = spec.source != BY_PARAMETERS
    loopback = spec.source != BY_OPERATOR and aggregation.allow_loopback_discovery
    resolver = JudgedResolver(loopback) if by_others else None
    access = access_of(spec.access, aggregation)
    timeout_s = aggregation.timeout_ms / 1000
    return PeerClient(spec.name, spec.url, identity, timeout_s, access=access, resolver=resolver, stats=stats)
