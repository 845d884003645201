"""HTTP/1.1 as uvicorn speaks it, with a bound on what a client may send before its headers end.

uvicorn itself keeps whatever comes: a stranger could fill the memory with one request that never gets to its body.
"""

from __future__ import annotations

import logging

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

# Far above what browsers and programs send, tokens and cookies included.
MAX_HEADER_BYTES = 65_536

_log = logging.getLogger(__name__)


class BoundedProtocol(HttpToolsProtocol):
    """Ends a connection whose request line and headers are longer than `MAX_HEADER_BYTES`, with 400.

    What comes in one piece is looked at as a whole: the operating system gives 256 kB at most.
    """

    _waits_for_headers = True
    _header_bytes = 0

    def data_received(self, data: bytes) -> None:
        """Take a piece of a request."""
        super().data_received(data)
        if not self._waits_for_headers:
            return
        self._header_bytes += len(data)
        if self._header_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            _log.warning("A request with headers of more than %d bytes was refused", MAX_HEADER_BYTES)
            self.send_400_response("Request header fields too large.")

    def on_message_begin(self) -> None:
        """A request begins."""
        self._waits_for_headers, self._header_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The body begins."""
        self._waits_for_headers = False
        super().on_headers_complete()
