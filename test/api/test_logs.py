"""Logs: filters, settings, bounds, several gateways (API.md §8)."""

from __future__ import annotations

from typing import Any

import pytest

from medkit_gateway_py.aggregation.fan_out import FanOut
from medkit_gateway_py.api import gathering
from medkit_gateway_py.entities.model import App, Area, Component, Function
from medkit_gateway_py.entities.tree import EntityTree
from medkit_gateway_py.resources.logs import MAX_MESSAGE, LogLine, LogStore
from support.api import Api, gateway, merged

SENSOR, OTHER = "front.sensor", "front.sensor2"


def line(message: str, level: int = 20, logger: str = SENSOR, stamp_s: int = 1_767_225_600, **more: Any) -> LogLine:
    return LogLine(stamp_s, 123_456_789, level, logger, message, **more)


def tree() -> EntityTree:
    return EntityTree(
        areas={"zone": Area("zone", namespace="/back")},
        components={
            "host": Component("host"),
            "ecu": Component("ecu", area="zone", namespace="/back/ecu"),
            "bare": Component("bare"),
        },
        apps={
            "sensor": App("sensor", component_id="host", fqn="/front/sensor"),
            "sensor2": App("sensor2", component_id="host", fqn="/front/sensor2"),
            "motor": App("motor", component_id="ecu", fqn="/back/ecu/motor"),
        },
        functions={"seeing": Function("seeing", hosts=("sensor",))},
    )


class Robot(Api):
    def __init__(self, *lines: LogLine, buffer_size: int = 200, peers: Any = None) -> None:
        self.logs = LogStore(buffer_size)
        for one in lines:
            self.logs.add(one)
        super().__init__(gateway(merged(tree(), None, peers), logs=self.logs, enabled=peers is not None))

    def messages(self, path: str) -> list[str]:
        answer = self.get(path)
        assert answer.status_code == 200, answer.text
        return [item["message"] for item in answer.json()["items"]]


def test_a_line_says_all_that_the_node_said() -> None:
    robot = Robot(line("hot", 30, function="f", file="x.cpp", line=10), line("plain", logger="/front/sensor"))
    body = robot.get("/apps/sensor/logs").json()
    assert body["items"] == [
        {
            "id": "log_1",
            "timestamp": "2026-01-01T00:00:00.123456789Z",
            "severity": "warning",
            "message": "hot",
            "context": {"node": "front.sensor", "function": "f", "file": "x.cpp", "line": 10},
        },
        {
            "id": "log_2",
            "timestamp": "2026-01-01T00:00:00.123456789Z",
            "severity": "info",
            "message": "plain",
            "context": {"node": "/front/sensor"},
        },
    ]
    assert "x-medkit" not in body


def test_an_entity_has_the_lines_of_its_nodes() -> None:
    loggers = (SENSOR, OTHER, "back.ecu.motor", "back.ecu.driver", "back.lamp", "backyard.x", "front.sensor.child")
    robot = Robot(*(line(logger, logger=logger) for logger in loggers))
    assert robot.messages("/apps/sensor/logs") == [SENSOR]
    assert robot.messages("/components/host/logs") == [SENSOR, OTHER]
    assert robot.messages("/components/ecu/logs") == ["back.ecu.motor", "back.ecu.driver"]
    assert robot.messages("/areas/zone/logs") == ["back.ecu.motor", "back.ecu.driver", "back.lamp"]
    assert robot.messages("/functions/seeing/logs") == [SENSOR]
    assert robot.messages("/components/bare/logs") == []


@pytest.mark.parametrize(
    ("path", "facts"),
    [
        ("/components/host", {"app_count": 2, "aggregation_sources": ["host", "sensor", "sensor2"]}),
        ("/areas/zone", {"component_count": 1, "app_count": 1, "aggregation_sources": ["zone", "motor"]}),
        ("/functions/seeing", {"host_count": 1, "aggregation_sources": ["seeing", "sensor"]}),
        ("/components/bare", {}),
    ],
)
def test_lists_say_what_they_are_gathered_of(path: str, facts: dict[str, Any]) -> None:
    _, kind, entity = path.split("/")
    expected = {"entity_id": entity, "aggregation_level": kind[:-1], "aggregated": True, **facts}
    assert Robot().get(f"{path}/logs").json()["x-medkit"] == expected


LEVELS = [line(name, level) for name, level in (("d", 10), ("i", 20), ("w", 30), ("e", 40), ("f", 50))]


@pytest.mark.parametrize(
    ("stored", "asked", "expected"),
    [
        (None, None, "diwef"),
        (None, "warning", "wef"),
        ("error", None, "ef"),
        ("error", "warning", "ef"),
        ("info", "fatal", "f"),
    ],
)
def test_the_stricter_of_query_and_setting_counts(stored: str | None, asked: str | None, expected: str) -> None:
    robot = Robot(*LEVELS)
    if stored:
        assert robot.put("/apps/sensor/logs/configuration", json={"severity_filter": stored}).status_code == 204
    assert robot.messages("/apps/sensor/logs" + (f"?severity={asked}" if asked else "")) == list(expected)
    assert robot.messages("/components/host/logs") == list("diwef")


