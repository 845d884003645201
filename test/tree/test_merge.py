"""The merge of trees (AGGREGATION.md §4, §5), on fleets without sockets."""

from __future__ import annotations

from hypothesis import given as forall
from hypothesis import settings
from hypothesis import strategies as st

from medkit_gateway_py.aggregation.merge import MergeOptions, PeerView, merge
from medkit_gateway_py.aggregation.routing import Away, Local, Remote, Shared
from medkit_gateway_py.aggregation.sections import GatewayIdentity, OriginSection
from medkit_gateway_py.entities.ids import GivenId, GivenIds
from medkit_gateway_py.entities.model import App, Area, Component, Function, Kind
from medkit_gateway_py.entities.tree import EntityTree

from .fleet import Fleet, Gateway, graph_node


def gateway(name: str, *fqns: str, links: list[str] | None = None, component: str = "") -> Gateway:
    components = [Component(component, component)] if component else []
    return Gateway(name, [graph_node(fqn) for fqn in fqns], components, links or [])


def pair() -> Fleet:
    """The two gateways of the tutorial: A aggregates B as `subsystem_b`."""
    return Fleet(
        gateway("a", "/navigation/planner", "/nav", component="robot", links=["subsystem_b"]),
        gateway("subsystem_b", "/navigation/localizer", "/nav", component="arm_controller"),
    ).settle(2)


def test_a_remote_component_is_listed_with_its_peer_as_source() -> None:
    tree = pair()["a"]
    assert tree.components["arm_controller"].source == "peer:subsystem_b"
    assert tree.components["robot"].source == "runtime"


def test_a_remote_app_whose_id_is_taken_gets_the_peers_name_in_front() -> None:
    tree = pair()["a"]
    assert set(tree.apps) == {"planner", "nav", "localizer", "subsystem_b__nav"}
    assert tree.apps["subsystem_b__nav"].name == "subsystem_b__nav"
    assert tree.apps["localizer"].source == "peer:subsystem_b"


def test_functions_of_one_id_become_one_with_the_hosts_of_both() -> None:
    tree = pair()["a"]
    assert tree.functions["navigation"].hosts == ("planner", "localizer")
    assert tree.functions["root"].hosts == ("nav", "subsystem_b__nav")
    assert tree.functions["navigation"].contributors == ("local", "peer:subsystem_b")


def test_each_entity_resolves_to_who_serves_it() -> None:
    tree = pair()["a"]
    assert isinstance(tree.resolve(Kind.APP, "nav"), Local)
    remote = tree.resolve(Kind.APP, "subsystem_b__nav")
    assert isinstance(remote, Remote)
    assert (remote.peer, remote.remote_id) == ("subsystem_b", "nav")
    shared = tree.resolve(Kind.FUNCTION, "navigation")
    assert isinstance(shared, Shared)
    assert shared.local
    assert [one.peer for one in shared.contributions] == ["subsystem_b"]
    assert tree.resolve(Kind.APP, "nobody") is None
    assert tree.resolve(Kind.AREA, "nav") is None


def test_the_prefixed_form_is_an_alias_of_an_app_that_needed_no_prefix() -> None:
    remote = pair()["a"].resolve(Kind.APP, "subsystem_b__localizer")
    assert isinstance(remote, Remote)
    assert remote.remote_id == "localizer"


def test_the_alias_of_what_a_peer_has_of_others_leads_there_also_where_they_are_reached_another_way() -> None:
    links = {"a": ["b", "c"], "b": ["a", "c"], "c": ["a", "b"]}
    fleet = Fleet(*(gateway(name, "/nav", links=peers) for name, peers in links.items())).settle()
    tree = fleet["a"]
    assert {"nav", "a__nav", "c__nav"} == set(fleet["b"].apps)
    far = tree.resolve(Kind.APP, "b__c__nav")
    assert isinstance(far, Remote)
    assert (far.entity.id, far.peer, far.remote_id) == ("c__nav", "c", "nav")
    ours = tree.resolve(Kind.APP, "b__a__nav")
    assert isinstance(ours, Local)
    assert ours.entity.id == "nav"
    assert tree.resolve(Kind.APP, "b__c__cam") is None
    # Whatever a peer still has of a node that is gone, it is nobody.
    fleet.gateways["c"].nodes.clear()
    fleet.settle(2)
    assert fleet["a"].resolve(Kind.APP, "b__c__nav") is None


