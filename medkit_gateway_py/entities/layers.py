"""From what the providers contribute to one local tree (API.md §3.7, `runtime_only`).

Nodes become apps, first namespace segments become functions, finished components are taken as they are. Pure: the
ids that are new are returned, and the caller commits them before the tree is served.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .ids import GivenId, GivenIds, assign_local_ids, is_internal, is_valid_id
from .model import App, Component, Function, GraphNode
from .tree import EntityTree


@dataclass(frozen=True)
class LayerOptions:
    """What shapes the local tree; the fields are the parameters of the same names under `discovery.runtime`."""

    origin: str
    create_functions_from_namespaces: bool = True
    filter_internal_nodes: bool = True


def local_tree(
    nodes: Sequence[GraphNode], components: Sequence[Component], given: GivenIds, options: LayerOptions
) -> tuple[EntityTree, list[GivenId]]:
    """The local tree and the ids given for the first time. Later duplicates of an FQN or a component id are dropped."""
    by_fqn: dict[str, GraphNode] = {}
    for node in nodes:
        if options.filter_internal_nodes and is_internal(node):
            continue
        by_fqn.setdefault(node.fqn, node)
    known: dict[str, Component] = {}
    for component in components:
        known.setdefault(component.id, component)
    # Components of plugins carry their own tag as source; only the host's says `runtime` (API.md §3.7).
    host_id = next((component.id for component in known.values() if component.source == "runtime"), "")
    present = [by_fqn[fqn] for fqn in sorted(by_fqn)]
    ids, new = assign_local_ids(present, options.origin, given)
    apps = {
        ids[node.fqn]: App(
            id=ids[node.fqn],
            name=node.name,
            component_id=host_id,
            fqn=node.fqn,
            graph_key=node.graph_key,
            topics=node.topics,
            services=node.services,
            actions=node.actions,
        )
        for node in present
    }
    functions = _functions(present, ids) if options.create_functions_from_namespaces else {}
    tree = EntityTree(
        components=dict(sorted(known.items())),
        apps=dict(sorted(apps.items())),
        functions=dict(sorted(functions.items())),
    )
    return tree, new


def _functions(nodes: Sequence[GraphNode], ids: dict[str, str]) -> dict[str, Function]:
    hosts: dict[str, list[str]] = {}
    for node in nodes:
        segment = node.namespace.strip("/").split("/")[0] or "root"
        if is_valid_id(segment):
            hosts.setdefault(segment, []).append(ids[node.fqn])
    return {segment: Function(id=segment, name=segment, hosts=tuple(sorted(apps))) for segment, apps in hosts.items()}
