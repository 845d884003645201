"""The listening socket, and uvicorn as it is set up on it. Not what is served there, nor when it ends."""

from __future__ import annotations

import errno
import socket
import ssl

import uvicorn
from starlette.types import ASGIApp

from .api.errors import quiet_unfinished
from .api.protocol import BoundedProtocol
from .parameters.sections import Server

GRACEFUL_STOP_S = 1.5
# How long what was sent may stay without acknowledgement before a connection counts as broken.
SENT_UNSEEN_S = 60.0


class PortTaken(RuntimeError):
    """The address to listen on cannot be had; the message says which and why."""


def server_of(app: ASGIApp, server: Server, tls: ssl.SSLContext | None) -> uvicorn.Server:
    """A server for sockets that listen already. `tls`: HTTPS with this context; None: HTTP."""
    config = uvicorn.Config(
        app,
        loop="none",
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        # Whoever runs a proxy in front may say so one day; until then nobody may choose who he is.
        proxy_headers=False,
        timeout_keep_alive=server.keep_alive_timeout_sec,
        timeout_graceful_shutdown=GRACEFUL_STOP_S,  # type: ignore[arg-type]
    )
    config.load()
    # uvicorn's own context knows no least version of TLS.
    config.ssl = tls
    quiet_unfinished()
    return uvicorn.Server(config)


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket with TCP_NODELAY; PortTaken says in words why there is none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise PortTaken(f"server.host '{host}' is no address of this machine: {error.strerror or error}") from None
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Accepted sockets inherit it. A stream says something at least every 30 s, so a client that vanished without
        # a word is noticed; without this, the kernel repeats what it sent for a quarter of an hour. It also ends a
        # download whose client takes nothing for so long; only Linux has it.
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(SENT_UNSEEN_S * 1000))
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reason = "another process listens there" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
        raise PortTaken(
            f"Cannot listen on {host}:{port}: {reason}. Choose another server.port, or stop the other process."
        ) from None
    listener.setblocking(False)
    return listener
