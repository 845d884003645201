"""Which claims about origins are believed, and what is remembered of them (AGGREGATION.md §2, §5, §6)."""

from __future__ import annotations

import pytest

from medkit_gateway_py.aggregation import origins
from medkit_gateway_py.aggregation.merge import PeerView
from medkit_gateway_py.aggregation.merge_state import Chosen
from medkit_gateway_py.aggregation.origins import CONTRADICTION_S, MOVED_S, SET_BACK_S, OriginMemory
from medkit_gateway_py.aggregation.routing import Away, Shared
from medkit_gateway_py.aggregation.sections import OriginSection
from medkit_gateway_py.aggregation.trust import Trust
from medkit_gateway_py.aggregation.unscanned import SCAN_S
from medkit_gateway_py.entities.ids import GivenIds
from medkit_gateway_py.entities.model import App, Component, Function, Kind
from medkit_gateway_py.entities.tree import EntityTree

from .fleet import Fleet, Gateway, graph_node
from .test_merge import gateway

NO_TREE = EntityTree()


def claim(path: str, boot: int, seq: int = 1, *keys: str) -> OriginSection:
    """What is heard over a path of gateways, `m-d`: `m` passes on what `d` has."""
    ids = tuple(path.split("-"))
    apps = {f"app{key}": App(f"app{key}", fqn=f"/app{key}", graph_key=key) for key in keys}
    return OriginSection(ids[-1], ids[-1].upper(), f"{boot:08x}-0", seq, ids, tree=EntityTree(apps=apps))


class Listener:
    """A gateway `own` with an OriginMemory; `hears` gives what it believes: (peer, origin, boot) of each claim."""

    def __init__(self, *static: str, local: EntityTree | None = NO_TREE, **certificates: str) -> None:
        self.memory = OriginMemory()
        self.static, self.local = static, local
        self.certificates, self.accepted = certificates, set(certificates.values())
        self.warnings: list[tuple[str, tuple[str, ...]]] = []
        self.again: float | None = None

    def restarts(self) -> None:
        """The process ends and begins anew; what is known was written."""
        self.memory = OriginMemory((), [self.memory.remembered(origin) for origin in self.memory.known()])

    def hears(self, now: float, **views: OriginSection) -> list[tuple[str, str, int]]:
        trust = Trust(self.static, self.certificates, self.accepted)
        admitted = self.memory.admit(
            [PeerView(peer, (section,)) for peer, section in views.items()], "own", self.local, trust, 8, now
        )
        self.warnings = [(one.code, one.peer_names) for one in admitted.warnings]
        self.again = admitted.again_in
        believed = [(view.name, section) for view in admitted.views for section in view.sections]
        self.memory.merged([Chosen(peer, section) for peer, section in believed], now)
        return [(peer, section.id, int(section.boot_id[:8], 16)) for peer, section in believed]


def test_an_older_state_of_an_origin_is_not_believed_over_another_way() -> None:
    one = Listener()
    assert one.hears(0, m=claim("m-d", 2, 7)) == [("m", "d", 2)]
    assert one.hears(1, n=claim("n-d", 2, 6)) == []
    assert one.hears(1, n=claim("n-d", 1, 9)) == []
    assert one.hears(2, n=claim("n-d", 2, 7)) == [("n", "d", 2)]


def test_it_is_not_believed_after_a_time_without_any_way_either() -> None:
    one = Listener()
    one.hears(0, m=claim("m-d", 2))
    assert one.hears(1) == []
    # A gateway that was frozen for an hour wakes up and still tells the old tree.
    assert one.hears(3600, n=claim("n-d", 1)) == []
    assert one.again == pytest.approx(SET_BACK_S)


def test_an_origin_whose_state_was_reset_is_locked_out_for_half_a_minute_only() -> None:
    one = Listener()
    one.hears(0, m=claim("m-d", 9))
    assert one.hears(10, m=claim("m-d", 1)) == []
    assert one.hears(10 + SET_BACK_S - 1, m=claim("m-d", 1)) == []
    assert one.again == pytest.approx(1)
    assert one.hears(10 + SET_BACK_S, m=claim("m-d", 1)) == [("m", "d", 1)]
    # From now on that is the state that others must not fall behind.
    assert one.hears(50, m=claim("m-d", 1)) == [("m", "d", 1)]


