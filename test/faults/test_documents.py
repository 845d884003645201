"""Faults as JSON (API.md §7.2, §7.5)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from medkit_gateway_py.entities.model import Kind
from medkit_gateway_py.resources.faults.documents import detail, iso, list_item, severity_label, snapshot_item
from medkit_gateway_py.resources.faults.model import CONFIRMED, CRITICAL, STATUSES, Fault, FaultRecord, Snapshot

FAULT = Fault("HOT", CRITICAL, "it is hot", 1_767_225_600.0, 1_767_225_601.25, 4, CONFIRMED, ("/a/b", "/c"))


def test_an_item_of_a_list() -> None:
    item = {
        "fault_code": "HOT",
        "severity": 3,
        "severity_label": "CRITICAL",
        "description": "it is hot",
        "first_occurred": 1_767_225_600.0,
        "last_occurred": 1_767_225_601.25,
        "occurrence_count": 4,
        "status": "CONFIRMED",
        "reporting_sources": ["/a/b", "/c"],
    }
    assert list_item(FAULT) == item
    assert list_item(replace(FAULT, last_passed=7.5)) == {**item, "last_passed": 7.5}


def test_labels_of_severities() -> None:
    assert [severity_label(one) for one in (-1, 0, 1, 2, 3, 4)] == [
        "UNKNOWN", "INFO", "WARN", "ERROR", "CRITICAL", "UNKNOWN",
    ]  # fmt: skip


def test_a_detail() -> None:
    assert detail(FaultRecord(FAULT), Kind.APP, "motor") == {
        "item": {
            "code": "HOT",
            "fault_name": "it is hot",
            "severity": 3,
            "status": {"aggregatedStatus": "active", "testFailed": "1", "confirmedDTC": "1", "pendingDTC": "0"},
        },
        "environment_data": {
            "extended_data_records": {
                "first_occurrence": "2026-01-01T00:00:00.000Z",
                "last_occurrence": "2026-01-01T00:00:01.250Z",
            },
            "snapshots": [],
        },
        "x-medkit": {
            "occurrence_count": 4,
            "reporting_sources": ["/a/b", "/c"],
            "severity_label": "CRITICAL",
            "status_raw": "CONFIRMED",
        },
    }


def test_flags_by_status() -> None:
    flags = {}
    for status in (*STATUSES, "STRANGE"):
        found = detail(FaultRecord(replace(FAULT, status=status)), Kind.APP, "x")["item"]["status"]
        flags[status] = " ".join(
            found[name] for name in ("aggregatedStatus", "testFailed", "confirmedDTC", "pendingDTC")
        )
    assert flags == {
        "PREFAILED": "passive 1 0 1",
        "PREPASSED": "passive 0 0 1",
        "CONFIRMED": "active 1 1 0",
        "HEALED": "cleared 0 0 0",
        "CLEARED": "cleared 0 0 0",
        "STRANGE": "cleared 0 0 0",
    }


@pytest.mark.parametrize(
    ("message_type", "message", "data"),
    [
        ("std_msgs/msg/Float32", {"data": 1.5}, 1.5),
        ("sensor_msgs/msg/Temperature", {"temperature": 85.5, "variance": 0.0}, 85.5),
        ("sensor_msgs/msg/BatteryState", {"percentage": 0.5}, 0.5),
        ("sensor_msgs/msg/FluidPressure", {"fluid_pressure": 1.0}, 1.0),
        ("sensor_msgs/msg/Range", {"range": 2.0}, 2.0),
        ("geometry_msgs/msg/Twist", {"linear": {"x": 1.0}, "angular": {}}, {"x": 1.0}),
        ("nav_msgs/msg/Odometry", {"pose": {"pose": {}}}, {"pose": {}}),
        ("geometry_msgs/msg/Point", {"x": 1.0}, {"x": 1.0}),
        ("std_msgs/msg/Empty", {}, {}),
        ("", {"/node": {"rate": 5}}, {"/node": {"rate": 5}}),
        ("std_msgs/msg/Float32", [1, 2], [1, 2]),
    ],
)
def test_a_freeze_frame_shows_the_value_that_its_type_is_about(message_type: str, message: Any, data: Any) -> None:
    snapshot = Snapshot("freeze_frame", "t", json.dumps(message), "/t", message_type, 1_767_225_600.0)
    assert snapshot_item(snapshot, Kind.APP, "x") == {
        "type": "freeze_frame",
        "name": "t",
        "data": data,
        "x-medkit": {
            "topic": "/t",
            "message_type": message_type,
            "full_data": message,
            "captured_at": "2026-01-01T00:00:00.000Z",
        },
    }


def test_a_freeze_frame_that_is_no_json_comes_as_it_is() -> None:
    item = snapshot_item(Snapshot("freeze_frame", "t", "{bad", "/t", "std_msgs/msg/Float32"), Kind.APP, "x")
    assert item["data"] == "{bad"
    assert item["x-medkit"].pop("parse_error")
    assert "full_data" not in item["x-medkit"]


def test_a_recording_is_a_link_without_the_prefix() -> None:
    snapshot = Snapshot("rosbag", "bag", bulk_data_id="fault_1", size_bytes=9, duration_sec=0.5, format="mcap")
    assert snapshot_item(snapshot, Kind.COMPONENT, "arm") == {
        "type": "rosbag",
        "name": "bag",
        "bulk_data_uri": "/components/arm/bulk-data/rosbags/fault_1",
        "size_bytes": 9,
        "duration_sec": 0.5,
        "format": "mcap",
        "x-medkit": {"captured_at": "1970-01-01T00:00:00.000Z"},
    }


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (1.9996, "1970-01-01T00:00:02.000Z"),
        (-5.0, "1970-01-01T00:00:00.000Z"),
        (1e300, "9999-12-31T23:59:59.000Z"),
        (float("nan"), "1970-01-01T00:00:00.000Z"),
    ],
)
def test_times_that_no_calendar_knows_are_no_error(seconds: float, text: str) -> None:
    assert iso(seconds) == text
