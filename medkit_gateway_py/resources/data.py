"""The data collection of local entities: topics listed, read and written (API.md §4).

Knows nothing of HTTP or of peers: a listing covers the local members of an entity, whoever gathers the rest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ..entities.model import App, Kind
from ..entities.tree import EntityTree
from ..plugins.api import DataItem

if TYPE_CHECKING:
    from .plugins import Plugins

Json = dict[str, Any]


class TopicReading(Protocol):
    """One read of a topic: `value` is the message as JSON, None when there was none in time (`metadata_only`)."""

    @property
    def topic(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def value(self) -> Json | None: ...
    @property
    def timestamp_ns(self) -> int | None: ...
    @property
    def publisher_count(self) -> int: ...
    @property
    def subscriber_count(self) -> int: ...
    @property
    def status(self) -> str: ...


class TopicSource(Protocol):
    """What `ros/topics.py` gives; a protocol so that this room does not import rclpy."""

    async def read(self, topic: str, timeout_s: float) -> TopicReading:
        """The latest message, waiting at most `timeout_s` for a first one."""

    def type_info(self, type_name: str) -> Json | None:
        """`{"schema", "default_value"}` of a type, None when it cannot be imported."""


class TopicSink(Protocol):
    """The writing half of `ros/topics.py`."""

    async def publish(self, topic: str, type_name: str, payload: Any) -> None:
        """Convert strictly and publish; raises `ros.messages.FieldError` for a payload that does not fit."""


def full_topic(path: str) -> str:
    """The topic of a data id: a leading slash is prepended when missing (API.md §4.2)."""
    return path if path.startswith("/") else f"/{path}"


class DataService:
    """Lists, reads and writes topics of local entities."""

    def __init__(
        self, source: TopicSource, sink: TopicSink, sample_timeout_s: float, plugins: Plugins | None = None
    ) -> None:
        self._source = source
        self._plugins = plugins
        self._sink = sink
        self._sample_timeout_s = sample_timeout_s

    def items(self, tree: EntityTree, kind: Kind, entity_id: str, local: EntityTree) -> list[Json]:
        """One item a topic over all local members, sorted by topic (API.md §4.1).

        A topic used by several members is one item whose direction is united; `member_ids` on aggregating entities.
        """
        members = [app for app in tree.members(kind, entity_id) if app.id in local.apps]
        uses = _gather(members)
        items = []
        for topic in sorted(uses):
            type_name, direction, member_ids = uses[topic]
            ros2: Json = {"topic": topic, "direction": direction}
            medkit: Json = {"ros2": ros2}
            if type_name:
                ros2["type"] = type_name
                info = self._source.type_info(type_name)
                if info is not None:
                    medkit["type_info"] = info
            if kind is not Kind.APP:
                medkit["member_ids"] = member_ids
            items.append({"id": topic, "name": topic, "category": "currentData", "x-medkit": medkit})
        if self._plugins is not None:
            for app in self._plugins.members(tree, kind, entity_id):
                items += [plugin_item(app.id, item, kind) for item in app.data]
        return items

    async def read(self, entity_id: str, topic: str, data_id: str | None = None) -> Json:
        """The body of a read (API.md §4.2); `data_id` is the id to echo, by default the topic."""
        reading = await self._source.read(topic, self._sample_timeout_s)
        ros2: Json = {"topic": reading.topic}
        medkit: Json = {
            "ros2": ros2,
            "entity_id": entity_id,
            "publisher_count": reading.publisher_count,
            "subscriber_count": reading.subscriber_count,
            "status": reading.status,
        }
        if reading.type:
            ros2["type"] = reading.type
            info = self._source.type_info(reading.type)
            if info is not None:
                medkit["type_info"] = info
        if reading.timestamp_ns is not None:
            medkit["timestamp"] = reading.timestamp_ns
        value = reading.value if reading.value is not None else {}
        body: Json = {"id": data_id or reading.topic, "data": value, "x-medkit": medkit}
        if reading.value is not None:
            # The web UI reads `value` (CLIENTS.md §1).
            body["value"] = value
        return body

    async def write(self, entity_id: str, topic: str, type_name: str, payload: Any, data_id: str | None = None) -> Json:
        """Publish once; the body of the answer (API.md §4.3)."""
        await self._sink.publish(topic, type_name, payload)
        return {
            "id": data_id or topic,
            "data": payload,
            "x-medkit": {"ros2": {"topic": topic, "type": type_name}, "entity_id": entity_id, "status": "published"},
        }


def plugin_item(app_id: str, item: DataItem, kind: Kind) -> Json:
    """The list item of a data item of a plugin's app."""
    medkit: Json = {"entity_id": app_id, "writable": item.writable}
    if item.schema is not None:
        medkit["type_info"] = {"schema": item.schema}
    if kind is not Kind.APP:
        medkit["member_ids"] = [app_id]
    return {"id": item.id, "name": item.name or item.id, "category": item.category, "x-medkit": medkit}


def plugin_value(app_id: str, entity_id: str, data_id: str, value: Any, status: str) -> Json:
    """The body of a read or a write of such an item; `status` data or published."""
    medkit: Json = {"entity_id": entity_id, "source_app": app_id, "timestamp": time.time_ns(), "status": status}
    # The web UI reads `value` (CLIENTS.md §1).
    return {"id": data_id, "data": value, "value": value, "x-medkit": medkit}


def _gather(members: list[App]) -> Mapping[str, tuple[str, str, list[str]]]:
    found: dict[str, tuple[str, str, list[str]]] = {}
    for app in members:
        for use in app.topics:
            present = found.get(use.name)
            if present is None:
                found[use.name] = (use.type, use.direction, [app.id])
                continue
            type_name, direction, ids = present
            if direction != use.direction:
                direction = "both"
            if app.id not in ids:
                ids.append(app.id)
            found[use.name] = (type_name or use.type, direction, ids)
    return found
