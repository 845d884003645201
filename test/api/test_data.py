"""Data: lists, reads, writes (API.md §4), on one gateway."""

from __future__ import annotations

from typing import Any

import pytest

from support.api import NUMBER, Api, Topics, gateway

TEMPERATURE = "/powertrain/engine/temperature"
WRITE = {"type": NUMBER, "data": {"data": 1.5}}


def robot(**options: Any) -> Api:
    return Api(gateway(topics=Topics({TEMPERATURE: {"data": 85.5}}, **options)))


@pytest.mark.parametrize(
    ("path", "aggregation"),
    [
        ("/apps/temp_sensor", {}),
        ("/components/battery", {}),
        ("/components/ecu", {"aggregation_level": "component", "aggregation_sources": ["ecu", "temp_sensor"]}),
        ("/areas/powertrain", {"aggregation_level": "area", "aggregation_sources": ["powertrain", "temp_sensor"]}),
        ("/areas/empty", {"aggregation_level": "area", "aggregation_sources": ["empty"]}),
        ("/functions/driving", {"aggregation_level": "function", "aggregation_sources": ["driving", "temp_sensor"]}),
    ],
)
def test_lists_say_what_they_are_gathered_of(path: str, aggregation: dict[str, Any]) -> None:
    body = robot().get(f"{path}/data").json()
    count = 2 if "temp_sensor" in str(aggregation) or "temp_sensor" in path else 0
    expected = {"entity_id": path.rsplit("/", 1)[1], **aggregation, "total_count": count}
    if aggregation:
        expected["aggregated"] = True
    assert body["x-medkit"] == expected
    assert len(body["items"]) == count
    assert all("value" not in item and "data" not in item for item in body["items"])


def test_a_read_gives_the_message_under_both_names() -> None:
    body = robot().get(f"/apps/temp_sensor/data{TEMPERATURE}").json()
    assert body["data"] == body["value"] == {"data": 85.5}
    assert body["x-medkit"]["status"] == "data"
    assert body["x-medkit"]["entity_id"] == "temp_sensor"
    assert isinstance(body["x-medkit"]["timestamp"], int)
    assert body["x-medkit"]["ros2"] == {"topic": TEMPERATURE, "type": NUMBER}


@pytest.mark.parametrize("topic", ["nobody/has/this", "rosout", "a:b"])
def test_a_topic_without_a_message_is_200_metadata_only(topic: str) -> None:
    answer = robot().get(f"/apps/temp_sensor/data/{topic}")
    assert answer.status_code == 200
    assert (answer.json()["data"], answer.json()["x-medkit"]["status"]) == ({}, "metadata_only")
    assert "value" not in answer.json()


def test_not_a_number_is_null_and_never_nan() -> None:
    topics = Topics({TEMPERATURE: {"data": float("nan"), "more": [float("inf"), -float("inf")]}})
    answer = Api(gateway(topics=topics)).get(f"/apps/temp_sensor/data{TEMPERATURE}")
    assert b"NaN" not in answer.content
    assert b"Infinity" not in answer.content
    assert answer.json()["data"] == {"data": None, "more": [None, None]}


def test_too_many_cold_reads_are_503_that_says_which_topic() -> None:
    answer = robot(full=True).get(f"/apps/temp_sensor/data{TEMPERATURE}")
    assert answer.status_code == 503
    assert answer.json()["error_code"] == "vendor-error"
    assert answer.json()["vendor_code"] == "x-medkit-cold-wait-cap-exceeded"
    assert answer.json()["parameters"] == {
        "topic": TEMPERATURE,
        "cold_wait_cap": 4,
        "entity_id": "temp_sensor",
        "topic_name": TEMPERATURE,
    }


@pytest.mark.parametrize("entity", ["components/ecu", "areas/powertrain", "functions/driving"])
def test_a_member_and_its_topic_name_one_item(entity: str) -> None:
    answer = robot().get(f"/{entity}/data/temp_sensor:{TEMPERATURE}")
    assert answer.status_code == 200
    assert answer.json()["id"] == f"temp_sensor:{TEMPERATURE}"
    assert answer.json()["data"] == {"data": 85.5}
    assert answer.json()["x-medkit"]["entity_id"] == entity.split("/")[1]


