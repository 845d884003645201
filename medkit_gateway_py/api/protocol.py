"""HTTP/1.1 as uvicorn speaks it, with bounds on what and how long a client may send before its request is whole.

uvicorn itself keeps whatever comes and waits for ever: a stranger could fill the memory with one request that never
gets to its body, or hold as many connections as there are by sending a byte now and then.
"""

from __future__ import annotations

import asyncio
import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ..errors import InvalidRequest
from .answers import to_json

# Far above what browsers and programs send, tokens and cookies included.
MAX_HEADER_BYTES = 65_536
# From the connection, or the first byte of the next request on it, to the end of the headers.
HEADERS_S = 30.0
# Between two pieces of a body. Uploads may take hours, but not stand still; those that we hold back ourselves may.
BODY_SILENCE_S = 60.0

_log = logging.getLogger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose request line and headers are longer than `MAX_HEADER_BYTES`, with 400, and one whose
    request does not come along, without a word.

    What comes in one piece is looked at as a whole: the operating system gives 256 kB at most.
    """

    headers_s = HEADERS_S
    body_silence_s = BODY_SILENCE_S
    _waits_for_headers = True
    _waits_for_body = False
    _header_bytes = 0
    _last_piece = 0.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client connected."""
        super().connection_made(transport)
        self._timer = self.loop.call_later(self.headers_s, self._too_slow, "its headers")

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection ended."""
        self._drop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request."""
        super().data_received(data)
        if self._waits_for_headers:
            self._header_bytes += len(data)
            if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
                _log.warning("A request with headers of more than %d bytes was refused", MAX_HEADER_BYTES)
                self.send_400_response("Request header fields too large.")
            elif self._timer is None:
                self._timer = self.loop.call_later(self.headers_s, self._too_slow, "its headers")
        elif self._waits_for_body:
            # The timer is not set anew with every piece: it looks here when it rings.
            self._last_piece = self.loop.time()
            if self._timer is None:
                self._timer = self.loop.call_later(self.body_silence_s, self._look_for_body)

    def on_message_begin(self) -> None:
        """A request begins."""
        self._waits_for_headers, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The body begins."""
        self._waits_for_headers, self._waits_for_body = False, True
        self._drop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._waits_for_body = False
        self._drop_timer()
        super().on_message_complete()

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: the request is served as HTTP, and uvicorn's advice to install WebSockets is none for us."""

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no request, with an error body like everywhere (API.md §1.3), and close."""
        body = to_json({"error_code": InvalidRequest.code, "message": msg})
        head = (
            b"HTTP/1.1 400 Bad Request\r\n"
            b"content-type: application/json\r\n"
            b"content-length: %d\r\n"
            b"connection: close\r\n\r\n" % len(body)
        )
        self.transport.write(head + body)
        self.transport.close()

    def _look_for_body(self) -> None:
        self._timer = None
        silent = self.loop.time() - self._last_piece
        if silent >= self.body_silence_s and not self.flow.read_paused:
            self._too_slow("its body")
        else:
            self._timer = self.loop.call_later(max(1.0, self.body_silence_s - silent), self._look_for_body)

    def _too_slow(self, part: str) -> None:
        self._timer = None
        if not self.transport.is_closing():
            _log.debug("A connection was ended that did not send %s", part)
            self.transport.close()

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
