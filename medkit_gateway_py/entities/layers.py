"""From what the providers contribute to one local tree (API.md §3.7, §12.3).

runtime_only: nodes become apps, first namespace segments become functions, finished components are taken as they are.
hybrid: a manifest says what there is, the graph fills it with life. manifest_only: the manifest alone. Pure: the ids
that are new are returned, and the caller commits them before the tree is served.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from .ids import GivenId, GivenIds, assign_local_ids, is_internal, is_valid_id
from .linking import Linked, lies_within, link
from .manifest import Manifest
from .model import App, Component, Function, GraphNode, Kind
from .policies import MANIFEST, RUNTIME, Conflict, Policies, combine, effective_policies
from .tree import EntityTree

RUNTIME_ONLY, HYBRID, MANIFEST_ONLY = "runtime_only", "hybrid", "manifest_only"


@dataclass(frozen=True)
class LayerOptions:
    """What shapes the local tree; the fields are parameters under `discovery` by the same or a longer name."""

    origin: str
    create_functions_from_namespaces: bool = True
    filter_internal_nodes: bool = True
    mode: str = RUNTIME_ONLY
    use_manifest: bool = True
    use_runtime: bool = True
    allow_heuristic_apps: bool = True
    allow_heuristic_functions: bool = False
    namespace_whitelist: tuple[str, ...] = ()
    namespace_blacklist: tuple[str, ...] = ()
    policies: Policies = field(default_factory=dict)


@dataclass(frozen=True)
class LayerReport:
    """What hybrid mode did, for `/health` (API.md §2.2)."""

    layers: tuple[str, ...] = ()
    enriched: int = 0
    conflicts: tuple[Conflict, ...] = ()
    id_collisions: tuple[str, ...] = ()
    filtered_by_gap_fill: int = 0
    linked: int = 0
    policy: str = "warn"
    orphans: tuple[str, ...] = ()
    binding_conflicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """A local tree, the ids it gives for the first time, the mode it was really made in, and hybrid's report."""

    tree: EntityTree
    new_ids: list[GivenId]
    mode: str = RUNTIME_ONLY
    report: LayerReport | None = None


def build_tree(
    nodes: Sequence[GraphNode],
    components: Sequence[Component],
    manifest: Manifest | None,
    given: GivenIds,
    options: LayerOptions,
) -> Built:
    """The local tree in the wanted mode; hybrid without a manifest is runtime_only (API.md §3.7)."""
    if options.mode == HYBRID and not options.use_manifest:
        manifest = Manifest()
    if options.mode == RUNTIME_ONLY or manifest is None:
        return Built(*local_tree(nodes, components, given, options))
    if options.mode == MANIFEST_ONLY:
        return _declared_alone(manifest, components, given, options)
    return _hybrid(nodes, components, manifest, given, options)


def local_tree(
    nodes: Sequence[GraphNode], components: Sequence[Component], given: GivenIds, options: LayerOptions
) -> tuple[EntityTree, list[GivenId]]:
    """The tree of runtime_only and its new ids. Later duplicates of an FQN or a component id are dropped."""
    known: dict[str, Component] = {}
    for component in components:
        known.setdefault(component.id, component)
    # Components of plugins carry their own tag as source; only the host's says `runtime` (API.md §3.7).
    host_id = next((component.id for component in known.values() if component.source == "runtime"), "")
    present = _present(nodes, options)
    ids, new = assign_local_ids(present, options.origin, given)
    apps = {ids[node.fqn]: _app(node, ids[node.fqn], host_id) for node in present}
    functions = _functions(present, ids) if options.create_functions_from_namespaces else {}
    tree = EntityTree(
        components=dict(sorted(known.items())),
        apps=dict(sorted(apps.items())),
        functions=dict(sorted(functions.items())),
    )
    return tree, new


def _declared_alone(
    manifest: Manifest, components: Sequence[Component], given: GivenIds, options: LayerOptions
) -> Built:
    tree = _tree(manifest, components, manifest.apps, manifest.functions)
    return Built(tree, _declared_ids(manifest, given, options.origin), MANIFEST_ONLY)


def _hybrid(
    nodes: Sequence[GraphNode],
    components: Sequence[Component],
    manifest: Manifest,
    given: GivenIds,
    options: LayerOptions,
) -> Built:
    present = _present(nodes, options) if options.use_runtime else []
    linked = link(manifest, present)
    policies = effective_policies(options.policies, allow_manifest_override=manifest.config.allow_manifest_override)
    # The ids that these nodes would have without any history say which of them a declared app stands for.
    natural, _ = assign_local_ids(present, options.origin, GivenIds())
    namesakes = {natural[node.fqn]: node for node in linked.orphans if natural[node.fqn] in manifest.apps}
    left = [node for node in linked.orphans if natural[node.fqn] not in manifest.apps]
    passing = [node for node in left if options.allow_heuristic_apps and _passes(node.namespace, options)]
    kept = [] if manifest.config.unmanifested_nodes == "ignore" else passing
    ids, new = assign_local_ids(present, options.origin, given, frozenset(manifest.apps))
    kept_fqns = {node.fqn for node in kept}
    merger = _Merger(manifest, linked, namesakes, policies)
    apps = {**merger.apps(), **{ids[node.fqn]: _app(node, ids[node.fqn], "") for node in kept}}
    functions: Mapping[str, Function] = manifest.functions
    if options.allow_heuristic_functions and options.create_functions_from_namespaces and options.use_runtime:
        app_ids = {node.fqn: app_id for app_id, node in linked.nodes.items()}
        app_ids.update({fqn: ids[fqn] for fqn in kept_fqns})
        functions = merger.functions(_functions([node for node in present if node.fqn in app_ids], app_ids))
    tree = _tree(manifest, components, apps, functions)
    others = {*tree.areas, *tree.components, *tree.functions}
    has_plugins = any(component.source != "runtime" for component in components)
    report = LayerReport(
        layers=tuple(
            name
            for name, used in (
                (MANIFEST, options.use_manifest), (RUNTIME, options.use_runtime), ("plugins", has_plugins),
            )
            if used
        ),
        enriched=merger.enriched,
        conflicts=tuple(merger.conflicts),
        id_collisions=tuple(sorted({ids[fqn] for fqn in kept_fqns} & others)),
        filtered_by_gap_fill=len(left) - len(passing),
        linked=len(linked.nodes),
        policy=manifest.config.unmanifested_nodes,
        orphans=tuple(node.fqn for node in linked.orphans),
        binding_conflicts=linked.conflicts,
    )  # fmt: skip
    new_ids = [*_declared_ids(manifest, given, options.origin), *(one for one in new if one.key in kept_fqns)]
    return Built(tree, new_ids, HYBRID, report)


