"""How bytes go to one peer: httpx over aiohttp, the path sent exactly as it is given, connections in lanes.

A lane is a pool of connections of its own, so that long streams never keep a poll or a command waiting. Nothing here
knows what is asked; `client.py` does.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import aiohttp
import httpx
import yarl
from aiohttp.abc import AbstractResolver
from httpx_aiohttp.transport import AiohttpResponseStream, map_aiohttp_exceptions

from .lookup import SystemResolver
from .resolver import AddressNotAllowed

CONTROL, CALLS, FRESH, STREAMS, FORWARDED = "control", "calls", "fresh", "streams", "forwarded streams"
# Lanes: polls, of a C++ gateway four at a time; GET calls; everything that must not meet a stale connection; our own
# streams, of which there are two to a peer, and for a moment the old one beside the new; streams and downloads of
# clients, which may go on for hours and must leave room for commands.
LANE_LIMITS = {CONTROL: 8, CALLS: 32, FRESH: 64, STREAMS: 4, FORWARDED: 64}
KEEPALIVE_S = 30.0
# "A fresh connection or one that was idle for less than a second" (AGGREGATION.md §7). The C++ gateway closes idle
# connections after two seconds, so every call to one goes this way (§11).
SHORT_KEEPALIVE_S = 1.0
CHUNK = 64 * 1024


class Counts(Protocol):
    """Where bytes are counted."""

    bytes_received: int
    bytes_sent: int

    def sent(self, content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The pieces of a body, counted."""


class Disconnected(httpx.RemoteProtocolError):
    """The connection ended before the first byte of an answer; a kept-alive one may just have been stale."""


class _Body(AiohttpResponseStream):  # type: ignore[misc]
    """The body as raw bytes, whatever has arrived; closing it before its end ends the connection."""

    CHUNK_SIZE = CHUNK

    def __init__(self, response: aiohttp.ClientResponse, counts: Counts, unread: set[_Body]) -> None:
        super().__init__(response)
        self._counts = counts
        self._unread = unread
        unread.add(self)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with map_aiohttp_exceptions():
            async for chunk in self._aiohttp_response.content.iter_chunked(self.CHUNK_SIZE):
                self._counts.bytes_received += len(chunk)
                yield chunk

    async def aclose(self) -> None:
        self._unread.discard(self)
        if self._aiohttp_response.content.at_eof():
            self._aiohttp_response.release()
        else:
            self._aiohttp_response.close()

    def abort(self) -> None:
        """Whoever reads it is told that it ended; aiohttp closes a connection without a word to its reader."""
        self._aiohttp_response.content.set_exception(aiohttp.ClientConnectionError("closed here"))


@dataclass
class Outgoing:
    """One request to a peer. `target` is what stands after the authority, `read_s` bounds each read of the answer.

    `content` is sent as it comes: bytes, or pieces of a length that the headers may tell.
    """

    method: str
    target: bytes
    headers: list[tuple[bytes, bytes]] = field(repr=False)  # tokens are among them
    content: bytes | AsyncIterable[bytes] | None = field(repr=False)
    lane: str
    connect_s: float
    read_s: float


class PeerTransport:
    """Requests of one peer over aiohttp: lanes, exact targets, exact failures, no cookies, no repeated commands.

    `verify` is the TLS context for https URLs, `pins` more to check of the certificate, `server_name` its name where
    that is not the URL's host. Answers and errors are httpx's, requests are not: its client and its Request cost more
    than 100 us each, for redirects, cookies and URLs that are none of ours.
    """

    def __init__(
        self,
        url: httpx.URL,
        counts: Counts,
        verify: ssl.SSLContext | None = None,
        pins: aiohttp.Fingerprint | None = None,
        server_name: str = "",
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._resolver = resolver or SystemResolver()
        self._origin = f"{url.scheme}://{url.netloc.decode('ascii')}"
        self._counts = counts
        self.short_lived = False
        self._context = verify
        self._pins = pins
        self._server_name = server_name or None
        self._sessions: dict[tuple[str, bool], aiohttp.ClientSession] = {}
        self._unread: set[_Body] = set()

    def _session(self, lane: str) -> aiohttp.ClientSession:
        short = self.short_lived or lane in (FRESH, FORWARDED)
        session = self._sessions.get((lane, short))
        if session is None:
            connector = aiohttp.TCPConnector(
                limit=0,  # `client.py` bounds the calls, and says so instead of waiting for ever
                ssl=self._pins or self._context or True,
                keepalive_timeout=SHORT_KEEPALIVE_S if short else KEEPALIVE_S,
                ttl_dns_cache=10,
                resolver=self._resolver,
            )
            session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
                max_line_size=16_384,
                max_field_size=16_384,
                read_bufsize=CHUNK,
            )
            # aiohttp sends PUT and DELETE again after a reset; a command must not run twice (AGGREGATION.md §7).
            session._retry_connection = False
            self._sessions[(lane, short)] = session
        return session

    async def send(self, outgoing: Outgoing) -> httpx.Response:
        """Send one request; returns once the head of the answer is there. Raises httpx.HTTPError."""
        data: Any = outgoing.content or None
        if isinstance(data, bytes):
            self._counts.bytes_sent += len(data)
        elif data is not None:
            data = self._counts.sent(data)
        try:
            response = await self._session(outgoing.lane).request(
                outgoing.method,
                yarl.URL(f"{self._origin}{outgoing.target.decode('ascii')}", encoded=True),
                headers=[(name.decode("latin-1"), _text(value)) for name, value in outgoing.headers],
                data=data,
                allow_redirects=False,
                ssl=self._context or True,
                server_hostname=self._server_name,
                timeout=aiohttp.ClientTimeout(total=None, connect=outgoing.connect_s, sock_read=outgoing.read_s),
            )
        except aiohttp.ClientConnectorDNSError as error:
            refused = isinstance(error.os_error, AddressNotAllowed)
            raise httpx.ConnectError(str(error.os_error) if refused else "host name not found") from error
        except aiohttp.ServerFingerprintMismatch as error:
            raise httpx.ConnectError("its certificate is not the pinned one") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise httpx.ConnectError("its certificate is not accepted") from error
        except aiohttp.ClientSSLError as error:
            raise httpx.ConnectError("TLS failed") from error
        except aiohttp.ClientConnectorError as error:
            raise httpx.ConnectError(_reason(error.os_error)) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except aiohttp.ServerTimeoutError as error:
            raise httpx.ReadTimeout("no answer in time") from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as error:
            raise Disconnected("connection closed without an answer") from error
        except (aiohttp.ClientError, ValueError) as error:
            raise httpx.RemoteProtocolError("the answer is not HTTP") from error
        return httpx.Response(
            response.status,
            headers=cast("list[tuple[bytes, bytes]]", list(response.raw_headers)),
            stream=_Body(response, self._counts, self._unread),
        )

    async def aclose(self) -> None:
        """Close all connections; answers that are still read end in an error."""
        for body in list(self._unread):
            body.abort()
        sessions, self._sessions = list(self._sessions.values()), {}
        for session in sessions:
            await session.close()


def _text(value: bytes) -> str:
    """A header's value as aiohttp wants it, which sends UTF-8."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    return (error.strerror or type(error).__name__).lower()
