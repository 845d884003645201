"""The parameters of an entity over several gateways: ids, and what peers list of them (API.md §6.1, §6.2).

Pure. A member is an app of an entity; `<member>:<name>` is the id of a parameter wherever an entity has several nodes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..aggregation.routing import FederatedTree
from ..entities.model import App, Kind
from ..resources.configurations import Found, members_with_nodes, parameter_json
from .data_items import SEPARATOR
from .views import Json


@dataclass(frozen=True)
class Members:
    """The apps whose parameters an entity has: all of them, and those that are nodes of our own graph."""

    kind: Kind
    entity_id: str
    all: tuple[App, ...]
    local: tuple[App, ...]

    @property
    def is_aggregated(self) -> bool:
        """Whether there is more than one node; ids are qualified then."""
        return self.kind is not Kind.APP and len(self.all) > 1


def members_of(tree: FederatedTree, kind: Kind, entity_id: str) -> Members:
    """The members that have a node; what peers have is believed to have one."""
    here, found = [], []
    for app in members_with_nodes(tree, kind, entity_id):
        if not tree.is_local_app(app.id):
            found.append(app)
        elif app.fqn or app.plugin:
            found.append(app)
            here.append(app)
    return Members(kind, entity_id, tuple(found), tuple(here))


def split_member(members: Members, tree: FederatedTree, config_id: str) -> tuple[str, str]:
    """`(member, name)`; member is "" unless what is before the first colon names one (API.md §6.3).

    Every app counts that the entity gathers, those without a node too: they get an error of their own.
    """
    member, colon, name = config_id.partition(SEPARATOR)
    is_known = any(app.id == member for app in members_with_nodes(tree, members.kind, members.entity_id))
    if members.kind is Kind.APP or not colon or not name or member == members.entity_id or not is_known:
        return "", config_id
    return member, name


def source_ids(tree: FederatedTree, members: Members) -> list[str]:
    """The entity, the components of an area, and the apps."""
    components = tree.components_by_area.get(members.entity_id, ()) if members.kind is Kind.AREA else ()
    ids = (members.entity_id, *(component.id for component in components), *(app.id for app in members.all))
    return list(dict.fromkeys(ids))


@dataclass
class Rows:
    """What a list says: `items`, the parallel `parameters`, and nodes by what became of them."""

    items: list[Json] = field(default_factory=list)
    parameters: list[Json] = field(default_factory=list)
    queried: list[str] = field(default_factory=list)
    unavailable: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def add_local(self, found: Iterable[Found], qualified: bool) -> None:
        """Parameters of our own nodes."""
        for one in found:
            self._add(one.app.id, one.parameter.name, {**parameter_json(one.parameter)}, qualified, one.app.fqn, "")

    def add_peer(self, tree: FederatedTree, members: Members, peer: str, body: Json) -> None:
        """What a peer lists: ids are already ours, but for the list of parameters, which is in its words.

        Nodes of ours that it sees too are left out.
        """
        items = [item for item in _list(body.get("items")) if isinstance(item, dict)]
        medkit = _facts(body)
        parameters = [one for one in _list(medkit.get("parameters")) if isinstance(one, dict)]
        parallel = [one.get("name") for one in parameters] == [item.get("name") for item in items]
        alone = _text(_list(medkit.get("source_ids"))[-1:])
        for number, item in enumerate(items):
            own = _facts(item)
            source = _text([own.get("source")]) or alone
            name = item.get("name")
            if not isinstance(name, str) or not source or tree.is_local_app(source):
                continue
            parameter = dict(parameters[number]) if parallel else {}
            node = _text([_facts(parameter).get("node")]) or (tree.apps[source].fqn if source in tree.apps else "")
            behind = _text([own.get("peer")])
            self._add(source, name, parameter, members.is_aggregated, node, f"{peer}/{behind}" if behind else peer)
        for ours, theirs in (
            (self.queried, "queried_nodes"),
            (self.unavailable, "unavailable_nodes"),
            (self.failed, "failed_nodes"),
        ):
            ours.extend(node for node in _list(medkit.get(theirs)) if isinstance(node, str) and node not in ours)

    def _add(self, source: str, name: str, parameter: Json, qualified: bool, node: str, peer: str) -> None:
        item: Json = {"id": f"{source}{SEPARATOR}{name}" if qualified else name, "name": name, "type": "parameter"}
        facts: Json = {"source": source} if qualified else {}
        if peer:
            facts["peer"] = peer
        if facts:
            item["x-medkit"] = facts
        self.items.append(item)
        if parameter:
            if qualified:
                parameter["x-medkit"] = {"source": source, **({"node": node} if node else {})}
            self.parameters.append(parameter)


def _facts(wire: Json) -> Json:
    found = wire.get("x-medkit")
    return found if isinstance(found, dict) else {}


def _list(value: object) -> Sequence[object]:
    return value if isinstance(value, list) else []


def _text(values: Sequence[object]) -> str:
    return next((one for one in values if isinstance(one, str)), "")