def test_a_dead_peer_answers_for_its_ids_and_aliases_as_away() -> None:
    fleet = pair()
    fleet.gateways["subsystem_b"].up = False
    fleet.round()
    tree = fleet["a"]
    assert set(tree.apps) == {"planner", "nav"}
    assert set(tree.components) == {"robot"}
    for kind, entity_id in (
        (Kind.APP, "localizer"),
        (Kind.APP, "subsystem_b__nav"),
        (Kind.APP, "subsystem_b__some_node"),
        (Kind.COMPONENT, "arm_controller"),
    ):
        assert tree.resolve(kind, entity_id) == Away("subsystem_b")
    assert tree.resolve(Kind.APP, "nobody") is None


def test_a_shared_entity_names_the_share_that_is_missing() -> None:
    fleet = pair()
    assert fleet["a"].missing(Kind.FUNCTION, "navigation") == ()
    fleet.gateways["subsystem_b"].up = False
    fleet.round()
    assert fleet["a"].missing(Kind.FUNCTION, "navigation") == ("subsystem_b",)


def test_a_peer_comes_back_under_the_same_ids() -> None:
    fleet = pair()
    before = set(fleet["a"].apps)
    fleet.gateways["subsystem_b"].up = False
    fleet.round()
    fleet.restart("subsystem_b", "/navigation/localizer", "/nav")
    fleet.settle(2)
    assert set(fleet["a"].apps) == before


def test_an_id_of_a_silent_robot_is_not_given_to_the_other() -> None:
    fleet = Fleet(gateway("a", links=["r1", "r2"]), gateway("r1", "/nav"), gateway("r2", "/nav")).settle(2)
    assert set(fleet["a"].apps) == {"nav", "r2__nav"}
    fleet.gateways["r1"].up = False
    fleet.round()
    assert set(fleet["a"].apps) == {"r2__nav"}
    assert fleet["a"].resolve(Kind.APP, "nav") == Away("r1")


def test_a_chain_of_three_lists_all_and_routes_through_the_middle() -> None:
    fleet = Fleet(
        gateway("a", "/nav", component="top", links=["mid"]),
        gateway("mid", "/nav", component="middle", links=["leaf"]),
        gateway("leaf", "/nav", component="bottom"),
    ).settle(3)
    tree = fleet["a"]
    assert set(tree.components) == {"top", "middle", "bottom"}
    assert set(tree.apps) == {"nav", "mid__nav", "leaf__nav"}
    remote = tree.resolve(Kind.APP, "leaf__nav")
    assert isinstance(remote, Remote)
    assert (remote.peer, remote.remote_id) == ("mid", "leaf__nav")
    fleet.gateways["leaf"].up = False
    fleet.settle(2)
    assert fleet["a"].resolve(Kind.APP, "leaf__nav") == Away("mid/leaf")
    # The alias of what `mid` would answer 502 for.
    assert fleet["a"].resolve(Kind.APP, "mid__leaf__nav") == Away("mid/leaf")
    assert fleet["a"].resolve(Kind.COMPONENT, "mid__bottom") == Away("mid/leaf")
    assert fleet["a"].resolve(Kind.COMPONENT, "mid__nothing") is None
    assert fleet["a"].resolve(Kind.COMPONENT, "leaf__bottom") is None
    assert fleet["a"].missing(Kind.FUNCTION, "root") == ("mid/leaf",)


def test_always_prefix_names_apps_after_their_origin() -> None:
    head = gateway("a", "/nav", links=["mid"])
    head.naming = "always_prefix"
    fleet = Fleet(head, gateway("mid", "/m", links=["leaf"]), gateway("leaf", "/l")).settle(3)
    assert set(fleet["a"].apps) == {"nav", "mid__m", "leaf__l"}


def test_two_gateways_on_one_graph_list_each_node_once_as_local() -> None:
    both = [graph_node("/talker", "k1"), graph_node("/x/listener", "k2")]
    one = Gateway("a", both, [Component("host")], ["b"])
    fleet = Fleet(one, Gateway("b", both, [Component("host")])).settle(2)
    tree = fleet["a"]
    assert set(tree.apps) == {"talker", "listener"}
    assert {app.source for app in tree.apps.values()} == {"heuristic"}
    assert tree.functions["x"].hosts == ("listener",)
    assert [warning.code for warning in tree.warnings] == ["shared_ros_graph"]
    assert tree.warnings[0].ros_node_fqns == ("/talker", "/x/listener")
    assert tree.warnings[0].peer_names == ("b",)