def test_the_lock_out_begins_anew_when_the_older_state_was_not_heard_all_the_time() -> None:
    one = Listener()
    one.hears(0, m=claim("m-d", 9))
    one.hears(1, m=claim("m-d", 1))
    one.hears(2)
    assert one.hears(SET_BACK_S + 2, m=claim("m-d", 1)) == []


def test_what_a_configured_peer_says_of_itself_is_believed_at_once() -> None:
    one = Listener("d_peer")
    one.hears(0, d_peer=claim("d", 9))
    assert one.hears(1, d_peer=claim("d", 1)) == [("d_peer", "d", 1)]


def test_others_do_not_know_better_than_the_configured_peer_itself() -> None:
    one = Listener("d_peer", "m")
    one.hears(0, d_peer=claim("d", 1, 4))
    # News may come over another way a moment earlier; it is not used and not a conflict.
    assert one.hears(1, d_peer=claim("d", 1, 4), m=claim("m-d", 1, 5)) == [("d_peer", "d", 1)]
    assert one.warnings == []
    assert one.hears(2, d_peer=claim("d", 1, 5), m=claim("m-d", 1, 5)) == [("d_peer", "d", 1)]
    assert one.hears(2 + CONTRADICTION_S, d_peer=claim("d", 1, 5), m=claim("m-d", 1, 5)) == [("d_peer", "d", 1)]
    assert one.warnings == []
    lie = claim("m-d", 0xFF, 2**40)
    one.hears(20, d_peer=claim("d", 1, 5), m=lie)
    assert one.hears(20 + CONTRADICTION_S, d_peer=claim("d", 1, 6), m=lie) == [("d_peer", "d", 1)]
    assert one.warnings == [("origin_conflict", ("m",))]


def test_another_way_is_taken_at_once_when_the_configured_peer_is_away() -> None:
    one = Listener("d_peer")
    one.hears(0, d_peer=claim("d", 1, 4), m=claim("m-d", 1, 4))
    assert one.hears(1, m=claim("m-d", 1, 4)) == [("m", "d", 1)]


def test_a_discovered_peer_cannot_pose_as_a_configured_one_that_is_away() -> None:
    one = Listener("d_peer")
    one.hears(0, d_peer=claim("d", 1))
    assert one.hears(1, rogue=claim("d", 2)) == []
    assert one.warnings == [("origin_conflict", ("rogue",))]
    # The same process at another address is no other.
    assert one.hears(2, found=claim("d", 1)) == [("found", "d", 1)]
    # And a configured second address may have been restarted.
    one.static = ("d_peer", "second")
    assert one.hears(3, second=claim("d", 2)) == [("second", "d", 2)]


def test_after_our_restart_a_discovered_peer_cannot_pose_as_a_configured_one_either() -> None:
    one = Listener("d_peer")
    one.hears(0, d_peer=claim("d", 1))
    one.restarts()
    assert one.hears(1, rogue=claim("d", 2)) == []
    assert one.warnings == [("origin_conflict", ("rogue",))]
    assert one.hears(2, d_peer=claim("d", 3), rogue=claim("d", 2)) == [("d_peer", "d", 3)]


def test_after_our_restart_an_older_state_of_an_origin_is_not_believed_either() -> None:
    one = Listener()
    one.hears(0, m=claim("m-d", 2, 7))
    one.restarts()
    assert one.hears(1, n=claim("n-d", 2, 6)) == []
    assert one.hears(2, n=claim("n-d", 1, 9)) == []
    assert one.hears(3, n=claim("n-d", 2, 7)) == [("n", "d", 2)]


