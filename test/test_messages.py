"""Messages to JSON and back: strict, total, and nothing is published as anything else than what was written."""

from __future__ import annotations

import base64
import importlib
import json
import math
import pkgutil
import struct
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy")

from rclpy.serialization import deserialize_message, serialize_message
from rosidl_parser.definition import (
    AbstractGenericString,
    AbstractWString,
    Array,
    BasicType,
    BoundedSequence,
    NamespacedType,
)

from medkit_gateway_py.ros import messages
from medkit_gateway_py.ros.messages import FieldError, UnknownType, default_value, from_json, load, schema, to_json

pytestmark = pytest.mark.ros

PACKAGES = [
    "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "lifecycle_msgs", "nav_msgs", "rcl_interfaces",
    "sensor_msgs", "std_msgs", "std_srvs", "test_msgs",
]  # fmt: skip


def _installed() -> list[str]:
    """Every message, and the request and response of every service, of the packages that are installed."""
    names = []
    for package in PACKAGES:
        for group in ("msg", "srv"):
            try:
                module = importlib.import_module(f"{package}.{group}")
            except ImportError:
                continue
            for name, found in sorted(vars(module).items()):
                if isinstance(found, type) and group == "msg":
                    names.append(f"{package}/msg/{name}")
                elif isinstance(found, type) and hasattr(found, "Request"):
                    names += [f"{package}/srv/{name}_Request", f"{package}/srv/{name}_Response"]
    return names


TYPES = _installed()


