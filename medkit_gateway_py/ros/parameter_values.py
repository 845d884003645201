"""Values of ROS parameters as plain Python, and JSON on its way into one (API.md §6.2, §6.4).

Pure: nothing here imports rclpy, so that the rooms above may use it without a ROS.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

NOT_SET = "not_set"
# In the order of the numbers in rcl_interfaces/msg/ParameterType.
TYPES = (
    NOT_SET, "bool", "int", "double", "string",
    "byte_array", "bool_array", "int_array", "double_array", "string_array",
)  # fmt: skip
INT64 = range(-(2**63), 2**63)


class ParameterError(Exception):
    """A parameter could not be read or written; the text says why."""


class NodeUnavailable(ParameterError):
    """The node, or its parameter service, is not there or does not answer."""


class NodeFailed(ParameterError):
    """The node answered with something that cannot be used."""


class UnknownParameter(ParameterError):
    """The node has no such parameter."""


class WrongType(ParameterError):
    """A JSON value that is no parameter of this type."""


@dataclass(frozen=True)
class Value:
    """A typed value: bool, int, float, str, None for `not_set`, or a list of them; bytes are ints from 0 to 255."""

    type: str
    value: Any


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node. `description` and `read_only` are None when the node described nothing."""

    name: str
    value: Value
    description: str | None = None
    read_only: bool | None = None


def convert(given: Any, hint: str) -> Value:
    """A JSON value as a parameter of the type `hint`, the current one; `not_set`: as `infer` (API.md §6.4).

    :raises WrongType: it cannot be one.
    """
    if hint == NOT_SET:
        return infer(given)
    if not hint.endswith("_array"):
        return Value(hint, _SCALARS[hint](given))
    if not isinstance(given, list):
        raise WrongType(f"expected an array ({hint})")
    scalar = _SCALARS[hint.removesuffix("_array")]
    return Value(hint, [scalar(one) for one in given])


def infer(given: Any) -> Value:
    """A JSON value as a parameter of the type that it looks like; an empty array looks like nothing.

    :raises WrongType: no parameter looks like this.
    """
    if isinstance(given, list):
        kinds = {_kind(one) for one in given}
        if kinds == {"int", "double"}:
            kinds = {"double"}
        if len(kinds) != 1:
            raise WrongType("an array needs elements of one type")
        return convert(given, f"{kinds.pop()}_array")
    return convert(given, _kind(given))


def _kind(given: Any) -> str:
    if isinstance(given, bool):
        return "bool"
    for python, name in ((int, "int"), (float, "double"), (str, "string")):
        if isinstance(given, python):
            return name
    raise WrongType("expected a boolean, a number, a string or an array of them")


def _bool(given: Any) -> bool:
    if isinstance(given, bool):
        return given
    found = {"true": True, "1": True, "false": False, "0": False}.get(given) if isinstance(given, str) else None
    if found is None:
        raise WrongType("expected a boolean")
    return found


def _int(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not math.isfinite(given):
        raise WrongType("expected an integer")
    whole = int(given)
    if whole not in INT64:
        raise WrongType("does not fit into 64 bits")
    return whole


def _double(given: Any) -> float:
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise WrongType("expected a number")
    try:
        return float(given)
    except OverflowError:
        raise WrongType("does not fit into a double") from None


def _string(given: Any) -> str:
    text = given if isinstance(given, str) else json.dumps(given)
    if "\0" in text:
        raise WrongType("expected text without NUL")
    return text


def _byte(given: Any) -> int:
    whole = _int(given)
    if not 0 <= whole <= 255:
        raise WrongType("expected a byte, 0 to 255")
    return whole


_SCALARS: dict[str, Callable[[Any], Any]] = {
    "bool": _bool,
    "int": _int,
    "double": _double,
    "string": _string,
    "byte": _byte,
}