def test_a_peer_that_is_configured_no_more_vouches_for_nobody() -> None:
    one = Listener("d_peer")
    one.hears(0, d_peer=claim("d", 1))
    # The addresses were taken out of the configuration, and the robots find each other now.
    one.restarts()
    one.static = ()
    assert one.hears(1, found=claim("d", 2)) == [("found", "d", 2)]
    # The peer is configured under another name.
    one.static = ("arm",)
    assert one.hears(2, arm=claim("d", 3)) == [("arm", "d", 3)]
    assert one.hears(3, found=claim("d", 4)) == []


def test_a_gateway_known_by_its_certificate_is_nobody_else_also_over_our_restart() -> None:
    one = Listener(found="f1")
    assert one.hears(0, found=claim("d", 5)) == [("found", "d", 5)]
    for _ in range(2):
        # Whoever answers can copy a boot id; neither does another accepted certificate make another gateway of it.
        one.certificates = {"other": "f2"}
        one.accepted = {"f1", "f2"}
        assert one.hears(1, rogue=claim("d", 9)) == []
        assert one.warnings == [("origin_conflict", ("rogue",))]
        assert one.hears(2, rogue=claim("d", 5, 7)) == []
        assert one.hears(3, other=claim("d", 9)) == []
        assert one.warnings == [("origin_conflict", ("other",))]
        # Further away nobody can show it.
        assert one.hears(4, rogue=claim("r-d", 5)) == [("rogue", "d", 5)]
        one.restarts()
    # The same gateway under another name.
    one.certificates = {"again": "f1"}
    assert one.hears(5, again=claim("d", 6), rogue=claim("d", 7)) == [("again", "d", 6)]


def test_a_configured_peer_with_a_certificate_keeps_its_place_against_one_without() -> None:
    one = Listener("arm", "lan", arm="f1")
    one.hears(0, arm=claim("d", 5))
    # A second address that somebody configured, and no new start: it is believed.
    assert one.hears(1, lan=claim("d", 5)) == [("lan", "d", 5)]
    # A new start only from who shows the certificate.
    assert one.hears(2, lan=claim("d", 6)) == []
    assert one.warnings == [("origin_conflict", ("lan",))]
    assert one.hears(3, arm=claim("d", 6), lan=claim("d", 6)) == [("arm", "d", 6)]
    assert one.hears(4, lan=claim("d", 6)) == [("lan", "d", 6)]


def test_a_configured_peer_may_get_another_certificate() -> None:
    one = Listener("arm", arm="f1")
    one.hears(0, arm=claim("d", 5))
    one.certificates, one.accepted = {"arm": "f2"}, {"f1", "f2"}
    assert one.hears(1, arm=claim("d", 6)) == [("arm", "d", 6)]
    one.certificates = {"found": "f1"}
    assert one.hears(2, found=claim("d", 7)) == []
    one.certificates = {"found": "f2"}
    assert one.hears(3, found=claim("d", 8)) == [("found", "d", 8)]


def test_a_certificate_that_is_accepted_no_more_pins_nothing() -> None:
    one = Listener(found="f1")
    one.hears(0, found=claim("d", 5))
    one.certificates, one.accepted = {"found": "f2"}, {"f2"}
    assert one.hears(1, found=claim("d", 6)) == [("found", "d", 6)]
    assert one.hears(2, rogue=claim("d", 7)) == []


def test_a_configured_peer_beats_one_that_was_found_with_a_certificate() -> None:
    one = Listener("vpn", found="f1")
    one.hears(0, found=claim("d", 5))
    assert one.hears(1, vpn=claim("d", 6)) == [("vpn", "d", 6)]
    # From now on that is the one.
    one.certificates = {}
    assert one.hears(2, rogue=claim("d", 7)) == []


def test_what_changed_is_told_once() -> None:
    one = Listener("d_peer")
    one.hears(0, d_peer=claim("d", 1))
    assert one.memory.take_changed() == {"d"}
    one.hears(1, d_peer=claim("d", 1))
    assert one.memory.take_changed() == set()
    one.hears(2, d_peer=claim("d", 1, 2))
    assert one.memory.take_changed() == {"d"}
    assert one.memory.remembered("d").age == ("00000001-0", 2)
    one.memory.forget(["d"])
    assert one.memory.take_changed() == {"d"}
    assert one.memory.remembered("d").is_nothing