class _Merger:
    """The manifest's entities with what the runtime layer has to say to them."""

    def __init__(
        self, manifest: Manifest, linked: Linked, namesakes: Mapping[str, GraphNode], policies: Policies
    ) -> None:
        self._manifest, self._linked, self._namesakes, self._policies = manifest, linked, namesakes, policies
        self.conflicts: list[Conflict] = []
        self.enriched = 0

    def apps(self) -> dict[str, App]:
        """Every declared app, linked or not."""
        return {app.id: self._app(app) for app in self._manifest.apps.values()}

    def _app(self, app: App) -> App:
        node = self._linked.nodes.get(app.id)
        is_linked = node is not None
        if node is None and not app.external and app.id not in self._manifest.bindings:
            # Both layers have an app of this id: one entity, though nothing says that it is this node.
            node = self._namesakes.get(app.id)
        if node is None:
            return app
        merged, conflicts = combine(app, _app(node, app.id, ""), (MANIFEST, RUNTIME), self._policies)
        self.conflicts += conflicts
        self.enriched += 1
        if not self._manifest.config.inherit_runtime_resources:
            merged = replace(merged, topics=(), services=(), actions=())
        if is_linked:
            return replace(merged, fqn=node.fqn, graph_key=node.graph_key, is_online=True)
        return replace(merged, fqn=app.fqn, graph_key="", is_online=False)

    def functions(self, of_namespaces: Mapping[str, Function]) -> dict[str, Function]:
        """The declared functions, united with those of equal id, and the other ones of namespaces."""
        found = dict(of_namespaces)
        for function in self._manifest.functions.values():
            other = of_namespaces.get(function.id)
            if other is not None:
                function, conflicts = combine(function, other, (MANIFEST, RUNTIME), self._policies)
                self.conflicts += conflicts
                self.enriched += 1
            found[function.id] = function
        return found


def _tree(
    manifest: Manifest, components: Iterable[Component], apps: Mapping[str, App], functions: Mapping[str, Function]
) -> EntityTree:
    """A tree with declared things; components of plugins stay, the host is what the manifest says it is."""
    of_plugins = {component.id: component for component in components if component.source != "runtime"}
    return EntityTree(
        areas=dict(sorted(manifest.areas.items())),
        components=dict(sorted({**of_plugins, **manifest.components}.items())),
        apps=dict(sorted(apps.items())),
        functions=dict(sorted(functions.items())),
    )


def _declared_ids(manifest: Manifest, given: GivenIds, origin: str) -> list[GivenId]:
    """The ids of declared apps are theirs by the manifest; they are remembered, so that no peer's app gets one."""
    ids = (GivenId(origin, Kind.APP.value, app_id, app_id) for app_id in manifest.apps)
    return [one for one in ids if one.owner not in given.by_key]


def _present(nodes: Sequence[GraphNode], options: LayerOptions) -> list[GraphNode]:
    """The nodes that count, each FQN once, sorted by it."""
    by_fqn: dict[str, GraphNode] = {}
    for node in nodes:
        if not (options.filter_internal_nodes and is_internal(node)):
            by_fqn.setdefault(node.fqn, node)
    return [by_fqn[fqn] for fqn in sorted(by_fqn)]


def _app(node: GraphNode, app_id: str, component_id: str) -> App:
    return App(
        id=app_id,
        name=node.name,
        component_id=component_id,
        fqn=node.fqn,
        graph_key=node.graph_key,
        topics=node.topics,
        services=node.services,
        actions=node.actions,
    )


def _passes(namespace: str, options: LayerOptions) -> bool:
    """Whether the lists of gap-fill let a namespace in; an empty allow list lets all in, the deny list wins."""
    allowed, denied = options.namespace_whitelist, options.namespace_blacklist
    if any(lies_within(namespace, one) for one in denied):
        return False
    return not allowed or any(lies_within(namespace, one) for one in allowed)


def _functions(nodes: Sequence[GraphNode], ids: Mapping[str, str]) -> dict[str, Function]:
    hosts: dict[str, list[str]] = {}
    for node in nodes:
        segment = node.namespace.strip("/").split("/")[0] or "root"
        if is_valid_id(segment):
            hosts.setdefault(segment, []).append(ids[node.fqn])
    return {segment: Function(id=segment, name=segment, hosts=tuple(sorted(apps))) for segment, apps in hosts.items()}
