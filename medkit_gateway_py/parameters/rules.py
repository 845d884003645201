"""How a ROS parameter is declared once, as a field of a frozen dataclass, and how a given value is judged.

Pure: no ROS, no I/O. What the parameters are is in `parameters.py` and its sections; this is only the mechanism:

    @dataclass(frozen=True)
    class Sse:
        max_clients: int = parameter(100, "Event streams open at once.", minimum=1, maximum=1024, on_bad="clamp")

The dotted path of the field is the name of the ROS parameter. A bad value never raises: it gives a `Finding`, and
then the nearest bound, the default, or a refusal to start (`on_bad`).
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Union

Value = Union[bool, int, float, str, "tuple[str, ...]"]

INT_MAX = 2147483647
TYPE_NAMES = {bool: "bool", int: "int", float: "double", str: "string", tuple: "string_array"}
_KEY = "medkit_parameter"


@dataclass(frozen=True)
class Finding:
    """Something to tell about a configuration; `fatal` means that the gateway must not start with it.

    `value` is what was given, made fit to be shown (no credentials), "" where it does not matter.
    """

    level: str  # ERROR | WARN | INFO
    parameter: str
    value: str
    message: str
    fatal: bool = False


@dataclass(frozen=True)
class ParameterSpec:
    """One declared parameter.

    `on_bad`: `clamp` (nearest bound), `default`, `refuse` (no start). `pattern` is a regular expression for the whole
    string, or for every string of an array. `text` and `clause` replace the wording of the message and of the rule.
    `status`: "" (works), `later` (accepted, no effect in this version), `compat` (taken from files of the C++ gateway,
    without a meaning here). A `secret` is never shown.
    """

    name: str
    type: str  # bool | int | double | string | string_array
    default: Value
    description: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    pattern: str = ""
    on_bad: str = "default"
    level: str = "ERROR"
    text: str = ""
    clause: str = ""
    secret: bool = False
    status: str = ""
    read_only: bool = True

    @property
    def allowed(self) -> str:
        """What is allowed, in words that follow "must be"; "" when everything of the type is."""
        if self.clause:
            return self.clause
        if self.choices:
            return "one of " + ", ".join(choice or '""' for choice in self.choices)
        if self.minimum is not None and self.maximum is not None:
            if self.maximum >= INT_MAX:
                return f"at least {number(self.minimum)}"
            return f"{number(self.minimum)} to {number(self.maximum)}"
        return ""

    @property
    def rule(self) -> str:
        """The whole rule for people: what is allowed and what happens otherwise."""
        if not self.allowed:
            return ""
        otherwise = {
            "clamp": "otherwise the nearest bound is used",
            "default": "otherwise the default is used",
            "refuse": "otherwise the gateway does not start",
        }[self.on_bad]
        return f"{self.allowed}; {otherwise}"


def parameter(
    default: Value,
    description: str,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    pattern: str = "",
    on_bad: str = "default",
    level: str = "ERROR",
    text: str = "",
    clause: str = "",
    secret: bool = False,
    status: str = "",
) -> Any:
    """Declare a field as a parameter; its type is that of `default`. See `ParameterSpec` for the rest.

    `text` may use `{given}` and `{default}`. Empty strings inside an array are left out of the configuration.
    """
    facts = {key: value for key, value in locals().items() if key != "default"}
    used = tuple(item for item in default if item) if isinstance(default, tuple) else default
    # A secret must not come out with whatever prints the configuration.
    return dataclasses.field(default=used, repr=not secret, metadata={_KEY: {"default": default, **facts}})


def group(section: type[Any]) -> Any:
    """Declare a field as a section: a frozen dataclass of more parameters."""
    return dataclasses.field(default_factory=section, metadata={_KEY: section})


def specifications(section: type[Any], prefix: str = "") -> Iterator[ParameterSpec]:
    """Every parameter of a dataclass and of its sections, in the order in which they are declared."""
    for field in dataclasses.fields(section):
        facts = field.metadata.get(_KEY)
        if isinstance(facts, type):
            yield from specifications(facts, f"{prefix}{field.name}.")
        elif facts is not None:
            yield ParameterSpec(name=prefix + field.name, type=TYPE_NAMES[type(facts["default"])], **facts)


def build(section: type[Any], values: Mapping[str, Value], prefix: str = "") -> Any:
    """A dataclass from values by full name; what is missing keeps its default."""
    members: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        facts = field.metadata.get(_KEY)
        if isinstance(facts, type):
            members[field.name] = build(facts, values, f"{prefix}{field.name}.")
        elif facts is not None and prefix + field.name in values:
            value = values[prefix + field.name]
            members[field.name] = tuple(item for item in value if item) if isinstance(value, tuple) else value
    return section(**members)


def flatten(section: Any, prefix: str = "") -> dict[str, Any]:
    """The opposite of `build`, as ROS takes it: lists for arrays, `[""]` for an empty one, which ROS does not know."""
    flat: dict[str, Any] = {}
    for field in dataclasses.fields(section):
        facts = field.metadata.get(_KEY)
        value = getattr(section, field.name)
        if isinstance(facts, type):
            flat.update(flatten(value, f"{prefix}{field.name}."))
        elif facts is not None:
            flat[prefix + field.name] = (list(value) or [""]) if isinstance(value, tuple) else value
    return flat


def judge(spec: ParameterSpec, given: object) -> tuple[Value, Finding | None]:
    """The value to use for a given one, and what there is to say about it (at most one finding)."""
    value = _converted(spec, given)
    if value is None:
        message = f"{spec.name} must be {_A[spec.type]}, but is {kind_of(given)}: {shown(spec, given)}."
        return _fallback(spec, given, f"{message} {_outcome(spec)}")
    if not _within(spec, value):
        if spec.on_bad == "clamp" and not isinstance(value, float):
            low, high = spec.minimum or 0, spec.maximum or 0
            used = int(low if isinstance(value, int) and value < low else high)
            return used, Finding("WARN", spec.name, str(value), f"{spec.name} {value} clamped to {used}")
        if spec.text:
            return _fallback(spec, given, spec.text.format(given=shown(spec, given), default=_text(spec.default)))
        return _fallback(
            spec, given, f"{spec.name} {shown(spec, given)} must be {spec.allowed or 'finite'}. {_outcome(spec)}"
        )
    if spec.status and value != spec.default and value != ():
        return value, _without_effect(spec, given)
    return value, None


def shown(spec: ParameterSpec, given: object) -> str:
    """A given value as it may stand in a log: secrets and credentials inside URLs are left out."""
    if spec.secret:
        return "(not shown)"
    if isinstance(given, str):
        return repr(hide_credentials(given))
    if isinstance(given, (list, tuple)):
        return _text([hide_credentials(item) if isinstance(item, str) else item for item in given])
    return _text(given)


def hide_credentials(text: str) -> str:
    """One value that may be a URL, without anything that could be a user, a password or a token in a query."""
    scheme = re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text)
    start = scheme.group(0) if scheme else ""
    has_query = re.search(r"[?#]", text) is not None
    if "@" in text:
        # The last @ ends a userinfo whatever stands before it; with a query it may also be a part of a token.
        return f"{start}***" if has_query else f"{start}***@{text.rsplit('@', 1)[1]}"
    return re.split(r"[?#]", text, maxsplit=1)[0] + "?***" if start and has_query else text


def number(value: float) -> str:
    """A bound without a needless `.0`."""
    return str(int(value)) if float(value).is_integer() and abs(value) >= 1e6 else str(value)


def kind_of(given: object) -> str:
    """What a value is, in ROS's words."""
    if isinstance(given, bool):
        return "a bool"
    if isinstance(given, (int, float, str)):
        return _A[TYPE_NAMES[type(given)]]
    if given is None:
        return "an empty list"
    if isinstance(given, (bytes, bytearray)):
        return "a byte array"
    try:
        kinds = {TYPE_NAMES.get(type(item), type(item).__name__) for item in given}  # type: ignore[attr-defined]
    except TypeError:
        return type(given).__name__
    return f"an array of {' and '.join(sorted(kinds)) or 'nothing'}"


