"""Messages to JSON and back, strictly and totally; and the JSON schema of a type (API.md §4.1, §4.5, DECISIONS 2, 4).

rclpy itself does not check what is assigned to a field: an int in a `Float64` is published as 2.5e-323, 300 in a
`UInt8` as 44. `from_json` is therefore the only guard on the way in; nothing that it returns can be published as
anything else than what the client wrote.

For each class a plan is compiled once from the class's own field descriptions and kept. This module makes no node,
sends nothing and knows no topics.
"""

from __future__ import annotations

import base64
import binascii
import functools
import importlib
import importlib.util
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosidl_parser.definition import (
    AbstractGenericString,
    AbstractNestedType,
    AbstractWString,
    Array,
    BasicType,
    BoundedSequence,
    NamespacedType,
)

MAX_DEPTH = 32  # ROS types are trees a few levels deep; more is a broken generator, not a message
FLOAT32_MAX = 3.4028234663852886e38

_TYPE_NAME = re.compile(r"([A-Za-z][A-Za-z0-9_]*)/(msg|srv|action)/([A-Za-z][A-Za-z0-9_]*)")
_DECIMAL = re.compile(r"-?[0-9]{1,20}")
_INTEGER_RANGES = {
    f"{sign}int{bits}": (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
} | {"char": (0, 255), "octet": (0, 255)}
_BYTE_TYPES = ("uint8", "octet", "char")
_FLOAT_TYPES = ("float", "double", "long double")
_PART_OF_INTERFACE = {
    # how the parts of services and actions are spelled as types -> where the class of the interface keeps them
    "srv": {"_Request": "Request", "_Response": "Response", "_Event": "Event"},
    "action": {
        "_Goal": "Goal",
        "_Result": "Result",
        "_Feedback": "Feedback",
        "_SendGoal": "Impl.SendGoalService",
        "_GetResult": "Impl.GetResultService",
        "_FeedbackMessage": "Impl.FeedbackMessage",
    },
}


class UnknownType(LookupError):
    """The interface `type_name` is not installed here, or its name is no interface name."""

    def __init__(self, type_name: str, reason: str) -> None:
        super().__init__(f"{type_name[:200]!r}: {reason}")
        self.type_name = type_name
        self.reason = reason


class FieldError(ValueError):
    """A value does not fit its field. `path` is like `header.stamp.sec` or `ranges[3]`, "" for the whole message."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}" if path else reason)
        self.path = path
        self.reason = reason

    def under(self, parent: str) -> FieldError:
        """The same error seen from the message or array that holds the field."""
        separator = "." if self.path and not self.path.startswith("[") else ""
        return FieldError(f"{parent}{separator}{self.path}", self.reason)


@functools.lru_cache(maxsize=4096)
def load(type_name: str) -> Any:
    """The class of `pkg/msg/T`, `pkg/srv/T` or `pkg/action/T`.

    Imports by module name: after sourcing a workspace the ament index names only that workspace. A package without
    such a folder is not imported at all, so a name in a request cannot run an arbitrary module.

    :raises UnknownType: no such interface here.
    """
    match = _TYPE_NAME.fullmatch(type_name)
    if match is None:
        raise UnknownType(type_name, "not of the form package/msg/Type")
    package, group, name = match.groups()
    try:
        found = importlib.util.find_spec(package)
    except (ImportError, ValueError, AttributeError) as error:
        raise UnknownType(type_name, f"package {package} cannot be found: {error}") from error
    locations = list(found.submodule_search_locations or ()) if found is not None else []
    if not any((Path(location) / group / "__init__.py").is_file() for location in locations):
        raise UnknownType(type_name, f"package {package} is not installed or has no {group} folder")
    try:
        module = importlib.import_module(f"{package}.{group}")
    except Exception as error:  # a generated package may fail in any way: missing library, wrong Python
        raise UnknownType(type_name, f"cannot be imported: {error}") from error
    loaded = getattr(module, name, None) or _part_of_interface(module, group, name)
    if not isinstance(loaded, type) or not _is_interface(loaded):
        raise UnknownType(type_name, f"package {package} has no such type")
    return loaded


def _part_of_interface(module: Any, group: str, name: str) -> Any:
    for suffix, where in _PART_OF_INTERFACE.get(group, {}).items():
        if name.endswith(suffix):
            part = getattr(module, name[: -len(suffix)], None)
            for step in where.split("."):
                part = getattr(part, step, None)
            return part
    return None


def _is_interface(loaded: type) -> bool:
    return hasattr(loaded, "SLOT_TYPES") or hasattr(loaded, "Request") or hasattr(loaded, "Goal")


def to_json(message: Any) -> dict[str, Any]:
    """The message as plain dicts, lists, str, int, float, bool and None; never a NaN or an infinity (DECISIONS 4).

    Byte sequences become lists of ints; 64-bit integers stay integers; floats are never turned into ints.
    """
    message_class: Any = type(message)
    plan = _plan(message_class)
    return {
        field.name: field.codec.encode(getattr(message, field.name))
        if field.codec.encode
        else getattr(message, field.name)
        for field in plan.fields
    }


def from_json(message_class: Any, value: object) -> Any:
    """A message of `message_class` with the fields given in `value`; the others keep their defaults.

    Accepted beyond the plain JSON type: an integral float for an integer (`1.0`), an int for a float, a decimal
    string for `int64`/`uint64` (JavaScript cannot hold them), None for a float (NaN, DECISIONS 4), and
    `{"base64": "..."}` for a sequence of bytes.

    :raises FieldError: the path of the first field that does not fit, and why.
    """
    plan = _plan(message_class)
    if not isinstance(value, dict):
        raise FieldError("", f"expected an object ({plan.label}), got {_kind(value)}")
    for name in value:
        if name not in plan.by_name:
            raise FieldError(_shown(name), f"unknown field; {plan.label} has {plan.field_list}")
    message = message_class()
    for name, given in value.items():
        try:
            setattr(message, name, plan.by_name[name].codec.decode(given))
        except FieldError as error:
            raise error.under(name) from None
    return message


def schema(message_class: Any) -> dict[str, Any]:
    """JSON schema `{"type":"object","properties":{...}}` (API.md §4.1); shared, do not change it.

    Octets and chars are described as integers: that is what `to_json` gives and `from_json` takes.
    """
    return _plan(message_class).schema


def default_value(message_class: Any) -> dict[str, Any]:
    """The default-constructed message as JSON."""
    return to_json(message_class())


@dataclass(frozen=True)
class _Codec:
    """How one slot type travels. `encode` is None when the Python value is JSON as it stands."""

    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any]
    schema: dict[str, Any]


@dataclass(frozen=True)
class _Field:
    name: str
    codec: _Codec


class _Plan:
    """The compiled fields of a message class. Building it compiles all nested types, too."""

    def __init__(self, message_class: Any, parents: tuple[type, ...]) -> None:
        if len(parents) > MAX_DEPTH or message_class in parents:
            raise UnknownType(message_class.__name__, f"nested deeper than {MAX_DEPTH} levels")
        within = (*parents, message_class)
        self.label = f"{message_class.__module__.split('.')[0]}/{message_class.__name__}"
        self.fields = tuple(
            _Field(name, _codec(slot_type, within))
            for name, slot_type in zip(self._names(message_class), message_class.SLOT_TYPES, strict=True)
        )
        self.by_name = {field.name: field for field in self.fields}
        self.field_list = ", ".join(self.by_name) or "no fields"
        self.schema = {"type": "object", "properties": {field.name: field.codec.schema for field in self.fields}}

    @staticmethod
    def _names(message_class: Any) -> list[str]:
        return list(message_class.get_fields_and_field_types())


@functools.lru_cache(maxsize=4096)
def _plan(message_class: Any) -> _Plan:
    return _Plan(message_class, ())


def _codec(slot_type: Any, within: tuple[type, ...]) -> _Codec:
    if isinstance(slot_type, BasicType):
        return _basic(slot_type.typename)
    if isinstance(slot_type, AbstractGenericString):
        return _string(slot_type)
    if isinstance(slot_type, NamespacedType):
        nested = load("/".join(slot_type.namespaced_name()))
        description = _Plan(nested, within).schema
        return _Codec(to_json, functools.partial(from_json, nested), description)
    if isinstance(slot_type, AbstractNestedType):
        return _array(slot_type, within)
    raise UnknownType(str(slot_type), "a slot type that this gateway does not know")


def _basic(typename: str) -> _Codec:
    if typename == "boolean":
        return _Codec(None, _decode_bool, {"type": "boolean"})
    if typename in _FLOAT_TYPES:
        limit = FLOAT32_MAX if typename == "float" else math.inf
        return _Codec(_finite, functools.partial(_decode_float, limit), {"type": "number"})
    if typename not in _INTEGER_RANGES:
        raise UnknownType(typename, "a basic type that this gateway does not know")
    low, high = _INTEGER_RANGES[typename]
    decode = functools.partial(_decode_int, typename, low, high)
    if typename == "octet":
        return _Codec(_octet, lambda value: bytes([decode(value)]), {"type": "integer"})
    return _Codec(None, decode, {"type": "integer"})


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _octet(value: Any) -> int:
    return int(value[0]) if isinstance(value, (bytes, bytearray)) else int(value)


def _decode_bool(value: object) -> bool:
    if not isinstance(value, bool):
        raise FieldError("", f"expected a boolean, got {_kind(value)}")
    return value


def _decode_float(limit: float, value: object) -> float:
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise FieldError("", f"expected a number, got {_kind(value)}")
    try:
        number = float(value)
    except OverflowError:
        raise FieldError("", "the number is too large for a float") from None
    if math.isfinite(number) and abs(number) > limit:
        raise FieldError("", f"{number!r} is too large for float32")
    return number


def _decode_int(typename: str, low: int, high: int, value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, str) and typename.endswith("64") and _DECIMAL.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise FieldError("", f"expected an integer ({typename}), got {_kind(value)}")
    if not low <= value <= high:
        raise FieldError("", f"out of range for {typename}: {low} to {high}")
    return value


def _string(slot_type: Any) -> _Codec:
    wide = isinstance(slot_type, AbstractWString)
    maximum = slot_type.maximum_size if slot_type.has_maximum_size() else None
    encoding, unit = ("utf-16-le", 2) if wide else ("utf-8", 1)

    def decode(value: object) -> str:
        if not isinstance(value, str):
            raise FieldError("", f"expected a string, got {_kind(value)}")
        try:
            length = len(value.encode(encoding)) // unit
        except UnicodeEncodeError:
            raise FieldError("", "the string holds half a surrogate pair, which no ROS string can carry") from None
        if not wide and "\0" in value:
            raise FieldError("", "the string holds a NUL character, at which ROS would cut it off")
        if maximum is not None and length > maximum:
            raise FieldError("", f"longer than {maximum} {'UTF-16 units' if wide else 'bytes'}")
        return value

    return _Codec(None, decode, {"type": "string"})


def _array(slot_type: Any, within: tuple[type, ...]) -> _Codec:
    element = _codec(slot_type.value_type, within)
    typename = slot_type.value_type.typename if isinstance(slot_type.value_type, BasicType) else ""
    description: dict[str, Any] = {"type": "array", "items": element.schema}
    low, high = 0, None
    if isinstance(slot_type, Array):
        low = high = slot_type.size
        description |= {"minItems": low, "maxItems": high}
    elif isinstance(slot_type, BoundedSequence):
        high = slot_type.maximum_size
        description["maxItems"] = high

    def decode(value: object) -> list[Any]:
        if typename in _BYTE_TYPES and isinstance(value, dict):
            value = list(_decode_base64(value))
        if not isinstance(value, list):
            raise FieldError("", f"expected an array, got {_kind(value)}")
        if len(value) < low or (high is not None and len(value) > high):
            wanted = f"{low}" if low == high else f"at most {high}"
            raise FieldError("", f"expected {wanted} elements, got {len(value)}")
        return _decode_elements(typename, element.decode, value)

    return _Codec(_array_encoder(typename, element), decode, description)


def _array_encoder(typename: str, element: _Codec) -> Callable[[Any], Any]:
    if typename in _FLOAT_TYPES:
        return _encode_floats
    if typename == "octet":
        return lambda value: [_octet(item) for item in value]
    if element.encode is None:
        return _as_list
    encode = element.encode
    return lambda value: [encode(item) for item in value]


def _as_list(value: Any) -> list[Any]:
    """`array.array` and numpy arrays (fixed sizes, and sequences of numbers) and lists (everything else)."""
    return value.tolist() if hasattr(value, "tolist") else list(value)


def _encode_floats(value: Any) -> list[Any]:
    numbers = _as_list(value)
    if math.isfinite(sum(numbers)):  # one pass in C settles the usual case; an overflow of the sum only costs time
        return numbers
    return [_finite(number) for number in numbers]


def _decode_elements(typename: str, decode: Callable[[Any], Any], value: list[Any]) -> list[Any]:
    """Decode each element; long arrays of plain ints and floats are checked in C instead of one by one."""
    if value and typename in _INTEGER_RANGES and typename != "octet" and set(map(type, value)) == {int}:
        low, high = _INTEGER_RANGES[typename]
        if low <= min(value) and max(value) <= high:
            return value
    if typename == "double" and set(map(type, value)) == {float}:
        return value
    decoded = []
    for index, item in enumerate(value):
        try:
            decoded.append(decode(item))
        except FieldError as error:
            raise error.under(f"[{index}]") from None
    return decoded


def _decode_base64(value: dict[Any, Any]) -> bytes:
    encoded = value.get("base64")
    if set(value) != {"base64"} or not isinstance(encoded, str):
        raise FieldError("", 'expected an array of bytes or {"base64": "..."}')
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise FieldError("", "not valid base64") from None


def _kind(value: object) -> str:
    """How a JSON value is called in an error text; never the value itself, which may be huge or nested."""
    if value is None:
        return "null"
    names: dict[type, str] = {bool: "a boolean", int: "an integer", float: "a number", str: "a string"}
    names |= {list: "an array", dict: "an object"}
    return names.get(type(value), type(value).__name__)


def _shown(name: object) -> str:
    """A client's field name as it may appear in an answer: printable, and short."""
    text = name if isinstance(name, str) else _kind(name)
    return text[:100].encode("utf-8", "replace").decode("utf-8")
