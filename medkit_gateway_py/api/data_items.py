"""The data items of an entity over several gateways: whose they are.

Pure. A member is an app of an entity; `<member>:<topic>` names one member's item (API.md §4.1, §4.2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..entities.model import App, Kind
from ..entities.tree import EntityTree
from ..resources.data import full_topic
from .views import Json

SEPARATOR = ":"


def split_qualified(kind: Kind, data_id: str) -> tuple[str, str] | None:
    """`(member, topic)` of a qualified id; None for a plain topic. Apps have no members; no ROS topic has a colon."""
    if kind is Kind.APP or SEPARATOR not in data_id:
        return None
    member, topic = data_id.split(SEPARATOR, 1)
    return member.strip("/"), full_topic(topic)


def uses(app: App, topic: str) -> bool:
    """Whether the app publishes or subscribes the topic."""
    return any(use.name == topic for use in app.topics)


def members_of(item: Json) -> list[str]:
    """The apps that an item of a list names as its owners."""
    medkit = item.get("x-medkit")
    ids = medkit.get("member_ids") if isinstance(medkit, dict) else None
    return [one for one in ids if isinstance(one, str)] if isinstance(ids, list) else []


def owners(items: Iterable[Json], topic: str) -> list[str]:
    """One member for each item that is this topic, in the order of the items."""
    return [members_of(item)[0] for item in items if is_topic(item, topic) and members_of(item)]


def is_topic(item: Json, topic: str) -> bool:
    """Whether an item is this topic, whatever it is called."""
    item_id = item.get("id")
    if not isinstance(item_id, str):
        return False
    return item_id == topic or item_id.endswith(f"{SEPARATOR}{topic}")


def aggregation_of(tree: EntityTree, kind: Kind, entity_id: str) -> dict[str, Any]:
    """`aggregated`, `aggregation_sources`, `aggregation_level`; nothing for apps and for components without apps."""
    if kind is Kind.APP:
        return {}
    members = tree.members(kind, entity_id)
    if kind is Kind.COMPONENT and not members:
        return {}
    sources = dict.fromkeys((entity_id, *(app.id for app in members)))
    return {"aggregated": True, "aggregation_sources": list(sources), "aggregation_level": kind.type}
