"""Passing a request on to the gateway that has the entity, streamed both ways (AGGREGATION.md §7).

Nothing is kept: bodies of any size go through in small pieces, at the speed of the slower side. Which entity a path
names and who has it is asked of the tree anew for every request.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import anyio
import httpx

from ..entities.model import Kind
from ..errors import GatewayError, LoopDetected, NotResponding, PeerUnavailable
from .peer import COMPATIBLE
from .relay import Relay
from .request import ORIGINS, RequestInfo, origins_header, origins_of
from .rewrite import Rewriter
from .routing import Away, FederatedTree, Remote
from .transport import CALLS, FORWARDED, FRESH
from .upload import Upload

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, MutableMapping

    from .federation import Federation
    from .peer import Peer

    Scope = MutableMapping[str, Any]
    Message = MutableMapping[str, Any]
    Receive = Callable[[], Awaitable[Message]]
    Send = Callable[[Message], Awaitable[None]]
    App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Longer than the slowest keep-alive of an event stream (30 s), so that only a dead one is ended.
STREAM_IDLE_S = 45.0
# How long after its start an exchange looks whether the client is still there.
WATCH_AFTER_S = 0.05

_KINDS = {kind.value: kind for kind in Kind}
# Relations that our own tree answers, also for an entity that a peer has (AGGREGATION.md §4).
RELATIONS: Mapping[Kind, frozenset[str]] = {
    Kind.AREA: frozenset({"subareas", "components", "contains"}),
    Kind.COMPONENT: frozenset({"subcomponents", "hosts", "depends-on"}),
    Kind.APP: frozenset({"is-located-on", "belongs-to", "depends-on"}),
    Kind.FUNCTION: frozenset({"hosts"}),
}
_SEPARATOR = re.compile(r"/|%2[Ff]")
_STREAM = re.compile(r"/(events|stream|bulk-data(/.*)?)/?")
_EXECUTION = re.compile(r"/(operations|scripts)/.+/executions(/[^/]+)?/?")


@dataclass(frozen=True)
class Target:
    """An entity in a path. `rest` is what follows its id, percent-encoded as it came, "" for the entity itself."""

    kind: Kind
    entity_id: str
    rest: str

    @property
    def decoded_rest(self) -> str:
        """`rest` as routes see it (API.md §1.1)."""
        return unquote(self.rest)


def target_of(scope: Mapping[str, Any]) -> Target | None:
    """The entity that `/api/v1/{kind}/{id}[/...]` names, None for every other path.

    The path is decoded before routing, so an encoded slash separates as a plain one does (API.md §1.1).
    """
    raw = scope.get("raw_path")
    text = bytes(raw).split(b"?", 1)[0].decode("latin-1") if raw else quote(str(scope["path"]))
    places = [match.start() for match in _SEPARATOR.finditer(text)]
    if len(places) < 4 or places[0] != 0:
        return None
    parts = [unquote(part) for part in _SEPARATOR.split(text)]
    kind = _KINDS.get(parts[3])
    if parts[1:3] != ["api", "v1"] or kind is None or len(parts) < 5 or not parts[4]:
        return None
    return Target(kind, parts[4], text[places[4] :] if len(places) > 4 else "")


class ForwardMiddleware:
    """Pure ASGI: forwards what a peer has, passes everything else on. Raises GatewayError for 502, 504 and 508."""

    def __init__(self, app: App, federation: Federation) -> None:
        self._app = app
        self._federation = federation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward or pass on."""
        target = target_of(scope) if scope["type"] == "http" and scope["method"] != "OPTIONS" else None
        if target is None or self._is_ours(scope, target):
            await self._app(scope, receive, send)
            return
        tree = self._federation.tree
        resolution = tree.resolve(target.kind, target.entity_id)
        wanted = origins_of(scope)
        if wanted is not None and not tree.is_meant(target.kind, target.entity_id, resolution, wanted):
            raise PeerUnavailable(
                "The gateway that this request is meant for is not reached here", entity_id=target.entity_id
            )
        if isinstance(resolution, Remote):
            await forward_entity(self._federation, scope, receive, send, target, resolution)
        elif isinstance(resolution, Away):
            raise resolution.error(target.entity_id)
        else:
            await self._app(scope, receive, send)

    def _is_ours(self, scope: Scope, target: Target) -> bool:
        rest = target.decoded_rest.strip("/")
        # The description of a path is made of our own routes (API.md §2.4).
        if target.entity_id == "docs" or rest == "docs" or rest.endswith("/docs"):
            return True
        return scope["method"] == "GET" and rest in RELATIONS[target.kind]


