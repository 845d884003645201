"""The logs collection of local entities: log lines kept, found by entity, and filtered (API.md §8).

Bounded twice: so many lines a logger, so many loggers; who has logged nothing for longest makes room. Knows nothing of
HTTP, ROS or peers. `add` may be called from any thread, everything else belongs to the asyncio loop.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from heapq import merge
from typing import Any

from ..entities.model import App, Area, Component, Kind
from ..entities.tree import EntityTree

SEVERITIES = ("debug", "info", "warning", "error", "fatal")
MAX_ENTRIES = 10_000
MAX_LOGGERS_PER_LINE = 10  # loggers are at most this many times `logs.buffer_size`
MAX_MESSAGE = 16_384  # characters; a longer message is cut, and ends in CUT
CUT = " ... (cut)"
MAX_SETTINGS = 4096  # entities whose settings are remembered

Json = dict[str, Any]


@dataclass(frozen=True)
class LogLine:
    """One line. `level` as in rcl_interfaces/msg/Log (10 debug to 50 fatal); `logger` as published, with dots."""

    stamp_s: int
    stamp_ns: int
    level: int
    logger: str
    message: str
    function: str = ""
    file: str = ""
    line: int = 0


@dataclass(frozen=True)
class LogSettings:
    """What reads of an entity leave out."""

    severity_filter: str = "debug"
    max_entries: int = 100


def rank(severity: str) -> int:
    """The place of a severity, 0 for debug; unknown ones count as the least."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else 0


def logger_of(fqn: str) -> str:
    """`/a/b/c` and `a.b.c` name one logger (API.md §8.1)."""
    return fqn.strip("/").replace("/", ".")


def plugin_logger(app_id: str) -> str:
    """The logger of an app that is no node; no ROS name has a colon."""
    return f"app:{app_id}"


def matcher(tree: EntityTree, kind: Kind, entity_id: str, local: EntityTree) -> Callable[[str], bool]:
    """Which loggers belong to an entity: its nodes; of components and areas also what is below their namespace."""
    members = [app for app in tree.members(kind, entity_id) if app.id in local.apps]
    names = {logger_of(app.fqn) for app in members if app.fqn}
    names |= {plugin_logger(app.id) for app in members if app.plugin}
    entity = tree.get(kind, entity_id)
    prefixes: tuple[str, ...] = ()
    if isinstance(entity, (Area, Component)):
        spaces = [entity.namespace, entity.fqn if isinstance(entity, Component) else ""]
        prefixes = tuple(f"{logger_of(space)}." for space in spaces if logger_of(space))

    def matches(logger: str) -> bool:
        name = logger_of(logger)
        return name in names or name.startswith(prefixes)

    return matches


class LogStore:
    """The latest lines of every logger, and the settings of entities.

    :param buffer_size: `logs.buffer_size`, lines kept of one logger.
    """

    def __init__(self, buffer_size: int) -> None:
        self._buffer_size = buffer_size
        self._max_loggers = MAX_LOGGERS_PER_LINE * buffer_size
        self._lock = threading.Lock()
        self._rings: OrderedDict[str, deque[tuple[int, LogLine]]] = OrderedDict()  # longest silent first
        self._ids = itertools.count(1)
        self._settings: OrderedDict[tuple[Kind, str], LogSettings] = OrderedDict()

    def add(self, line: LogLine) -> None:
        """Keep a line; from any thread."""
        if len(line.message) > MAX_MESSAGE:
            line = replace(line, message=line.message[: MAX_MESSAGE - len(CUT)] + CUT)
        with self._lock:
            ring = self._rings.get(line.logger)
            if ring is None:
                ring = self._rings[line.logger] = deque(maxlen=self._buffer_size)
                if len(self._rings) > self._max_loggers:
                    self._rings.popitem(last=False)
            self._rings.move_to_end(line.logger)
            ring.append((next(self._ids), line))

    def items(self, matches: Callable[[str], bool], severity: str, context: str, limit: int) -> list[Json]:
        """The newest `limit` lines of `severity` or worse whose logger's name has `context` in it, oldest first."""
        with self._lock:
            rings = [list(ring) for name, ring in self._rings.items() if context in name and matches(name)]
        least = rank(severity)
        found = [one for one in merge(*rings, key=lambda one: one[0]) if _rank_of(one[1].level) >= least]
        return [_item(number, line) for number, line in found[-limit:]]

    def settings(self, kind: Kind, entity_id: str) -> LogSettings:
        """Those of an entity, the defaults while none are stored."""
        return self._settings.get((kind, entity_id), LogSettings())

    def set_settings(self, kind: Kind, entity_id: str, settings: LogSettings) -> None:
        """Store the settings of an entity."""
        self._settings[kind, entity_id] = settings
        self._settings.move_to_end((kind, entity_id))
        while len(self._settings) > MAX_SETTINGS:
            self._settings.popitem(last=False)


def aggregation_of(tree: EntityTree, kind: Kind, entity_id: str) -> Json:
    """The `x-medkit` of a log list: what it is gathered of; empty for an app (API.md §8.1)."""
    if kind is Kind.APP:
        return {}
    facts: Json = {"entity_id": entity_id, "aggregation_level": kind.type, "aggregated": True}
    apps: tuple[App, ...] = tree.members(kind, entity_id)
    if not apps:
        return facts
    if kind is Kind.FUNCTION:
        facts["host_count"] = len(apps)
    else:
        if kind is Kind.AREA:
            facts["component_count"] = len(tree.components_within(entity_id))
        facts["app_count"] = len(apps)
    facts["aggregation_sources"] = list(dict.fromkeys((entity_id, *(app.id for app in apps))))
    return facts


def _rank_of(level: int) -> int:
    return max(0, min(level // 10 - 1, len(SEVERITIES) - 1))


def _item(number: int, line: LogLine) -> Json:
    context: Json = {"node": line.logger}
    if line.function:
        context["function"] = line.function
    if line.file:
        context["file"] = line.file
    if line.line:
        context["line"] = line.line
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(line.stamp_s))
    return {
        "id": f"log_{number}",
        "timestamp": f"{moment}.{line.stamp_ns:09d}Z",
        "severity": SEVERITIES[_rank_of(line.level)],
        "message": line.message,
        "context": context,
    }
