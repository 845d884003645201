"""How old what is known of a gateway is: since when nothing confirmed it (AGGREGATION.md §8, `age_ms`)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .routing import FederatedTree

if TYPE_CHECKING:
    from .peer import Peer


def age_ms(label: str, tree: FederatedTree, peer: Peer | None, left_at: Callable[[str], float | None]) -> int | None:
    """Milliseconds since the newest state of the gateway called `label` was confirmed, None where nobody can say.

    `peer` is the one that the name begins with. A gateway in the tree is as old as the peer's last word, which passes
    changes on at once. One that is away was there until it left the tree, and until the peer's last word where that
    one is away, too; the gateways in between may have known a few seconds earlier. What was before our start is not
    known.
    """
    last_word = peer.age_ms() if peer is not None else None
    if label in tree.labels.values() and label not in tree.away.values():
        return last_word
    is_offline = peer is not None and not peer.is_online
    if "/" not in label and is_offline:
        return last_word
    times = [at for origin, name in tree.away.items() if name == label and (at := left_at(origin)) is not None]
    if not times:
        return None
    age = int((time.monotonic() - max(times)) * 1000)
    return max(age, last_word) if is_offline and last_word is not None else age
