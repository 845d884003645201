"""The changes of the tree that peers get, encoded once for all who follow (AGGREGATION.md §6).

Nothing is encoded while nobody follows. Who is too far behind is told where the tree is now, and fetches the whole.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..aggregation.routing import FederatedTree
from ..aggregation.sections import OriginSection, delta_to_wire
from .answers import to_json
from .sse import EventLog, frame

if TYPE_CHECKING:
    from ..aggregation.federation import Federation

# A second of changes at the fastest; whoever is further behind is served faster by the whole tree.
MAX_DELTAS = 64
MAX_DELTA_BYTES = 16 * 1024 * 1024
# Peers take silence for absence after three of these.
SIGN_OF_LIFE_S = 1.0


class TreeFeed:
    """All followers of one view of the tree: the whole, or for requests that loop our own section only."""

    def __init__(self, federation: Federation, *, local_only: bool = False) -> None:
        self._federation = federation
        self._local_only = local_only
        self._log = EventLog(MAX_DELTAS, MAX_DELTA_BYTES)
        self._sent: tuple[OriginSection, ...] = ()
        federation.subscribe(self._on_tree)

    def cursor(self, place: str) -> TreeCursor:
        """For a follower whose tree is at `place` (`<boot_id>-<seq>`, anything else is unknown)."""
        boot, _, seq = place.rpartition("-")
        known = boot == self._federation.identity.boot_id and seq.isdecimal() and len(seq) < 19
        return TreeCursor(self, self._log, self._federation.identity.boot_id, int(seq) if known else -1)

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Begin to encode changes, if nobody follows yet, and call `wake` with each."""
        if not self._log.followers:
            self._log.restart(self._federation.tree.version)
            self._sent = self._sections(self._federation.tree)
        return self._log.follow(wake)

    def _on_tree(self, tree: FederatedTree) -> None:
        if not self._log.followers:
            return
        if tree.version != self._log.newest + 1:
            self._log.restart(tree.version - 1)
        sections = self._sections(tree)
        delta = to_json(delta_to_wire(self._sent, sections, self._log.newest, tree.version))
        self._sent = sections
        boot_id = self._federation.identity.boot_id
        self._log.append(lambda number: frame(delta, event="delta", number=f"{boot_id}-{number}"))

    def _sections(self, tree: FederatedTree) -> tuple[OriginSection, ...]:
        return tree.export()[: 1 if self._local_only else None]


class TreeCursor:
    """One follower's place."""

    def __init__(self, feed: TreeFeed, log: EventLog, boot_id: str, seq: int) -> None:
        self._feed = feed
        self._log = log
        self._boot_id = boot_id
        self._seq = seq

    def greeting(self) -> bytes:
        """Where we are, unless the follower can go on from where it is; elsewhere it sees that it must fetch all."""
        if self._log.oldest - 1 <= self._seq <= self._log.newest:
            return b":\n\n"
        self._seq = self._log.newest
        return b":\n\n" + self._place()

    def take(self) -> bytes:
        """The next changes, or where we are now when some are gone."""
        batch = self._log.read(self._seq)
        if batch.lost_from:
            self._seq = self._log.newest
            return self._place()
        self._seq = batch.last
        return batch.body

    def follow(self, wake: Callable[[], None]) -> Callable[[], None]:
        """See `sse.Source`."""
        return self._feed.follow(wake)

    def _place(self) -> bytes:
        here = to_json({"base": self._seq, "seq": self._seq, "set": [], "gone": []})
        return frame(here, event="delta", number=f"{self._boot_id}-{self._seq}")
