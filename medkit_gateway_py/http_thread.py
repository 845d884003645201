"""The `http` thread: one asyncio loop for uvicorn, the peers and all that waits. What runs there is `assembly.py`'s.

Starts, in order: local discovery (its first scan settles before anything is served), the federation (its peers are
asked in the background), the server. Stops in the reverse order, each stage with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time

import anyio
import uvicorn

from .api.app import create_app
from .api.sse import Streams
from .assembly import Assembly, open_authority
from .discovery.provider import StartRefused
from .http_server import GRACEFUL_STOP_S, PortTaken, listen, server_of
from .parameters import GatewayConfig
from .plugins.loading import LoadedPlugins
from .ros.bridge import RosBridge
from .security.startup import Security
from .state import StateStore

START_TIMEOUT_S = 20.0
_log = logging.getLogger(__name__)


class HttpThread:
    """Owns the loop, and everything on it. `start` returns when the server listens."""

    def __init__(
        self,
        config: GatewayConfig,
        bridge: RosBridge,
        state: StateStore,
        hints: dict[str, str],
        security: Security | None = None,
        plugins: LoadedPlugins | None = None,
    ) -> None:
        self._loaded_plugins = plugins or LoadedPlugins()
        self._config = config
        self._bridge = bridge
        self._state = state
        self._hints = hints
        self._security = security or Security()
        self._thread = threading.Thread(target=self._main, name="http", daemon=True)
        self._ready = threading.Event()
        self._problem: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self, stop: threading.Event) -> None:
        """Start the thread and wait until it serves, or until `stop` is set. Raises what kept it from serving."""
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready.wait(0.05) and not stop.is_set() and self.is_alive and time.monotonic() < deadline:
            pass
        if self._problem is not None:
            raise self._problem

    def stop(self, timeout_s: float) -> bool:
        """Ask the loop to end and wait for it; False when it did not end in time."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and self.is_alive:
            with contextlib.suppress(RuntimeError):  # it ended by itself just now
                loop.call_soon_threadsafe(stop.set)
        self._thread.join(timeout_s)
        return not self.is_alive

    def _main(self) -> None:
        try:
            anyio.run(self._serve, backend_options={"use_uvloop": _has_uvloop()})
        except Exception as error:
            if not isinstance(error, (PortTaken, StartRefused)):
                _log.exception("the HTTP thread failed")
            self._problem = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._bridge.attach(self._loop)
        server_config = self._config.server
        listener = listen(server_config.host, server_config.port)
        try:
            authority = await open_authority(self._security.auth, self._state)
            gateway = Assembly(self._config, self._bridge, self._state, self._hints, authority, self._loaded_plugins)
            try:
                # Before there are routes, because some of them are theirs.
                routes = await gateway.start_plugins()
                server = server_of(create_app(gateway.context, routes), self._config.server, self._security.tls)
                await gateway.start()
                gateway.summary(listener)
                await self._serve_until_stopped(server, listener, gateway.context.streams)
            finally:
                await gateway.stop()
        finally:
            listener.close()

    async def _serve_until_stopped(self, server: uvicorn.Server, listener: socket.socket, streams: Streams) -> None:
        assert self._stop is not None
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        stopping = asyncio.ensure_future(self._stop.wait())
        self._ready.set()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        streams.close()
        server.should_exit = True
        await asyncio.wait({serving}, timeout=GRACEFUL_STOP_S + 1.0)
        if serving.done() and not serving.cancelled() and serving.exception() is not None:
            raise serving.exception()  # type: ignore[misc]


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True