def test_equal_names_on_two_graphs_are_two_nodes() -> None:
    fleet = Fleet(
        Gateway("a", [graph_node("/talker", "k1")], [], ["b"]), Gateway("b", [graph_node("/talker", "k2")])
    ).settle(2)
    assert set(fleet["a"].apps) == {"talker", "b__talker"}


def test_two_peers_on_one_graph_give_each_node_once() -> None:
    both = [graph_node("/talker", "k1")]
    fleet = Fleet(Gateway("a", [], [], ["b", "c"]), Gateway("b", both), Gateway("c", both)).settle(2)
    assert set(fleet["a"].apps) == {"talker"}
    assert fleet["a"].functions["root"].hosts == ("talker",)


def test_a_component_of_two_peers_is_gathered_and_warned_about() -> None:
    fleet = Fleet(gateway("a", links=["b", "c"]), gateway("b", component="arm"), gateway("c", component="arm")).settle(
        2
    )
    tree = fleet["a"]
    assert isinstance(tree.resolve(Kind.COMPONENT, "arm"), Shared)
    assert tree.components["arm"].contributors == ("peer:b", "peer:c")
    assert [(w.code, w.entity_ids, w.peer_names) for w in tree.warnings] == [
        ("leaf_id_collision", ("arm",), ("b", "c"))
    ]


def test_a_component_with_a_local_share_is_never_routed() -> None:
    fleet = Fleet(gateway("a", component="host", links=["b"]), gateway("b", component="host")).settle(2)
    shared = fleet["a"].resolve(Kind.COMPONENT, "host")
    assert isinstance(shared, Shared)
    assert shared.local
    assert not fleet["a"].warnings


def section(name: str, **entities: object) -> OriginSection:
    return OriginSection(f"id-{name}", name, "1-0", 1, (f"id-{name}",), tree=EntityTree(**entities))  # type: ignore[arg-type]


def merge_sections(local: EntityTree, *sections: OriginSection, given: GivenIds | None = None):  # type: ignore[no-untyped-def]
    views = [PeerView(one.name, (one,)) for one in sections]
    names = tuple(one.name for one in sections)
    identity = GatewayIdentity("id-a", "1-0", "a")
    return merge(identity, local, 1, views, given or GivenIds(), MergeOptions(peers=names)).tree


def test_merged_components_unite_tags_and_fill_what_is_empty() -> None:
    local = EntityTree(components={"robot": Component("robot", "Robot", tags=("x",))})
    remote = Component("robot", "Other", tags=("y", "x"), description="from b", area="lab", identity={"model": "m"})
    robot = merge_sections(local, section("b", components={"robot": remote})).components["robot"]
    assert robot.name == "Robot"
    assert robot.tags == ("x", "y")
    assert (robot.description, robot.area, robot.identity) == ("from b", "lab", {"model": "m"})
    assert robot.source == "runtime"


def test_what_a_merged_entity_refers_to_is_united_and_its_parent_filled() -> None:
    local = EntityTree(components={"robot": Component("robot", depends_on=("ups",))}, areas={"cell": Area("cell")})
    remote = Component("robot", depends_on=("net", "ups"), parent_component_id="fleet", variant="v2")
    tree = merge_sections(
        local, section("b", components={"robot": remote}, areas={"cell": Area("cell", parent_area_id="hall")})
    )
    robot = tree.components["robot"]
    assert (robot.depends_on, robot.parent_component_id, robot.variant) == (("ups", "net"), "fleet", "v2")
    assert tree.areas["cell"].parent_area_id == "hall"


def test_contributors_are_sorted_whatever_the_order_of_peers_with_local_first() -> None:
    function = {"drive": Function("drive")}
    theirs = (section("zeta", functions=function), section("alpha", functions=function))
    assert merge_sections(EntityTree(), *theirs).functions["drive"].contributors == ("peer:alpha", "peer:zeta")
    own = EntityTree(functions=function)
    assert merge_sections(own, *theirs).functions["drive"].contributors == ("local", "peer:alpha", "peer:zeta")


def test_a_component_that_has_children_is_a_group_and_served_here() -> None:
    components = {"cell": Component("cell"), "arm": Component("arm", parent_component_id="cell")}
    tree = merge_sections(EntityTree(), section("b", components=components))
    assert isinstance(tree.resolve(Kind.COMPONENT, "cell"), Shared)
    assert isinstance(tree.resolve(Kind.COMPONENT, "arm"), Remote)