def test_a_configured_peer_that_became_another_gateway_vouches_for_that_one_only() -> None:
    one = Listener("peer")
    one.hears(0, peer=claim("d", 1))
    one.hears(1, peer=claim("e", 1))
    assert one.hears(2, peer=claim("e", 1), found=claim("d", 2)) == [("peer", "e", 1), ("found", "d", 2)]


def test_a_node_of_a_shared_graph_waits_for_our_own_scan_but_not_for_ever() -> None:
    ours = EntityTree(apps={"a": App("a", graph_key="k1")})
    one = Listener(local=ours)

    def apps(now: float) -> set[str]:
        admitted = one.memory.admit([PeerView("b", (claim("b", 1, 1, "k1", "k2"),))], "own", one.local, Trust(), 8, now)
        one.again = admitted.again_in
        return set(admitted.views[0].sections[0].tree.apps)

    assert apps(0) == {"appk1"}
    assert one.again == pytest.approx(SCAN_S)
    assert apps(SCAN_S - 0.5) == {"appk1"}
    assert apps(SCAN_S) == {"appk1", "appk2"}
    # Ours ends; the peer's scan has not seen that yet.
    one.local = NO_TREE
    assert "appk1" not in apps(10)
    assert "appk1" in apps(10 + SCAN_S)


def test_before_our_first_scan_no_node_with_a_graph_is_taken_from_a_peer() -> None:
    one = Listener(local=None)
    views = [PeerView("b", (claim("b", 1, 1, "k"),))]
    admitted = one.memory.admit(views, "own", None, Trust(), 8, 1)
    assert not admitted.views[0].sections[0].tree.apps
    assert admitted.again_in is not None
    assert one.memory.admit(views, "own", NO_TREE, Trust(), 8, 2).views[0].sections[0].tree.apps


def test_two_boots_of_one_gateway_behind_peers_are_told_of_when_they_stay() -> None:
    one = Listener("m", "n")
    assert one.hears(0, m=claim("m-d", 5), n=claim("n-d", 7)) == [("m", "d", 5), ("n", "d", 7)]
    assert one.warnings == []
    one.hears(CONTRADICTION_S, m=claim("m-d", 5), n=claim("n-d", 7))
    assert one.warnings == [("duplicate_instance_id", ("m", "n"))]
    one.hears(CONTRADICTION_S + 1, m=claim("m-d", 7), n=claim("n-d", 7))
    assert one.warnings == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origins, "MAX_REMEMBERED", 10)
    one = Listener("m")
    for number in range(30):
        one.hears(number, m=claim(f"m-d{number}", 1))
    assert len(one.memory.past.ways) == 10
    assert one.memory.way("d29") is not None


def test_both_gateways_of_a_graph_give_a_node_one_id_whoever_sees_it_first() -> None:
    def both(*fqns: str) -> list[object]:
        return [graph_node(fqn, f"k{fqn}") for fqn in ("/ga", "/gb", *fqns)]

    fleet = Fleet(
        Gateway("a", both(), links=["b"]),  # type: ignore[arg-type]
        Gateway("b", both(), links=["a"]),  # type: ignore[arg-type]
    ).settle(3)
    for one in fleet.gateways.values():
        one.nodes = both("/x/cam")  # type: ignore[assignment]
    for late in ({"a"}, {"a"}, set()):
        fleet.round(frozenset(late))
        assert set(fleet["a"].apps) <= {"ga", "gb", "cam"}
    assert set(fleet["a"].apps) == {"ga", "gb", "cam"}
    for one in fleet.gateways.values():
        one.nodes = both()  # type: ignore[assignment]
    fleet.round(frozenset({"b"}))
    assert set(fleet["a"].apps) == {"ga", "gb"}


# What becomes of gateways that are away


