"""Which node is which declared app (API.md §12.3). Pure; what a link means for the app is `layers.py`'s."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from .manifest import Binding, Manifest
from .model import GraphNode


@dataclass(frozen=True)
class Linked:
    """App ids to their nodes, the nodes that nobody declares, and apps that came too late for their node."""

    nodes: Mapping[str, GraphNode] = field(default_factory=dict)
    orphans: tuple[GraphNode, ...] = ()
    conflicts: tuple[str, ...] = ()


def link(manifest: Manifest, nodes: Sequence[GraphNode]) -> Linked:
    """Link apps in the order of their declaration; a node belongs to one app at most.

    Of several nodes that fit and are free the one whose FQN comes first is taken.
    """
    index = _Index(nodes)
    found: dict[str, GraphNode] = {}
    owner: dict[str, str] = {}
    conflicts: list[str] = []
    for app_id, binding in manifest.bindings.items():
        fitting = index.fitting(binding)
        free = [node for node in fitting if node.fqn not in owner]
        if free:
            found[app_id] = free[0]
            owner[free[0].fqn] = app_id
        elif fitting:
            first = fitting[0].fqn
            conflicts.append(f"App '{app_id}' is not linked: node {first} is linked to app '{owner[first]}' already.")
    orphans = tuple(node for node in index.nodes if node.fqn not in owner)
    return Linked(found, orphans, tuple(conflicts))


def lies_within(name: str, pattern: str) -> bool:
    """Whether a namespace or a topic is `pattern` or below it, at the border of a segment.

    `*` is everything, also as a segment of its own or a part of one; "" and `/` are the root alone.
    """
    if pattern == "*":
        return True
    wanted = [part for part in pattern.split("/") if part]
    parts = [part for part in name.split("/") if part]
    if not wanted:
        return not parts
    if len(parts) < len(wanted):
        return False
    return all(
        part == want or ("*" in want and fnmatchcase(part, want)) for part, want in zip(parts, wanted, strict=False)
    )


class _Index:
    """The nodes by name and by the first segment of their topics, sorted by FQN."""

    def __init__(self, nodes: Iterable[GraphNode]) -> None:
        self.nodes = tuple(sorted(nodes, key=lambda node: node.fqn))
        self._by_name: dict[str, list[GraphNode]] = {}
        self._by_topic: dict[str, list[tuple[str, GraphNode]]] | None = None
        for node in self.nodes:
            self._by_name.setdefault(node.name, []).append(node)

    def fitting(self, binding: Binding) -> list[GraphNode]:
        """The nodes that a binding fits, by FQN."""
        found: dict[str, GraphNode] = {}
        if binding.node_name:
            for node in self._by_name.get(binding.node_name, ()):
                if lies_within(node.namespace, binding.namespace):
                    found[node.fqn] = node
        if binding.topic_namespace:
            for topic, node in self._topics_near(binding.topic_namespace):
                if lies_within(topic, binding.topic_namespace):
                    found[node.fqn] = node
        return [found[fqn] for fqn in sorted(found)]

    def _topics_near(self, pattern: str) -> Iterable[tuple[str, GraphNode]]:
        if self._by_topic is None:
            self._by_topic = {}
            for node in self.nodes:
                for use in node.topics:
                    segment = use.name.strip("/").split("/")[0]
                    self._by_topic.setdefault(segment, []).append((use.name, node))
        first = pattern.strip("/").split("/")[0]
        if "*" not in first:
            return self._by_topic.get(first, ())
        return (pair for pairs in self._by_topic.values() for pair in pairs)
