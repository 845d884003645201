"""Messages of `ros2_medkit_msgs` as the values of `model.py` (API.md §7.1).

By the names of their fields only, so that nothing here needs the package.
"""

from __future__ import annotations

from typing import Any

from .model import Fault, FaultEvent, FaultListing, FaultRecord, Snapshot

_MUTED = ("fault_code", "root_cause_code", "rule_id", "delay_ms")
_CLUSTER = ("cluster_id", "rule_id", "rule_name", "label", "representative_code", "representative_severity")


def seconds(time: Any) -> float:
    """Seconds since the epoch of a `builtin_interfaces/Time`."""
    return float(time.sec) + float(time.nanosec) * 1e-9


def fault(message: Any) -> Fault:
    """A `Fault.msg`; a `last_passed` of zero means that it never passed."""
    return Fault(
        str(message.fault_code),
        int(message.severity),
        str(message.description),
        seconds(message.first_occurred),
        seconds(message.last_occurred),
        int(message.occurrence_count),
        str(message.status),
        tuple(message.reporting_sources),
        seconds(message.last_passed) or None,
    )


def event(message: Any) -> FaultEvent:
    """A `FaultEvent.msg`."""
    return FaultEvent(
        str(message.event_type), fault(message.fault), seconds(message.timestamp), tuple(message.auto_cleared_codes)
    )


def record(response: Any) -> FaultRecord:
    """The response of GetFault, when it has the fault."""
    return FaultRecord(fault(response.fault), tuple(snapshot(one) for one in response.environment_data.snapshots))


def snapshot(message: Any) -> Snapshot:
    """A `Snapshot.msg`."""
    return Snapshot(
        str(message.type),
        str(message.name),
        str(message.data),
        str(message.topic),
        str(message.message_type),
        message.captured_at_ns / 1e9,
        str(message.bulk_data_id),
        int(message.size_bytes),
        float(message.duration_sec),
        str(message.format),
    )


def listing(response: Any) -> FaultListing:
    """The response of ListFaults."""
    return FaultListing(
        tuple(fault(one) for one in response.faults),
        tuple({name: getattr(one, name) for name in _MUTED} for one in response.muted_faults),
        int(response.muted_count),
        tuple(_cluster(one) for one in response.clusters),
        int(response.cluster_count),
    )


def _cluster(message: Any) -> dict[str, Any]:
    return {
        **{name: getattr(message, name) for name in _CLUSTER},
        "fault_codes": list(message.fault_codes),
        "count": int(message.count),
        "first_at": seconds(message.first_at),
        "last_at": seconds(message.last_at),
    }
