"""ROS parameter files, read as rcl reads them, with errors that a person understands.

rcl's own message for a bad file is a traceback with a line of its C source. The typing of values is rcl's, not
YAML's: `1e3` is a double, `1:30` and `null` are strings, `[]` has no type (None). What they mean is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

Scalar = bool | int | float | str
MAX_DEPTH = 64  # deeper nesting is no parameter file, and must not exhaust the stack
MAX_BYTES = 4 * 1024 * 1024
_MARK = "ros__parameters"
_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_INT = re.compile(r"[+-]?(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_NAN = re.compile(r"\.(nan|NaN|NAN)|[+-]?[nN][aA][nN]")
_INFINITY = re.compile(r"([+-]?)(\.(inf|Inf|INF)|[iI][nN][fF]([iI][nN][iI][tT][yY])?)")
# libyaml is what rcl uses; the pure Python parser is the fallback for builds of PyYAML without it.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ParameterFileError(Exception):
    """A parameter file or a `-p` that ROS would not take either; the text names file and line."""


@dataclass
class Section:
    """The parameters that a file holds for one node name or pattern (`/**`, `/ns/node`), always with a leading slash.

    `problems` are mistakes that rcl lets pass and that lose values; they matter only where the section is used.
    """

    node: str
    values: dict[str, object] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_sections(text: str, file: str) -> list[Section]:
    """The sections of a file in the order of their appearance; one name, one section. Raises ParameterFileError."""
    if len(text) > MAX_BYTES:
        raise ParameterFileError(f"{file}: longer than {MAX_BYTES} bytes")
    reader = _Reader(file)
    try:
        reader.read(text)
    except yaml.YAMLError as error:
        raise ParameterFileError(_yaml_problem(error, text, file)) from error
    return list(reader.sections.values())


def read_value(text: str, name: str, where: str) -> object:
    """The value of a `-p name:=value`: a scalar or a list. Raises ParameterFileError."""
    try:
        return _Reader(where).value(text, name)
    except yaml.YAMLError as error:
        problem = getattr(error, "problem", None) or error
        raise ParameterFileError(f"{where}: the value is not valid YAML: {problem}") from error


def scalar(text: str, *, quoted: bool = False, tag: str | None = None) -> Scalar:
    """A YAML scalar with the type that rcl gives it."""
    if quoted or tag == "tag:yaml.org,2002:str":
        return text
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if _INT.fullmatch(text):
        digits = text.lstrip("+-")
        base = 16 if digits[:2].lower() == "0x" else 8 if digits.startswith("0") else 10
        number = int(digits, base) * (-1 if text.startswith("-") else 1)
        return number if -(2**63) <= number < 2**63 else float(number)
    infinity = _INFINITY.fullmatch(text)
    if infinity:
        return float(infinity[1] + "inf")
    if _NAN.fullmatch(text):
        return float("nan")
    if _FLOAT.fullmatch(text):
        value = float(text)
        return text if value in (float("inf"), float("-inf")) else value
    return text


class _Reader:
    """Walks the events of a YAML stream; rcl does the same, so that its rules can be followed one by one."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.sections: dict[str, Section] = {}
        self._events: Iterator[yaml.Event] = iter(())

    def read(self, text: str) -> None:
        self._events = self._checked(yaml.parse(text, Loader=_LOADER))
        for event in self._events:
            if isinstance(event, yaml.MappingStartEvent):
                self._nodes(event, ())
            elif isinstance(event, yaml.SequenceStartEvent):
                raise self._error(event, "the file must begin with a node name, not with a list")
            elif isinstance(event, yaml.ScalarEvent) and event.value:
                raise self._error(event, "the file must begin with a node name and a colon")

    def value(self, text: str, name: str) -> object:
        self._events = self._checked(yaml.parse(text, Loader=_LOADER))
        section = Section("")
        for event in self._events:
            if isinstance(event, yaml.ScalarEvent):
                return self._scalar(event, name)
            if isinstance(event, yaml.SequenceStartEvent):
                items = self._array(section, name)
                if section.problems:
                    break
                return items
            if isinstance(event, yaml.MappingStartEvent):
                break
        raise ParameterFileError(f"{self.file}: `{name}` must be one value or a list of values")

    def _checked(self, events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
        depth = 0
        for event in events:
            if isinstance(event, yaml.AliasEvent):
                raise self._error(event, "ROS parameter files cannot use YAML aliases (*name)")
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1
            if depth > MAX_DEPTH:
                raise self._error(event, f"nested deeper than {MAX_DEPTH} levels")
            yield event

    def _nodes(self, start: yaml.Event, path: tuple[str, ...]) -> None:
        """A mapping above `ros__parameters`: its keys are namespaces and node names."""
        for key, value in self._pairs():
            name = key.value
            if name == _MARK:
                if not path:
                    raise self._error(key, f"{_MARK} needs a node name above it, as medkit_gateway_py:")
                if not isinstance(value, yaml.MappingStartEvent):
                    raise self._error(key, f"below {_MARK} there must be parameters as `name: value`")
                node = "/" + "/".join(part.strip("/") for part in path)
                section = self.sections.setdefault(node, Section(node))
                self._parameters(section, "", set())
            elif isinstance(value, yaml.MappingStartEvent):
                self._nodes(value, (*path, name))
            else:
                raise self._error(
                    key, f"`{name}` has a value, but stands above {_MARK}; write `<node name>:`, `{_MARK}:`, then it"
                )

    def _parameters(self, section: Section, prefix: str, before: set[str]) -> None:
        for key, value in self._pairs():
            name = prefix + key.value
            line = key.start_mark.line + 1
            if name in before:
                section.problems.append(f"line {line}: `{name}` is given twice; only the last one would count")
            before.add(name)
            if isinstance(value, yaml.MappingStartEvent):
                self._parameters(section, name + ".", before)
            elif isinstance(value, yaml.SequenceStartEvent):
                section.values[name] = self._array(section, name)
            else:
                section.values[name] = self._scalar(value, name)

    def _array(self, section: Section, name: str) -> list[Scalar] | None:
        items: list[Scalar] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            if isinstance(event, yaml.SequenceStartEvent):
                raise self._error(event, f"`{name}` is a list of lists, which ROS does not know")
            if isinstance(event, yaml.MappingStartEvent):
                line = event.start_mark.line + 1
                section.problems.append(f"line {line}: `{name}` is a list of mappings, which ROS does not know")
                self._skip_mapping()
                continue
            item = self._scalar(event, name)
            if items and type(item) is not type(items[0]):
                raise self._error(
                    event,
                    f"`{name}` mixes {_TYPE[type(items[0])]} and {_TYPE[type(item)]}; a ROS array has one type "
                    "(put texts in quotes)",
                )
            items.append(item)
        return items or None

    def _scalar(self, event: yaml.Event, name: str) -> Scalar:
        assert isinstance(event, yaml.ScalarEvent)
        quoted = event.style in ("'", '"')
        if event.value == "" and not quoted:
            raise self._error(event, f'`{name}` has no value; write "" for an empty text and [""] for an empty list')
        return scalar(event.value, quoted=quoted, tag=event.tag)

    def _pairs(self) -> Iterator[tuple[yaml.ScalarEvent, yaml.Event]]:
        """Keys with the event that begins their value, up to the end of the mapping."""
        for key in self._events:
            if isinstance(key, yaml.MappingEndEvent):
                return
            if not isinstance(key, yaml.ScalarEvent):
                raise self._error(key, "a key must be a plain text")
            yield key, next(self._events)

    def _skip_mapping(self) -> None:
        depth = 1
        while depth:
            event = next(self._events)
            if isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                depth += 1
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                depth -= 1

    def _error(self, event: yaml.Event, text: str) -> ParameterFileError:
        return ParameterFileError(f"{self.file}, line {event.start_mark.line + 1}: {text}")


_TYPE = {bool: "bool", int: "int", float: "double", str: "string"}


def _yaml_problem(error: yaml.YAMLError, text: str, file: str) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return f"{file}: {error}"
    lines = text.splitlines()
    if mark.line < len(lines) and re.match(r" *\t", lines[mark.line]):
        return f"{file}, line {mark.line + 1}: a tab stands where YAML wants spaces"
    return f"{file}, line {mark.line + 1}: not valid YAML: {getattr(error, 'problem', None) or error}"