def test_the_context_is_a_part_of_the_loggers_name() -> None:
    robot = Robot(line("a"), line("b", logger=OTHER))
    assert robot.messages("/components/host/logs?context=sensor2") == ["b"]
    assert robot.messages("/components/host/logs?context=ront.s") == ["a", "b"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("severity=loud", "Invalid severity value: must be one of debug, info, warning, error, fatal"),
        (f"context={'x' * 257}", "context filter exceeds maximum length of 256"),
    ],
)
def test_wrong_filters_are_told(query: str, message: str) -> None:
    answer = Robot().get(f"/apps/sensor/logs?{query}")
    assert (answer.status_code, answer.json()["error_code"]) == (400, "invalid-parameter")
    assert answer.json()["message"] == message


def test_settings_are_an_entitys_own_and_change_one_by_one() -> None:
    robot = Robot(*LEVELS)
    path = "/apps/sensor/logs/configuration"
    assert robot.get(path).json() == {"severity_filter": "debug", "max_entries": 100}
    answer = robot.put(path, json={"max_entries": 2})
    assert (answer.status_code, answer.content) == (204, b"")
    robot.put(path, json={"severity_filter": "info", "unknown": 1})
    assert robot.get(path).json() == {"severity_filter": "info", "max_entries": 2}
    assert robot.messages("/apps/sensor/logs") == ["e", "f"]
    assert robot.get("/apps/sensor2/logs/configuration").json()["max_entries"] == 100


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"max_entries": 0}, "invalid-parameter", "max_entries must be greater than 0"),
        ({"max_entries": -1}, "invalid-parameter", "max_entries must be greater than 0"),
        ({"max_entries": 10001}, "invalid-parameter", "max_entries exceeds maximum allowed value of 10000"),
        ({"severity_filter": "loud"}, "invalid-parameter", "Invalid severity value"),
        ({"severity_filter": ""}, "invalid-parameter", "Invalid severity value"),
        ({"severity_filter": 5}, "invalid-request", "Request body validation failed"),
        ({"max_entries": True}, "invalid-request", "Request body validation failed"),
        ({"max_entries": "5"}, "invalid-request", "Request body validation failed"),
        ([], "invalid-request", "Request body validation failed"),
    ],
)
def test_wrong_settings_are_told_and_not_stored(body: Any, code: str, message: str) -> None:
    robot = Robot()
    answer = robot.put("/apps/sensor/logs/configuration", json=body)
    assert (answer.status_code, answer.json()["error_code"]) == (400, code)
    assert answer.json()["message"].startswith(message)
    assert robot.get("/apps/sensor/logs/configuration").json() == {"severity_filter": "debug", "max_entries": 100}


def test_memory_is_bounded_in_lines_loggers_and_length() -> None:
    store = LogStore(3)
    for number in range(10):
        store.add(line(str(number), logger="busy"))
    for number in range(29):
        store.add(line("x", logger=f"n{number}"))
    everything = store.items(lambda _: True, "debug", "", 10_000)
    assert [item["message"] for item in everything[:3]] == ["7", "8", "9"]
    store.add(line("y" * (MAX_MESSAGE + 1), logger="one_more"))
    everything = store.items(lambda _: True, "debug", "", 10_000)
    assert {item["context"]["node"] for item in everything} == {*(f"n{number}" for number in range(29)), "one_more"}
    assert len(everything[-1]["message"]) == MAX_MESSAGE
    assert everything[-1]["message"].endswith("yyy ... (cut)")
    numbers = [int(item["id"].removeprefix("log_")) for item in everything]
    assert numbers == sorted(set(numbers))


def test_lines_of_peers_are_merged_by_time_and_those_we_heard_too_are_listed_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs = EntityTree(
        components={"host": Component("host")}, apps={"arm": App("arm", component_id="host", fqn="/arm")}
    )
    robot = Robot(line("early", stamp_s=100), line("late", stamp_s=300), peers={"b": theirs})
    other = Robot(line("early", stamp_s=100), line("theirs", 40, stamp_s=200))
    items = [{**item, "x-medkit": {"peer": "b"}} for item in other.get("/components/host/logs").json()["items"]]

    async def gather(*_: Any) -> FanOut:
        return FanOut(items=items, failed=["c"])

    monkeypatch.setattr(gathering, "gather_entity", gather)
    body = robot.get("/components/host/logs").json()
    assert [(item["id"], item["message"]) for item in body["items"]] == [
        ("log_1", "early"),
        ("b:log_2", "theirs"),
        ("log_2", "late"),
    ]
    assert (body["x-medkit"]["partial"], body["x-medkit"]["failed_peers"]) == (True, ["c"])
    robot.put("/components/host/logs/configuration", json={"severity_filter": "warning", "max_entries": 1})
    assert robot.messages("/components/host/logs") == ["theirs"]
