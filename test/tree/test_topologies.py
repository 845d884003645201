"""Any topology, any order of failures: what must hold of federated trees at all times (AGGREGATION.md §5).

Generated fleets of up to eight gateways live through generated histories; after each round of exchange all of it is
checked. The core is the real one, the network is `fleet.py`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, note, settings
from hypothesis import given as forall
from hypothesis import strategies as st

from medkit_gateway_py.aggregation.origins import MOVED_S
from medkit_gateway_py.aggregation.routing import Away, Local, Remote
from medkit_gateway_py.aggregation.sections import OriginSection
from medkit_gateway_py.entities.model import Component, Kind

from .fleet import Fleet, Gateway, graph_node

EXAMPLES = int(os.environ.get("MEDKIT_TOPOLOGIES", "2000"))
MAX_HOPS = 8
# What a peer's scan found is waited for three seconds (`unscanned.py`), and one of them is that of the exchange.
LATE_ROUNDS = 2
NAMES = [f"g{number}" for number in range(8)]
FQNS = ["/nav", "/cam", "/x/cam", "/y/cam", "/x/nav", "/g1__nav"]
COMPONENTS = ["arm", "base"]

# A node as it really is: its ROS graph and its name there.
Node = tuple[str, str]


@dataclass
class Graph:
    """One ROS graph and who looks at it. `key` makes the nodes of a shared graph recognisable."""

    name: str
    members: list[str]
    fqns: set[str]
    generation: int = 0
    born: dict[str, int] = field(default_factory=dict)

    @property
    def is_shared(self) -> bool:
        return len(self.members) > 1

    def become(self, fqns: set[str]) -> None:
        """Other nodes now; those that stay are the same processes."""
        self.generation += 1
        self.born = {fqn: self.born.get(fqn, self.generation) if fqn in self.fqns else self.generation for fqn in fqns}
        self.fqns = set(fqns)

    def key(self, fqn: str) -> str:
        return f"{self.name}{fqn}{self.born.get(fqn, 0)}" if self.is_shared else ""


class World:
    """The fleet, its graphs, and all that was ever seen in it."""

    def __init__(self, fleet: Fleet, graphs: list[Graph]) -> None:
        self.fleet = fleet
        self.graphs = graphs
        self._graphs = {name: graph for graph in graphs for name in graph.members}
        # (gateway, app id) -> the node; (gateway, origin, node) -> its app id
        self.owners: dict[tuple[str, str], Node] = {}
        self.ids: dict[tuple[str, str, Node], str] = {}
        self.ages: dict[tuple[str, str], tuple[str, int]] = {}
        self.late_for: dict[str, int] = {}
        self.look()

    def __repr__(self) -> str:
        links = {
            name: f"-> {one.links}, {one.naming}, found {sorted(one.discovered & set(one.links))}"
            for name, one in self.fleet.gateways.items()
        }
        return f"World({links}, {[(graph.members, sorted(graph.fqns)) for graph in self.graphs]})"

    def graph(self, origin: str) -> Graph:
        """The graph of the gateway with this instance id, `id-g1` or, of a later robot, `id-g1.2`."""
        return self._graphs[origin.removeprefix("id-").partition(".")[0]]

    def node(self, origin: str, fqn: str) -> Node:
        """A node as it really is: a later robot at the same address has other ones."""
        return (f"{self.graph(origin).name}{origin.partition('.')[2]}", fqn)

    def id_of(self, name: str) -> str:
        """The instance id of a gateway."""
        return self.fleet.gateways[name].identity.id

    def look(self) -> None:
        """Every gateway's next scan sees its graph as it is now."""
        for graph in self.graphs:
            nodes = [graph_node(fqn, graph.key(fqn)) for fqn in sorted(graph.fqns)]
            if graph.is_shared:
                # The gateways themselves are nodes: by them each knows that it is not alone on this graph.
                nodes += [
                    graph_node(f"/{name}", f"{graph.name}/{name}{self.fleet.gateways[name].boot}")
                    for name in graph.members
                    if self.fleet.gateways[name].up
                ]
            for name in graph.members:
                self.fleet.gateways[name].nodes = nodes

    def nodes_of(self, name: str) -> set[Node]:
        """What the graph of a gateway holds now."""
        origin = self.id_of(name)
        graph = self.graph(origin)
        living = {f"/{one}" for one in graph.members if self.fleet.gateways[one].up} if graph.is_shared else set()
        return {self.node(origin, fqn) for fqn in graph.fqns | living}

    def listed(self, name: str) -> list[tuple[str, str, Node]]:
        """(app id, origin, node) of all apps that a gateway lists."""
        one = self.fleet.gateways[name]
        found = []
        for app_id, app in one.tree.apps.items():
            share = one.tree.remote.get((Kind.APP, app_id))
            origin = share.origins[0] if share else one.identity.id
            found.append((app_id, origin, self.node(origin, app.fqn)))
        return found

    def round(self, late: set[str]) -> None:
        """One exchange. A scan is never later than two rounds, whatever happens one after the other."""
        found = {name for name in late if self.late_for.get(name, 0) < LATE_ROUNDS}
        self.late_for = {name: self.late_for.get(name, 0) + 1 for name in found}
        self.fleet.round(frozenset(found))

    # What must hold at all times

    def check_always(self) -> None:
        for name, one in self.fleet.gateways.items():
            if not one.up:
                continue
            me = one.identity.id
            for app_id, origin, node in self.listed(name):
                assert self.owners.setdefault((me, app_id), node) == node, f"{app_id} moved at {name}"
                # A node of our own graph is ours, whoever has seen it first.
                slot = (me, me if self.graph(me) is self.graph(origin) else origin, node)
                assert self.ids.setdefault(slot, app_id) == app_id, f"{node} got another id at {name}"
            for section in one.tree.sections:
                assert self.ages.get((me, section.id), ("", 0)) <= section.age, f"{name} went back in time"
                self.ages[me, section.id] = section.age
        present = {one.identity.id: name for name, one in self.fleet.gateways.items() if one.up}
        for (me, app_id), node in self.owners.items():
            if me in present:
                self.check_forward(present[me], app_id, node)
        for name in self.fleet.reachable_names():
            asked, named = self.faults(name)
            tree = self.fleet[name]
            assert all(count == 1 for count in asked.values()), f"asked twice: {asked}"
            for section in tree.sections:
                assert section.id in asked or is_named(section, tree.labels[section.id], named), (
                    f"{section.id} is silently missing"
                )

    def check_forward(self, name: str, app_id: str, node: Node) -> None:
        """A request for an id that was ever listed ends at its owner, or with an error; never at another."""
        via: list[str] = []
        origins: frozenset[str] | None = None
        while True:
            tree = self.fleet[name]
            found = tree.resolve(Kind.APP, app_id)
            if found is None or isinstance(found, Away):
                return
            if origins is not None and not tree.is_owned_by(found, origins):
                return
            if isinstance(found, Local):
                reached = self.node(self.id_of(name), found.entity.fqn)
                assert reached == node, f"{via} reached another's {app_id}"
                return
            assert isinstance(found, Remote)
            if name in via or not self.fleet.answers(name, found.peer):
                return
            via.append(name)
            origins = frozenset(found.origins) if origins is None else origins & frozenset(found.origins)
            name, app_id = found.peer, found.remote_id

    def faults(self, name: str) -> tuple[dict[str, int], set[str]]:
        """`GET /faults` at a gateway: how often each origin is asked, and the labels of those that are missing."""
        asked: dict[str, int] = {}
        return asked, self._ask(name, None, (), asked)

    def _ask(self, name: str, origins: frozenset[str] | None, via: tuple[str, ...], asked: dict[str, int]) -> set[str]:
        own, tree = self.id_of(name), self.fleet[name]
        if origins is None or own in origins:
            asked[own] = asked.get(own, 0) + 1
        if own in via:
            return {tree.label_of(origin) for origin in (origins or frozenset()) - {own}}
        targets, missing = tree.targets(origins)
        named = set(missing)
        for peer, wanted in targets:
            if self.fleet.answers(name, peer):
                named |= {f"{peer}/{label}" for label in self._ask(peer, frozenset(wanted), (*via, own), asked)}
            else:
                named |= {tree.labels[origin] for origin in wanted} | {peer}
        return named

    # What must hold once it is quiet

    def check_settled(self) -> None:
        for name, one in self.fleet.gateways.items():
            if not one.up:
                continue
            reach = self.fleet.reachable(name)
            expected = sorted(set().union(*(self.nodes_of(other) for other in reach)))
            assert sorted(node for _, _, node in self.listed(name)) == expected
            components = {component.id for other in reach for component in self.fleet.gateways[other].components}
            assert set(one.tree.components) == components
            for function in one.tree.functions.values():
                assert all(host in one.tree.apps for host in function.hosts)
            asked, named = self.faults(name)
            assert asked == {self.id_of(other): 1 for other in reach}
            if len(reach) == len(self.fleet.gateways) and not any(other.cut for other in self.fleet.gateways.values()):
                assert not named
            for app_id, _, node in self.listed(name):
                assert self.arrives(name, app_id, node)

    def arrives(self, name: str, app_id: str, node: Node) -> bool:
        """Whether a request gets to the owner when nothing changes meanwhile."""
        for _ in range(MAX_HOPS + 1):
            found = self.fleet[name].resolve(Kind.APP, app_id)
            if isinstance(found, Local):
                return self.node(self.id_of(name), found.entity.fqn) == node
            assert isinstance(found, Remote)
            name, app_id = found.peer, found.remote_id
        return False

    def lists_all_reachable(self, within: int) -> bool:
        """Whether everything that is at most so far away is listed everywhere."""
        for name, one in self.fleet.gateways.items():
            if one.up:
                near = [other for other, distance in self.fleet.distances(name).items() if distance < within]
                present = {node for _, _, node in self.listed(name)}
                if not set().union(*(self.nodes_of(other) for other in near)) <= present:
                    return False
        return True


