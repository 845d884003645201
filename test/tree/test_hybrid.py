"""The local tree of hybrid and manifest_only (API.md §3.7, §12.3)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.entities.ids import GivenId, GivenIds
from medkit_gateway_py.entities.layers import Built, LayerOptions, LayerReport, build_tree
from medkit_gateway_py.entities.model import Component, GraphNode, ServiceUse, TopicUse

from .manifests import manifest

HOST = Component("host")


def node(fqn: str) -> GraphNode:
    namespace, _, name = fqn.rpartition("/")
    return GraphNode(
        name,
        namespace or "/",
        (TopicUse(f"{fqn}/out", "std_msgs/msg/Empty", "publish"),),
        (ServiceUse(f"{fqn}/go", "std_srvs/srv/Trigger"),),
        graph_key=f"key {fqn}",
    )


def build(
    text: str, *fqns: str, remembered: GivenIds | None = None, components: Any = (HOST,), **options: Any
) -> Built:
    built = build_tree(
        [node(fqn) for fqn in fqns],
        components,
        manifest(text),
        GivenIds() if remembered is None else remembered,
        LayerOptions("self", **{"mode": "hybrid", **options}),
    )
    if remembered is not None:
        remembered.add(built.new_ids)
    return built


def report(built: Built) -> LayerReport:
    assert built.report is not None
    return built.report


CAMERA = "components: [{id: ecu}]\napps: [{id: camera, is_located_on: ecu, ros_binding: {node_name: cam}}]\n"


def test_a_linked_app_lives() -> None:
    built = build(CAMERA, "/front/cam")
    app = built.tree.apps["camera"]
    assert (app.is_online, app.fqn, app.source, app.component_id) == (True, "/front/cam", "manifest", "ecu")
    assert (app.name, app.graph_key) == ("camera", "key /front/cam")
    assert [use.name for use in app.topics] == ["/front/cam/out"]
    assert list(built.tree.apps) == ["camera"]
    assert (report(built).linked, report(built).enriched, report(built).orphans) == (1, 1, ())


def test_a_linked_app_is_online_whatever_the_policies_say() -> None:
    policies = {
        "manifest": {"status": "authoritative", "live_data": "authoritative"},
        "runtime": {"status": "fallback"},
    }
    app = build(CAMERA, "/front/cam", policies=policies).tree.apps["camera"]
    assert (app.is_online, app.fqn) == (True, "/front/cam")
    # Both claim what the node offers; the manifest has the word, and it says nothing.
    assert app.topics == ()


def test_differences_between_two_authorities_are_counted() -> None:
    built = build(CAMERA, "/front/cam", policies={"runtime": {"identity": "authoritative"}})
    (conflict,) = report(built).conflicts
    assert (conflict.entity_id, conflict.field_group) == ("camera", "identity")
    assert built.tree.apps["camera"].name == "camera"


def test_there_is_no_host_component_but_those_of_plugins_stay() -> None:
    plugin = Component("plc", source="plugin")
    built = build(CAMERA, components=(HOST, plugin))
    assert list(built.tree.components) == ["ecu", "plc"]
    assert report(built).layers == ("manifest", "runtime", "plugins")


def test_an_app_whose_node_does_not_run_is_offline_and_keeps_the_name_of_its_node() -> None:
    app = build("apps: [{id: camera, ros_binding: {node_name: cam, namespace: /front}}]").tree.apps["camera"]
    assert (app.is_online, app.fqn, app.topics, app.graph_key) == (False, "/front/cam", (), "")


def test_other_nodes_fill_the_tree_up() -> None:
    built = build(CAMERA, "/front/cam", "/nav/planner")
    planner = built.tree.apps["planner"]
    assert (planner.source, planner.is_online, planner.component_id) == ("heuristic", True, "")
    assert report(built).orphans == ("/nav/planner",)


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, {"/nav/a", "/nav/sub/b", "/navigation/c", "/d"}),
        ({"allow_heuristic_apps": False}, set()),
        ({"namespace_whitelist": ("/nav",)}, {"/nav/a", "/nav/sub/b"}),
        ({"namespace_blacklist": ("/nav",)}, {"/navigation/c", "/d"}),
        ({"namespace_whitelist": ("/nav",), "namespace_blacklist": ("/nav/sub",)}, {"/nav/a"}),
        ({"use_runtime": False}, set()),
    ],
)
def test_gap_fill_lists_let_nodes_in_and_never_touch_declared_apps(options: dict[str, Any], kept: set[str]) -> None:
    nodes = ("/nav/a", "/nav/sub/b", "/navigation/c", "/d", "/nav/cam")
    built = build(CAMERA, *nodes, **options)
    assert {app.fqn for app in built.tree.apps.values() if app.source == "heuristic"} == kept
    assert built.tree.apps["camera"].is_online is options.get("use_runtime", True)
    if options.get("use_runtime", True):
        # Filters do not make an orphan declared.
        assert len(report(built).orphans) == 4
        assert report(built).filtered_by_gap_fill == 4 - len(kept)


@pytest.mark.parametrize(
    ("policy", "listed"), [("ignore", False), ("warn", True), ("error", True), ("include_as_orphan", True)]
)
def test_what_becomes_of_nodes_that_nobody_declares(policy: str, listed: bool) -> None:
    built = build(f"config: {{unmanifested_nodes: {policy}}}\n{CAMERA}", "/front/cam", "/x")
    assert ("x" in built.tree.apps) is listed
    assert (report(built).policy, report(built).orphans) == (policy, ("/x",))
    if listed:
        assert built.tree.apps["x"].source == "heuristic"


def test_a_declared_app_stands_for_the_node_of_its_id() -> None:
    built = build("apps: [{id: cam}]", "/front/cam")
    assert list(built.tree.apps) == ["cam"]
    cam = built.tree.apps["cam"]
    assert (cam.source, cam.is_online, cam.fqn) == ("manifest", False, "")
    assert [use.name for use in cam.topics] == ["/front/cam/out"]


@pytest.mark.parametrize("text", [CAMERA, "apps: [{id: cam}]", "apps: [{id: cam, ros_binding: {node_name: cam}}]"])
def test_resources_are_inherited_only_when_the_manifest_says_so(text: str) -> None:
    built = build(f"config: {{inherit_runtime_resources: false}}\n{text}", "/front/cam")
    (app,) = built.tree.apps.values()
    assert (app.topics, app.services, app.actions) == ((), (), ())


def test_an_external_app_stays_and_its_namesake_does_not_give_it_life() -> None:
    built = build("apps: [{id: cam, external: true}]", "/cam")
    assert (built.tree.apps["cam"].is_online, built.tree.apps["cam"].topics) == (False, ())


def test_functions_are_declared_ones_unless_those_of_namespaces_are_allowed() -> None:
    text = f"{CAMERA}functions: [{{id: see, hosts: [camera]}}, {{id: front, name: Front, hosts: [camera]}}]"
    nodes = ("/front/cam", "/front/other", "/nav/planner")
    assert list(build(text, *nodes).tree.functions) == ["front", "see"]
    built = build(text, *nodes, allow_heuristic_functions=True)
    assert list(built.tree.functions) == ["front", "nav", "see"]
    assert built.tree.functions["front"].hosts == ("camera",)
    assert (built.tree.functions["nav"].source, built.tree.functions["nav"].hosts) == ("runtime", ("planner",))
    # Demoted to a fallback, the manifest's hosts are united with those of the namespace.
    built = build(f"config: {{allow_manifest_override: false}}\n{text}", *nodes, allow_heuristic_functions=True)
    assert built.tree.functions["front"].hosts == ("camera", "other")
    assert built.tree.functions["front"].source == "manifest"


def test_ids_of_declared_apps_are_remembered_and_never_a_nodes() -> None:
    memory = GivenIds()
    build("apps: []", "/a/cam", remembered=memory)
    assert memory.id_of("self", manifest("apps: [{id: x}]").apps["x"].kind, "/a/cam") == "cam"
    # Now somebody declares `cam` and binds it to another node; the first one needs another id.
    built = build(
        "apps: [{id: cam, ros_binding: {node_name: cam, namespace: /b}}]", "/a/cam", "/b/cam", remembered=memory
    )
    assert {app.id: app.fqn for app in built.tree.apps.values()} == {"cam": "/b/cam", "a_cam": "/a/cam"}
    assert GivenId("self", "apps", "cam", "cam") in built.new_ids
    again = build(
        "apps: [{id: cam, ros_binding: {node_name: cam, namespace: /b}}]", "/a/cam", "/b/cam", remembered=memory
    )
    assert again.tree == built.tree


def test_linked_and_filtered_nodes_are_given_no_ids() -> None:
    built = build(CAMERA, "/front/cam", "/x/y", namespace_blacklist=("/x",))
    assert [one.key for one in built.new_ids] == ["camera"]


def test_collisions_with_ids_of_other_kinds_are_counted() -> None:
    assert report(build(CAMERA, "/ecu", "/other")).id_collisions == ("ecu",)


def test_manifest_only_links_nothing() -> None:
    built = build(f"areas: [{{id: a}}]\n{CAMERA}functions: [{{id: f}}]", "/front/cam", mode="manifest_only")
    assert built.tree.counts() == {"areas": 1, "components": 1, "apps": 1, "functions": 1}
    assert (built.tree.apps["camera"].is_online, built.tree.apps["camera"].topics) == (False, ())
    assert (built.mode, built.report) == ("manifest_only", None)


def test_hybrid_without_a_manifest_is_runtime_only() -> None:
    built = build_tree([node("/cam")], [HOST], None, GivenIds(), LayerOptions("self", mode="hybrid"))
    assert (built.mode, list(built.tree.components), list(built.tree.apps)) == ("runtime_only", ["host"], ["cam"])


def test_hybrid_with_its_manifest_switched_off_has_nodes_alone() -> None:
    options = LayerOptions("self", mode="hybrid", use_manifest=False)
    built = build_tree([node("/cam")], [HOST], None, GivenIds(), options)
    assert (built.mode, list(built.tree.components), list(built.tree.apps)) == ("hybrid", [], ["cam"])
    assert report(built).layers == ("runtime",)


FQNS = st.lists(st.sampled_from([f"{namespace}/{name}" for namespace in ("", "/a", "/b") for name in "xyz"]))
APPS = st.dictionaries(st.sampled_from(["x", "y", "a_x", "p"]), st.sampled_from(["x", "y", "z", ""]), max_size=4)


@given(st.lists(st.tuples(APPS, FQNS), min_size=1, max_size=4))
def test_whatever_comes_and_goes_every_node_is_one_app_at_most_and_ids_are_kept(
    steps: list[tuple[dict[str, str], list[str]]],
) -> None:
    remembered = GivenIds()
    kept: dict[str, str] = {}
    for apps, fqns in steps:
        text = ", ".join(f"{{id: {app}, ros_binding: {{node_name: '{name}'}}}}" for app, name in apps.items())
        tree = build(f"apps: [{text}]", *fqns, remembered=remembered).tree
        bound = [app.fqn for app in tree.apps.values() if app.is_online]
        assert len(bound) == len(set(bound))
        assert set(bound) <= set(fqns)
        assert set(apps) <= set(tree.apps)
        assert all(tree.apps[app].source == "manifest" for app in apps)
        for app in tree.apps.values():
            if app.source == "heuristic":
                # The id of a node only ever changes when the manifest takes it.
                before = kept.setdefault(app.fqn, app.id)
                assert before == app.id or before in {*apps, *(one for earlier, _ in steps for one in earlier)}


def test_internal_nodes_are_no_orphans() -> None:
    assert report(build(CAMERA, "/_daemon")).orphans == ()
    assert report(build(CAMERA, "/_daemon", filter_internal_nodes=False)).orphans == ("/_daemon",)
