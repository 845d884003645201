"""A fleet of pure gateways for merge tests: who aggregates whom, rounds of exchange, no I/O and no clock.

One round is one second of the fleet's own time. A gateway merges only when something it sees is different, as a real
one does, so that long histories are cheap.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from medkit_gateway_py.aggregation.merge import MergeOptions, Parts, PeerView, merge, passed_over
from medkit_gateway_py.aggregation.origins import OriginMemory
from medkit_gateway_py.aggregation.routing import FederatedTree
from medkit_gateway_py.aggregation.sections import GatewayIdentity, OriginSection
from medkit_gateway_py.aggregation.trust import Trust
from medkit_gateway_py.entities.ids import GivenIds
from medkit_gateway_py.entities.layers import LayerOptions, local_tree
from medkit_gateway_py.entities.model import Component, GraphNode
from medkit_gateway_py.entities.tree import EntityTree


def graph_node(fqn: str, graph_key: str = "") -> GraphNode:
    """A node without endpoints."""
    namespace, _, name = fqn.rpartition("/")
    return GraphNode(name, namespace or "/", graph_key=graph_key)


@dataclass
class Gateway:
    """One gateway of the fleet; `links` are the peers it aggregates, in order, by name; `cut` those it cannot reach."""

    name: str
    nodes: list[GraphNode] = field(default_factory=list)
    components: list[Component] = field(default_factory=list)
    links: list[str] = field(default_factory=list)
    up: bool = True
    boot: int = 1
    robot: int = 0
    own_name: str = ""
    given: GivenIds = field(default_factory=GivenIds)
    tree: FederatedTree = field(default_factory=FederatedTree)
    naming: str = "collision"
    retain: bool = False
    discovered: set[str] = field(default_factory=set)
    cut: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.memory = OriginMemory(retain=self.retain)
        self._parts = Parts()
        self.local = EntityTree()
        self.seq = 0
        self.exported: tuple[OriginSection, ...] = ()
        self.warnings: list[str] = []
        self._built: tuple[list[GraphNode], list[Component]] | None = None
        self._seen: object = None
        self._again = 0.0

    @property
    def identity(self) -> GatewayIdentity:
        number = f".{self.robot}" if self.robot else ""
        return GatewayIdentity(f"id-{self.name}{number}", f"{self.boot:08x}-0", self.own_name or self.name, "0")

    def begin_anew(self, now: float = 0.0) -> None:
        """What a process loses when it ends; ids given, and what is known of origins, are on disk."""
        self.boot += 1
        before = self.memory
        kept = [before.remembered(origin) for origin in before.known()]
        retained = {one.origin: found for one in kept if (found := before.retained(one.origin)) is not None}
        self.memory = OriginMemory(self.given, kept, retained, retain=self.retain, now=now)
        self._parts = Parts()
        self.local = EntityTree()
        self.tree, self.exported, self.seq, self._built, self._seen = FederatedTree(), (), 0, None, None

    def be_replaced(self, now: float = 0.0) -> None:
        """Another robot at the same address: nothing of the old one is left."""
        self.robot += 1
        self.given, self.memory = GivenIds(), OriginMemory(retain=self.retain)
        self.begin_anew(now)

    def scan(self) -> None:
        """Look at our own graph."""
        if self._built == (self.nodes, self.components):
            return
        local, new = local_tree(self.nodes, self.components, self.given, LayerOptions(self.identity.id))
        self.given.add(new)
        if local != self.local or not self.seq:
            self.local, self.seq = local, self.seq + 1
        self._built = (list(self.nodes), list(self.components))

    def merge(self, documents: dict[str, tuple[OriginSection, ...]], now: float) -> bool:
        """One merge with the documents of those peers that answer; whether anything became different."""
        seen = (self.seq, self.boot, [(name, id(documents[name])) for name in self.links if name in documents])
        if seen == self._seen and now < self._again:
            return False
        self._seen = seen
        views, addresses = [], set()
        for name in self.links:
            if name in documents:
                gateway = documents[name][0].id if documents[name] else ""
                # A second address of a gateway is its fallback.
                views.append(PeerView(name, () if gateway in addresses else documents[name], gateway))
                addresses.add(gateway)
        trust = Trust(static=set(self.links) - self.discovered)
        admitted = self.memory.admit(views, self.identity.id, self.local if self.seq else None, trust, 8, now)
        self._again = float("inf") if admitted.again_in is None else now + admitted.again_in
        options = MergeOptions(naming=self.naming, peers=tuple(self.links))
        arguments = (self.identity, self.local, self.seq, admitted.views, self.given, options, self.memory.past)
        merged = merge(*arguments, self._parts)
        if self._parts.by_section:
            # Whatever is reused, and in whatever history, the result is that of a merge without memory.
            anew = merge(*arguments)
            assert (merged.tree, merged.new_ids, merged.chosen) == (anew.tree, anew.new_ids, anew.chosen)
            assert list(merged.tree.apps) == list(anew.tree.apps)
        self._parts = merged.parts
        self.given.add(merged.new_ids)
        self.memory.merged(merged.chosen, now)
        self.warnings = [warning.code for warning in (*merged.tree.warnings, *admitted.warnings)]
        tree = replace(merged.tree, passed_over=passed_over(merged.chosen, views))
        if tree == self.tree:
            self.tree = replace(self.tree, passed_over=tree.passed_over)
            return False
        self.tree = tree
        self.exported = self.tree.export()
        return True


class Fleet:
    """All gateways. `round` lets each fetch the last documents of its peers, then merge, as if at once."""

    def __init__(self, *gateways: Gateway) -> None:
        self.gateways = {gateway.name: gateway for gateway in gateways}
        self.now = 0.0
        # By asker and peer, what was told last over a link that is dead, which nobody noticed yet.
        self.held: dict[tuple[str, str], tuple[OriginSection, ...]] = {}
        for gateway in gateways:
            gateway.scan()
            gateway.merge({}, self.now)

    def __getitem__(self, name: str) -> FederatedTree:
        return self.gateways[name].tree

    def answers(self, asker: str, peer: str) -> bool:
        """Whether `peer` answers when `asker` asks."""
        return self.gateways[peer].up and peer not in self.gateways[asker].cut

    def round(self, late: frozenset[str] = frozenset()) -> bool:
        """One exchange over all links that work; gateways in `late` do not look at their own graph this time.

        True when any tree became different.
        """
        self.now += 1.0
        living = {name: gateway for name, gateway in self.gateways.items() if gateway.up}
        documents = {name: gateway.exported for name, gateway in living.items()}
        for name, gateway in living.items():
            if name not in late:
                gateway.scan()
        changed = [
            gateway.merge(
                {
                    peer: self.held.get((name, peer), documents[peer])
                    for peer in gateway.links
                    if self.answers(name, peer)
                },
                self.now,
            )
            for name, gateway in living.items()
        ]
        return any(changed)

    def settle(self, rounds: int = 9) -> Fleet:
        """Enough rounds for additions and, with `max_hops` of 8, for withdrawals."""
        for _ in range(rounds):
            self.round()
        return self

    def restart(self, name: str, *fqns: str) -> None:
        """The gateway comes back with other nodes; ids and boot counter are kept, as `state.py` does."""
        gateway = self.gateways[name]
        gateway.begin_anew(self.now)
        gateway.up = True
        gateway.nodes = [graph_node(fqn) for fqn in fqns]
        gateway.scan()
        gateway.merge({}, self.now)

    def reachable_names(self) -> list[str]:
        """The gateways that run."""
        return [name for name, gateway in self.gateways.items() if gateway.up]

    def distances(self, name: str) -> dict[str, int]:
        """The gateways whose entities `name` must list, and how far away they are."""
        found = {name: 0} if self.gateways[name].up else {}
        queue = list(found)
        while queue:
            current = queue.pop(0)
            for peer in self.gateways[current].links:
                if peer not in found and self.answers(current, peer):
                    found[peer] = found[current] + 1
                    queue.append(peer)
        return found

    def reachable(self, name: str) -> set[str]:
        """As `distances`, without them."""
        return set(self.distances(name))
