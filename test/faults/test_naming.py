"""Fault codes and the nodes behind the names that sources use."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medkit_gateway_py.entities.model import GraphNode, TopicUse
from medkit_gateway_py.resources.faults.naming import (
    MAX_DESCRIPTION,
    NodeIndex,
    bounded_name,
    description,
    fault_code,
    subject_of_logger,
    subject_of_status,
)

TOPIC = "/diagnostics"


def node(fqn: str, *published: str) -> GraphNode:
    namespace, _, name = fqn.rpartition("/")
    return GraphNode(name, namespace or "/", tuple(TopicUse(one, "x/msg/Y", "publish") for one in published))


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("lidar: scan rate", "LIDAR_SCAN_RATE"),
        ("/Arm/Joint 3 (left)", "ARM_JOINT_3_LEFT"),
        ("__x__", "X"),
    ],
)
def test_a_code_is_the_name_in_upper_case_with_single_underscores(name: str, code: str) -> None:
    assert fault_code(name) == code


@given(st.lists(st.text(max_size=2000), min_size=1, max_size=3))
def test_every_name_makes_one_good_code(parts: list[str]) -> None:
    code = fault_code(*parts)
    assert re.fullmatch(r"[A-Z0-9_]{1,256}", code)
    assert fault_code(*parts) == code


@pytest.mark.parametrize(
    ("one", "other"), [("温度", "压力"), ("", ":"), ("a" * 300, "a" * 301), ("b" * 5000, "b" * 5001)]
)
def test_names_without_letters_and_long_names_still_have_codes_of_their_own(one: str, other: str) -> None:
    assert fault_code(one) != fault_code(other)
    assert len(fault_code(one)) <= 256


@given(st.text(max_size=3000))
def test_long_names_become_short_keys(name: str) -> None:
    assert len(bounded_name(name)) <= 600
    assert bounded_name(name) == name or len(name) > 512


@given(st.text(max_size=3000), st.lists(st.tuples(st.text(max_size=300), st.text(max_size=300)), max_size=40))
def test_a_description_is_bounded(text: str, values: list[tuple[str, str]]) -> None:
    assert len(description(text, values, "x")) <= MAX_DESCRIPTION


def test_a_description_has_the_message_and_the_values() -> None:
    assert description("hot", [("celsius", "99"), ("limit", "80")]) == "hot (celsius=99, limit=80)"
    assert description("", [], "motor: temp") == "motor: temp"


def of_status(index: NodeIndex, name: str, hardware_id: str = "") -> str | None:
    return index.find(subject_of_status(name, hardware_id, TOPIC))


def test_a_status_belongs_to_the_node_whose_name_it_begins_with() -> None:
    index = NodeIndex([node("/a/lidar", TOPIC), node("/a/lidar_front", TOPIC), node("/b/camera", TOPIC)])
    assert of_status(index, "lidar: rate") == "/a/lidar"
    assert of_status(index, "lidar_front rate") == "/a/lidar_front"
    assert of_status(index, "/b/camera: fps") == "/b/camera"
    assert of_status(index, "camera/fps") == "/b/camera"


def test_of_nodes_with_one_name_the_one_that_publishes_statuses_is_meant() -> None:
    index = NodeIndex([node("/a/lidar"), node("/b/lidar", TOPIC), node("/c/other", TOPIC)])
    assert of_status(index, "lidar: rate") == "/b/lidar"
    both = NodeIndex([node("/a/lidar", TOPIC), node("/b/lidar", TOPIC)])
    assert of_status(both, "lidar: rate") is None


def test_a_name_of_no_node_belongs_to_the_only_publisher() -> None:
    only = NodeIndex([node("/drivers/hub", TOPIC), node("/other", "/x")])
    assert of_status(only, "battery 1") == "/drivers/hub"
    two = NodeIndex([node("/drivers/hub", TOPIC), node("/other", TOPIC)])
    assert of_status(two, "battery 1") is None


@pytest.mark.parametrize(
    ("name", "hardware_id", "otherwise"),
    [("battery: x", "pack-7", "pack-7"), ("battery: x", " ", "battery"), ("", "", "diagnostics")],
)
def test_without_a_node_the_hardware_or_the_bare_name_stands_for_it(
    name: str, hardware_id: str, otherwise: str
) -> None:
    assert subject_of_status(name, hardware_id, TOPIC).otherwise == otherwise


@given(st.text(max_size=600), st.text(max_size=600))
def test_no_status_name_is_too_odd_to_be_looked_up(name: str, hardware_id: str) -> None:
    index = NodeIndex([node("/a/lidar", TOPIC), node("/b/camera", TOPIC)])
    assert of_status(index, name, hardware_id) in (None, "/a/lidar", "/b/camera")
    otherwise = subject_of_status(name, hardware_id, TOPIC).otherwise
    assert 1 <= len(otherwise) <= 256
    assert otherwise.isprintable()
    assert subject_of_logger(name).otherwise.isprintable()


def test_a_logger_belongs_to_its_node_and_to_the_node_above_it() -> None:
    index = NodeIndex([node("/a/b/talker"), node("/solo")])
    assert index.find(subject_of_logger("a.b.talker")) == "/a/b/talker"
    assert index.find(subject_of_logger("a.b.talker.tf.buffer")) == "/a/b/talker"
    assert index.find(subject_of_logger("solo")) == "/solo"
    assert index.find(subject_of_logger("somebody.else")) is None
    assert subject_of_logger("somebody.else").otherwise == "/somebody/else"
