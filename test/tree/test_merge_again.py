"""What a merge reuses of the one before: as much as did not change, and never so that its result differs."""

from __future__ import annotations

from dataclasses import replace

from medkit_gateway_py.aggregation.merge import Merged, MergeOptions, PeerView, merge
from medkit_gateway_py.aggregation.sections import GatewayIdentity, OriginSection
from medkit_gateway_py.entities.ids import GivenId, GivenIds
from medkit_gateway_py.entities.model import App, Kind
from medkit_gateway_py.entities.tree import EntityTree

SELF = GatewayIdentity("id-a", "1-0", "a")


def section(name: str, *apps: App, seq: int = 1) -> OriginSection:
    tree = EntityTree(apps={app.id: app for app in apps})
    return OriginSection(f"id-{name}", name, "1-0", seq, (f"id-{name}",), tree=tree)


class Aggregator:
    """Merges again and again with the memory of the merge before; each result is compared with one without."""

    def __init__(self) -> None:
        self.given = GivenIds()
        self.last = merge(SELF, EntityTree(), 1, [], self.given, MergeOptions())

    def merge(self, *sections: OriginSection, local: EntityTree | None = None) -> Merged:
        views = [PeerView(one.name, (one,)) for one in sections]
        options = MergeOptions(peers=tuple(one.name for one in sections))
        arguments = (SELF, local or EntityTree(), 1, views, self.given, options)
        found = merge(*arguments, parts=self.last.parts)
        anew = merge(*arguments)
        assert (found.tree, found.new_ids, found.chosen) == (anew.tree, anew.new_ids, anew.chosen)
        self.given.add(found.new_ids)
        self.last = found
        return found

    def settled(self, *sections: OriginSection) -> Merged:
        """After a merge that had no id to give."""
        self.merge(*sections)
        return self.merge(*sections)


def nodes(*names: str, key: str = "") -> list[App]:
    return [App(name, fqn=f"/{name}", graph_key=f"{key}{name}" if key else "") for name in names]


def test_apps_of_peers_that_did_not_change_are_the_same_objects() -> None:
    one, other = section("b", *nodes("nav", "ui")), section("c", *nodes("nav", "arm"))
    aggregator = Aggregator()
    before = aggregator.settled(one, other).tree
    after = aggregator.merge(one, section("c", *nodes("nav", "hand"), seq=2)).tree
    assert after.apps["nav"] is before.apps["nav"]
    assert after.apps["c__nav"] is not before.apps["c__nav"]
    assert after.remote[(Kind.APP, "ui")] is before.remote[(Kind.APP, "ui")]
    assert set(after.apps) == {"nav", "ui", "c__nav", "hand"}
    assert after.renames == {"c": {"nav": "c__nav"}}


def test_a_node_that_turns_out_to_be_ours_is_no_longer_the_peers() -> None:
    shared = section("b", *nodes("nav", "ui", key="graph"))
    aggregator = Aggregator()
    assert aggregator.settled(shared).tree.apps["nav"].source == "peer:b"
    local = EntityTree(apps={"nav_2": App("nav_2", fqn="/nav", graph_key="graphnav")})
    tree = aggregator.merge(shared, local=local).tree
    assert set(tree.apps) == {"nav_2", "ui"}
    assert tree.warnings[0].code == "shared_ros_graph"


def test_a_node_that_a_second_peer_sees_as_well_is_listed_once() -> None:
    first = section("c", *nodes("nav", "ui", key="graph"))
    aggregator = Aggregator()
    aggregator.settled(first)
    # The owner is the origin with the lower id, whoever was first.
    for order in (1, -1):
        sections = [section("b", *nodes("nav", key="graph")), first][::order]
        tree = aggregator.merge(*sections).tree
        assert set(tree.apps) == {"b__nav", "ui"}
        assert tree.remote[(Kind.APP, "b__nav")].peer == "b"
        aggregator.settled(first)


def test_ids_that_were_forgotten_are_given_anew() -> None:
    one = section("b", *nodes("nav"))
    aggregator = Aggregator()
    aggregator.settled(one)
    aggregator.given.discard([("id-b", "apps", "/nav")])
    assert [new.id for new in aggregator.merge(one).new_ids] == ["nav"]


def test_another_memory_of_ids_is_not_mistaken_for_the_one_before() -> None:
    one = section("b", *nodes("nav"))
    aggregator = Aggregator()
    aggregator.settled(one)
    aggregator.given = GivenIds([GivenId("id-z", "apps", "/nav", "nav", "z")])
    assert set(aggregator.merge(one).tree.apps) == {"b__nav"}


def test_an_app_with_an_id_of_the_peer_takes_it_nowhere() -> None:
    one = section("b", *nodes("nav"))
    aggregator = Aggregator()
    aggregator.settled(one)
    local = EntityTree(apps={"nav": App("nav", fqn="/x/nav")})
    assert set(aggregator.merge(one, local=local).tree.apps) == {"nav", "b__nav"}


def test_the_same_origin_over_another_peer_is_another_way() -> None:
    one = section("b", *nodes("nav"))
    behind = replace(one, path=("id-c", "id-b"))
    aggregator = Aggregator()
    aggregator.settled(one)
    views = [PeerView("c", (behind,))]
    arguments = (SELF, EntityTree(), 1, views, aggregator.given, MergeOptions(peers=("c",)))
    tree = merge(*arguments, parts=aggregator.last.parts).tree
    assert tree == merge(*arguments).tree
    assert tree.remote[(Kind.APP, "nav")].peer == "c"
