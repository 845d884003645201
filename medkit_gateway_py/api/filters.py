"""`?peer=`, `?origin=` and `?available=` on the merged lists (AGGREGATION.md §10). Pure functions of one tree."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..aggregation.routing import FederatedTree
from ..entities.model import Entity
from ..errors import InvalidParameter

NAMES = ("peer", "origin", "available")
LOCAL = "local"
# Names of peers, instance ids, and those of clones (`id~peer`).
_NAME = re.compile(r"[A-Za-z0-9_~.:-]{1,265}")


@dataclass(frozen=True)
class Filter:
    """What a list is narrowed to; None: not by this. `peer` is the name of a peer, or `local`."""

    peer: str | None = None
    origin: str | None = None
    available: bool | None = None

    def keeps(self, tree: FederatedTree, entity: Entity) -> bool:
        """Whether the entity stays in the list."""
        if self.available is not None and getattr(entity, "available", True) != self.available:
            return False
        if self.peer is not None and self.peer not in _peers(tree, entity):
            return False
        return self.origin is None or _has_origin(tree, entity, self.origin)


def filter_of(query: list[tuple[str, str]]) -> Filter | None:
    """The filter of a query, None when it asks for none. Raises InvalidParameter for a value that cannot be meant."""
    given: dict[str, str] = {}
    for name, value in query:
        if name not in NAMES:
            continue
        if name in given:
            raise InvalidParameter(f"{name} is given twice", parameter=name)
        if not _NAME.fullmatch(value):
            raise InvalidParameter(f"Invalid value of {name}", parameter=name, value=value[:256])
        given[name] = value
    if not given:
        return None
    available = given.get("available")
    if available not in (None, "true", "false"):
        raise InvalidParameter(
            "available must be true or false", parameter="available", value=available, allowed_values=["true", "false"]
        )
    return Filter(given.get("peer"), given.get("origin"), None if available is None else available == "true")


def _peers(tree: FederatedTree, entity: Entity) -> set[str]:
    """The peers that an entity is or was reached through, and `local` where we have a share of it."""
    key = (entity.kind, entity.id)
    gone = tree.unreachable.get(key)
    if gone is not None:
        return {gone.partition("/")[0]}
    shared = tree.shared.get(key)
    if shared is not None:
        return {share.peer for share in shared.contributions} | ({LOCAL} if shared.local else set())
    remote = tree.remote.get(key)
    return {remote.peer if remote is not None else LOCAL}


def _has_origin(tree: FederatedTree, entity: Entity, origin: str) -> bool:
    """Whether the gateway of this instance id or name has the entity in its own graph."""
    key = (entity.kind, entity.id)
    shared, remote = tree.shared.get(key), tree.remote.get(key)
    sections = [section for section in (*tree.sections, *tree.down) if origin in (section.id, section.name)]
    gone = tree.unreachable.get(key)
    if gone is not None:
        away = {one for one, label in tree.away.items() if label == gone}
        return origin in away or any(section.id in away for section in sections)
    if shared is not None:
        ids = {one for share in shared.contributions for one in share.origins}
    else:
        ids = set(remote.origins) if remote is not None else set()
    own = tree.own
    is_ours = remote is None if shared is None else shared.local
    if own is not None and is_ours and origin in (own.id, own.name):
        return True
    return any(section.id in ids for section in sections)
