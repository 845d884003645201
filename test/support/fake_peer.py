"""Gateways inside the test's own loop, real sockets between them; and servers that misbehave on purpose.

`TestGateway` is a federation behind a tiny ASGI app on uvicorn, without ROS: its local tree is set by the test.
`FaultyServer` is bytes on a socket. No test of a whole gateway: see `gateways.py` for processes.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import uvicorn

from medkit_gateway_py.aggregation.fan_out import envelope, gather_entity, gather_everyone
from medkit_gateway_py.aggregation.federation import Federation
from medkit_gateway_py.aggregation.forward import ForwardMiddleware
from medkit_gateway_py.aggregation.request import RequestInfo
from medkit_gateway_py.aggregation.routing import Shared
from medkit_gateway_py.aggregation.sections import GatewayIdentity
from medkit_gateway_py.api.fault_stream import FaultStream
from medkit_gateway_py.api.sse import EventStream, Streams
from medkit_gateway_py.api.tree_feed import TreeFeed
from medkit_gateway_py.entities.ids import GivenId
from medkit_gateway_py.entities.model import App, Component, Function, Kind
from medkit_gateway_py.entities.tree import EntityTree
from medkit_gateway_py.errors import GatewayError
from medkit_gateway_py.parameters import GatewayConfig
from medkit_gateway_py.parameters.aggregation import Aggregation
from medkit_gateway_py.resources.faults.events import FaultEvents
from medkit_gateway_py.resources.faults.model import CONFIRMED, ERROR, FAULT_CONFIRMED, Fault, FaultEvent
from medkit_gateway_py.state import StateStore

from .waiting import async_eventually

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def listen(port: int = 0) -> socket.socket:
    """A listening socket on 127.0.0.1."""
    # The protocol is named because asyncio switches Nagle's algorithm off only for sockets that say TCP.
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    bound.bind(("127.0.0.1", port))
    bound.listen(128)
    bound.setblocking(False)
    return bound


def tree_of(apps: Iterable[str] = (), component: str = "", function: str = "", namespace: str = "") -> EntityTree:
    """A small local tree: apps on one component, all hosts of one function."""
    found = {
        name: App(name, name=f"The {name}", component_id=component, fqn=f"{namespace}/{name}") for name in sorted(apps)
    }
    components = {component: Component(component, component)} if component else {}
    functions = {function: Function(function, function, hosts=tuple(found))} if function else {}
    return EntityTree(components=components, apps=found, functions=functions)


def given_ids(origin: str, tree: EntityTree) -> list[GivenId]:
    """The ids of local apps, as the local layer gives them."""
    return [GivenId(origin, "apps", app.fqn, app.id) for app in tree.apps.values()]


def configuration(peers: dict[str, str], **aggregation: Any) -> GatewayConfig:
    """A configuration with these static peers, name to URL."""
    section = Aggregation(
        enabled=True, peer_names=tuple(peers), peer_urls=tuple(peers.values()), **{"timeout_ms": 1000, **aggregation}
    )
    return replace(GatewayConfig(), aggregation=section)


class TestGateway:
    """One gateway in this loop. `routes` maps a path to an ASGI app that answers instead of the built-in ones."""

    __test__ = False

    def __init__(
        self,
        name: str,
        peers: dict[str, str],
        *,
        state: StateStore | None = None,
        certificate: tuple[Path, Path] | None = None,
        **aggregation: Any,
    ) -> None:
        """`certificate`: the file, and that of its key, to serve with."""
        self._certificate = certificate
        if state is not None:
            # Another process of the same instance: as a state that is opened again says.
            state.boot_id = f"{state.boot_id}+"
        self.state = state or StateStore.open(None)
        self.identity = GatewayIdentity(self.state.instance_id, self.state.boot_id, name, "1.0.0")
        self.config = configuration(peers, **aggregation)
        self.federation = Federation(self.config, self.identity, self.state)
        self.streams = Streams()
        self._feed = TreeFeed(self.federation)
        self.fault_events = FaultEvents()
        self.fault_stream = FaultStream(self.federation, self.fault_events, self.streams)
        self.routes: dict[str, Any] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.url = ""
        self.port = 0
        self._server: uvicorn.Server | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self, port: int = 0) -> None:
        """Listen and aggregate."""
        bound = listen(port)
        self.port = bound.getsockname()[1]
        self.url = f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}"
        self.config = replace(self.config, server=replace(self.config.server, port=self.port))
        self.federation.config = self.config
        config = uvicorn.Config(
            self._app,
            interface="asgi3",
            lifespan="off",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=self._certificate[0] if self._certificate else None,
            ssl_keyfile=self._certificate[1] if self._certificate else None,
        )
        self._server = uvicorn.Server(config)
        self._task = asyncio.create_task(self._server._serve(sockets=[bound]))
        await async_eventually(lambda: self._server is not None and self._server.started)
        await self.federation.start()

    async def stop(self) -> None:
        """Stop aggregating and listening."""
        await self.federation.stop()
        self.streams.close()
        if self._server is not None and self._task is not None:
            self._server.should_exit = self._server.force_exit = True
            await asyncio.wait_for(self._task, 5)

    def fault(self, code: str, source: str = "") -> None:
        """A fault is confirmed now."""
        fault = Fault(code, ERROR, code.lower(), 1.0, 2.0, 1, CONFIRMED, (source,) if source else ())
        self.fault_events.add(FaultEvent(FAULT_CONFIRMED, fault, 3.0))

    async def serve_tree(self, tree: EntityTree) -> None:
        """This is our own graph from now on."""
        await self.federation.set_local(tree, given_ids(self.identity.id, tree))

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        raw = scope["raw_path"].decode()
        query = scope["query_string"].decode()
        self.requests.append((scope["method"], f"{raw}?{query}" if query else raw, headers))
        started = False

        async def watch(message: Any) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await ForwardMiddleware(self._own, self.federation)(scope, receive, watch)
        except GatewayError as error:
            if not started:
                await answer(send, error.body(), error.status)

    async def _own(self, scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path in self.routes:
            await self.routes[path](scope, receive, send)
            return
        info = RequestInfo.from_scope(scope)
        parts = path.strip("/").split("/")[2:]
        if path == "/api/v1/health":
            who = {"instance_id": self.identity.id, "boot_id": self.identity.boot_id}
            await answer(send, {"status": "healthy", "timestamp": time.time_ns(), "x-medkit": who})
        elif path == "/api/v1/x-medkit/tree":
            await self._tree(info, scope, send)
        elif path == "/api/v1/x-medkit/tree/stream":
            place = dict(scope["headers"]).get(b"last-event-id", b"").decode()
            await EventStream(self.streams, self._feed.cursor(place), keep_alive_s=1.0)(scope, receive, send)
        elif path == "/api/v1/faults/stream":
            last = dict(scope["headers"]).get(b"last-event-id", b"").decode()
            own = (b"x-medkit-gateway", f"{self.identity.id}/{self.identity.boot_id}".encode())
            stream = EventStream(self.streams, self.fault_stream.cursor(info, last), headers=[own])
            await stream(scope, receive, send)
        elif path == "/api/v1/faults":
            gathered = await gather_everyone(self.federation, info, "/faults")
            own = [{"fault_code": f"FAULT_OF_{self.identity.name}"}] if info.asks_local(self.identity.id) else []
            await answer(send, {"items": [*own, *gathered.items], "x-medkit": envelope(gathered)})
        elif len(parts) == 3 and parts[2] == "data" and scope["method"] == "GET":
            await self._data(info, Kind(parts[0]), parts[1], send)
        elif len(parts) >= 2 and parts[1] in self.federation.tree.local.of(Kind(parts[0])):
            await self._entity(scope, receive, send, parts)
        else:
            await answer(send, {"error_code": "entity-not-found", "message": "Entity not found"}, 404)

    async def _tree(self, info: RequestInfo, scope: Any, send: Any) -> None:
        etag, body = self.federation.tree_document(local_only=info.loops(self.identity.id))
        asked = dict(scope["headers"]).get(b"if-none-match", b"").decode()
        headers = [(b"etag", etag.encode()), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 304 if asked == etag else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if asked == etag else body})

    async def _data(self, info: RequestInfo, kind: Kind, entity_id: str, send: Any) -> None:
        tree = self.federation.tree
        members = [app for app in tree.members(kind, entity_id) if tree.is_local_app(app.id)]
        items = [{"id": f"/{app.id}/topic", "x-medkit": {"member_ids": [app.id]}} for app in members]
        found = tree.resolve(kind, entity_id)
        body: dict[str, Any] = {"items": items, "x-medkit": {"entity_id": entity_id}}
        if isinstance(found, Shared):
            gathered = await gather_entity(self.federation, info, found, kind, entity_id, "data")
            body = {"items": [*items, *gathered.items], "x-medkit": {"entity_id": entity_id, **envelope(gathered)}}
        await answer(send, body)

    async def _entity(self, scope: Any, receive: Any, send: Any, parts: list[str]) -> None:
        size = 0
        more = scope["method"] != "GET"
        body = b""
        while more:
            message = await receive()
            more = message.get("more_body", False)
            size += len(message.get("body", b""))
            body = message.get("body", b"") if size < 10_000 else b""
        base = f"/api/v1/{parts[0]}/{parts[1]}"
        medkit = {"entity_id": parts[1], "source": "heuristic"}
        links = {"self": base, "collection": f"/api/v1/{parts[0]}"}
        if len(parts) == 2:
            name = self.federation.tree.local.of(Kind(parts[0]))[parts[1]].name
            detail = {"id": parts[1], "name": name, "type": parts[0][:-1], "data": f"{base}/data"}
            await answer(send, {**detail, "_links": links, "x-medkit": medkit})
            return
        seen = {
            "gateway": self.identity.name,
            "method": scope["method"],
            "raw_path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "headers": {name.decode(): value.decode() for name, value in scope["headers"]},
            "size": size,
            "body": body.decode("latin-1"),
        }
        await answer(send, {"id": "/x", "data": seen, "x-medkit": medkit, "_links": links})


async def answer(send: Any, body: Any, status: int = 200, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """A JSON answer."""
    raw = orjson.dumps(body)
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(raw)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": [*own, *headers]})
    await send({"type": "http.response.body", "body": raw})


@asynccontextmanager
async def running(*gateways: TestGateway) -> AsyncIterator[None]:
    """Start the gateways in this order, stop them in the other."""
    started: list[TestGateway] = []
    try:
        for gateway in gateways:
            await gateway.start()
            started.append(gateway)
        yield
    finally:
        for gateway in reversed(started):
            await gateway.stop()


class FaultyServer:
    """A TCP server whose every connection is handled by `handler`; all are cut at the end."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._tasks: set[asyncio.Task[Any]] = set()
        self.connections = 0
        self.url = ""
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> FaultyServer:
        self._server = await asyncio.start_server(self._handle, sock=listen())
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._handler(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort() if writer.transport.is_closing() else writer.close()


async def head_of(reader: asyncio.StreamReader) -> bytes:
    """The request line and headers of one request."""
    return await reader.readuntil(b"\r\n\r\n")


def always(response: bytes) -> Handler:
    """A handler that answers every request with these bytes and closes."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        writer.write(response)
        await writer.drain()

    return handle


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """The bytes of an answer that ends its connection."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
