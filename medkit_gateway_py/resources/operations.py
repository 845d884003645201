"""The operations of local entities: services and actions listed, found by id, called (API.md §5).

Knows nothing of HTTP or of peers: a listing covers the local members of an entity, whoever gathers the rest. What
became of the goals of actions is kept in `executions.py`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..entities.model import App, Kind
from ..entities.tree import EntityTree
from ..errors import ActionFailed, InvalidParameter, OperationNotFound, ServiceCallFailed
from ..plugins.api import OperationItem
from .executions import Execution, ExecutionHistory

if TYPE_CHECKING:
    from .plugins import Plugins

Json = dict[str, Any]

SERVICE, ACTION, PLUGIN = "service", "action", "plugin"
# As the contract spells it (API.md §5.1).
SOURCE = "ros2_medkit_gateway"


class ServiceCalls(Protocol):
    """What `ros/services.py` gives; a protocol so that this room does not import rclpy."""

    async def call(self, service: str, type_name: str, payload: object, timeout_s: float) -> Json:
        """The response as JSON; raises ServiceCallFailed."""


class TypeInfo(Protocol):
    """JSON schemas of an interface by part, None while it cannot be resolved."""

    def __call__(self, type_name: str, /) -> Json | None: ...


@dataclass(frozen=True)
class Operation:
    """A service or an action of one app. `id` is its id among the app's operations; `path` its ROS name."""

    id: str
    kind: str
    path: str
    type: str
    member: str

    @property
    def name(self) -> str:
        """The last segment of the ROS name; the id where there is none."""
        return self.path.rsplit("/", 1)[-1] or self.id

    def answers_to(self, item_id: str) -> bool:
        """Whether this id, which is no `member:item`, means this operation."""
        wanted = item_id.strip("/")
        return wanted in (self.id, self.name, self.path.lstrip("/"))


def operations_of(app: App) -> list[Operation]:
    """The operations of an app, services first (API.md §5.1).

    The id is the short name; those that share one get their whole path, without the leading slash.
    """
    found = [(SERVICE, use.name, use.type) for use in app.services]
    found += [(ACTION, use.name, use.type) for use in app.actions]
    counts = Counter(path.rsplit("/", 1)[-1] for _, path, _ in found)
    operations = []
    for kind, path, type_name in found:
        name = path.rsplit("/", 1)[-1]
        item_id = name if counts[name] == 1 else path.lstrip("/")
        operations.append(Operation(item_id, kind, path, type_name, app.id))
    return operations


def providers(tree: EntityTree, kind: Kind, entity_id: str) -> tuple[App, ...]:
    """The apps whose operations an entity has: of an area those of its own components only (API.md §5.1)."""
    if kind is not Kind.AREA:
        return tree.members(kind, entity_id)
    components = tree.components_by_area.get(entity_id, ())
    return tuple(app for component in components for app in tree.apps_by_component.get(component.id, ()))