def test_areas_merge_by_id_and_keep_their_parent() -> None:
    local = EntityTree(areas={"root": Area("root", "Root")})
    tree = merge_sections(
        local, section("b", areas={"root": Area("root"), "cell": Area("cell", parent_area_id="root")})
    )
    assert set(tree.areas) == {"root", "cell"}
    assert tree.areas["cell"].parent_area_id == "root"
    assert isinstance(tree.resolve(Kind.AREA, "root"), Shared)
    assert isinstance(tree.resolve(Kind.AREA, "cell"), Remote)


def test_a_host_that_is_no_app_of_its_peer_is_left_out() -> None:
    local = EntityTree(apps={"nav": App("nav", fqn="/nav")})
    remote = section("b", functions={"f": Function("f", hosts=("nav", "arm"))}, apps={"arm": App("arm", fqn="/arm")})
    assert merge_sections(local, remote).functions["f"].hosts == ("arm",)


def test_dependencies_of_a_renamed_app_follow_the_rename() -> None:
    local = EntityTree(apps={"nav": App("nav", fqn="/nav")})
    apps = {"nav": App("nav", fqn="/nav"), "ui": App("ui", fqn="/ui", depends_on=("nav", "gone"))}
    tree = merge_sections(local, section("b", apps=apps))
    assert tree.apps["ui"].depends_on == ("b__nav", "gone")
    assert tree.renames == {"b": {"nav": "b__nav"}}


def test_a_manifest_that_takes_an_id_which_another_node_had_is_warned_of() -> None:
    given = GivenIds(
        [
            GivenId("id-b", "apps", "/nav", "nav", "b"),
            GivenId("id-a", "apps", "/old/cam", "cam"),
            GivenId("id-a", "apps", "/arm", "arm"),
            *(GivenId("id-a", "apps", app_id, app_id) for app_id in ("nav", "cam", "arm", "away")),
            GivenId("id-a", "apps", "/somewhere", "away"),
        ]
    )

    def declared(app_id: str, fqn: str) -> App:
        return App(app_id, fqn=fqn, source="manifest")

    apps = {"nav": declared("nav", "/n"), "cam": declared("cam", "/new/cam"), "arm": declared("arm", "/arm")}
    apps["away"] = declared("away", "")
    (warning,) = merge_sections(EntityTree(apps=apps), given=given).warnings
    assert (warning.code, warning.entity_ids, warning.peer_names) == ("app_id_taken", ("cam", "nav"), ("b",))
    assert merge_sections(EntityTree(apps={"arm": apps["arm"]}), given=given).warnings == ()


def test_two_apps_of_one_origin_on_one_node_are_both_kept_apart() -> None:
    apps = {"x": App("x", fqn="/n"), "y": App("y", fqn="/n")}
    given = GivenIds()
    tree = merge_sections(EntityTree(), section("b", apps=apps), given=given)
    assert len(tree.apps) == 2


def test_sections_with_us_in_their_path_or_too_far_away_are_dropped() -> None:
    echo = OriginSection("id-c", "c", "1-0", 1, ("id-b", "id-a", "id-c"), tree=EntityTree(apps={"x": App("x")}))
    far = OriginSection(
        "id-d", "d", "1-0", 1, ("id-b", *(f"h{i}" for i in range(8)), "id-d"), tree=EntityTree(apps={"y": App("y")})
    )
    view = PeerView("b", (echo, far))
    tree = merge(
        GatewayIdentity("id-a", "1-0", "a"), EntityTree(), 1, [view], GivenIds(), MergeOptions(peers=("b",))
    ).tree
    assert not tree.apps


def test_a_section_may_come_over_as_many_gateways_as_max_hops_says() -> None:
    def listed(hops: int) -> set[str]:
        path = (*(f"h{number}" for number in range(hops - 1)), "id-d")
        view = PeerView("b", (OriginSection("id-d", "d", "1-0", 1, path, tree=EntityTree(apps={"y": App("y")})),))
        options = MergeOptions(max_hops=3, peers=("b",))
        return set(merge(GatewayIdentity("id-a", "1-0"), EntityTree(), 1, [view], GivenIds(), options).tree.apps)

    assert listed(3) == {"y"}
    assert listed(4) == set()


