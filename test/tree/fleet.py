"""A fleet of pure gateways for merge tests: who aggregates whom, rounds of exchange, no I/O and no clock."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from medkit_gateway_py.aggregation.merge import MergeOptions, PeerView, merge
from medkit_gateway_py.aggregation.routing import FederatedTree
from medkit_gateway_py.aggregation.sections import GatewayIdentity, tree_from_wire, tree_to_wire
from medkit_gateway_py.entities.ids import GivenIds
from medkit_gateway_py.entities.layers import LayerOptions, local_tree
from medkit_gateway_py.entities.model import Component, GraphNode


def graph_node(fqn: str, graph_key: str = "") -> GraphNode:
    """A node without endpoints."""
    namespace, _, name = fqn.rpartition("/")
    return GraphNode(name, namespace or "/", graph_key=graph_key)


@dataclass
class Gateway:
    """One gateway of the fleet; `links` are the peers it aggregates, in order, by name."""

    name: str
    nodes: list[GraphNode] = field(default_factory=list)
    components: list[Component] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    up: bool = True
    boot: int = 1
    seq: int = 1
    given: GivenIds = field(default_factory=GivenIds)
    tree: FederatedTree = field(default_factory=FederatedTree)
    naming: str = "collision"

    @property
    def identity(self) -> GatewayIdentity:
        return GatewayIdentity(f"id-{self.name}", f"{self.boot:08x}-0", self.name, "0")

    def document(self) -> str:
        """What this gateway answers to a tree request, as bytes on the wire would be."""
        return json.dumps(tree_to_wire(self.identity, self.tree.version, self.tree.export()))


class Fleet:
    """All gateways. `round` lets each fetch the last documents of its peers, then merge, as if at once."""

    def __init__(self, *gateways: Gateway) -> None:
        self.gateways = {gateway.name: gateway for gateway in gateways}
        for gateway in gateways:
            self.merge(gateway, {})

    def __getitem__(self, name: str) -> FederatedTree:
        return self.gateways[name].tree

    def merge(self, gateway: Gateway, documents: dict[str, str]) -> None:
        """One merge of `gateway` with the documents of those peers that answer."""
        options = LayerOptions(gateway.identity.id)
        local, new = local_tree(gateway.nodes, gateway.components, gateway.given, options)
        gateway.given.add(new)
        views = [
            PeerView(name, tree_from_wire(json.loads(documents[name]), 10_000).sections)
            for name in gateway.links
            if name in documents
        ]
        merged = merge(
            gateway.identity,
            local,
            gateway.seq,
            views,
            gateway.given,
            MergeOptions(naming=gateway.naming, peers=tuple(gateway.links)),
        )
        gateway.given.add(merged.new_ids)
        gateway.tree = merged.tree

    def round(self) -> None:
        """One exchange over all links between gateways that are up."""
        documents = {name: gateway.document() for name, gateway in self.gateways.items() if gateway.up}
        for gateway in self.gateways.values():
            if gateway.up:
                self.merge(gateway, documents)

    def settle(self, rounds: int = 9) -> Fleet:
        """Enough rounds for additions and, with `max_hops` of 8, for withdrawals."""
        for _ in range(rounds):
            self.round()
        return self

    def restart(self, name: str, *fqns: str) -> None:
        """The gateway comes back with other nodes; ids and boot counter are kept, as `state.py` does."""
        gateway = self.gateways[name]
        gateway.boot += 1
        gateway.up = True
        gateway.nodes = [graph_node(fqn) for fqn in fqns]

    def reachable(self, name: str) -> set[str]:
        """The gateways whose entities `name` must list: itself and all over directed links between living ones."""
        seen: set[str] = set()
        queue = [name]
        while queue:
            current = queue.pop()
            if current in seen or not self.gateways[current].up:
                continue
            seen.add(current)
            queue.extend(self.gateways[current].links)
        return seen