async def forward_entity(
    federation: Federation, scope: Scope, receive: Receive, send: Send, target: Target, remote: Remote
) -> None:
    """Forward a request for an entity that one peer has alone; ids are rewritten where they differ there."""
    tree = federation.tree
    rewriter = rewriter_for(tree, remote.peer, target.kind, remote.remote_id, owner=remote.peer)
    rest = rewriter.rest(target.rest) if target.kind is not Kind.APP else target.rest
    path = f"/api/v1/{target.kind.value}/{remote.remote_id}{rest}"
    is_detail = not target.rest.strip("/")
    await forward(
        federation, scope, receive, send, peer=remote.peer, path=path,
        rewriter=rewriter if is_detail or rewriter.ids else None, entity_id=target.entity_id, origins=remote.origins,
    )  # fmt: skip


async def forward(
    federation: Federation,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    peer: str,
    path: str,
    rewriter: Rewriter | None = None,
    entity_id: str = "",
    origins: Sequence[str] = (),
) -> None:
    """Send the request to `path` (percent-encoded, from `/api/v1`) of a peer and give its answer, streamed.

    `origins` are those whose entity is meant: the peer refuses when it would reach another (AGGREGATION.md §5).
    Raises PeerUnavailable (502), NotResponding (504), LoopDetected (508), ServiceUnavailable (503) before the first
    byte was sent; PeerUnavailable after it, and then the answer is left unfinished: the server must break the
    connection, so that nobody takes the half for the whole. Returns when the client has left.
    """
    info = RequestInfo.from_scope(scope)
    if info.loops(federation.identity.id):
        raise LoopDetected("The request has passed this gateway before", entity_id=entity_id or None)
    known = federation.peer(peer)
    if known is None:
        raise PeerUnavailable(f"Peer '{peer}' is not available", peer=peer, entity_id=entity_id or None)
    method = "HEAD" if scope.get("medkit.head") else str(scope["method"])
    exchange = _Exchange(federation, known, info, method, path, rewriter, Upload(scope, receive), send, origins)
    try:
        known.check_callable()
        await exchange.run()
    except GatewayError as error:
        if entity_id:
            error.parameters.setdefault("entity_id", entity_id)
        if isinstance(error, NotResponding) and method not in ("GET", "HEAD"):
            error.parameters["details"] = "outcome unknown"
        raise


def rewriter_for(tree: FederatedTree, peer: str, kind: Kind | None, entity_id: str, owner: str = "") -> Rewriter:
    """The rewriter of one peer's answers in this tree."""

    def name_of(app_id: str) -> str:
        app = tree.apps.get(app_id)
        return (app.name if app is not None else "") or app_id

    return Rewriter(tree.renames.get(peer, {}), name_of, kind, entity_id, owner)


