"""YAML as values that know their line, for files that people write and that may be wrong (API.md §12).

Built from the events of the parser, so that nothing recurses and every bound holds while the file is read. Scalars stay
text: `name: 42` is a name. What the values mean is `manifest_reader.py`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import yaml

# A manifest of 5 000 entities has some 750 kB and is read in 0.6 s; this is ten times that.
MAX_BYTES = 8 * 1024 * 1024
MAX_DEPTH = 32
MAX_VALUES = 2_000_000  # with every alias counted as often as it is used
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong at a line, counted from 1, and inside the mapping at `path`."""

    line: int
    message: str
    path: str = ""


class YamlProblem(Exception):
    """The text cannot be read at all."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(line, message)


@dataclass(frozen=True, slots=True)
class Value:
    """A scalar (`text`), a list (`items`) or a mapping (`members`).

    Of a mapping, `lines` has the line of each key, and `doubled` the keys that stand twice.
    """

    line: int
    text: str | None = None
    plain: bool = False
    items: tuple[Value, ...] | None = None
    members: Mapping[str, Value] | None = None
    lines: Mapping[str, int] = field(default_factory=dict)
    doubled: tuple[Problem, ...] = ()
    size: int = 1
    depth: int = 1

    @property
    def is_null(self) -> bool:
        """Nothing, `~` or `null`, without quotes."""
        return self.text is not None and self.plain and self.text in _NULLS

    @property
    def what(self) -> str:
        """What it is, in words."""
        if self.is_null:
            return "nothing"
        return "a mapping" if self.members is not None else "a list" if self.items is not None else "a single value"


def read_yaml(text: str) -> tuple[Value | None, list[Problem]]:
    """The one document of a text (None when it is empty) and keys that stand twice, of which the first counts.

    Raises YamlProblem for everything that is no YAML, or beyond the bounds.
    """
    if len(text) > MAX_BYTES:
        raise YamlProblem(1, f"longer than {MAX_BYTES} bytes")
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
        raise YamlProblem(mark.line + 1 if mark else 1, f"not valid YAML: {' '.join(str(said).split())}") from error
    except (ValueError, OverflowError) as error:  # characters that are none, in the parser's own words
        raise YamlProblem(1, f"not valid YAML: {error}") from error
    if not builder.has_doubled or builder.root is None:
        return builder.root, []
    return builder.root, list(_doubled(builder.root))


def _doubled(root: Value) -> Iterator[Problem]:
    """The keys that stand twice, with the paths to their mappings; each mapping once, however often it is used."""
    seen: set[int] = set()
    waiting = [("", root)]
    while waiting:
        path, value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield from (replace(problem, path=path) for problem in value.doubled)
        for name, inner in (value.members or {}).items():
            waiting.append((f"{path}.{name}" if path else name, inner))
        for index, inner in enumerate(value.items or ()):
            waiting.append((f"{path}[{index}]", inner))


class _Open:
    """A list or a mapping whose end has not come yet."""

    def __init__(self, line: int, anchor: str | None, is_mapping: bool) -> None:
        self.line, self.anchor, self.is_mapping = line, anchor, is_mapping
        self.values: list[Value] = []

    def close(self) -> Value:
        size = 1 + sum(value.size for value in self.values)
        depth = 1 + max((value.depth for value in self.values), default=0)
        if not self.is_mapping:
            return Value(self.line, items=tuple(self.values), size=size, depth=depth)
        members: dict[str, Value] = {}
        lines: dict[str, int] = {}
        merged: list[Value] = []
        doubled: list[Problem] = []
        pairs: Iterable[tuple[Value, Value]] = zip(self.values[::2], self.values[1::2], strict=True)
        for key, value in pairs:
            if key.text is None:
                raise YamlProblem(key.line, f"{key.what} cannot be a key")
            if key.text == "<<" and key.plain:
                merged.append(value)
            elif key.text in members:
                doubled.append(Problem(key.line, f"{_short(key.text)} stands twice, first in line {lines[key.text]}"))
            else:
                members[key.text] = value
                lines[key.text] = key.line
        for value in merged:
            _merge(value, members, lines)
        return Value(self.line, members=members, lines=lines, doubled=tuple(doubled), size=size, depth=depth)


def _merge(value: Value, members: dict[str, Value], lines: dict[str, int]) -> None:
    """`<<: *defaults`: what the mapping does not say itself."""
    sources: Sequence[Value] = value.items if value.items is not None else (value,)
    for source in sources:
        if source.members is None:
            raise YamlProblem(value.line, f"<< needs a mapping, not {source.what}")
        for name, inner in source.members.items():
            if name not in members:
                members[name] = inner
                lines[name] = source.lines[name]


class _Builder:
    def __init__(self) -> None:
        self.root: Value | None = None
        self.has_doubled = False
        self._open: list[_Open] = []
        self._anchors: dict[str, Value] = {}
        self._count = 0
        self._documents = 0

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
            self._open.append(_Open(line, event.anchor, isinstance(event, yaml.MappingStartEvent)))
            if len(self._open) >= MAX_DEPTH:
                raise YamlProblem(line, f"nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
            done = self._open.pop()
            value = done.close()
            self.has_doubled = self.has_doubled or bool(value.doubled)
            self._place(value, done.anchor, 1)
        elif isinstance(event, yaml.ScalarEvent):
            plain = not event.style and event.implicit[0]
            self._place(Value(line, text=event.value, plain=plain), event.anchor, 1)
        elif isinstance(event, yaml.AliasEvent):
            known = self._anchors.get(event.anchor)
            if known is None:
                raise YamlProblem(line, f"*{_short(event.anchor)} is not defined before")
            self._place(known, None, known.size)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise YamlProblem(line, "a second document begins; there may be one")

    def _place(self, value: Value, anchor: str | None, count: int) -> None:
        self._count += count
        if self._count > MAX_VALUES:
            raise YamlProblem(value.line, f"more than {MAX_VALUES} values, aliases counted as often as they are used")
        if len(self._open) + value.depth > MAX_DEPTH:
            raise YamlProblem(value.line, f"nested deeper than {MAX_DEPTH} levels")
        if anchor:
            self._anchors[anchor] = value
        if self._open:
            self._open[-1].values.append(value)
        else:
            self.root = value


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."