def test_a_gateway_that_is_away_has_one_name_everywhere_the_one_of_the_gateway_in_between() -> None:
    leaf = Gateway("leaf", [graph_node("/l")])
    fleet = Fleet(
        gateway("a", "/a", links=["mid"]),
        gateway("mid", "/m", links=["leaf"]),
        leaf,
    ).settle(3)
    assert fleet["a"].labels == {"id-mid": "mid", "id-leaf": "mid/leaf"}
    leaf.up = False
    fleet.settle(2)
    assert fleet["a"].away == {"id-leaf": "mid/leaf"}
    assert fleet["a"].missing_anything() == ("mid/leaf",)
    fleet.gateways["mid"].up = False
    fleet.round()
    assert fleet["a"].missing_anything() == ("mid", "mid/leaf")


def test_the_name_is_the_alias_of_the_gateway_in_between_not_what_the_origin_calls_itself() -> None:
    leaf = Gateway("leaf", [graph_node("/l")], own_name="robot 7 of the north hall")
    fleet = Fleet(gateway("a", links=["mid"]), gateway("mid", links=["leaf"]), leaf).settle(3)
    assert fleet["a"].labels["id-leaf"] == "mid/leaf"
    leaf.up = False
    fleet.settle(2)
    assert fleet["a"].missing_anything() == ("mid/leaf",)


def test_a_gateway_that_nobody_speaks_of_any_more_is_not_missing() -> None:
    fleet = Fleet(gateway("a", links=["mid"]), gateway("mid", links=["leaf"]), gateway("leaf", "/l")).settle(3)
    fleet.gateways["mid"].links = []
    fleet.settle(2)
    assert fleet["a"].missing_anything() == ()
    # Its ids stay its own nevertheless.
    assert isinstance(fleet["a"].resolve(Kind.APP, "l"), Away)


def test_gateways_that_exchange_their_addresses_while_one_is_down_leave_no_gap_unnamed() -> None:
    fleet = Fleet(gateway("a", links=["b", "c"]), gateway("b", "/n"), gateway("c", "/m")).settle(2)
    b, c = fleet.gateways["b"], fleet.gateways["c"]
    fleet.gateways.update(b=c, c=b)
    c.up = False
    fleet.settle(2)
    # It may be behind the address that does not answer.
    assert set(fleet["a"].apps) == {"n"}
    assert fleet["a"].missing_anything() == ("b",)
    assert fleet["a"].resolve(Kind.APP, "m") == Away("b")
    c.up = True
    fleet.settle(2)
    assert set(fleet["a"].apps) == {"n", "m"}
    assert fleet["a"].missing_anything() == ()


@pytest.mark.parametrize("late", ["b", "c"])
def test_gateways_that_exchange_their_addresses_are_named_until_the_dead_link_is_noticed(late: str) -> None:
    fleet = Fleet(
        gateway("a", links=["b", "c"]),
        gateway("b", "/n", links=["d"]),
        gateway("c", "/m", links=["e"]),
        gateway("d", "/behind_b"),
        gateway("e", "/behind_c"),
    ).settle(3)
    fleet.held["a", late] = fleet.gateways[late].exported
    b, c = fleet.gateways["b"], fleet.gateways["c"]
    fleet.gateways.update(b=c, c=b)
    # Both addresses lead to one gateway, as it seems: the other one may be behind the link that is late.
    early, behind = {"b": ("c", "/e"), "c": ("b", "/d")}[late]
    fleet.settle(3)
    assert len(fleet["a"].apps) == 2
    assert fleet["a"].missing_anything() == (early, early + behind)
    assert isinstance(fleet["a"].resolve(Kind.APP, "n"), Away) == (late == "c")
    # What is named is told to others as well.
    assert sorted(section.state for section in fleet["a"].export()) == ["down", "down", "up", "up", "up"]
    fleet.held.clear()
    fleet.settle(3)
    assert set(fleet["a"].apps) == {"n", "m", "behind_b", "behind_c"}
    assert fleet["a"].missing_anything() == ()


