"""What is known of a peer as a value, and of all peers in one word, for those who operate the gateway. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..entities.model import Kind
from .sections import DroppedItem, OriginSection

PAUSED = "paused"


@dataclass(frozen=True)
class PeerStatus:
    """What we know of a peer, for `/health` and `/x-medkit/peers`. Times `*_s` are seconds ago, `since` epoch seconds.

    `kind` is `medkit_gateway_py`, `compatible` or "" while unknown; `role` is `peer`, `self` (our own address) or
    `fallback` (a second address of another peer); both of these are not merged. `is_stale`: it answers, but its tree
    could not be read lately, and the last good one is used.
    """

    name: str
    url: str
    status: str
    state: str
    kind: str = ""
    role: str = "peer"
    source: str = "static"
    instance_id: str = ""
    boot_id: str = ""
    version: str = ""
    since: float = 0.0
    last_seen_s: float | None = None
    last_error: str = ""
    rtt_ms: float | None = None
    rtt_percentiles_ms: dict[str, float] | None = None
    calls: dict[str, int] | None = None
    counts: dict[str, int] | None = None
    dropped_count: int = 0
    dropped: tuple[DroppedItem, ...] = ()
    is_stale: bool = False


def health_block(enabled: bool, peers: Sequence[PeerStatus], problems: Sequence[str]) -> dict[str, Any]:
    """The block of aggregation in `/health` (DECISIONS 25): `ok` while every peer that is not paused answers.

    `problems` are reasons why peers are not as they were configured. `since` is when a peer last came or went.
    """
    if not enabled:
        return {"state": "off"}
    asked = [peer for peer in peers if peer.state != PAUSED and peer.role != "self"]
    away = [peer.name for peer in asked if peer.status != "online"]
    reasons = list(problems)
    if away:
        reasons.append(f"{len(away)} of {len(asked)} peers do not answer: {_some(away)}")
    if stale := [peer.name for peer in asked if peer.is_stale]:
        reasons.append(
            f"what {len(stale)} of {len(asked)} peers have may be out of date, see last_error: {_some(stale)}"
        )
    state = "ok" if not reasons else "down" if asked and len(away) == len(asked) else "degraded"
    block: dict[str, Any] = {"state": state}
    if asked:
        block["since"] = max(peer.since for peer in asked)
    if reasons:
        block["reason"] = "; ".join(reasons)
    return block


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def counts_of(sections: Sequence[OriginSection] | None) -> dict[str, int] | None:
    """How many entities of each kind a peer told; None while it told nothing."""
    if sections is None:
        return None
    return {kind.value: sum(len(section.tree.of(kind)) for section in sections) for kind in Kind}
