"""The graph of gateways, over all hops, as far as peers told of it (AGGREGATION.md §10).

Made of the ways that the peers' sections came over, not only of the best ones, so alternate links are shown, too. Asks
nobody.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..entities.model import Kind
from .routing import FederatedTree
from .sections import GatewayIdentity, OriginSection

if TYPE_CHECKING:
    from .peer_status import PeerStatus

Json = dict[str, Any]


@dataclass(frozen=True)
class KnownPeer:
    """A peer, and all sections that it tells, whether they are the best ones or not."""

    status: PeerStatus
    sections: tuple[OriginSection, ...] | None


def topology(own: GatewayIdentity, tree: FederatedTree, peers: Iterable[KnownPeer]) -> Json:
    """`{nodes, links}`. A node is a gateway: `id`, `name`, `state`, `hops`, how many entities it has of its own.

    A link goes from the gateway that aggregates to the one that is aggregated; the first hop has the `peer`'s name. A
    peer that never said who it is has `peer:<name>` for an id.
    """
    nodes: dict[str, Json] = {own.id: _node(own.id, own.name, own.boot_id, "online", 0, tree.local)}
    links: dict[tuple[str, str], Json] = {}
    for peer in peers:
        status = peer.status
        if status.role == "self":
            continue
        first = status.instance_id or f"peer:{status.name}"
        link: Json = {"from": own.id, "to": first, "state": status.status, "peer": status.name, "url": status.url}
        if status.rtt_ms is not None:
            link["rtt_ms"] = status.rtt_ms
        known = links.get((own.id, first))
        if known is None or known["state"] != "online":
            links[(own.id, first)] = link
        _add(nodes, _node(first, status.name, status.boot_id, status.status, 1))
        for section in peer.sections or ():
            _walk(nodes, links, section)
    return {
        "nodes": sorted(nodes.values(), key=lambda node: (node["hops"], node["id"])),
        "links": sorted(links.values(), key=lambda link: (link["from"], link["to"])),
    }


def _walk(nodes: dict[str, Json], links: dict[tuple[str, str], Json], section: OriginSection) -> None:
    path = section.path
    for hops, gateway in enumerate(path, 1):
        _add(nodes, _node(gateway, "", "", "online", hops))
    for above, below in itertools.pairwise(path):
        state = "offline" if section.state == "down" and below == section.id else "online"
        links.setdefault((above, below), {"from": above, "to": below, "state": state})
    state = "offline" if section.state == "down" else "online"
    tree = section.tree if section.state != "down" else None
    _add(nodes, _node(section.id, section.name, section.boot_id, state, len(path), tree))


def _add(nodes: dict[str, Json], node: Json) -> None:
    """Note a node, or what is told of it in addition: the shortest way, and online where any way says so."""
    known = nodes.get(node["id"])
    if known is None:
        nodes[node["id"]] = node
        return
    if known["hops"] == 0:
        return
    known["hops"] = min(known["hops"], node["hops"])
    if node["state"] == "online" and "entities" in node:
        known["state"] = "online"
    for name in ("name", "boot_id", "entities"):
        # What the gateway says of itself comes with its section, and beats what we call it.
        if name in node and (name not in known or "entities" in node):
            known[name] = node[name]


def _node(gateway: str, name: str, boot_id: str, state: str, hops: int, tree: Any = None) -> Json:
    node: Json = {"id": gateway, "state": state, "hops": hops}
    if name:
        node["name"] = name
    if boot_id:
        node["boot_id"] = boot_id
    if tree is not None:
        node["entities"] = {kind.value: len(tree.of(kind)) for kind in Kind}
    return node
