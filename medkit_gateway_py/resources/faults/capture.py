"""Freeze frames: what reporting nodes published last, and their parameters, once a fault is confirmed (API.md §7.5).

Topics are read from the pool that requests are answered from, so a topic that somebody looks at costs nothing. One
that nobody looks at is subscribed to and given the rest of the deadline to say something; slow and silent ones are
left out. Nothing here keeps the snapshots.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import anyio

from ...entities.model import GraphNode
from ...errors import GatewayError
from ...ros.parameter_values import Parameter, ParameterError
from .model import Fault, Snapshot

DEADLINE_S = 0.5  # of the whole capture: what was so at the moment of the fault is wanted, not what is so later
POLL_S = 0.02
MAX_NODES = 4  # reporting nodes that are looked at
MAX_TOPICS = 16  # of all of them: a fault with more is read by nobody
MAX_SNAPSHOT_BYTES = 16 * 1024  # of one snapshot: a camera image explains nothing in JSON
MAX_BYTES = 64 * 1024  # of one fault; a thousand confirmed faults are then 64 MB on disk at worst
# Captures at once; in a storm of faults the others go without, because later values would not be those of the moment.
MAX_CAPTURES = 4
# What every node publishes says nothing about one of them.
COMMON_TOPICS = frozenset({"/rosout", "/parameter_events", "/diagnostics"})

# Never as short as a snapshot; to subscribe to them would only cost the robot's network a minute of images.
HEAVY_TYPES = frozenset(
    f"{package}/msg/{name}"
    for package, names in {
        "sensor_msgs": ("Image", "CompressedImage", "PointCloud", "PointCloud2"),
        "stereo_msgs": ("DisparityImage",),
        "nav_msgs": ("OccupancyGrid",),
        "map_msgs": ("OccupancyGridUpdate",),
        "visualization_msgs": ("MarkerArray",),
    }.items()
    for name in names
)

FREEZE_FRAME = "freeze_frame"
PARAMETERS = "parameters"

_log = logging.getLogger(__name__)


class Reader(Protocol):
    """Reads topics: `TopicReader`."""

    async def read(self, topic: str, timeout_s: float) -> Any: ...


class Asker(Protocol):
    """Asks nodes for parameters: `NodeParameters`."""

    async def read_all(self, fqn: str, within_s: float | None = None) -> list[Parameter]: ...


class FreezeFrames:
    """Takes snapshots; runs on the asyncio loop.

    :param topics: full names; only these are captured. Empty: all that the nodes publish.
    """

    def __init__(
        self,
        reader: Reader,
        parameters: Asker,
        nodes: Callable[[], Sequence[GraphNode]],
        topics: Sequence[str] = (),
        deadline_s: float = DEADLINE_S,
    ) -> None:
        self._reader, self._parameters, self._nodes = reader, parameters, nodes
        self._topics, self._deadline_s = frozenset(topics), deadline_s
        self._running = 0
        self.captures = self.skipped = 0

    async def capture(self, fault: Fault) -> tuple[Snapshot, ...]:
        """Snapshots of the nodes among the fault's sources, within the deadline; never raises but when cancelled."""
        wanted = set(fault.reporting_sources)
        nodes = [node for node in self._nodes() if node.fqn in wanted][:MAX_NODES]
        if not nodes:
            return ()
        if self._running >= MAX_CAPTURES:
            self.skipped += 1
            return ()
        self._running += 1
        try:
            deadline = time.monotonic() + self._deadline_s
            values: dict[str, dict[str, Any]] = {}
            found: list[Snapshot] = []
            # Values lie ready one by one: what is there at the deadline is taken.
            with anyio.move_on_after(self._deadline_s):
                async with anyio.create_task_group() as group:
                    for node in nodes:
                        group.start_soon(self._ask, node.fqn, deadline, values)
                    group.start_soon(self._read, self._topics_of(nodes), deadline, found)
            self.captures += 1
            return self._bounded(values, found)
        except Exception:  # a fault without a freeze frame is still a fault
            _log.exception("the circumstances of fault %s could not be captured", fault.fault_code)
            return ()
        finally:
            self._running -= 1

    def _topics_of(self, nodes: Sequence[GraphNode]) -> list[str]:
        published = {
            use.name
            for node in nodes
            for use in node.topics
            if use.direction != "subscribe" and use.type not in HEAVY_TYPES
        }
        wanted = published & self._topics if self._topics else published - COMMON_TOPICS
        return sorted(wanted)[:MAX_TOPICS]

    async def _read(self, topics: list[str], deadline: float, found: list[Snapshot]) -> None:
        """Look at each topic again and again without waiting: a silent one must not use up the time of the others."""
        leaves = Counter(topic.rsplit("/", 1)[-1] for topic in topics)
        left = list(topics)
        while left:
            for topic in list(left):
                with contextlib.suppress(GatewayError):  # cannot be subscribed to, or too many are waited for just now
                    reading = await self._reader.read(topic, 0.0)
                    if reading.value is not None:
                        left.remove(topic)
                        if _is_longer_than(reading.value, MAX_SNAPSHOT_BYTES):
                            continue
                        leaf = topic.rsplit("/", 1)[-1]
                        name = leaf if leaves[leaf] == 1 else topic.lstrip("/")
                        found.append(_topic_snapshot(name, reading))
            if time.monotonic() + POLL_S >= deadline:
                return
            await asyncio.sleep(POLL_S)

    async def _ask(self, fqn: str, deadline: float, values: dict[str, dict[str, Any]]) -> None:
        with contextlib.suppress(GatewayError, ParameterError):  # a node without parameters, or one that is silent
            # A little less than the deadline, so that it is the call that gives up.
            left_s = max(0.01, deadline - time.monotonic() - POLL_S)
            values[fqn] = {one.name: one.value.value for one in await self._parameters.read_all(fqn, left_s)}

    def _bounded(self, values: dict[str, dict[str, Any]], found: list[Snapshot]) -> tuple[Snapshot, ...]:
        kept: list[Snapshot] = []
        room = MAX_BYTES
        if any(values.values()):
            data = _json({fqn: values[fqn] for fqn in sorted(values)})
            if len(data) <= MAX_SNAPSHOT_BYTES:
                kept.append(Snapshot(FREEZE_FRAME, PARAMETERS, data, captured_at=time.time()))
                room -= len(data)
        for one in sorted(found, key=lambda snapshot: snapshot.topic):
            if len(one.data) <= min(room, MAX_SNAPSHOT_BYTES):
                kept.append(one)
                room -= len(one.data)
        return tuple(kept)


def _topic_snapshot(name: str, reading: Any) -> Snapshot:
    return Snapshot(
        FREEZE_FRAME, name, _json(reading.value), reading.topic, reading.type, captured_at=reading.timestamp_ns / 1e9
    )


def _json(value: Any) -> str:
    """JSON text; what JSON has no number for becomes null, as in messages."""
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), separators=(",", ":"), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_longer_than(value: Any, limit: int) -> bool:
    """Whether the JSON of a value is surely longer, found out without writing megabytes of it."""
    stack, length = [value], 0
    while stack and length <= limit:
        item = stack.pop()
        if isinstance(item, str):
            length += len(item)
        elif isinstance(item, (list, dict)):
            length += 2 * len(item)
            if length <= limit:
                stack.extend(item.values() if isinstance(item, dict) else item)
        else:
            length += 1
    return length > limit