def is_named(section: OriginSection, label: str, named: set[str]) -> bool:
    """Whether it is said that this origin's answer is missing: by a gateway on the way, or as one behind it."""
    return any(one.split("/")[-1] in (section.name, section.id) or label.startswith(f"{one}/") for one in named)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(2, 8))
    names = NAMES[:count]
    dense = draw(st.booleans())
    graphs: list[Graph] = []
    gateways = []
    together = draw(st.booleans())
    for index, name in enumerate(names):
        others = [other for other in names if other != name]
        links = others if dense else draw(st.lists(st.sampled_from(others), unique=True, max_size=3))
        components = draw(st.lists(st.sampled_from(COMPONENTS), unique=True, max_size=1))
        if together and index == 1:
            graphs[0].members.append(name)
        else:
            graphs.append(Graph(f"d{index}", [name], draw(st.sets(st.sampled_from(FQNS), max_size=3))))
        gateways.append(
            Gateway(
                name,
                components=[Component(component) for component in components],
                links=list(links),
                naming=draw(st.sampled_from(["collision", "collision", "always_prefix"])),
                discovered=set(draw(st.lists(st.sampled_from(names), unique=True, max_size=2))),
            )
        )
    return World(Fleet(*gateways), graphs)


EVENT = st.tuples(
    st.sampled_from(["kill", "back", "thaw", "restart", "replaced", "nodes", "cut", "restore", "nothing"]),
    st.integers(0, 7),
    st.integers(0, 7),
    st.sets(st.sampled_from(FQNS), max_size=3),
    st.integers(1, 12),
    st.sets(st.sampled_from(NAMES), max_size=2),
)


