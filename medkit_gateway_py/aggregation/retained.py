"""What `unreachable: retain` keeps of a gateway that is away: what its manifest and inventory declare (§6). Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

from ..entities.model import App, Component, Kind
from ..entities.tree import EntityTree
from .sections import OriginSection

_DECLARED = frozenset({"manifest", "inventory"})


def declared(tree: EntityTree) -> EntityTree:
    """The entities that somebody declared; what was only found at run time is left out."""
    kept = {
        kind.value: {entity_id: entity for entity_id, entity in tree.of(kind).items() if entity.source in _DECLARED}
        for kind in Kind
    }
    return EntityTree(**cast("dict[str, Any]", kept))


def lasting(section: OriginSection) -> OriginSection:
    """The declared part without what changes from hour to hour, so that it is seldom written to the disk."""
    tree = declared(section.tree)
    apps: dict[str, App] = {
        app_id: replace(app, is_online=False, available=True, graph_key="") for app_id, app in tree.apps.items()
    }
    components: dict[str, Component] = {
        component_id: replace(component, available=True) for component_id, component in tree.components.items()
    }
    served_as = {app_id: served for app_id, served in section.served_as.items() if app_id in apps}
    return replace(
        section, boot_id="0", seq=0, tree=replace(tree, apps=apps, components=components), served_as=served_as
    )
