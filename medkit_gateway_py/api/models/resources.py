"""Data, operations, configurations and logs (API.md §4-6, §8)."""

from __future__ import annotations

from typing import Any, Literal

from .base import Model, XMedkitCollection, XMedkitGathered, XMedkitRos2, alias


class XMedkitAggregated(XMedkitCollection):
    """Of which entities a collection is gathered."""

    entity_id: str | None = None
    aggregated: bool | None = None
    aggregation_sources: list[str] | None = None
    aggregation_level: str | None = None


class TypeInfo(Model):
    """JSON schema of a message type, and its defaults."""

    schema_: dict[str, Any] | None = alias("schema")
    default_value: Any = None


class XMedkitDataItem(Model):
    """A topic."""

    ros2: XMedkitRos2 | None = None
    type_info: TypeInfo | None = None
    member_ids: list[str] | None = None
    available: bool | None = None
    peer: str | None = None


class DataItem(Model):
    """An item of a data list; it carries no value."""

    id: str
    name: str
    category: str
    x_medkit: XMedkitDataItem | None = alias("x-medkit")


class DataList(Model):
    """Data items."""

    items: list[DataItem]
    x_medkit: XMedkitAggregated | None = alias("x-medkit")


class XMedkitDataValue(XMedkitDataItem):
    """A read. `timestamp` is nanoseconds since the epoch; `status` is `data` or `metadata_only`."""

    entity_id: str | None = None
    timestamp: int | None = None
    publisher_count: int | None = None
    subscriber_count: int | None = None
    status: str


class DataValue(Model):
    """The latest message of a topic; `value` is there when there was one."""

    id: str
    data: Any
    value: Any = None
    x_medkit: XMedkitDataValue | None = alias("x-medkit")


class DataWriteRequest(Model):
    """A message to publish once; `type` is `package/msg/Type`."""

    type: str
    data: Any


class DataWriteResult(Model):
    """What was published."""

    id: str
    data: Any
    x_medkit: XMedkitDataValue | None = alias("x-medkit")


class XMedkitOperation(Model):
    """A service or an action."""

    ros2: XMedkitRos2 | None = None
    entity_id: str | None = None
    source: str | None = None
    type_info: dict[str, Any] | None = None
    member_ids: list[str] | None = None
    available: bool | None = None
    peer: str | None = None


class OperationItem(Model):
    """An operation."""

    id: str
    name: str
    proximity_proof_required: bool
    asynchronous_execution: bool
    x_medkit: XMedkitOperation | None = alias("x-medkit")


class OperationList(Model):
    """Operations."""

    items: list[OperationItem]
    x_medkit: XMedkitGathered | None = alias("x-medkit")


class OperationDetail(Model):
    """One operation."""

    item: OperationItem


class ExecutionCreateRequest(Model):
    """Arguments; `request` and `goal` are other names of `parameters`."""

    parameters: Any = None
    request: Any = None
    goal: Any = None
    type: str | None = None


class OperationExecutionResult(Model):
    """What a service answered."""

    parameters: Any = None


class ExecutionCreateAsync(Model):
    """An action that runs."""

    id: str
    status: str


class XMedkitExecution(Model):
    """The goal behind an execution."""

    goal_id: str
    ros2_status: str | None = None
    ros2: XMedkitRos2 | None = None


class OperationExecution(Model):
    """The state of an action; `parameters` are its result, before that its last feedback."""

    status: Literal["pending", "running", "completed", "failed"]
    capability: str | None = None
    parameters: Any = None
    result: Any = None
    last_feedback: Any = None
    error: str | None = None
    x_medkit: XMedkitExecution | None = alias("x-medkit")


class ExecutionReference(Model):
    """An execution in a list."""

    id: str


class OperationExecutionList(Model):
    """Executions, newest first."""

    items: list[ExecutionReference]


class ExecutionUpdateRequest(Model):
    """What to do with a running action."""

    capability: str


class ConfigurationMetaData(Model):
    """A parameter in a list; its ROS type is in `x-medkit.parameters`."""

    id: str
    name: str
    type: str
    x_medkit: dict[str, Any] | None = alias("x-medkit")


class XMedkitParameter(Model):
    """A ROS parameter."""

    name: str
    value: Any = None
    type: str
    description: str | None = None
    read_only: bool | None = None
    x_medkit: dict[str, Any] | None = alias("x-medkit")


class XMedkitConfigurations(XMedkitGathered):
    """The parameters themselves."""

    entity_id: str
    ros2: XMedkitRos2 | None = None
    source: str | None = None
    aggregation_level: str | None = None
    is_aggregated: bool | None = None
    parameters: list[XMedkitParameter] | None = None
    source_ids: list[str] | None = None
    queried_nodes: list[str] | None = None
    unavailable_nodes: list[str] | None = None
    failed_nodes: list[str] | None = None


class ConfigurationList(Model):
    """Parameters."""

    items: list[ConfigurationMetaData]
    x_medkit: XMedkitConfigurations | None = alias("x-medkit")


class XMedkitConfiguration(Model):
    """A parameter and where it is."""

    ros2: XMedkitRos2 | None = None
    entity_id: str | None = None
    source: str | None = None
    source_app: str | None = None
    parameter: XMedkitParameter | None = None


class ConfigurationReadValue(Model):
    """The value of a parameter."""

    id: str
    data: Any
    x_medkit: XMedkitConfiguration | None = alias("x-medkit")


class ConfigurationWriteRequest(Model):
    """The value to set."""

    data: Any


class ConfigurationDeleteMultiStatus(Model):
    """A reset that did not work everywhere."""

    entity_id: str
    results: list[dict[str, Any]]


class LogContext(Model):
    """Where a line came from; `node` is the logger's name."""

    node: str
    function: str | None = None
    file: str | None = None
    line: int | None = None


class LogEntry(Model):
    """A log line."""

    id: str
    timestamp: str
    severity: str
    message: str
    context: LogContext | None = None
    x_medkit: dict[str, Any] | None = alias("x-medkit")


class LogEntryList(Model):
    """Log lines, oldest first."""

    items: list[LogEntry]
    x_medkit: XMedkitAggregated | None = alias("x-medkit")


class LogConfiguration(Model):
    """What log reads leave out."""

    severity_filter: str | None = None
    max_entries: int | None = None
