"""Which faults belong to an entity, and which a `?status=` means (API.md §7.3, §7.4). Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from types import MappingProxyType

from ...entities.model import App, Component, Kind
from ...entities.tree import EntityTree
from .model import CLEARED, CONFIRMED, HEALED, PREFAILED, PREPASSED, STATUSES, Fault

DEFAULT_STATUSES = (PREFAILED, CONFIRMED)
FILTERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "pending": (PREFAILED,),
        "confirmed": (CONFIRMED,),
        "healed": (HEALED, PREPASSED),
        "cleared": (CLEARED, HEALED, PREPASSED),
        "all": STATUSES,
    }
)


def source_of(app: App) -> str:
    """The source id under which an app reports: the FQN of its node, or its own id when it is none."""
    return app.fqn or app.id


def owned_sources(tree: EntityTree, kind: Kind, entity_id: str, local: EntityTree) -> frozenset[str]:
    """The sources of an entity that are of our own graph; nodes of other gateways may have the same names.

    An app has its own; a component those of its apps, and its id when it is external; an area those of its components
    and of the components of its sub-areas; a function those of its hosts, apps or components.
    """
    if kind is Kind.APP:
        app = tree.apps.get(entity_id)
        return _of_apps((app,) if app is not None else (), local)
    if kind is Kind.COMPONENT:
        component = tree.components.get(entity_id)
        return _of_components(tree, (component,) if component is not None else (), local)
    if kind is Kind.AREA:
        return _of_components(tree, tree.components_within(entity_id), local)
    function = tree.functions.get(entity_id)
    hosts = function.hosts if function is not None else ()
    apps = [tree.apps[host] for host in hosts if host in tree.apps]
    # An id that both kinds have means the app, as in the function's own list of hosts.
    components = [tree.components[host] for host in hosts if host in tree.components and host not in tree.apps]
    return _of_apps(apps, local) | _of_components(tree, components, local)


def is_in_scope(fault: Fault, owned: Collection[str]) -> bool:
    """Whether every source of a fault is one of these, or a path-child of one; a fault without any is in no scope."""
    sources = fault.reporting_sources
    return bool(sources) and all(_is_owned(source, owned) for source in sources)


def _is_owned(source: str, owned: Collection[str]) -> bool:
    if source in owned:
        return True
    # `/a/b/c` is a child of `/a/b` and of `/a`; so few look-ups beat a walk over all that an area owns.
    end = source.rfind("/")
    while end > 0:
        if source[:end] in owned:
            return True
        end = source.rfind("/", 0, end)
    return False


def _of_apps(apps: Collection[App], local: EntityTree) -> frozenset[str]:
    return frozenset(source_of(app) for app in apps if app.id in local.apps)


def _of_components(tree: EntityTree, components: Collection[Component], local: EntityTree) -> frozenset[str]:
    found: set[str] = set()
    for component in components:
        found |= _of_apps(tree.apps_by_component.get(component.id, ()), local)
        if component.external and component.id in local.components:
            found.add(component.id)
    return frozenset(found)