def happen(world: World, what: str, first: int, second: int, fqns: set[str]) -> None:
    """One event. `cut` and `restore` are about the link from the first to the second."""
    fleet = world.fleet
    names = list(fleet.gateways)
    name = names[first % len(names)]
    one = fleet.gateways[name]
    if what == "kill":
        one.up = False
    elif what == "back" and not one.up:
        one.up = True
        one.begin_anew(fleet.now)
    elif what == "thaw":
        # It was frozen, not killed: for a moment it tells what it knew then.
        one.up = True
    elif what == "restart":
        one.up = True
        one.begin_anew(fleet.now)
        world.graph(one.identity.id).become(fqns)
    elif what == "nodes":
        world.graph(one.identity.id).become(fqns)
    elif what == "replaced" and not world.graph(one.identity.id).is_shared:
        one.up = True
        one.be_replaced(fleet.now)
        world.graph(one.identity.id).become(fqns)
        # It serves its own at once; the others have not noticed yet.
        world.look()
        one.scan()
        one.merge({}, world.fleet.now)
    elif what == "cut":
        one.cut.add(names[second % len(names)])
    elif what == "restore":
        one.cut.discard(names[second % len(names)])
    world.look()


@pytest.mark.timeout(600)
@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@forall(worlds(), st.lists(EVENT, max_size=5))
def test_what_holds_of_federated_trees_holds_in_any_topology_and_history(
    world: World, events: list[tuple[str, int, int, set[str], int, set[str]]]
) -> None:
    note(f"{world!r}\n{events}")
    quiet(world)
    for what, first, second, fqns, rounds, late in events:
        happen(world, what, first, second, fqns)
        world.check_always()
        for number in range(rounds):
            # Scans may be late; the gateways of one graph do not look at the same moment.
            world.round(late if number < 2 else set())
            world.check_always()
    quiet(world)


def quiet(world: World) -> None:
    """Additions are everywhere within diameter + 1 rounds, removals within `max_hops` rounds; then all is in place."""
    for number in range(1, MAX_HOPS + 2):
        changed = world.fleet.round()
        world.check_always()
        # The first round carries what was there before it; what needs a scan is there one round later.
        assert world.lists_all_reachable(number)
        if not changed and number > 2:
            break
    # Robots that were replaced are missed for a while.
    world.fleet.now += MOVED_S
    for _ in range(MAX_HOPS):
        world.fleet.round()
        world.check_always()
    world.check_settled()


def test_a_gateway_that_was_frozen_does_not_bring_the_past_back() -> None:
    """A case that chance finds too seldom: of an origin that is gone only one knows anything, and that is old."""
    graphs = [Graph(f"d{index}", [name], {f"/{name}"}) for index, name in enumerate(NAMES[:3])]
    links = {"g0": ["g1", "g2"], "g1": ["g2"], "g2": []}
    world = World(Fleet(*(Gateway(name, links=peers) for name, peers in links.items())), graphs)
    quiet(world)
    for what, gateway in (("kill", 1), ("restart", 2), ("kill", 2), ("thaw", 1)):
        happen(world, what, gateway, 0, {"/new"})
        for _ in range(MAX_HOPS):
            world.fleet.round()
            world.check_always()
            listed = {app.fqn for app in world.fleet["g0"].apps.values()}
            assert (what == "kill" and gateway == 1) or "/g2" not in listed
    quiet(world)