_A = {
    "bool": "a bool (true or false)",
    "int": "an int",
    "double": "a double",
    "string": "a string",
    "string_array": "an array of strings",
}


def _converted(spec: ParameterSpec, given: object) -> Value | None:
    """The value as the type of the parameter; None when it has another type. An int serves as a double."""
    if spec.type == "bool":
        return given if isinstance(given, bool) else None
    if spec.type == "int":
        return given if isinstance(given, int) and not isinstance(given, bool) else None
    if spec.type == "double":
        return float(given) if isinstance(given, (int, float)) and not isinstance(given, bool) else None
    if spec.type == "string":
        return given if isinstance(given, str) else None
    # `[]` has no type of its own: rclpy gives None for it, or an empty byte array.
    if given is None or (isinstance(given, (bytes, bytearray)) and not given):
        return ("",)
    if isinstance(given, (list, tuple)) and all(isinstance(item, str) for item in given):
        return tuple(given) or ("",)
    return None


def _within(spec: ParameterSpec, value: Value) -> bool:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            return False
        if spec.minimum is not None and value < spec.minimum:
            return False
        return spec.maximum is None or value <= spec.maximum
    strings = value if isinstance(value, tuple) else (value,) if isinstance(value, str) else ()
    for item in strings:
        if item == "" and (isinstance(value, tuple) or item == spec.default):
            continue
        if spec.choices and item not in spec.choices:
            return False
        if spec.pattern and not re.fullmatch(spec.pattern, item):
            return False
    return True


def _fallback(spec: ParameterSpec, given: object, message: str) -> tuple[Value, Finding]:
    refuse = spec.on_bad == "refuse"
    return spec.default, Finding("ERROR" if refuse else spec.level, spec.name, shown(spec, given), message, refuse)


def _outcome(spec: ParameterSpec) -> str:
    return "The gateway does not start." if spec.on_bad == "refuse" else f"Using default {_text(spec.default)}."


def _without_effect(spec: ParameterSpec, given: object) -> Finding:
    if spec.status == "compat":
        message = f"{spec.name} is accepted for files of the C++ gateway and has no effect here."
        return Finding("INFO", spec.name, shown(spec, given), message)
    return Finding("WARN", spec.name, shown(spec, given), f"{spec.name} has no effect in this version.")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(f'"{item}"' if isinstance(item, str) else str(item) for item in value) + "]"
    if value is None:
        return "[]"
    return '""' if value == "" else str(value)
