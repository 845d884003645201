"""From an id in the URL to what serves it, with the exact errors of API.md §1.5."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..aggregation.routing import Away, FederatedTree, Local, Remote, Shared
from ..entities.ids import MAX_ID_LENGTH, is_valid_id
from ..entities.model import Kind
from ..errors import EntityNotFound, InvalidParameter

ID_RULE = f"Must be 1 to {MAX_ID_LENGTH} characters of [A-Za-z0-9_-]"


@dataclass(frozen=True)
class Wording:
    """How one family of routes words its errors (API.md §1.5). `names_other_kind`: 400 for an id of another kind."""

    noun: str
    parameter: str
    names_other_kind: bool


STANDARD = Wording("entity", "entity_id", True)
RELATION = {
    Kind.AREA: Wording("area", "area_id", False),
    Kind.COMPONENT: Wording("component", "component_id", False),
    Kind.APP: Wording("entity", "entity_id", False),
    Kind.FUNCTION: Wording("function", "function_id", False),
}


def locate(tree: FederatedTree, kind: Kind, entity_id: str, wording: Wording = STANDARD) -> Local | Remote | Shared:
    """Who serves the entity.

    Raises InvalidParameter (form, other kind), EntityNotFound, or PeerUnavailable while its owner is away. Remote is
    served by the forwarding in front of the routes; only relation routes see it.
    """
    named: dict[str, Any] = {wording.parameter: entity_id}
    if not is_valid_id(entity_id):
        raise InvalidParameter(f"Invalid {wording.noun} ID", details=ID_RULE, **named)
    found = tree.resolve(kind, entity_id)
    if isinstance(found, Away):
        raise found.error(entity_id)
    if found is not None:
        return found
    other = tree.kind_of(entity_id) if wording.names_other_kind else None
    if other is not None:
        raise InvalidParameter(
            f"Invalid entity type for route: expected {kind.label}, got {other.label}",
            entity_id=entity_id,
            expected_type=kind.label,
            actual_type=other.label,
        )
    raise EntityNotFound(f"{wording.noun.capitalize()} not found", **named)
