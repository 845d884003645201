"""Which node is which declared app (API.md §12.3)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.entities.linking import Linked, lies_within, link
from medkit_gateway_py.entities.model import GraphNode, TopicUse

from .manifests import manifest


def node(fqn: str, *topics: str) -> GraphNode:
    namespace, _, name = fqn.rpartition("/")
    return GraphNode(name, namespace or "/", tuple(TopicUse(topic, "", "publish") for topic in topics))


def linked(apps: str, *nodes: GraphNode | str) -> Linked:
    return link(manifest(f"apps: [{apps}]"), [one if isinstance(one, GraphNode) else node(one) for one in nodes])


def fqns(found: Linked) -> dict[str, str]:
    return {app: one.fqn for app, one in found.nodes.items()}


def app(app_id: str, **binding: str) -> str:
    inner = ", ".join(f"{key}: '{value}'" for key, value in binding.items())
    return f"{{id: {app_id}, ros_binding: {{{inner}}}}}"


@pytest.mark.parametrize(
    ("namespace", "fitting", "other"),
    [
        ("*", ["/n", "/a/n", "/a/b/n"], []),
        ("/", ["/n"], ["/a/n"]),
        ("", ["/n"], ["/a/n"]),
        ("/nav", ["/nav/n", "/nav/sub/n"], ["/n", "/navigation/n", "/x/nav/n"]),
        ("nav/", ["/nav/n"], ["/n"]),
        ("/robots/*/arm", ["/robots/7/arm/n", "/robots/8/arm/left/n"], ["/robots/arm/n", "/robots/7/leg/n"]),
        ("/robot*", ["/robot7/n"], ["/arm/n"]),
    ],
)
def test_a_namespace_fits_itself_and_what_is_below_it(namespace: str, fitting: list[str], other: list[str]) -> None:
    binding = app("a", node_name="n", namespace=namespace)
    for fqn in fitting:
        assert fqns(linked(binding, fqn)) == {"a": fqn}
    assert fqns(linked(binding, *other)) == {}


def test_the_whole_name_counts() -> None:
    assert fqns(linked(app("a", node_name="cam"), "/camera", "/cam2", "/Cam")) == {}


def test_of_several_nodes_the_first_by_name_is_taken() -> None:
    found = linked(app("a", node_name="cam"), "/z/cam", "/b/cam", "/a/cam/x")
    assert fqns(found) == {"a": "/b/cam"}
    assert [one.fqn for one in found.orphans] == ["/a/cam/x", "/z/cam"]


def test_a_node_belongs_to_the_app_that_is_declared_first() -> None:
    apps = f"{app('z', node_name='cam')}, {app('a', node_name='cam', namespace='/x')}"
    found = linked(apps, "/x/cam")
    assert fqns(found) == {"z": "/x/cam"}
    assert found.conflicts == ("App 'a' is not linked: node /x/cam is linked to app 'z' already.",)


def test_two_apps_of_one_wildcard_share_the_nodes_out() -> None:
    apps = f"{app('a', node_name='cam')}, {app('b', node_name='cam')}, {app('c', node_name='cam')}"
    found = linked(apps, "/l/cam", "/r/cam")
    assert fqns(found) == {"a": "/l/cam", "b": "/r/cam"}
    assert len(found.conflicts) == 1


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("/scan", "/scan", True),
        ("/scan", "/scan/points", True),
        ("/scan", "/scanner", False),
        ("/a/b", "/a", False),
        ("/*/scan", "/front/scan", True),
        ("*", "/anything", True),
    ],
)
def test_a_topic_binds_whoever_uses_it(pattern: str, topic: str, fits: bool) -> None:
    found = linked(app("a", topic_namespace=pattern), node("/x/driver", topic), node("/y"))
    assert ("a" in found.nodes) is fits


def test_apps_without_a_usable_binding_and_external_ones_are_not_linked() -> None:
    found = linked("{id: a}, {id: n}, {id: b, ros_binding: {namespace: /x}}, {id: c, external: true}", "/n", "/x/b")
    assert found.nodes == {}
    assert found.conflicts == ()


def test_a_late_node_is_linked_and_a_gone_one_is_not() -> None:
    binding = app("a", node_name="cam")
    assert fqns(linked(binding)) == {}
    assert fqns(linked(binding, "/r/cam")) == {"a": "/r/cam"}
    assert fqns(linked(binding, "/other")) == {}


NAMES = st.lists(st.sampled_from(["a", "b", "ab"]), max_size=3).map(lambda parts: "/" + "/".join(parts))


@given(NAMES, NAMES)
def test_within_is_equal_or_below_at_a_slash(name: str, pattern: str) -> None:
    expected = name == pattern or (pattern != "/" and name.startswith(f"{pattern}/"))
    assert lies_within(name, pattern) is expected


@given(st.lists(st.tuples(NAMES, st.sampled_from(["x", "y"])), max_size=8), st.lists(NAMES, min_size=1, max_size=5))
def test_no_node_has_two_apps_and_none_is_lost(nodes: list[tuple[str, str]], namespaces: list[str]) -> None:
    present = list({one.fqn: one for one in (node(f"{ns.rstrip('/')}/{name}") for ns, name in nodes)}.values())
    unique = dict.fromkeys(namespaces)
    apps = ", ".join(app(f"a{n}", node_name="x", namespace=ns) for n, ns in enumerate(unique))
    found = linked(apps, *present)
    owned = [one.fqn for one in found.nodes.values()]
    assert len(owned) == len(set(owned))
    assert sorted(owned + [one.fqn for one in found.orphans]) == sorted(one.fqn for one in present)
