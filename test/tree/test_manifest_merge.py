"""What manifests of several gateways become together (AGGREGATION.md §4)."""

from __future__ import annotations

import json

from medkit_gateway_py.aggregation.merge import MergeOptions, PeerView, merge
from medkit_gateway_py.aggregation.routing import FederatedTree, Remote, Shared
from medkit_gateway_py.aggregation.section_reader import tree_from_wire
from medkit_gateway_py.aggregation.sections import GatewayIdentity, OriginSection, tree_to_wire
from medkit_gateway_py.entities.ids import GivenIds
from medkit_gateway_py.entities.layers import LayerOptions, build_tree
from medkit_gateway_py.entities.model import Kind
from medkit_gateway_py.entities.tree import EntityTree

from .fleet import graph_node
from .manifests import manifest

OWN = GatewayIdentity("a", "1", "a")
CELL = "areas: [{id: cell, tags: [ours], subareas: [{id: pick}]}]\ncomponents: [{id: arm, area: pick}]\n"


def tree_of(text: str, *fqns: str, origin: str = "b", mode: str = "hybrid") -> EntityTree:
    options = LayerOptions(origin, mode=mode)
    return build_tree([graph_node(fqn) for fqn in fqns], [], manifest(text), GivenIds(), options).tree


def over_the_wire(tree: EntityTree, origin: str = "b") -> OriginSection:
    section = OriginSection(origin, origin, "1", 1, (origin,), tree=tree)
    document = tree_to_wire(GatewayIdentity(origin, "1", origin), 1, [section])
    read = tree_from_wire(json.loads(json.dumps(document)), 1000)
    assert read.dropped == ()
    return read.sections[0]


def federated(local: EntityTree, *peers: tuple[str, EntityTree], given: GivenIds | None = None) -> FederatedTree:
    given = GivenIds() if given is None else given
    views = [PeerView(name, (over_the_wire(tree, f"at-{name}"),)) for name, tree in peers]
    found = merge(OWN, local, 1, views, given, MergeOptions(peers=tuple(name for name, _ in peers)))
    given.add(found.new_ids)
    return found.tree


def test_a_declared_tree_survives_the_wire() -> None:
    tree = tree_of(
        "areas: [{id: cell, description: d, tags: [t], subareas: [{id: pick}]}]\n"
        "components:\n"
        "  - {id: arm, area: pick, type: robot, variant: v, identity: {model: m, extra: {a: b}}, depends_on: [arm]}\n"
        "  - {id: hand, parent_component_id: arm, external: true}\n"
        "assets: [{id: plc, manufacturer: m, model: n}]\n"
        "apps: [{id: move, is_located_on: arm, translation_id: x, ros_binding: {node_name: mover, namespace: /x}}]\n"
        "functions: [{id: work, hosts: [move], depends_on: [rest]}, {id: rest}]\n"
    )
    assert over_the_wire(tree).tree == tree
    assert over_the_wire(tree).tree.apps["move"].source == "manifest"


def test_areas_of_two_manifests_are_one_and_keep_their_sub_areas() -> None:
    other = "areas: [{id: cell, description: theirs, tags: [theirs], subareas: [{id: place}]}]\n"
    other += "components: [{id: box, area: place}]"
    tree = federated(tree_of(CELL), ("b", tree_of(other)))
    assert (tree.areas["cell"].tags, tree.areas["cell"].description) == (("ours", "theirs"), "theirs")
    assert tree.areas["cell"].contributors == ("local", "peer:b")
    assert [area.id for area in tree.subareas["cell"]] == ["pick", "place"]
    assert [one.id for one in tree.components_within("cell")] == ["arm", "box"]
    assert tree.areas["place"].source == "peer:b"
    assert isinstance(tree.resolve(Kind.AREA, "cell"), Shared)
    assert isinstance(tree.resolve(Kind.AREA, "place"), Remote)


def test_a_component_with_parts_is_a_group_that_is_served_here() -> None:
    tree = federated(
        EntityTree(), ("b", tree_of("components: [{id: robot}, {id: arm, parent_component_id: robot}]", origin="at-b"))
    )
    group = tree.resolve(Kind.COMPONENT, "robot")
    assert isinstance(group, Shared)
    assert not group.local
    assert isinstance(tree.resolve(Kind.COMPONENT, "arm"), Remote)
    assert [one.id for one in tree.subcomponents["robot"]] == ["arm"]


def test_a_declared_app_keeps_its_id_while_its_node_comes_and_goes() -> None:
    text = "apps: [{id: camera, ros_binding: {node_name: cam}}]"
    given = GivenIds()
    for nodes in ((), ("/front/cam",), (), ("/rear/cam",)):
        tree = federated(EntityTree(), ("b", tree_of(text, *nodes, origin="at-b")), given=given)
        assert list(tree.apps) == ["camera"]
        assert tree.apps["camera"].is_online is bool(nodes)


def test_a_node_that_is_declared_later_under_its_own_id_keeps_that_id() -> None:
    given = GivenIds()
    bare = build_tree([graph_node("/front/cam")], [], None, GivenIds(), LayerOptions("at-b")).tree
    assert list(federated(EntityTree(), ("b", bare), given=given).apps) == ["cam"]
    text = "apps: [{id: cam, ros_binding: {node_name: cam}}]"
    for nodes in (("/front/cam",), (), ("/front/cam",)):
        tree = federated(EntityTree(), ("b", tree_of(text, *nodes, origin="at-b")), given=given)
        assert list(tree.apps) == ["cam"]


def test_two_peers_that_declare_one_app_are_told_apart() -> None:
    text = "apps: [{id: camera, ros_binding: {node_name: cam}}]"
    tree = federated(tree_of(text, origin="a"), ("b", tree_of(text)), ("c", tree_of(text)))
    assert set(tree.apps) == {"camera", "b__camera", "c__camera"}


def test_a_node_that_a_peer_sees_too_is_our_declared_app() -> None:
    node = graph_node("/front/cam", graph_key="one and the same")
    declared = build_tree(
        [node], [], manifest("apps: [{id: camera, ros_binding: {node_name: cam}}]"), GivenIds(),
        LayerOptions("a", mode="hybrid"),
    ).tree  # fmt: skip
    seen = build_tree([node], [], None, GivenIds(), LayerOptions("at-b")).tree
    tree = federated(declared, ("b", seen))
    assert list(tree.apps) == ["camera"]
    assert tree.functions["front"].hosts == ("camera",)
    assert [one.code for one in tree.warnings] == ["shared_ros_graph"]
    # And the other way round: what the peer declares is the node that we list.
    tree = federated(build_tree([node], [], None, GivenIds(), LayerOptions("a")).tree, ("b", declared))
    assert list(tree.apps) == ["cam"]