class _Exchange:
    """One request and its answer."""

    def __init__(
        self, federation: Federation, peer: Peer, info: RequestInfo, method: str, path: str,
        rewriter: Rewriter | None, upload: Upload, send: Send, origins: Sequence[str],
    ) -> None:  # fmt: skip
        self._federation = federation
        self._peer = peer
        self._info = info
        self._method = method
        self._path = path
        self._rewriter = rewriter
        self._upload = upload
        self._send = send
        self._origins = origins

    async def run(self) -> None:
        """The exchange, ended early when the client leaves.

        The server remembers that the client has left, so it is enough to begin looking after a while; most exchanges
        are over by then, and a task for each of them would cost as much as half of the forward.
        """
        watchers: list[asyncio.Task[None]] = []
        with anyio.CancelScope() as scope:
            loop = asyncio.get_running_loop()

            def watch() -> None:
                watchers.append(loop.create_task(self._end_when_client_leaves(scope)))

            timer = loop.call_later(WATCH_AFTER_S, watch)
            try:
                await self._exchange()
            finally:
                timer.cancel()
                for watcher in watchers:
                    watcher.cancel()

    async def _end_when_client_leaves(self, scope: anyio.CancelScope) -> None:
        await self._upload.client_left()
        scope.cancel()

    async def _exchange(self) -> None:
        first_byte_s = self._first_byte_s()
        target = self._path.encode("latin-1")
        if self._info.query:
            target += b"?" + self._info.query
        is_read = self._method in ("GET", "HEAD")
        waiting = anyio.CancelScope()
        content = await self._content(waiting, first_byte_s)
        client = self._peer.client
        try:
            async with client.open(
                self._method,
                target,
                request=self._info,
                headers=self._headers(content),
                content=content,
                lane=FRESH if not is_read else FORWARDED if self._is_stream() else CALLS,
                first_byte_s=first_byte_s,
                idle_s=STREAM_IDLE_S,
                waiting=waiting,
            ) as response:
                self._peer.answered()
                asked = b",".join(value for name, value in self._info.headers if name == b"if-none-match")
                relay = Relay(
                    self._peer.name, self._peer.spec.url, self._rewriter, self._send, asked.decode("latin-1"),
                    self._info.request_id,
                )  # fmt: skip
                await relay.answer(response, is_head=self._method == "HEAD")
        except GatewayError as error:
            if self._upload.has_left:
                return
            self._peer.call_failed(error, client)
            raise
        except httpx.HTTPError as error:
            reason = "the connection broke in the middle of its answer"
            raise PeerUnavailable(
                f"Peer '{self._peer.name}': {reason}", peer=self._peer.name, details=reason
            ) from error

    async def _content(self, waiting: anyio.CancelScope, first_byte_s: float) -> Any:
        if not self._upload.has_body:
            return None
        creates = self._method == "POST" and self._path.rstrip("/").endswith(("/triggers", "/cyclic-subscriptions"))
        if self._rewriter is not None and self._rewriter.ids and creates:
            return await self._upload.rewritten(self._rewriter.request_body)
        return self._upload.stream(waiting, first_byte_s)

    def _headers(self, content: Any) -> list[tuple[bytes, bytes]]:
        headers = []
        for name, value in self._info.headers:
            if name == b"content-length" and not (self._upload.has_body and not isinstance(content, bytes)):
                continue
            if name == b"if-none-match" and self._rewriter is not None:
                value = self._rewriter.peer_etags(value.decode("latin-1")).encode("latin-1")
                if not value:
                    continue
            headers.append((name, value))
        # What is rewritten must come as it is; what is not may come as the client wants it.
        encoding = b"identity" if self._rewriter is not None else self._upload.accept_encoding
        headers.append((b"accept-encoding", encoding))
        own = self._upload.own_headers
        if self._origins and self._peer.kind != COMPATIBLE:
            asked = self._info.origins
            meant = [origin for origin in self._origins if asked is None or origin in asked]
            # In the place of the asker's, who may have meant more than the share that is asked for here.
            own = [one for one in own if one[0] != ORIGINS.encode()]
            headers.append(origins_header(self._federation.origins_at(self._peer.name, meant)))
        headers.extend(own)
        return headers

    def _is_stream(self) -> bool:
        accepts = next((value for name, value in self._info.headers if name == b"accept"), b"")
        return b"text/event-stream" in accepts or _STREAM.search(unquote(self._path)) is not None

    def _first_byte_s(self) -> float:
        """How long the peer may take to begin its answer: more where the owner calls a node (AGGREGATION.md §6)."""
        config = self._federation.config
        wanted: float = config.aggregation.timeout_ms / 1000
        path = unquote(self._path)
        if self._method == "PUT" or (self._method in ("POST", "DELETE") and _EXECUTION.search(path)):
            is_parameter = "/configurations" in path
            wanted += config.parameter_service_timeout_sec if is_parameter else config.service_call_timeout_sec
        return self._info.bounded(float(wanted))
