"""The first id of a remote app (AGGREGATION.md §4, "Prefix")."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medkit_gateway_py.aggregation.names import choose_app_id, is_valid_peer_name, origin_prefix
from medkit_gateway_py.entities.ids import is_valid_id

from .fleet import Fleet, Gateway, graph_node

OWNER = ("instance-b", "/nav")


def chosen(base: str, *taken: str, always: bool = False, owner: tuple[str, str] = OWNER) -> str:
    return choose_app_id(base, "arm", owner, always, lambda candidate: candidate not in taken)


def test_an_app_keeps_its_id_unless_that_is_taken_or_all_are_prefixed() -> None:
    assert chosen("nav") == "nav"
    assert chosen("nav", "nav") == "arm__nav"
    assert chosen("nav", always=True) == "arm__nav"


def test_a_prefixed_id_that_is_taken_gets_eight_hex_digits_of_origin_and_id() -> None:
    found = chosen("nav", "nav", "arm__nav")
    assert re.fullmatch(r"arm__nav_[0-9a-f]{8}", found)
    assert found == chosen("nav", "nav", "arm__nav"), "the same again"
    assert found != chosen("nav", "nav", "arm__nav", owner=("instance-c", "/nav"))
    again = chosen("nav", "nav", "arm__nav", found)
    assert re.fullmatch(r"arm__nav_[0-9a-f]{8}", again)
    assert again != found


def test_a_prefixed_id_that_is_too_long_is_cut_and_told_apart_by_digits() -> None:
    long, other = "n" * 255 + "1", "n" * 255 + "2"
    found = chosen(long, long)
    assert re.fullmatch(r"arm__n{242}_[0-9a-f]{8}", found)
    assert found != chosen(other, other, owner=("instance-b", "/other"))
    assert len(chosen(long, long, found)) == 256


@settings(max_examples=200)
@given(
    st.text("ab_", min_size=1, max_size=256), st.text("ab", min_size=1, max_size=64), st.integers(0, 4), st.booleans()
)
def test_whatever_is_taken_an_id_is_found_that_is_valid_and_free(
    base: str, prefix: str, rounds: int, always: bool
) -> None:
    taken: set[str] = set()
    for _ in range(rounds + 1):
        found = choose_app_id(base, prefix, OWNER, always, lambda candidate: candidate not in taken)
        assert is_valid_id(found)
        assert found not in taken
        taken.add(found)


# naming: always_prefix

UUID = "4b88c988-53f1-4c3a-9d7e-0123456789ab"
NAMES = [
    "arm",
    "arm_",
    "medkit_gateway_py",
    "ros2_medkit_gateway",
    "north 1",
    "north.1",
    "north_1",
    "Ärger",
    "北",
    "a__b",
]
NODES = ["/nav", "/cam", "/x/nav"]


def test_a_name_that_somebody_chose_is_the_prefix_as_it_is() -> None:
    assert origin_prefix(UUID, "arm") == "arm"
    assert origin_prefix(UUID, "Robot-7_b") == "Robot-7_b"


@pytest.mark.parametrize(
    ("announced", "prefix"),
    [
        ("medkit_gateway_py", "medkit_gateway_py-4b88c988"),
        ("ros2_medkit_gateway", "ros2_medkit_gateway-4b88c988"),
        ("north 1", "north_1-4b88c988"),
        ("a__b", "a_b-4b88c988"),
        ("arm_", "arm_-4b88c988"),
        ("", "gateway-4b88c988"),
        ("n" * 65, "n" * 55 + "-4b88c988"),
    ],
)
def test_other_names_are_told_apart_by_the_instance_id(announced: str, prefix: str) -> None:
    assert origin_prefix(UUID, announced) == prefix
    assert is_valid_peer_name(prefix)


def test_instance_ids_that_begin_alike_are_told_apart() -> None:
    assert origin_prefix("robot-no-1", "") != origin_prefix("robot-no-2", "")
    assert origin_prefix(f"{UUID}~copy", "arm") not in ("arm", origin_prefix(f"{UUID}~other", "arm"))


@given(st.text(max_size=80), st.text(min_size=1, max_size=40))
def test_a_prefix_can_always_stand_in_an_id(announced: str, origin: str) -> None:
    assert is_valid_peer_name(origin_prefix(origin, announced))


@settings(max_examples=150)
@given(st.data())
def test_ids_do_not_depend_on_the_order_in_which_gateways_are_heard(data: st.DataObject) -> None:
    """Many are called by default, or alike but for signs that no id has; nobody chose one name for two."""
    count = data.draw(st.integers(2, 5))
    names = [data.draw(st.sampled_from(NAMES)) for _ in range(count)]
    chosen_ones = [name for name in names if origin_prefix(UUID, name) == name]
    if len(set(chosen_ones)) < len(chosen_ones):
        return
    nodes = [data.draw(st.sets(st.sampled_from(NODES), min_size=1)) for _ in range(count)]
    others = [f"g{number}" for number in range(count)]
    behind = {one: data.draw(st.lists(st.sampled_from(others), unique=True, max_size=2)) for one in others}
    own_names = dict(zip(others, names, strict=True))

    def ids(order: list[str]) -> dict[tuple[str, str], str]:
        """(origin, node) -> its id at the head, whose links are there one after the other."""
        head = Gateway("head", links=list(order), naming="always_prefix", cut=set(order))
        leaves = [
            Gateway(one, [graph_node(fqn) for fqn in sorted(found)], own_name=own_names[one])
            for one, found in zip(others, nodes, strict=True)
        ]
        for leaf in leaves:
            leaf.links = [peer for peer in behind[leaf.name] if peer != leaf.name]
        fleet = Fleet(head, *leaves).settle(2)
        for one in order:
            head.cut.discard(one)
            fleet.settle(2)
        assert "duplicate_gateway_name" not in head.warnings
        apps = fleet["head"].apps
        return {(one.origin, one.key): one.id for one in head.given if one.kind == "apps" and one.id in apps}

    first, second = data.draw(st.permutations(others)), data.draw(st.permutations(others))
    assert ids(first) == ids(second)


def test_one_name_for_two_gateways_is_warned_of_where_ids_are_made_of_it() -> None:
    def warnings(naming: str, name: str) -> list[str]:
        leaves = [Gateway(one, [graph_node("/nav")], own_name=name) for one in "bc"]
        fleet = Fleet(Gateway("a", links=["b", "c"], naming=naming), *leaves).settle(2)
        assert len(fleet["a"].apps) == 2
        return fleet.gateways["a"].warnings

    assert warnings("always_prefix", "arm") == ["duplicate_gateway_name"]
    assert warnings("always_prefix", "medkit_gateway_py") == []
    assert warnings("collision", "arm") == []
