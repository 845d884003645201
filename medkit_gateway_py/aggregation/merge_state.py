"""What a merge is given, and what it builds up on its way; the steps are in `merge.py` and `shares.py`. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..entities.ids import GivenId, GivenIds, is_internal_name
from ..entities.model import App, Entity, Kind
from .routing import Contribution, Shared, Warn
from .sections import OriginSection

LOCAL = "local"


@dataclass(frozen=True)
class PeerView:
    """What one reachable peer told last. A peer that is down has no view.

    `gateway`: the origin that answers there, also where it is left out because another address of it is used; "": who
    tells a path of one.
    """

    name: str
    sections: tuple[OriginSection, ...]
    gateway: str = ""


@dataclass(frozen=True)
class Chosen:
    """A section and the peer through which its origin is reached best."""

    peer: str
    section: OriginSection

    @property
    def label(self) -> str:
        """How this gateway names the origin: `peer`, or `peer/...` behind it (AGGREGATION.md §8)."""
        return label_of(self.peer, self.section)


def label_of(peer: str, section: OriginSection) -> str:
    """The name of an origin heard through `peer`: the peer's own name for it stands behind ours for the peer."""
    if len(section.path) == 1:
        return peer
    return f"{peer}/{section.label or section.name or section.id}"


@dataclass(frozen=True)
class Way:
    """How an origin was reached last: `label` is its name here, `section` its nameplate, None where not known."""

    peer: str
    label: str
    section: OriginSection | None = None


@dataclass(frozen=True)
class Past:
    """What was before this merge.

    `ways`: the last way to every origin; `direct`: who each peer was, by its name; `retained`: what
    `unreachable: retain` keeps; `displaced`: who was reached over a peer that answers as another gateway since a
    moment ago, with that peer.
    """

    ways: Mapping[str, Way] = field(default_factory=dict)
    direct: Mapping[str, str] = field(default_factory=dict)
    retained: Mapping[str, Chosen] = field(default_factory=dict)
    displaced: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MergeOptions:
    """`peers` are the names of all known peers, up or down, in their order; the others are parameters."""

    naming: str = "collision"
    max_hops: int = 8
    peers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Part:
    """What the apps of one section became in a merge, where nothing but the section had a say in it.

    `keys`: graph key to id here; `app_ids`, `apps` and `remote` as in `MergeState`; `renames`: id at the peer to id
    here; `exported`: id at the origin to id here; the latter two where they differ.
    """

    section: OriginSection
    keys: Mapping[str, str]
    app_ids: Mapping[tuple[str, str], str]
    apps: Mapping[str, App]
    remote: Mapping[tuple[Kind, str], Contribution]
    renames: Mapping[str, str]
    exported: Mapping[str, str]


@dataclass(frozen=True)
class Parts:
    """The parts of a merge by peer and origin, for the next one: most peers have not changed since.

    Good for as long as `given` is the same memory of ids, of which nothing was `forgotten` since.
    """

    by_section: Mapping[tuple[str, str], Part] = field(default_factory=dict)
    given: GivenIds | None = None
    forgotten: int = 0

    def of(self, one: Chosen, given: GivenIds) -> Part | None:
        """The part of exactly this section, heard over the same peer."""
        part = self.by_section.get((one.peer, one.section.id))
        if part is None or part.section is not one.section:
            return None
        return part if self.given is given and self.forgotten == given.forgotten else None

    def app_of(self, one: Chosen, app: App, entity_id: str) -> App | None:
        """What this very app became under this id when it was heard over the same peer, in an older section perhaps."""
        part = self.by_section.get((one.peer, one.section.id))
        if part is None or app.depends_on or part.section.tree.apps.get(app.id) is not app:
            return None
        return part.apps.get(entity_id) if part.app_ids[(one.section.id, app.id)] == entity_id else None


@dataclass
class Share:
    """One contribution to an entity that merges by id: from `peer` ("" ourselves), issued by `origin`.

    `is_away`: the gateway cannot be reached, the entity is retained.
    """

    entity: Entity
    peer: str
    origin: str
    is_away: bool = False


@dataclass
class MergeState:
    """The merge so far."""

    own: OriginSection
    chosen: list[Chosen]
    given: GivenIds
    options: MergeOptions
    # Origins out of reach and how they are called here; what is kept of them.
    away: dict[str, str] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    retained: list[Chosen] = field(default_factory=list)
    # (origin, app id at the origin) -> app id here
    app_ids: dict[tuple[str, str], str] = field(default_factory=dict)
    apps: dict[str, App] = field(default_factory=dict)
    remote: dict[tuple[Kind, str], Contribution] = field(default_factory=dict)
    shared: dict[tuple[Kind, str], Shared] = field(default_factory=dict)
    unreachable: dict[tuple[Kind, str], str] = field(default_factory=dict)
    new: dict[tuple[str, str, str], GivenId] = field(default_factory=dict)
    new_app_ids: set[str] = field(default_factory=set)
    warnings: list[Warn] = field(default_factory=list)
    # (peer, origin) -> its part, of this merge or the one before
    parts: dict[tuple[str, str], Part] = field(default_factory=dict)

    def known(self, owner: tuple[str, str, str]) -> GivenId | None:
        """The id that this owner has, of this merge or from before."""
        return self.given.by_key.get(owner) or self.new.get(owner)

    def give(self, owner: tuple[str, str, str], entity_id: str, one: Chosen) -> None:
        """Give an id for the first time."""
        if owner[1] == Kind.APP.value:
            self.new_app_ids.add(entity_id)
            if is_internal_name(owner[2].rpartition("/")[2]):
                return
        behind = "" if len(one.section.path) == 1 else one.label.partition("/")[2]
        self.new[owner] = GivenId(*owner, entity_id, one.peer, behind)

    def is_free(self, candidate: str) -> Any:
        """Whether no app has this id or ever had it."""
        return (
            candidate not in self.apps
            and candidate not in self.new_app_ids
            and not self.given.holders(Kind.APP, candidate)
        )