class OperationService:
    """Lists and runs operations of local entities."""

    def __init__(
        self,
        services: ServiceCalls,
        executions: ExecutionHistory,
        type_info: TypeInfo,
        timeout_s: float,
        plugins: Plugins | None = None,
    ) -> None:
        self._plugins = plugins
        self.executions = executions
        self._services = services
        self._type_info = type_info
        self._timeout_s = timeout_s

    def operations(self, tree: EntityTree, kind: Kind, entity_id: str, local: EntityTree) -> list[Operation]:
        """The operations of all local members."""
        members = [app for app in providers(tree, kind, entity_id) if app.id in local.apps]
        found = [operation for app in members for operation in operations_of(app)]
        if self._plugins is not None:
            found += [
                Operation(item.id, PLUGIN, "", "", app.id)
                for member in members
                if (app := self._plugins.app(member.id)) is not None
                for item in app.operations
            ]
        return found

    def items(self, kind: Kind, operations: Iterable[Operation]) -> list[Json]:
        """List items with ids that are not yet qualified; `member_ids` on aggregating entities."""
        return [self.item(kind, operation) for operation in operations]

    def item(self, kind: Kind, operation: Operation) -> Json:
        """One list item (API.md §5.1)."""
        if operation.kind == PLUGIN:
            return self._plugin_item(kind, operation)
        ros2: Json = {operation.kind: operation.path, "kind": operation.kind}
        medkit: Json = {"ros2": ros2, "entity_id": operation.member, "source": SOURCE}
        if operation.type:
            ros2["type"] = operation.type
            info = self._type_info(operation.type)
            if info is not None:
                medkit["type_info"] = info
        if kind is not Kind.APP:
            medkit["member_ids"] = [operation.member]
        return {
            "id": operation.id,
            "name": operation.name,
            "proximity_proof_required": False,
            "asynchronous_execution": operation.kind == ACTION,
            "x-medkit": medkit,
        }

    async def call(self, operation: Operation, payload: object, type_name: str = "") -> Json:
        """Call a service; its response as JSON. `type_name` is the type that the client names, "" for none.

        :raises ServiceCallFailed: whatever the reason.
        """
        if operation.kind == PLUGIN and self._plugins is not None:
            if not isinstance(payload, dict):
                raise InvalidParameter("The parameters of an operation are an object", operation_id=operation.id)
            item = self._offer(operation)
            return await self._plugins.run_operation(operation.member, item, payload, self._timeout_s)
        problem = _type_problem(operation, type_name)
        if problem:
            raise ServiceCallFailed("Service call failed", details=problem)
        return await self._services.call(operation.path, operation.type or type_name, payload, self._timeout_s)

    def _offer(self, operation: Operation) -> OperationItem:
        app = self._plugins.app(operation.member) if self._plugins is not None else None
        for item in app.operations if app is not None else ():
            if item.id == operation.id:
                return item
        raise OperationNotFound("Operation not found", entity_id=operation.member, operation_id=operation.id)

    def _plugin_item(self, kind: Kind, operation: Operation) -> Json:
        offer = self._offer(operation)
        medkit: Json = {"entity_id": operation.member, "source": PLUGIN}
        info = {"request": offer.parameters_schema, "response": offer.result_schema}
        medkit["type_info"] = {name: schema for name, schema in info.items() if schema is not None}
        if kind is not Kind.APP:
            medkit["member_ids"] = [operation.member]
        return {
            "id": offer.id,
            "name": offer.name or offer.id,
            "proximity_proof_required": False,
            "asynchronous_execution": False,
            "x-medkit": medkit,
        }

    async def start(self, operation: Operation, payload: object, type_name: str = "") -> Execution:
        """Send a goal; the execution that it has become.

        :raises ActionRejected, ActionFailed: see `ros/actions.py`.
        """
        problem = _type_problem(operation, type_name)
        if problem:
            raise ActionFailed("Action execution failed", details=problem)
        return await self.executions.start(operation.path, operation.type or type_name, payload, self._timeout_s)


def _type_problem(operation: Operation, type_name: str) -> str:
    """Why a call with this type cannot work; "" when it can."""
    if not type_name and not operation.type:
        return f"the type of {operation.path} is not known yet"
    if type_name and operation.type and type_name != operation.type:
        return f"{operation.path} is of type {operation.type}, not {type_name[:200]}"
    return ""


def bare_id(item: Json) -> str:
    """The id of an item of a list without the member that may stand before it; no ROS name has a colon."""
    item_id = item.get("id")
    return item_id.rsplit(":", 1)[-1] if isinstance(item_id, str) else ""


def owner(item: Json) -> str:
    """The app that an item of an aggregated list belongs to; "" when it does not say."""
    medkit = item.get("x-medkit")
    members = medkit.get("member_ids") if isinstance(medkit, dict) else None
    return members[0] if isinstance(members, list) and members and isinstance(members[0], str) else ""


def item_path(item: Json) -> str:
    """The ROS name of an item, "" when it does not say."""
    medkit = item.get("x-medkit")
    ros2 = medkit.get("ros2") if isinstance(medkit, dict) else None
    path = (ros2.get(SERVICE) or ros2.get(ACTION)) if isinstance(ros2, dict) else None
    return path if isinstance(path, str) else ""


def item_answers_to(item: Json, item_id: str) -> bool:
    """Whether this id, which is no `member:item`, means an item of a list."""
    wanted = item_id.strip("/")
    return wanted != "" and wanted in (bare_id(item), item.get("name"), item_path(item).lstrip("/"))


def listed(items: Sequence[Json]) -> list[Json]:
    """Items of several members in one list: services first, equal names told apart as `<member>:<item>`."""
    counts = Counter(bare_id(item) for item in items)
    found = []
    for item in items:
        member = owner(item)
        if member and counts[bare_id(item)] > 1:
            item = {**item, "id": f"{member}:{bare_id(item)}"}
        found.append(item)
    return sorted(found, key=lambda item: item.get("asynchronous_execution") is True)
