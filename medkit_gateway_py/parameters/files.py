"""Which parameter values the command line gives to the gateway's node, and from where (AGGREGATION.md §1).

ROS matches the sections of a parameter file with the node's full name. A file keyed `medkit_gateway_py` is therefore
lost as soon as the node is renamed or put in a namespace; here it is found. Reading files is the only I/O, done by
the function that is passed in; ROS is not needed, so that `--check` works without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .yaml_files import MAX_BYTES, ParameterFileError, Section, read_sections, read_value

__all__ = [
    "DEFAULT_NODE_NAME",
    "Overrides",
    "ParameterFileError",
    "RosArguments",
    "alias_overrides",
    "node_fqn",
    "read_overrides",
    "ros_arguments",
]

DEFAULT_NODE_NAME = "medkit_gateway_py"
# A later one wins over an earlier one.
ALIASES = ("ros2_medkit_gateway", DEFAULT_NODE_NAME)
_COMMAND_LINE = "command line"
_ONE_VALUE = frozenset({"-e", "--enclave", "--log-level", "--log-config-file"})

ReadText = Callable[[str], str]


@dataclass(frozen=True)
class RosArguments:
    """What follows `--ros-args`, as far as it concerns parameters and names.

    `sources` are, in order, `("file", path)` and `("parameter", rule)`; `remaps` the rules as `(left, right)`.
    """

    sources: tuple[tuple[str, str], ...] = ()
    remaps: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Overrides:
    """The values for the node by full parameter name, where each comes from, and notes worth an INFO line."""

    values: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def ros_arguments(argv: Sequence[str]) -> RosArguments:
    """The parameters and remappings of a command line; whatever ROS does not own is passed over.

    Raises ParameterFileError where an option has no value or no `:=`.
    """
    sources: list[tuple[str, str]] = []
    remaps: list[tuple[str, str]] = []
    words = iter(argv)
    inside = False
    for word in words:
        if word == "--ros-args":
            inside = True
        elif word == "--":
            inside = False
        elif inside and word == "--params-file":
            sources.append(("file", _value_of(word, words)))
        elif inside and word in ("-p", "--param"):
            sources.append(("parameter", _value_of(word, words)))
        elif inside and word in ("-r", "--remap"):
            left, separator, right = _value_of(word, words).partition(":=")
            if separator:
                remaps.append((left, right))
        elif inside and word in _ONE_VALUE:
            next(words, "")
    return RosArguments(tuple(sources), tuple(remaps))


def node_fqn(argv: Sequence[str], default_name: str = DEFAULT_NODE_NAME) -> str:
    """The full name that the node gets, as `/subsystem_a/gateway_a`; of several rules the first one counts."""
    remaps = ros_arguments(argv).remaps

    def remapped(keys: tuple[str, ...], otherwise: str) -> str:
        wanted = {*keys, *(f"{default_name}:{key}" for key in keys)}
        return next((right for left, right in remaps if left in wanted), otherwise)

    name = remapped(("__node", "__name"), default_name)
    namespace = remapped(("__ns",), "/").strip("/")
    return f"/{namespace}/{name}" if namespace else f"/{name}"


def alias_overrides(
    argv: Sequence[str], node_fqn: str, read: ReadText | None = None
) -> tuple[dict[str, object], list[str]]:
    """Values from sections keyed with the gateway's own name that ROS would not apply to the node, and notes.

    They are the lowest: whatever ROS itself gives to the node wins over them. Raises ParameterFileError.
    """
    values, sources = _apply(_alias_sections(argv, node_fqn, read))
    _apply(_ros_sections(argv, node_fqn, read))  # only for what is wrong in them: rclpy would say it less clearly
    notes = [f"{source}, is used for {node_fqn}." for source in dict.fromkeys(sources.values())]
    return values, notes


def read_overrides(argv: Sequence[str], node_fqn: str, read: ReadText | None = None) -> Overrides:
    """Everything that the command line and its files give to the node: what ROS applies, over what aliases give.

    The result equals what rclpy finds, aliases apart. Raises ParameterFileError.
    """
    values, notes = alias_overrides(argv, node_fqn, read)
    _, sources = _apply(_alias_sections(argv, node_fqn, read))
    values_of_ros, sources_of_ros = _apply(_ros_sections(argv, node_fqn, read))
    return Overrides({**values, **values_of_ros}, {**sources, **sources_of_ros}, tuple(notes))


_Sourced = tuple[str, Section]  # where it comes from in words, and what it gives


def _apply(sections: Iterator[_Sourced]) -> tuple[dict[str, object], dict[str, str]]:
    values: dict[str, object] = {}
    sources: dict[str, str] = {}
    for source, section in sections:
        if section.problems:
            raise ParameterFileError(f"{source}, {section.problems[0]}")
        for name, value in section.values.items():
            values[name] = value
            sources[name] = source
    return values, sources


def _alias_sections(argv: Sequence[str], fqn: str, read: ReadText | None) -> Iterator[_Sourced]:
    """Sections with our default name, without a namespace or with the node's own, that do not match the node."""
    namespace = fqn.rsplit("/", 1)[0]
    names = [f"/{alias}" for alias in ALIASES] + [f"{namespace}/{alias}" for alias in ALIASES if namespace]
    found = [(rank, item) for item in _sections(argv, read) for rank, name in enumerate(names) if item[1].node == name]
    for _, item in sorted(found, key=lambda pair: pair[0]):  # stable: of equal names the later file wins
        if not _matches(item[1].node, fqn):
            yield item


def _ros_sections(argv: Sequence[str], fqn: str, read: ReadText | None) -> Iterator[_Sourced]:
    """Sections that match the node, in rcl's order: by where a section name appears first, then as they come."""
    by_name: dict[str, list[_Sourced]] = {}
    for item in _sections(argv, read):
        by_name.setdefault(item[1].node, []).append(item)
    for name, items in by_name.items():
        if _matches(name, fqn):
            yield from items


def _sections(argv: Sequence[str], read: ReadText | None) -> Iterator[_Sourced]:
    for kind, text in ros_arguments(argv).sources:
        if kind == "file":
            for section in read_sections((read or read_file)(text), text):
                yield (
                    f"{text}, section {section.node.removeprefix('/') if section.node in _PLAIN else section.node}",
                    section,
                )
        else:
            yield _COMMAND_LINE, _rule(text)


_PLAIN = frozenset(f"/{alias}" for alias in ALIASES)


def _rule(rule: str) -> Section:
    """`name:=value` or `node:name:=value` as a section; the value is YAML."""
    left, separator, value = rule.partition(":=")
    node, _, name = left.rpartition(":")
    if not separator or not name:
        # What stands behind a single = may be a secret.
        raise ParameterFileError(f"-p {rule.partition('=')[0]}: must be `name:=value`")
    target = f"/{node.lstrip('/')}" if node else "/**"
    return Section(target, {name: read_value(value, name, f"-p {name}")})


def _matches(section: str, fqn: str) -> bool:
    """Whether a section name applies to a node: `/*` is one part of a name, `/**` any number of parts."""
    pattern = re.escape(section).replace(r"/\*\*", r"(/\w+)*").replace(r"/\*", r"(/\w+)")
    return re.fullmatch(pattern, fqn) is not None


def _value_of(option: str, words: Iterator[str]) -> str:
    value = next(words, None)
    if value is None:
        raise ParameterFileError(f"{option} needs a value")
    return value


def read_file(path: str) -> str:
    """The text of a parameter file. Raises ParameterFileError with the reason when it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1).decode("utf-8")
    except OSError as error:
        raise ParameterFileError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ParameterFileError(f"{path}: not UTF-8 text") from error
