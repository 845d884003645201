"""Peers and the fleet (AGGREGATION.md §10)."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from .base import Model, XMedkitCollection, XMedkitGathered, alias


class Peer(Model):
    """A peer gateway. Times that end in `_s` are seconds ago, `since` is seconds since the epoch."""

    name: str
    url: str
    status: str
    state: str | None = None
    kind: str | None = None
    role: str | None = None
    origin: str | None = None
    instance_id: str | None = None
    boot_id: str | None = None
    version: str | None = None
    since: float | None = None
    last_seen_s: float | None = None
    last_error: str | None = None
    rtt_ms: float | None = None
    rtt_percentiles_ms: dict[str, float] | None = None
    calls: dict[str, int] | None = None
    counts: dict[str, int] | None = None
    dropped_count: int | None = None
    dropped: list[dict[str, Any]] | None = None


class PeerList(Model):
    """The peers in their configured order."""

    items: list[Peer]
    x_medkit: XMedkitCollection | None = alias("x-medkit")


class PeerCreateRequest(Model):
    """A peer to be added until the gateway starts anew."""

    name: str
    url: str
    token: str | None = None
    fingerprint: str | None = None
    forward_auth: bool | None = None


class TopologyNode(Model):
    """A gateway. `hops`: how far away it is, 0 for the one that answers."""

    id: str
    state: str
    hops: int
    name: str | None = None
    boot_id: str | None = None
    entities: dict[str, int] | None = None


class TopologyLink(Model):
    """`from` aggregates `to`."""

    from_: str = Field(alias="from")
    to: str
    state: str
    peer: str | None = None
    url: str | None = None
    rtt_ms: float | None = None


class Topology(Model):
    """The graph of gateways, as far as this one was told."""

    nodes: list[TopologyNode]
    links: list[TopologyLink]


class FleetFaultCount(Model):
    """How often one fault code stands at one gateway."""

    peer: str
    severity: str
    fault_code: str
    count: int


class XMedkitFleetFaults(XMedkitGathered):
    """What is missing of the counts."""

    truncated: bool | None = None


class FleetFaults(Model):
    """Faults of all gateways, counted; `local` is the gateway that answers."""

    total: int
    by_peer: dict[str, int]
    by_severity: dict[str, int]
    items: list[FleetFaultCount]
    x_medkit: XMedkitFleetFaults | None = alias("x-medkit")
