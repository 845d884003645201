"""Entity ids: their form, the ids of local nodes, and the memory of ids that were ever given.

An id that was given to one owner is never given to another while it is remembered (AGGREGATION.md §4). Storage is
`state.py`; the choice of ids for remote apps is `aggregation/names.py`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from .model import GraphNode, Kind

MAX_ID_LENGTH = 256
_ID = re.compile(r"[A-Za-z0-9_-]{1,256}")
_ANONYMOUS = re.compile(r"_(\d{3,}|[0-9a-f]{8,})(_|$)")
# `/apps/docs` is the description of the collection (API.md §2.4), so no entity can be reached under it.
RESERVED_IDS = frozenset({"docs"})


def is_valid_id(text: str) -> bool:
    """Whether `text` has the form of an entity id: 1 to 256 of `[A-Za-z0-9_-]` (API.md §1.5)."""
    return _ID.fullmatch(text) is not None


def sanitise_host_id(hostname: str) -> str:
    """The id of the host component from a host name; `unknown_host` when nothing is left (API.md §3.7)."""
    lowered = hostname.lower().replace(".", "_").replace(" ", "_")
    return re.sub(r"[^a-z0-9_-]", "", lowered)[:MAX_ID_LENGTH] or "unknown_host"


def shorten(text: str, *salt: str) -> str:
    """`text` cut to the longest allowed id, ending in `_<8 hex>` made of `salt` when it had to be cut."""
    if len(text) <= MAX_ID_LENGTH:
        return text
    return with_hash(text, *salt)


def with_hash(text: str, *salt: str) -> str:
    """`text`, cut where needed, plus `_<8 hex of salt>` (AGGREGATION.md §4, Prefix)."""
    digest = hashlib.blake2b("\0".join(salt).encode(), digest_size=4).hexdigest()
    return f"{text[: MAX_ID_LENGTH - 9]}_{digest}"


@dataclass(frozen=True, slots=True)
class GivenId:
    """One id given to one owner.

    The owner is `(origin, kind, key)`: the instance id of the gateway that has the entity in its own graph, the
    collection (`apps`), and the FQN, or the id at the origin when there is no FQN. `via` is the peer through which it
    was first heard ("" for local ones), `origin_name` what that peer calls an origin that is not itself.
    """

    origin: str
    kind: str
    key: str
    id: str
    via: str = ""
    origin_name: str = ""

    @property
    def owner(self) -> tuple[str, str, str]:
        """`(origin, kind, key)`."""
        return (self.origin, self.kind, self.key)

    @property
    def peer_label(self) -> str:
        """How `failed_peers` names the gateway that owns it: `peer`, or `peer/origin` behind it (AGGREGATION.md §8)."""
        return f"{self.via}/{self.origin_name}" if self.origin_name else self.via


class GivenIds:
    """All remembered ids, by owner and by id. Grown by `add`, shrunk by `discard`, on one thread only.

    `forgotten` counts what was discarded: as long as it stays, an owner that has an id has the same one.
    """

    def __init__(self, given: Iterable[GivenId] = ()) -> None:
        self.by_key: dict[tuple[str, str, str], GivenId] = {}
        self.by_id: dict[tuple[str, str], tuple[GivenId, ...]] = {}
        self.forgotten = 0
        self.add(given)

    def __len__(self) -> int:
        return len(self.by_key)

    def __iter__(self) -> Iterator[GivenId]:
        return iter(self.by_key.values())

    def add(self, given: Iterable[GivenId]) -> None:
        """Remember more ids; an owner that has one already keeps it."""
        for one in given:
            if one.owner not in self.by_key:
                self.by_key[one.owner] = one
                slot = (one.kind, one.id)
                self.by_id[slot] = (*self.by_id.get(slot, ()), one)

    def discard(self, owners: Iterable[tuple[str, str, str]]) -> None:
        """Forget the ids of these owners; unknown owners are ignored."""
        for owner in owners:
            one = self.by_key.pop(owner, None)
            if one is not None:
                self.forgotten += 1
                slot = (one.kind, one.id)
                left = tuple(other for other in self.by_id[slot] if other.owner != owner)
                if left:
                    self.by_id[slot] = left
                else:
                    del self.by_id[slot]

    def id_of(self, origin: str, kind: Kind, key: str) -> str | None:
        """The id that an owner has, or None."""
        one = self.by_key.get((origin, kind.value, key))
        return one.id if one else None

    def holders(self, kind: Kind, entity_id: str) -> tuple[GivenId, ...]:
        """All owners that were ever given this id; more than one only for kinds that merge by id."""
        return self.by_id.get((kind.value, entity_id), ())


def namespaced_id(node: GraphNode) -> str:
    """`/a/b` + `cam` -> `a_b_cam`; a node in `/` keeps its name (API.md §3.7)."""
    namespace = node.namespace.strip("/").replace("/", "_")
    return shorten(f"{namespace}_{node.name}" if namespace else node.name, node.fqn)


def is_internal(node: GraphNode) -> bool:
    """Whether the node is one of ROS's own (`_ros2cli_...`); such ids are never remembered (AGGREGATION.md §4)."""
    return is_internal_name(node.name)


def is_internal_name(name: str) -> bool:
    """As `is_internal`, of a node's name without its namespace."""
    return name.startswith("_")


def is_anonymous_name(name: str) -> bool:
    """Whether a node's name ends in a number made at its start, as `launch_ros_4711` and tf2's listeners do.

    A guess: `camera_001` is taken for one as well.
    """
    return _ANONYMOUS.search(name) is not None


def assign_local_ids(
    nodes: Sequence[GraphNode], origin: str, given: GivenIds, taken: frozenset[str] = frozenset()
) -> tuple[dict[str, str], list[GivenId]]:
    """The app id of each node, by FQN, and the ids that are new.

    A node keeps the id it ever had. A new node gets its bare name, or the namespaced id when nodes of equal name are
    in several namespaces and it is not in `/` (API.md §3.7); where that was given to another, the namespaced id, then
    `_2`, `_3` (AGGREGATION.md §4). Ids in `taken` are a manifest's: no node gets one of them.
    """
    namespaces: dict[str, set[str]] = {}
    for node in nodes:
        namespaces.setdefault(node.name, set()).add(node.namespace)
    ids: dict[str, str] = {}
    new: list[GivenId] = []
    fresh: set[str] = set()

    def is_free(candidate: str) -> bool:
        is_used = candidate in RESERVED_IDS or candidate in taken or candidate in fresh
        return not is_used and not given.holders(Kind.APP, candidate)

    waiting: list[GraphNode] = []
    for node in nodes:
        known = None if is_internal(node) else given.id_of(origin, Kind.APP, node.fqn)
        if known is None or known in taken:
            waiting.append(node)
        else:
            ids[node.fqn] = known
    # Root nodes first: they alone may keep the bare id; internal ones last: they must take nothing from the others.
    waiting.sort(key=lambda node: (is_internal(node), node.namespace != "/", node.fqn))
    for node in waiting:
        shared_name = len(namespaces[node.name]) > 1 and node.namespace != "/"
        chosen = shorten(node.name, node.fqn) if not shared_name else namespaced_id(node)
        if not is_free(chosen):
            chosen = namespaced_id(node)
        number = 2
        while not is_free(chosen):
            suffix = f"_{number}"
            chosen = namespaced_id(node)[: MAX_ID_LENGTH - len(suffix)] + suffix
            number += 1
        ids[node.fqn] = chosen
        fresh.add(chosen)
        if not is_internal(node):
            new.append(GivenId(origin, Kind.APP.value, node.fqn, chosen))
    return ids, new
