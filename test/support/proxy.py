"""A TCP proxy in front of a gateway: a link that a test can cut, freeze, slow down, restore, and count requests on.

Threads and plain sockets: it stands between processes and must not share a loop with any of them.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

OPEN, FROZEN, CUT, HALF = "open", "frozen", "cut", "half"
# A request line that is divided between two reads is found in what is kept of the first.
_KEPT = 200


class Proxy:
    """Forwards 127.0.0.1:`port` to `target`.

    `cut`: connections are reset; `freeze`: they stay and nothing passes; `half_open`: what is asked arrives, what is
    answered does not until `restore`; `slow`: each piece comes that much later.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._state = OPEN
        self._delay_s = 0.0
        self._change = threading.Condition()
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._requests: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset all connections, and each new one."""
        self._become(CUT)
        for pair in list(self._pairs):
            self._close(pair)

    def freeze(self) -> None:
        """Let nothing through any more; nobody is told."""
        self._become(FROZEN)

    def half_open(self) -> None:
        """Let requests through and keep the answers back; nobody is told."""
        self._become(HALF)

    def lead_to(self, target: int) -> None:
        """Lead to another port from now on; the connections that there are break."""
        self._target = target
        for pair in list(self._pairs):
            self._close(pair)

    def slow(self, seconds: float) -> None:
        """Let everything through, each piece so much later."""
        self._delay_s = seconds

    def restore(self) -> None:
        """Let everything through again, at once."""
        self._delay_s = 0.0
        self._become(OPEN)

    def count(self, request: str) -> int:
        """How many requests that begin so (`GET /api/v1/faults`) went through since `forget`."""
        with self._change:
            return sum(line.startswith(request.encode()) for line in self._requests)

    def forget(self) -> None:
        """Count from zero."""
        with self._change:
            self._requests.clear()

    def close(self) -> None:
        """End; all connections are reset."""
        self.cut()
        self._listener.close()

    def _become(self, state: str) -> None:
        with self._change:
            self._state = state
            self._change.notify_all()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self._state == CUT:
                client.close()
                continue
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target), timeout=2.0)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        pair = (client, server)
        self._pairs.add(pair)
        threading.Thread(target=self._pump, args=(pair, server, client, False), daemon=True).start()
        self._pump(pair, client, server, True)

    def _pump(
        self, pair: tuple[socket.socket, socket.socket], source: socket.socket, sink: socket.socket, is_request: bool
    ) -> None:
        kept = b""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._delay_s:
                    time.sleep(self._delay_s)
                held = (FROZEN,) if is_request else (FROZEN, HALF)
                with self._change:
                    self._change.wait_for(lambda: self._state not in held, timeout=120)  # noqa: B023 (called here)
                if is_request:
                    kept = self._note(kept + data)
                sink.sendall(data)
        self._close(pair)

    def _note(self, data: bytes) -> bytes:
        """Remember the request lines in `data`; what may be the beginning of one is given back."""
        *lines, rest = data.split(b"\r\n")
        with self._change:
            self._requests += [line for line in lines if line.endswith(b" HTTP/1.1")]
        return rest[-_KEPT:]

    def _close(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self._pairs.discard(pair)
        for one in pair:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
