"""Ids of local nodes (API.md §3.7, AGGREGATION.md §4)."""

from __future__ import annotations

from hypothesis import given as forall
from hypothesis import strategies as st

from medkit_gateway_py.entities.ids import (
    GivenId,
    GivenIds,
    assign_local_ids,
    is_valid_id,
    sanitise_host_id,
    with_hash,
)
from medkit_gateway_py.entities.layers import LayerOptions, local_tree
from medkit_gateway_py.entities.model import Component, GraphNode, Kind

ORIGIN = "self"


def assign(*fqns: str, given: GivenIds | None = None) -> dict[str, str]:
    ids, new = assign_local_ids([node(fqn) for fqn in fqns], ORIGIN, given if given is not None else GivenIds())
    if given is not None:
        given.add(new)
    return ids


def node(fqn: str) -> GraphNode:
    namespace, _, name = fqn.rpartition("/")
    return GraphNode(name, namespace or "/")


def test_a_node_has_its_bare_name_as_id() -> None:
    assert assign("/powertrain/engine/temp_sensor") == {"/powertrain/engine/temp_sensor": "temp_sensor"}


def test_equal_names_in_two_namespaces_get_namespaced_ids() -> None:
    assert assign("/a/b/cam", "/c/cam") == {"/a/b/cam": "a_b_cam", "/c/cam": "c_cam"}


def test_the_node_in_the_root_keeps_the_bare_id() -> None:
    assert assign("/cam", "/a/cam") == {"/cam": "cam", "/a/cam": "a_cam"}


def test_a_later_node_of_equal_name_does_not_rename_the_earlier() -> None:
    given = GivenIds()
    assign("/a/cam", given=given)
    assert assign("/a/cam", "/b/cam", given=given) == {"/a/cam": "cam", "/b/cam": "b_cam"}


def test_an_id_waits_for_its_node_to_come_back() -> None:
    given = GivenIds()
    assign("/a/cam", given=given)
    assert assign("/b/cam", given=given) == {"/b/cam": "b_cam"}
    assert assign("/a/cam", "/b/cam", given=given) == {"/a/cam": "cam", "/b/cam": "b_cam"}


def test_a_taken_namespaced_id_gets_a_number() -> None:
    given = GivenIds([GivenId("peer", "apps", "/x", "cam"), GivenId("peer", "apps", "/y", "b_cam")])
    assert assign("/b/cam", given=given) == {"/b/cam": "b_cam_2"}


def test_an_id_of_a_remote_app_is_not_taken_by_a_local_node() -> None:
    given = GivenIds([GivenId("peer", "apps", "/nav", "nav", "arm")])
    assert assign("/nav", given=given) == {"/nav": "nav_2"}


def test_docs_is_no_id() -> None:
    assert assign("/docs") == {"/docs": "docs_2"}
    assert assign("/tools/docs") == {"/tools/docs": "tools_docs"}


def test_internal_nodes_take_no_id_from_others_and_are_not_remembered() -> None:
    given = GivenIds()
    assign("/a/_hidden", "/cam", given=given)
    assert [one.key for one in given] == ["/cam"]


def test_a_very_long_name_is_cut_and_stays_unique() -> None:
    first, second = f"/{'a' * 150}/{'n' * 200}", f"/{'b' * 150}/{'n' * 200}"
    ids = assign(first, second)
    assert len(set(ids.values())) == 2
    assert all(is_valid_id(one) for one in ids.values())


def test_forgetting_an_owner_frees_its_id() -> None:
    given = GivenIds()
    assign("/a/cam", given=given)
    given.discard([(ORIGIN, "apps", "/a/cam"), ("nobody", "apps", "/x")])
    assert assign("/b/cam", given=given) == {"/b/cam": "cam"}


def test_host_ids_are_sanitised() -> None:
    assert sanitise_host_id("Robot 1.Local") == "robot_1_local"
    assert sanitise_host_id("ÄÖ!") == "unknown_host"


def test_a_hash_keeps_ids_within_their_length() -> None:
    assert len(with_hash("x" * 400, "a")) == 256


def test_functions_are_first_namespace_segments_with_their_hosts() -> None:
    tree, _ = local_tree(
        [node("/powertrain/engine/temp"), node("/powertrain/rpm"), node("/lonely"), node("/x/_ros2cli")],
        [Component("host")],
        GivenIds(),
        LayerOptions(ORIGIN),
    )
    assert {function.id: function.hosts for function in tree.functions.values()} == {
        "powertrain": ("rpm", "temp"),
        "root": ("lonely",),
    }
    assert set(tree.apps) == {"temp", "rpm", "lonely"}
    assert {app.component_id for app in tree.apps.values()} == {"host"}


def test_apps_are_located_on_the_host_and_not_on_what_a_plugin_adds() -> None:
    components = [Component("battery", source="battery"), Component("host")]
    tree, _ = local_tree([node("/temp")], components, GivenIds(), LayerOptions(ORIGIN))
    assert tree.apps["temp"].component_id == "host"
    assert set(tree.components) == {"battery", "host"}


def test_functions_can_be_switched_off_and_internal_nodes_shown() -> None:
    options = LayerOptions(ORIGIN, create_functions_from_namespaces=False, filter_internal_nodes=False)
    tree, _ = local_tree([node("/x/_ros2cli")], [], GivenIds(), options)
    assert not tree.functions
    assert set(tree.apps) == {"_ros2cli"}
    assert tree.apps["_ros2cli"].component_id == ""


_segment = st.sampled_from(["a", "b", "cam", "docs", "_x"])
_fqn = st.builds(
    lambda ns, name: "/" + "/".join([*ns, name]),
    st.lists(_segment, max_size=2),
    st.sampled_from(["cam", "nav", "_in", "docs"]),
)


@forall(st.lists(st.sets(_fqn, max_size=6), min_size=1, max_size=6))
def test_an_id_never_moves_to_another_node_whatever_comes_and_goes(history: list[set[str]]) -> None:
    given = GivenIds()
    owner_of: dict[str, str] = {}
    for present in history:
        ids = assign(*sorted(present), given=given)
        assert len(set(ids.values())) == len(present)
        for fqn, entity_id in ids.items():
            if not fqn.rpartition("/")[2].startswith("_"):
                assert owner_of.setdefault(entity_id, fqn) == fqn
                assert given.id_of(ORIGIN, Kind.APP, fqn) == entity_id


@forall(st.sets(_fqn, max_size=8))
def test_the_order_of_a_first_scan_does_not_matter(present: set[str]) -> None:
    forwards, _ = assign_local_ids([node(fqn) for fqn in sorted(present)], ORIGIN, GivenIds())
    backwards, _ = assign_local_ids([node(fqn) for fqn in sorted(present, reverse=True)], ORIGIN, GivenIds())
    assert forwards == backwards