def values(slot_type: Any) -> st.SearchStrategy[Any]:
    """JSON values that fit a slot type."""
    if isinstance(slot_type, BasicType):
        name = slot_type.typename
        if name == "boolean":
            return st.booleans()
        if name in ("float", "double"):
            width = 32 if name == "float" else 64
            return st.none() | st.floats(allow_nan=False, allow_infinity=False, width=width)
        return st.integers(*messages._INTEGER_RANGES[name])
    if isinstance(slot_type, AbstractGenericString):
        wide = isinstance(slot_type, AbstractWString)
        alphabet = st.characters(exclude_categories=("Cs",), exclude_characters="" if wide else "\0")
        limit = slot_type.maximum_size if slot_type.has_maximum_size() else 12
        return st.text(alphabet, max_size=min(limit, 12) // 4)
    if isinstance(slot_type, NamespacedType):
        return objects(load("/".join(slot_type.namespaced_name())))
    if isinstance(slot_type, Array):
        low = high = slot_type.size
    else:
        low, high = 0, min(slot_type.maximum_size, 3) if isinstance(slot_type, BoundedSequence) else 3
    return st.lists(values(slot_type.value_type), min_size=low, max_size=high)


@cache
def objects(message_class: Any) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects that fit a message, with all of its fields."""
    names = message_class.get_fields_and_field_types()
    return st.fixed_dictionaries(
        {name: values(slot_type) for name, slot_type in zip(names, message_class.SLOT_TYPES, strict=True)}
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800") | st.just(10**400),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("type_name", TYPES)
def test_every_installed_type_has_a_default_value_a_schema_and_comes_back(type_name: str) -> None:
    message_class = load(type_name)
    default = default_value(message_class)
    assert json.loads(json.dumps(default, allow_nan=False)) == default
    assert from_json(message_class, default) == from_json(message_class, to_json(from_json(message_class, default)))
    described = schema(message_class)
    assert set(described) == {"type", "properties"}
    assert set(described["properties"]) == set(default)


@settings(max_examples=300)
@given(data=st.data())
def test_what_fits_survives_the_way_through_ros(data: st.DataObject) -> None:
    message_class = load(data.draw(st.sampled_from(TYPES)))
    value = data.draw(objects(message_class))
    message = from_json(message_class, value)
    received = deserialize_message(serialize_message(message), message_class)
    assert to_json(received) == value


@settings(max_examples=500)
@given(data=st.data())
def test_whatever_comes_gives_a_message_or_a_field_error(data: st.DataObject) -> None:
    message_class = load(data.draw(st.sampled_from(TYPES)))
    value = data.draw(objects(message_class))
    if value and data.draw(st.integers(0, 9)):
        value[data.draw(st.sampled_from(sorted(value)))] = data.draw(JSON)
    else:
        value = data.draw(JSON)
    try:
        message = from_json(message_class, value)
    except FieldError as refused:
        json.dumps({"path": refused.path, "reason": refused.reason}, ensure_ascii=False).encode("utf-8")
    else:
        received = deserialize_message(serialize_message(message), message_class)
        json.dumps(to_json(received), allow_nan=False).encode("utf-8")


def test_an_int_for_a_float_is_the_number_and_not_its_bits() -> None:
    float64 = load("std_msgs/msg/Float64")
    message = from_json(float64, {"data": 5})
    assert isinstance(message.data, float)
    assert deserialize_message(serialize_message(message), float64).data == 5.0


@pytest.mark.parametrize(
    ("type_name", "value", "path", "reason"),
    [
        ("std_msgs/msg/Float64", {"data": "5"}, "data", "expected a number, got a string"),
        ("std_msgs/msg/Float64", {"data": True}, "data", "expected a number, got a boolean"),
        ("std_msgs/msg/Float64", {"data": 10**400}, "data", "too large"),
        ("std_msgs/msg/Float32", {"data": 1e300}, "data", "too large for float32"),
        ("std_msgs/msg/Float32", {"datum": 1}, "datum", "unknown field; std_msgs/Float32 has data"),
        ("std_msgs/msg/Float32", [1], "", "expected an object"),
        ("std_msgs/msg/Float32", None, "", "expected an object"),
        ("std_msgs/msg/Empty", {"data": 1}, "data", "has no fields"),
        ("std_msgs/msg/Bool", {"data": 1}, "data", "expected a boolean"),
        ("std_msgs/msg/UInt8", {"data": 300}, "data", "out of range for uint8: 0 to 255"),
        ("std_msgs/msg/UInt8", {"data": -1}, "data", "out of range"),
        ("std_msgs/msg/UInt8", {"data": 1.5}, "data", "expected an integer"),
        ("std_msgs/msg/UInt8", {"data": "1"}, "data", "expected an integer"),
        ("std_msgs/msg/UInt8", {"data": True}, "data", "expected an integer"),
        ("std_msgs/msg/UInt8", {"data": None}, "data", "expected an integer"),
        ("std_msgs/msg/UInt8", {"data": math.inf}, "data", "expected an integer"),
        ("std_msgs/msg/Int64", {"data": "9223372036854775808"}, "data", "out of range"),
        ("std_msgs/msg/Int64", {"data": "0x10"}, "data", "expected an integer"),
        ("std_msgs/msg/Int64", {"data": "٣"}, "data", "expected an integer"),
        ("std_msgs/msg/String", {"data": 5}, "data", "expected a string"),
        ("std_msgs/msg/String", {"data": None}, "data", "expected a string, got null"),
        ("std_msgs/msg/String", {"data": "\ud800"}, "data", "surrogate"),
        ("std_msgs/msg/String", {"data": "cut\0off"}, "data", "NUL"),
        ("std_msgs/msg/Header", {"stamp": {"sec": 2**31}}, "stamp.sec", "out of range"),
        ("std_msgs/msg/Header", {"stamp": 5}, "stamp", "expected an object"),
        ("sensor_msgs/msg/LaserScan", {"ranges": [1, 2, "x"]}, "ranges[2]", "expected a number"),
        ("sensor_msgs/msg/LaserScan", {"ranges": "12"}, "ranges", "expected an array, got a string"),
        ("diagnostic_msgs/msg/DiagnosticArray", {"status": [{}, {"values": [{"key": 1}]}]}, "status[1].values[0].key",
         "expected a string"),
        ("sensor_msgs/msg/Imu", {"orientation_covariance": [0.0] * 8}, "orientation_covariance",
         "expected 9 elements, got 8"),
        ("sensor_msgs/msg/CompressedImage", {"data": {"base64": "?"}}, "data", "base64"),
        ("sensor_msgs/msg/CompressedImage", {"data": {"base64": 5}}, "data", "base64"),
        ("sensor_msgs/msg/CompressedImage", {"data": {"base64": "", "x": 1}}, "data", "base64"),
        ("sensor_msgs/msg/CompressedImage", {"data": [1, 256]}, "data[1]", "out of range for uint8"),
        ("sensor_msgs/msg/CompressedImage", {"data": [1, True]}, "data[1]", "expected an integer"),
        ("sensor_msgs/msg/LaserScan", {"ranges": {"base64": "AAAA"}}, "ranges", "expected an array, got an object"),
        ("test_msgs/msg/BoundedSequences", {"bool_values": [True] * 4}, "bool_values", "expected at most 3 elements"),
        ("test_msgs/msg/Strings", {"bounded_string_value": "x" * 23}, "bounded_string_value", "longer than 22"),
        ("test_msgs/msg/Strings", {"bounded_string_value": "ä" * 12}, "bounded_string_value", "longer than 22"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_the_path_of_the_field(
    type_name: str, value: Any, path: str, reason: str
) -> None:
    with pytest.raises(FieldError) as told:
        from_json(load(type_name), value)
    assert told.value.path == path
    assert reason in told.value.reason


@pytest.mark.parametrize(
    ("type_name", "given_value", "wanted"),
    [
        ("std_msgs/msg/UInt8", {"data": 1.0}, {"data": 1}),
        ("std_msgs/msg/Int64", {"data": "-9223372036854775808"}, {"data": -(2**63)}),
        ("std_msgs/msg/UInt64", {"data": "18446744073709551615"}, {"data": 2**64 - 1}),
        ("std_msgs/msg/Float64", {"data": None}, {"data": None}),
        ("std_msgs/msg/Float64", {"data": math.inf}, {"data": None}),
        ("std_msgs/msg/Float64", {"data": -0.0}, {"data": 0.0}),
        ("std_msgs/msg/Byte", {"data": 255}, {"data": 255}),
        ("std_msgs/msg/Char", {"data": 7}, {"data": 7}),
        ("std_msgs/msg/String", {"data": "123 ja é 😀"}, {"data": "123 ja é 😀"}),
        ("std_msgs/msg/Float64", {}, {"data": 0.0}),
        ("std_msgs/msg/Empty", {}, {}),
    ],
)
def test_what_is_accepted_beyond_the_plain_type(type_name: str, given_value: Any, wanted: Any) -> None:
    message_class = load(type_name)
    message = deserialize_message(serialize_message(from_json(message_class, given_value)), message_class)
    assert to_json(message) == wanted
    assert [type(item) for item in to_json(message).values()] == [type(item) for item in wanted.values()]


def test_bytes_come_as_plain_arrays_and_go_in_as_arrays_or_base64() -> None:
    compressed = load("sensor_msgs/msg/CompressedImage")
    message = from_json(compressed, {"data": {"base64": base64.b64encode(b"\x00\x01\xff").decode()}})
    assert to_json(message)["data"] == [0, 1, 255]
    assert from_json(compressed, {"data": [0, 1, 255]}) == message
    octets = load("test_msgs/msg/UnboundedSequences")
    assert to_json(from_json(octets, {"byte_values": [0, 255]}))["byte_values"] == [0, 255]


def test_no_nan_or_infinity_leaves_however_deep() -> None:
    scan = load("sensor_msgs/msg/LaserScan")(range_max=math.inf, ranges=[1.0, math.inf, math.nan, -math.inf])
    assert to_json(scan)["range_max"] is None
    assert to_json(scan)["ranges"] == [1.0, None, None, None]
    fix = load("sensor_msgs/msg/NavSatFix")(latitude=math.nan)
    fix.position_covariance[3] = math.nan
    assert to_json(fix)["latitude"] is None
    assert to_json(fix)["position_covariance"] == [0.0, 0.0, 0.0, None, 0.0, 0.0, 0.0, 0.0, 0.0]
    path = load("nav_msgs/msg/Path")(poses=[load("geometry_msgs/msg/PoseStamped")()])
    path.poses[0].pose.position.x = math.nan
    assert to_json(path)["poses"][0]["pose"]["position"]["x"] is None
    large = load("std_msgs/msg/Float64MultiArray")(data=[1.7e308, 1.7e308])
    assert to_json(large)["data"] == [1.7e308, 1.7e308], "finite numbers whose sum is not"


def test_a_string_that_is_not_utf8_on_the_wire_can_still_be_shown() -> None:
    string = load("std_msgs/msg/String")
    wire = b"\x00\x01\x00\x00" + struct.pack("<I", 4) + b"a\xff\xfe\x00"
    json.dumps(to_json(deserialize_message(wire, string))).encode("utf-8")


def test_a_deeply_nested_payload_is_refused_like_any_other() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(FieldError, match="expected a number, got an array"):
        from_json(load("std_msgs/msg/Float64"), {"data": deep})


def test_the_schema_is_that_of_the_contract() -> None:
    assert schema(load("std_msgs/msg/Float64")) == {"type": "object", "properties": {"data": {"type": "number"}}}
    temperature = schema(load("sensor_msgs/msg/Temperature"))
    assert temperature["properties"]["header"]["properties"]["stamp"]["properties"]["sec"] == {"type": "integer"}
    arrays = schema(load("test_msgs/msg/Arrays"))["properties"]
    assert arrays["float64_values"] == {"type": "array", "items": {"type": "number"}, "minItems": 3, "maxItems": 3}
    bounded = schema(load("test_msgs/msg/BoundedSequences"))["properties"]
    assert bounded["bool_values"] == {"type": "array", "items": {"type": "boolean"}, "maxItems": 3}
    strings = schema(load("test_msgs/msg/Strings"))["properties"]
    assert strings["string_value"] == {"type": "string"}


@pytest.mark.parametrize(
    "name",
    ["", "x", "std_msgs/String", "std_msgs/msg/", "/msg/String", "std_msgs/msg/String/x", "std_msgs/srv/String",
     "std_msgs/msg/string", "no_such_msgs/msg/A", "os/path/X", "os/msg/X", "std_msgs/msg/importlib", "../msg/X",
     "std_msgs/msg/_string", "std_msgs.msg/msg/String", "std_srvs/srv/Trigger_Nope", "std_msgs/msg/String\n"],
)  # fmt: skip
def test_what_is_no_installed_interface_is_told(name: str) -> None:
    with pytest.raises(UnknownType):
        load(name)


def test_a_name_in_a_request_does_not_import_any_module_that_is_called_so() -> None:
    candidates = [m.name for m in pkgutil.iter_modules() if m.name in ("antigravity", "turtle", "idlelib", "this")]
    assert candidates
    import sys

    for name in candidates:
        sys.modules.pop(name, None)
        with pytest.raises(UnknownType):
            load(f"{name}/msg/X")
        assert name not in sys.modules


def test_the_parts_of_services_and_actions_can_be_loaded_by_name() -> None:
    assert load("std_srvs/srv/Trigger_Request") is load("std_srvs/srv/Trigger").Request
    assert load("test_msgs/action/Fibonacci_Goal") is load("test_msgs/action/Fibonacci").Goal
    feedback = load("test_msgs/action/Fibonacci_FeedbackMessage")
    assert set(default_value(feedback)) == {"goal_id", "feedback"}
    assert default_value(load("std_srvs/srv/SetBool_Event"))["request"] == []