def test_a_robot_that_was_replaced_for_good_is_missed_for_a_minute_only() -> None:
    fleet = Fleet(gateway("a", links=["b", "c"]), gateway("b", "/n"), gateway("c", "/m")).settle(2)
    fleet.gateways["b"].be_replaced(fleet.now)
    fleet.gateways["b"].nodes = [graph_node("/new")]
    fleet.settle(2)
    assert set(fleet["a"].apps) == {"new", "m"}
    assert fleet["a"].missing_anything() == ("b",)
    fleet.settle(int(MOVED_S))
    assert fleet["a"].missing_anything() == ()
    # Forgotten by an operator, it is not missing at once.
    fleet.gateways["c"].be_replaced(fleet.now)
    fleet.settle(2)
    assert fleet["a"].missing_anything() == ("c",)
    fleet.gateways["a"].memory.forget_peer("c", {section.id for section in fleet["a"].sections})
    fleet.settle(int(MOVED_S))
    assert fleet["a"].missing_anything() == ()


def test_a_robot_that_was_replaced_is_not_taken_to_be_behind_a_link_that_is_cut() -> None:
    fleet = Fleet(gateway("a", links=["b", "c"]), gateway("b", "/n", links=["c"]), gateway("c", "/m")).settle(3)
    fleet.gateways["a"].cut.add("c")
    fleet.gateways["b"].be_replaced(fleet.now)
    fleet.settle(3)
    assert set(fleet["a"].apps) == {"b__n", "m"}
    assert fleet["a"].missing_anything() == ("b",)
    fleet.settle(int(MOVED_S))
    assert fleet["a"].missing_anything() == ()


def test_a_gateway_with_two_addresses_of_which_one_does_not_answer_is_not_missing() -> None:
    fleet = Fleet(gateway("a", links=["b", "c", "d"]), gateway("b", "/n"), gateway("c", "/m"), gateway("d", "/o"))
    fleet.settle(2)
    b, d = fleet.gateways["b"], fleet.gateways["d"]
    fleet.gateways["c"] = b
    fleet.settle(2)
    assert fleet["a"].missing_anything() == ("c",), "who was there may be found elsewhere"
    fleet.settle(int(MOVED_S))
    assert fleet["a"].missing_anything() == ()
    d.up = False
    fleet.settle(2)
    assert fleet["a"].missing_anything() == ("d",)


def test_after_a_restart_it_is_still_known_who_is_missing() -> None:
    fleet = Fleet(gateway("a", links=["b"]), gateway("b", "/n", links=["c"]), gateway("c", "/m")).settle(3)
    fleet.gateways["b"].up = False
    fleet.gateways["a"].begin_anew()
    fleet.round()
    assert fleet["a"].missing_anything() == ("b", "b/c")
    assert fleet["a"].resolve(Kind.APP, "n") == Away("b")
    assert fleet["a"].resolve(Kind.APP, "m") == Away("b/c")


def test_in_a_mesh_an_origin_that_is_gone_is_withdrawn_and_not_kept_alive_by_the_others() -> None:
    names = ["a", "b", "c", "d"]
    fleet = Fleet(*(gateway(name, f"/{name}", links=[other for other in names if other != name]) for name in names))
    fleet.settle(3)
    fleet.gateways["d"].up = False
    fleet.settle(8)
    for name in "abc":
        assert set(fleet[name].apps) == {"a", "b", "c"}
        assert fleet[name].missing_anything() == ("d",)


# unreachable: retain


def declared() -> EntityTree:
    return EntityTree(
        components={
            "ecu": Component("ecu", source="manifest"),
            "host": Component("host"),
            "arm": Component("arm", source="manifest"),
            "plc": Component("plc", source="inventory"),
        },
        apps={
            "driver": App("driver", fqn="/driver", component_id="ecu", source="manifest"),
            "found": App("found", fqn="/found"),
        },
        functions={"drive": Function("drive", hosts=("driver", "found"), source="manifest")},
    )


def retaining() -> Fleet:
    a = Gateway("a", links=["b"], components=[Component("arm")], retain=True)
    b = Gateway("b")
    fleet = Fleet(a, b)
    b.scan = lambda: None  # type: ignore[method-assign]
    b.local, b.seq = declared(), 2
    return fleet.settle(2)


