"""Lists, details and relations as finished bytes, one set for each version of the tree.

Built when first asked for, and dropped together when the tree is swapped: readers need no lock and see one tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from ..aggregation.routing import FederatedTree, Remote
from ..entities.model import Kind
from ..errors import GatewayError
from .answers import Snapshot, to_json
from .context import PREFIX
from .locate import RELATION, STANDARD, locate
from .relations import RELATIONS, relation_document
from .views import detail_document, list_document

if TYPE_CHECKING:
    from ..aggregation.federation import Federation

# Far more than one client asks for; an alias of an id is one more path, so strangers could fill it otherwise.
MAX_SNAPSHOTS = 8192

_KINDS = {kind.value: kind for kind in Kind}


class Snapshots:
    """The cache. Used on the event loop only."""

    def __init__(self, federation: Federation, max_snapshots: int = MAX_SNAPSHOTS) -> None:
        self._federation = federation
        self._max_snapshots = max_snapshots
        self._tree: FederatedTree | None = None
        self._by_path: dict[str, Snapshot] = {}

    def get(self, path: str) -> Snapshot | None:
        """The answer to `GET path`, or None when it is no snapshot. Raises GatewayError for an id it cannot serve."""
        tree = self._federation.tree
        if tree is not self._tree:
            self._tree = tree
            self._by_path = {}
        found = self._by_path.get(path)
        if found is None:
            body = self._build(tree, path)
            if body is None:
                return None
            if len(self._by_path) >= self._max_snapshots:
                self._by_path.clear()
            found = self._by_path[path] = Snapshot(body)
        return found

    def cached(self, path: str) -> Snapshot | None:
        """Like `get`, but None for everything that has no good answer here."""
        try:
            return self.get(path)
        except GatewayError:
            return None

    def _build(self, tree: FederatedTree, path: str) -> bytes | None:
        parts = path.removeprefix(f"{PREFIX}/").split("/")
        kind = _KINDS.get(parts[0])
        if kind is None or not path.startswith(f"{PREFIX}/") or len(parts) > 3:
            return None
        if len(parts) == 1:
            return to_json(list_document(tree, kind))
        if len(parts) == 2:
            served = locate(tree, kind, parts[1], STANDARD)
            if isinstance(served, Remote):
                return None
            return to_json(detail_document(tree, served.entity, self._federation.enabled))
        if (kind, parts[2]) not in RELATIONS:
            return None
        return to_json(relation_document(tree, locate(tree, kind, parts[1], RELATION[kind]).entity, parts[2]))


class SnapshotMiddleware:
    """Answers `GET` of a snapshot path without a query, in front of everything that would cost more."""

    def __init__(self, app: ASGIApp, snapshots: Snapshots) -> None:
        self._app = app
        self._snapshots = snapshots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on."""
        if scope["type"] == "http" and scope["method"] == "GET" and not scope["query_string"]:
            snapshot = self._snapshots.cached(scope["path"])
            if snapshot is not None:
                await snapshot(scope, receive, send)
                return
        await self._app(scope, receive, send)