def test_the_newest_section_wins_then_the_shortest_path_then_the_peers_name() -> None:
    def of(path: tuple[str, ...], boot: str, seq: int, app: str) -> OriginSection:
        return OriginSection("id-c", "c", boot, seq, path, tree=EntityTree(apps={app: App(app)}))

    def listed(*views: PeerView) -> set[str]:
        options = MergeOptions(peers=("b", "c"))
        either, other = (
            set(merge(GatewayIdentity("id-a", "1-0"), EntityTree(), 1, order, GivenIds(), options).tree.apps)
            for order in (views, views[::-1])
        )
        assert either == other
        return either

    direct = PeerView("c", (of(("id-c",), "1-0", 4, "old"),))
    assert listed(PeerView("b", (of(("id-b", "id-c"), "1-0", 5, "new"),)), direct) == {"new"}
    assert listed(PeerView("b", (of(("id-b", "id-c"), "2-0", 1, "rebooted"),)), direct) == {"rebooted"}
    assert listed(PeerView("b", (of(("id-b", "id-c"), "1-0", 4, "same"),)), direct) == {"old"}
    assert listed(
        PeerView("b", (of(("id-b", "id-c"), "1-0", 4, "by b"),)),
        PeerView("a", (of(("id-e", "id-c"), "1-0", 4, "by a"),)),
    ) == {"by a"}


_names = ["g0", "g1", "g2", "g3", "g4"]
_fqns = ["/nav", "/cam", "/x/cam", "/y/cam", "/x/nav"]


@st.composite
def fleets(draw: st.DrawFn) -> Fleet:
    count = draw(st.integers(2, 5))
    names = _names[:count]
    gateways = []
    for name in names:
        links = draw(st.lists(st.sampled_from(names), unique=True, max_size=count))
        nodes = draw(st.sets(st.sampled_from(_fqns), max_size=4))
        gateways.append(gateway(name, *sorted(nodes), links=[link for link in links if link != name]))
    return Fleet(*gateways)


_event = st.tuples(
    st.sampled_from(["down", "up", "restart"]), st.integers(0, 4), st.sets(st.sampled_from(_fqns), max_size=4)
)


@settings(max_examples=150, deadline=None)
@forall(fleets(), st.lists(_event, max_size=4))
def test_in_any_topology_each_reachable_node_is_listed_once_and_no_id_ever_moves(
    fleet: Fleet, events: list[tuple[str, int, set[str]]]
) -> None:
    owners: dict[tuple[str, str], tuple[str, str]] = {}
    check(fleet.settle(), owners)
    for what, index, fqns in events:
        name = _names[index % len(fleet.gateways)]
        if what == "down":
            fleet.gateways[name].up = False
        elif what == "up":
            fleet.gateways[name].up = True
        else:
            fleet.restart(name, *sorted(fqns))
        for _ in range(9):
            fleet.round()
            check_owners(fleet, owners)
        check(fleet, owners)


def check(fleet: Fleet, owners: dict[tuple[str, str], tuple[str, str]]) -> None:
    check_owners(fleet, owners)
    for name, one in fleet.gateways.items():
        if not one.up:
            continue
        expected = sorted(
            (f"id-{other}", node.fqn) for other in fleet.reachable(name) for node in fleet.gateways[other].nodes
        )
        assert sorted(owner for _, owner in listed(fleet, name)) == expected
        for function in one.tree.functions.values():
            assert all(host in one.tree.apps for host in function.hosts)
        for app_id in one.tree.apps:
            found = one.tree.resolve(Kind.APP, app_id)
            assert isinstance(found, (Local, Remote))
            if isinstance(found, Remote):
                # The id at the peer names the same node: a request forwarded there reaches the right robot.
                there = dict(listed(fleet, found.peer))
                here = dict(listed(fleet, name))
                assert there[found.remote_id] == here[app_id]


def listed(fleet: Fleet, name: str) -> list[tuple[str, tuple[str, str]]]:
    """(app id here, (origin, FQN)) of all that a gateway lists."""
    one = fleet.gateways[name]
    found = []
    for app_id, app in one.tree.apps.items():
        share = one.tree.remote.get((Kind.APP, app_id))
        origin = share.origins[0] if share else one.identity.id
        found.append((app_id, (origin, app.fqn)))
    return found


def check_owners(fleet: Fleet, owners: dict[tuple[str, str], tuple[str, str]]) -> None:
    for name, one in fleet.gateways.items():
        if one.up:
            for app_id, owner in listed(fleet, name):
                assert owners.setdefault((name, app_id), owner) == owner