def test_retain_keeps_what_a_manifest_declares_as_not_available() -> None:
    fleet = retaining()
    before = {kind: set(fleet["a"].of(kind)) for kind in Kind}
    fleet.gateways["b"].up = False
    fleet.round()
    tree = fleet["a"]
    assert set(tree.apps) == {"driver"}
    assert (tree.apps["driver"].available, tree.apps["driver"].is_online) == (False, False)
    assert tree.apps["driver"].source == "peer:b"
    assert set(tree.components) == {"ecu", "arm", "plc"}
    assert not tree.components["ecu"].available
    assert tree.components["arm"].available, "we have a share of it ourselves"
    assert tree.functions["drive"].hosts == ("driver",)
    fleet.gateways["b"].up = True
    fleet.round()
    assert {kind: set(fleet["a"].of(kind)) for kind in Kind} == before
    assert fleet["a"].apps["driver"].available


def test_what_is_retained_outlives_our_own_restart() -> None:
    fleet = retaining()
    fleet.gateways["b"].up = False
    fleet.round()
    before = fleet["a"]
    fleet.gateways["a"].begin_anew(fleet.now)
    fleet.round()
    tree = fleet["a"]
    assert (set(tree.apps), set(tree.components)) == ({"driver"}, {"ecu", "arm", "plc"})
    assert tree.apps["driver"] == before.apps["driver"]
    assert tree.resolve(Kind.APP, "driver") == Away("b", is_retained=True)
    fleet.gateways["b"].up = True
    fleet.settle(2)
    assert fleet["a"].apps["driver"].available


def test_requests_for_what_is_retained_are_answered_504_with_its_gateway() -> None:
    fleet = retaining()
    fleet.gateways["b"].up = False
    fleet.round()
    for kind, entity_id in ((Kind.APP, "driver"), (Kind.COMPONENT, "ecu")):
        found = fleet["a"].resolve(kind, entity_id)
        assert found == Away("b", is_retained=True)
        # By the alias it is known that the peer is down, and no more.
        assert isinstance(fleet["a"].resolve(kind, f"b__{entity_id}"), Away)
        error = found.error(entity_id)
        assert (error.status, error.code) == (504, "not-responding")
        assert (error.parameters["entity_id"], error.parameters["peer"]) == (entity_id, "b")
        assert "b" in error.parameters["details"]
    # A function is described here; what of it is missing its collections say.
    assert isinstance(fleet["a"].resolve(Kind.FUNCTION, "drive"), Shared)
    assert fleet["a"].missing(Kind.FUNCTION, "drive") == ("b",)
    gone = fleet["a"].resolve(Kind.APP, "found")
    assert gone == Away("b")
    assert gone.error("found").status == 502


def test_what_is_retained_is_not_passed_on_as_if_it_were_there() -> None:
    fleet = retaining()
    fleet.gateways["b"].up = False
    fleet.round()
    assert [(section.id, section.state) for section in fleet.gateways["a"].exported] == [
        ("id-a", "up"),
        ("id-b", "down"),
    ]
    assert all(not section.tree.apps for section in fleet.gateways["a"].exported if section.state == "down")


def test_a_retained_gateway_that_comes_back_with_less_is_believed() -> None:
    fleet = retaining()
    fleet.gateways["b"].up = False
    fleet.round()
    b = fleet.gateways["b"]
    b.begin_anew()
    b.up, b.local, b.seq = True, NO_TREE, 1
    fleet.settle(2)
    assert set(fleet["a"].apps) == set()
    b.up = False
    fleet.round()
    assert set(fleet["a"].apps) == set()


# Ids


def test_an_id_of_something_gone_is_not_read_as_an_alias_of_another() -> None:
    fleet = Fleet(gateway("a", links=["b", "c"]), gateway("b", "/c__nav"), gateway("c", "/x")).settle(2)
    assert set(fleet["a"].apps) == {"c__nav", "x"}
    fleet.restart("b", "/other")
    fleet.restart("c", "/nav")
    fleet.settle(2)
    assert fleet["a"].resolve(Kind.APP, "c__nav") is None


