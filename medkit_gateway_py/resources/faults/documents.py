"""Faults as JSON: items of lists and of events, and the detail of one (API.md §7.2, §7.5). Pure."""

from __future__ import annotations

import math
import time
from typing import Any

import orjson

from ...entities.model import Kind
from .model import CONFIRMED, PREFAILED, PREPASSED, SEVERITY_LABELS, Fault, FaultRecord, Snapshot

Json = dict[str, Any]

ROSBAG = "rosbag"
_YEAR_9999 = 253_402_300_799.0
# aggregatedStatus, testFailed, confirmedDTC, pendingDTC
_FLAGS = {
    CONFIRMED: ("active", "1", "1", "0"),
    PREFAILED: ("passive", "1", "0", "1"),
    PREPASSED: ("passive", "0", "0", "1"),
}
_OVER = ("cleared", "0", "0", "0")
# The one value that people look for in a message of this type.
_PRIMARY = {
    "sensor_msgs/msg/Temperature": "temperature",
    "sensor_msgs/msg/BatteryState": "percentage",
    "sensor_msgs/msg/FluidPressure": "fluid_pressure",
    "sensor_msgs/msg/Range": "range",
    "geometry_msgs/msg/Twist": "linear",
    "nav_msgs/msg/Odometry": "pose",
}


def severity_label(severity: int) -> str:
    """INFO, WARN, ERROR, CRITICAL; UNKNOWN for what is none."""
    return SEVERITY_LABELS[severity] if 0 <= severity < len(SEVERITY_LABELS) else "UNKNOWN"


def list_item(fault: Fault) -> Json:
    """A fault as lists and events show it; times are seconds since the epoch."""
    item: Json = {
        "fault_code": fault.fault_code,
        "severity": fault.severity,
        "severity_label": severity_label(fault.severity),
        "description": fault.description,
        "first_occurred": fault.first_occurred,
        "last_occurred": fault.last_occurred,
        "occurrence_count": fault.occurrence_count,
        "status": fault.status,
        "reporting_sources": list(fault.reporting_sources),
    }
    if fault.last_passed is not None:
        item["last_passed"] = fault.last_passed
    return item


def detail(record: FaultRecord, kind: Kind, entity_id: str) -> Json:
    """One fault of an entity, with what was recorded when it was confirmed."""
    fault = record.fault
    aggregated, failed, confirmed, pending = _FLAGS.get(fault.status, _OVER)
    return {
        "item": {
            "code": fault.fault_code,
            "fault_name": fault.description,
            "severity": fault.severity,
            "status": {
                "aggregatedStatus": aggregated,
                "testFailed": failed,
                "confirmedDTC": confirmed,
                "pendingDTC": pending,
            },
        },
        "environment_data": {
            "extended_data_records": {
                "first_occurrence": iso(fault.first_occurred),
                "last_occurrence": iso(fault.last_occurred),
            },
            "snapshots": [snapshot_item(one, kind, entity_id) for one in record.snapshots],
        },
        "x-medkit": {
            "occurrence_count": fault.occurrence_count,
            "reporting_sources": list(fault.reporting_sources),
            "severity_label": severity_label(fault.severity),
            "status_raw": fault.status,
        },
    }


def snapshot_item(snapshot: Snapshot, kind: Kind, entity_id: str) -> Json:
    """A freeze frame with its primary value, or the link to a recording."""
    captured: Json = {"captured_at": iso(snapshot.captured_at)}
    if snapshot.type == ROSBAG:
        return {
            "type": ROSBAG,
            "name": snapshot.name,
            # Without /api/v1: clients put their own base in front (API.md §7.5).
            "bulk_data_uri": f"/{kind.value}/{entity_id}/bulk-data/rosbags/{snapshot.bulk_data_id}",
            "size_bytes": snapshot.size_bytes,
            "duration_sec": snapshot.duration_sec,
            "format": snapshot.format,
            "x-medkit": captured,
        }
    medkit: Json = {"topic": snapshot.topic, "message_type": snapshot.message_type, **captured}
    try:
        value = orjson.loads(snapshot.data)
    except ValueError as error:
        medkit["parse_error"] = str(error)
        return {"type": snapshot.type, "name": snapshot.name, "data": snapshot.data, "x-medkit": medkit}
    medkit["full_data"] = value
    primary = primary_value(value, snapshot.message_type)
    return {"type": snapshot.type, "name": snapshot.name, "data": primary, "x-medkit": medkit}


def primary_value(message: Any, message_type: str) -> Any:
    """The value that a message of this type is about; the whole message where there is none (API.md §7.5)."""
    name = "data" if message_type.startswith("std_msgs/msg/") else _PRIMARY.get(message_type)
    return message[name] if name is not None and isinstance(message, dict) and name in message else message


def iso(seconds: float) -> str:
    """UTC with milliseconds; what no calendar knows becomes its first or last moment."""
    bounded = min(max(seconds, 0.0), _YEAR_9999) if math.isfinite(seconds) else 0.0
    whole, milliseconds = divmod(round(bounded * 1000), 1000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{milliseconds:03d}Z"