@pytest.mark.parametrize(
    ("data_id", "message"),
    [
        ("nobody:/rosout", "Member not found in entity"),
        ("drifter:/rosout", "Member not found in entity"),
        (":/rosout", "Member not found in entity"),
        ("temp_sensor:/other", "Data item not provided by member"),
    ],
)
def test_a_member_that_is_none_or_has_it_not_is_404(data_id: str, message: str) -> None:
    for method in ("GET", "PUT"):
        answer = robot().request(method, f"/components/ecu/data/{data_id}", json=WRITE)
        assert (answer.status_code, answer.json()["message"]) == (404, message)
        assert answer.json()["error_code"] == "resource-not-found"


@pytest.mark.parametrize("body", [WRITE, {"value": WRITE}, {**WRITE, "unknown": 1}])
def test_a_write_publishes_once_and_says_so(body: dict[str, Any]) -> None:
    topics = Topics()
    answer = Api(gateway(topics=topics)).put("/apps/temp_sensor/data/a/command", json=body)
    assert answer.status_code == 200
    assert answer.json() == {
        "id": "/a/command",
        "data": {"data": 1.5},
        "x-medkit": {
            "ros2": {"topic": "/a/command", "type": NUMBER},
            "entity_id": "temp_sensor",
            "status": "published",
        },
    }
    assert topics.published == [("/a/command", NUMBER, {"data": 1.5})]


BAD_WRITES: list[tuple[bytes, str, str]] = [
    (b"", "invalid-request", "type: missing required field; data: missing required field"),
    (b"{}", "invalid-request", "type: missing required field; data: missing required field"),
    (b'{"type":"std_msgs/msg/Float32"}', "invalid-request", "data: missing required field"),
    (b'{"type":null,"data":{}}', "invalid-request", "type: missing required field"),
    (b'{"type":1,"data":{}}', "invalid-request", "type: expected a string"),
    (b"{", "invalid-request", "Request body is not valid JSON"),
    (b"[]", "invalid-request", "Request body is not valid JSON"),
    (b"nonsense", "invalid-request", "Request body is not valid JSON"),
    (b'{"type":"a/msg/B","data":NaN}', "invalid-request", "Request body is not valid JSON"),
    (b"\xff\xfe", "invalid-request", "Request body is not valid JSON"),
    (b"[" * 100_000, "invalid-request", "Request body is not valid JSON"),
    (b'{"type":"Float32","data":{}}', "invalid-parameter", "Invalid message type format"),
    (b'{"type":"std_msgs/Float32","data":{}}', "invalid-parameter", "Invalid message type format"),
    (b'{"type":"std_msgs/srv/Float32","data":{}}', "invalid-parameter", "Invalid message type format"),
    (b'{"type":"/msg/Float32","data":{}}', "invalid-parameter", "Invalid message type format"),
    (b'{"type":"std_msgs/msg/","data":{}}', "invalid-parameter", "Invalid message type format"),
    (b'{"type":"a/msg/b/c","data":{}}', "invalid-parameter", "Invalid message type format"),
    (b'{"type":"no_msgs/msg/Nothing","data":{}}', "invalid-parameter", "Failed to publish to topic"),
    (b'{"type":"std_msgs/msg/Float32","data":{"data":"x"}}', "invalid-parameter", "Failed to publish to topic"),
    (b'{"type":"std_msgs/msg/Float32","data":[1]}', "invalid-parameter", "Failed to publish to topic"),
]


@pytest.mark.parametrize(("body", "code", "message"), BAD_WRITES)
def test_a_bad_write_is_400_and_publishes_nothing(body: bytes, code: str, message: str) -> None:
    topics = Topics()
    answer = Api(gateway(topics=topics)).put("/apps/temp_sensor/data/x", content=body)
    assert answer.status_code == 400
    assert (answer.json()["error_code"], answer.json()["message"]) == (code, message)
    assert topics.published == []


def test_a_payload_that_does_not_fit_names_the_field() -> None:
    body = {"type": NUMBER, "data": {"data": "x"}}
    parameters = robot().put("/apps/temp_sensor/data/x", json=body).json()["parameters"]
    assert parameters == {
        "details": "data: expected a number",
        "field": "data",
        "type": NUMBER,
        "entity_id": "temp_sensor",
        "topic_name": "/x",
    }


def test_the_entity_is_looked_up_before_the_body_is_read() -> None:
    assert robot().put("/apps/ghost/data/x", content=b"{").status_code == 404
    assert robot().put("/apps/ecu/data/x", content=b"{").json()["error_code"] == "invalid-parameter"


def test_a_bug_in_writing_is_500_and_not_taken_for_a_bad_payload() -> None:
    assert robot(broken=True).put("/apps/temp_sensor/data/x", json=WRITE).status_code == 500
