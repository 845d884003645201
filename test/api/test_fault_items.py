"""Faults that several gateways tell of the same nodes are listed once, those of other robots are not."""

from __future__ import annotations

from typing import Any

from medkit_gateway_py.aggregation.routing import FederatedTree
from medkit_gateway_py.aggregation.sections import OriginSection
from medkit_gateway_py.api.fault_items import distinct
from medkit_gateway_py.entities.model import App
from medkit_gateway_py.entities.tree import EntityTree


def graph(**keys: str) -> EntityTree:
    """Apps by name with their graph keys."""
    return EntityTree(apps={name: App(name, fqn=f"/{name}", graph_key=key) for name, key in keys.items()})


def tree(ours: EntityTree, **peers: list[EntityTree]) -> FederatedTree:
    sections = {name: [OriginSection(f"{name}{number}", name, "", 0, (), tree=one) for number, one in enumerate(trees)]
                for name, trees in peers.items()}  # fmt: skip
    return FederatedTree(
        local=ours,
        sections=tuple(section for found in sections.values() for section in found),
        origins_by_peer={name: tuple(section.id for section in found) for name, found in sections.items()},
    )


def item(code: str, *sources: str, peer: str = "") -> dict[str, Any]:
    medkit = {"x-medkit": {"peer": peer}} if peer else {}
    return {"fault_code": code, "reporting_sources": list(sources), **medkit}


def test_a_fault_of_one_graph_is_told_once_by_whoever_is_first() -> None:
    shared = graph(cam="k1", arm="k2")
    federated = tree(shared, b=[shared], c=[shared])
    ours = [item("F", "/cam", "/arm"), item("G", "/cam")]
    theirs = [item("F", "/arm", "/cam", peer="b"), item("H", "/cam", peer="b"), item("H", "/cam", peer="c/d")]
    assert distinct(federated, ours, theirs) == [*ours, item("H", "/cam", peer="b")]


def test_robots_whose_nodes_only_have_the_same_names_keep_their_own() -> None:
    federated = tree(graph(cam="k1"), b=[graph(cam="k2")], c=[graph(cam="")])
    ours = [item("F", "/cam")]
    theirs = [item("F", "/cam", peer="b"), item("F", "/cam", peer="c"), item("F", "/cam", peer="unknown")]
    assert distinct(federated, ours, theirs) == [*ours, *theirs]


def test_a_name_that_means_several_nodes_behind_one_peer_proves_nothing() -> None:
    federated = tree(graph(cam="k1"), b=[graph(cam="k1"), graph(cam="k2")])
    theirs = [item("F", "/cam", peer="b"), item("F", "/cam", peer="b/c")]
    assert distinct(federated, [item("F", "/cam")], theirs) == [item("F", "/cam"), *theirs]


def test_another_code_or_another_source_is_another_fault() -> None:
    shared = graph(cam="k1", arm="k2")
    theirs = [item("G", "/cam", peer="b"), item("F", "/arm", peer="b"), item("F", "/cam", "/arm", peer="b")]
    assert distinct(tree(shared, b=[shared]), [item("F", "/cam")], theirs) == [item("F", "/cam"), *theirs]


def test_items_that_make_no_sense_are_left_as_they_are() -> None:
    theirs: list[dict[str, Any]] = [{}, {"fault_code": 1}, item("F"), {"fault_code": "F", "reporting_sources": [1]}]
    assert distinct(tree(graph()), [], [*theirs, *theirs]) == [*theirs, *theirs]
