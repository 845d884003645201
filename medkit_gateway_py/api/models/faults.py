"""Models of faults (API.md §7). Descriptions of answers only."""

from __future__ import annotations

from typing import Any, Literal

from .base import Model, XMedkitGathered, alias


class FaultListItem(Model):
    """A fault; times are seconds since the epoch."""

    fault_code: str
    severity: int
    severity_label: str
    description: str
    first_occurred: float
    last_occurred: float
    last_passed: float | None = None
    occurrence_count: int
    status: str
    reporting_sources: list[str]
    x_medkit: dict[str, Any] | None = alias("x-medkit")


class XMedkitFaults(XMedkitGathered):
    """Counts of faults."""

    count: int
    muted_count: int | None = None
    cluster_count: int | None = None
    entity_id: str | None = None
    source_id: str | None = None
    aggregation_level: str | None = None
    aggregated: bool | None = None
    aggregation_sources: list[str] | None = None
    app_count: int | None = None
    host_count: int | None = None
    component_count: int | None = None
    muted_faults: list[dict[str, Any]] | None = None
    clusters: list[dict[str, Any]] | None = None


class FaultList(Model):
    """Faults."""

    items: list[FaultListItem]
    x_medkit: XMedkitFaults | None = alias("x-medkit")


class FaultFlags(Model):
    """The state of a fault in the words of the standard; flags are "0" or "1"."""

    aggregatedStatus: Literal["active", "passive", "cleared"]
    testFailed: Literal["0", "1"]
    confirmedDTC: Literal["0", "1"]
    pendingDTC: Literal["0", "1"]


class FaultDetailItem(Model):
    """The fault of a detail."""

    code: str
    fault_name: str
    severity: int
    status: FaultFlags


class XMedkitSnapshot(Model):
    """Where a snapshot came from; a freeze frame has `full_data`, or `parse_error` when its data is no JSON."""

    captured_at: str
    topic: str | None = None
    message_type: str | None = None
    full_data: Any = None
    parse_error: str | None = None


class FaultSnapshot(Model):
    """What was recorded when a fault was confirmed: a `freeze_frame` with `data`, or a `rosbag` with its link."""

    type: str
    name: str
    data: Any = None
    bulk_data_uri: str | None = None
    size_bytes: int | None = None
    duration_sec: float | None = None
    format: str | None = None
    x_medkit: XMedkitSnapshot | None = alias("x-medkit")


class ExtendedDataRecords(Model):
    """First and last occurrence of a fault, in UTC."""

    first_occurrence: str
    last_occurrence: str


class EnvironmentData(Model):
    """The circumstances of a fault."""

    extended_data_records: ExtendedDataRecords
    snapshots: list[FaultSnapshot]


class XMedkitFault(Model):
    """What lists tell of a fault, and the standard's detail does not."""

    occurrence_count: int
    reporting_sources: list[str]
    severity_label: str
    status_raw: str


class FaultDetail(Model):
    """One fault with what was recorded around it."""

    item: FaultDetailItem
    environment_data: EnvironmentData
    x_medkit: XMedkitFault | None = alias("x-medkit")