def test_internal_nodes_of_peers_are_listed_and_their_ids_not_remembered() -> None:
    local = EntityTree(apps={"_ros2cli_1": App("_ros2cli_1", fqn="/_ros2cli_1")})
    fleet = Fleet(Gateway("a", links=["b"]), Gateway("b"))
    b = fleet.gateways["b"]
    b.scan = lambda: None  # type: ignore[method-assign]
    b.local, b.seq = local, 2
    fleet.settle(2)
    assert set(fleet["a"].apps) == {"_ros2cli_1"}
    assert len(fleet.gateways["a"].given) == 0


def test_an_app_named_docs_is_reached_under_another_id() -> None:
    fleet = Fleet(gateway("a", links=["b"]), Gateway("b"))
    b = fleet.gateways["b"]
    b.scan = lambda: None  # type: ignore[method-assign]
    b.local, b.seq = EntityTree(apps={"docs": App("docs")}), 2
    fleet.settle(2)
    assert set(fleet["a"].apps) == {"b__docs"}


def test_always_prefix_names_do_not_depend_on_the_order_of_links() -> None:
    def ids(*links: str) -> set[str]:
        head = Gateway("a", links=list(links), naming="always_prefix")
        leaf, mid = gateway("leaf", "/nav"), gateway("mid", "/nav", links=["leaf"])
        return set(Fleet(head, mid, leaf).settle(4)["a"].apps)

    assert ids("mid", "leaf") == ids("leaf", "mid") == ids("mid") == {"mid__nav", "leaf__nav"}


def test_the_alias_of_a_shared_function_is_the_share_of_that_peer() -> None:
    fleet = Fleet(gateway("a", "/x/n", links=["b"]), gateway("b", "/x/m")).settle(2)
    found = fleet["a"].resolve(Kind.FUNCTION, "b__x")
    assert getattr(found, "peer", "") == "b"
    assert getattr(found, "remote_id", "") == "x"


def test_a_request_meant_for_another_origin_is_told_apart() -> None:
    fleet = Fleet(gateway("a", "/n", links=["b"]), gateway("b", "/m")).settle(2)
    tree = fleet["a"]
    local, remote = tree.resolve(Kind.APP, "n"), tree.resolve(Kind.APP, "m")
    assert local is not None
    assert remote is not None
    assert tree.is_owned_by(local, frozenset({"id-a"}))
    assert not tree.is_owned_by(local, frozenset({"id-b"}))
    assert tree.is_owned_by(remote, frozenset({"id-b", "id-z"}))
    assert not tree.is_owned_by(remote, frozenset({"id-a"}))


def test_owners_in_use_are_those_of_entities_that_exist() -> None:
    fleet = Fleet(gateway("a", "/n", links=["b"]), gateway("b", "/m")).settle(2)
    before = {one.owner for one in fleet.gateways["a"].given}
    assert before <= set(fleet["a"].owners())
    fleet.restart("b", "/other")
    fleet.settle(2)
    gone = before - set(fleet["a"].owners())
    assert gone == {("id-b", "apps", "/m")}


def test_the_id_of_a_declared_app_is_in_use_whatever_node_it_is_bound_to() -> None:
    fleet = Fleet(gateway("a", "/nav", links=["b"]), Gateway("b"))
    declared = {"nav": App("nav", fqn="/x/nav", source="manifest"), "cam": App("cam", fqn="/y", source="manifest")}
    b = fleet.gateways["b"]
    b.scan = lambda: None  # type: ignore[method-assign]
    b.local, b.seq = EntityTree(apps=declared), 2
    fleet.settle(2)
    assert {"b__nav", "cam"} <= set(fleet["a"].apps)
    used = {one.id for one in fleet.gateways["a"].given if one.owner in set(fleet["a"].owners())}
    assert used == {"nav", "b__nav", "cam"}


def test_given_ids_know_nothing_of_a_memory_that_is_empty() -> None:
    assert OriginMemory(GivenIds()).past.ways == {}
