"""Reading a gateway that does not serve its tree (the C++ one) into one origin section (AGGREGATION.md §6, §11).

`/health` is polled; the collections are fetched when its cache generation changed, and now and then. Every item is
checked by itself: a wrong one is dropped and named, and the others stay.

What its apps offer (`/apps/{id}/data`, `/operations`) is not fetched: a section does not hold it, requests for it are
forwarded.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import anyio

from ..entities.ids import is_valid_id
from ..entities.model import Entity, Kind
from ..entities.tree import EntityTree
from ..errors import GatewayError
from .client import Answer, BadAnswer, PeerClient
from .request import NO_FAN_OUT
from .section_reader import MAX_DROPPED_NAMED, MAX_INSTANCE_ID, entity_from_wire
from .sections import DroppedItem, OriginSection, TreeDocumentError
from .transport import CONTROL

# A C++ gateway serves a small pool of threads; more at once would keep its own clients waiting.
CONCURRENCY = 4
# Sub-areas below sub-areas; a cycle must end too.
MAX_DEPTH = 16
# Nobody can say which of two gateways that poll it knows the newer state, so all its sections are of one age: the
# shortest way counts, and another one at once when that breaks.
NO_AGE = ("-", 0)
REQUEST_HEADERS = ((NO_FAN_OUT.encode(), b"1"),)

# Given the URL of the gateway and its peers, name to URL: what tells its echoes.
FindEchoes = Callable[[str, Mapping[str, str]], Awaitable[Callable[[dict[str, Any]], bool]]]


@dataclass(frozen=True)
class CompatibleResult:
    """One poll: `section` is None when nothing was fetched; `is_ours` when it is no C++ gateway at all."""

    section: OriginSection | None = None
    is_ours: bool = False
    version: str = ""
    dropped: tuple[DroppedItem, ...] = ()
    dropped_count: int = 0


def origin_id(url: str) -> str:
    """The id of an origin that has no instance id: `url:<base url>`."""
    text = f"url:{url}"
    if len(text) <= MAX_INSTANCE_ID:
        return text
    return f"{text[: MAX_INSTANCE_ID - 17]}_{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


@dataclass
class _Fetch:
    """The items of one fetch, by kind and id, and what had to be dropped."""

    client: PeerClient
    max_entities: int
    is_echo: Callable[[dict[str, Any]], bool]
    limiter: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(CONCURRENCY))
    found: dict[Kind, dict[str, Entity]] = field(default_factory=lambda: {kind: {} for kind in Kind})
    dropped: list[DroppedItem] = field(default_factory=list)
    dropped_count: int = 0
    entities: int = 0
    problem: Exception | None = None

    def drop(self, where: str, reason: str) -> None:
        self.dropped_count += 1
        if len(self.dropped) < MAX_DROPPED_NAMED:
            self.dropped.append(DroppedItem(where, reason))

    async def items(self, path: str) -> list[Any]:
        body = await self.object(path)
        items = body.get("items")
        if not isinstance(items, list):
            raise BadAnswer(f"{path}: `items` is not an array")
        return items

    async def object(self, path: str) -> dict[str, Any]:
        async with self.limiter:
            answer: Answer = await self.client.get(f"/api/v1{path}".encode(), headers=REQUEST_HEADERS, lane=CONTROL)
        if answer.status != 200:
            raise BadAnswer(f"{path}: answered {answer.status}")
        body = await answer.json()
        if not isinstance(body, dict):
            raise BadAnswer(f"{path}: not an object")
        return body

    def take(self, kind: Kind, wire: Any, where: str) -> str | None:
        """Add one list item; its id, or None when it was dropped."""
        self.entities += 1
        if self.entities > self.max_entities:
            raise TreeDocumentError(f"more than {self.max_entities} entities")
        try:
            entity = entity_from_wire(kind, flat(kind, wire))
        except ValueError as error:
            self.drop(where, str(error))
            return None
        if self.is_echo(wire):
            return None
        if entity.id in self.found[kind]:
            return None
        self.found[kind][entity.id] = entity
        return entity.id

    def refine(self, kind: Kind, wire: Any, where: str) -> None:
        """Replace a list item by its detail, which says more; a wrong detail leaves what the list said."""
        try:
            entity = entity_from_wire(kind, flat(kind, wire))
        except ValueError as error:
            self.drop(where, str(error))
            return
        present = self.found[kind].get(entity.id)
        if present is not None:
            self.found[kind][entity.id] = entity

    async def each(self, ids: Iterable[str], one: Callable[[str], Any]) -> None:
        """Run `one` for all ids, at most four at once; an item's failure drops that item, a lost peer ends it all."""

        async def guarded(entity_id: str) -> None:
            try:
                await one(entity_id)
            except (BadAnswer, ValueError) as error:
                if isinstance(error, TreeDocumentError):
                    self.problem = error
                    group.cancel_scope.cancel()
                else:
                    self.drop(entity_id, str(error))
            except GatewayError as error:
                self.problem = error
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            for entity_id in ids:
                group.start_soon(guarded, entity_id)
        if self.problem is not None:
            raise self.problem


def flat(kind: Kind, wire: Any) -> Any:
    """The API's item or detail (API.md §3) in the members of our entities."""
    if not isinstance(wire, dict):
        return wire
    medkit = _dict(wire.get("x-medkit"))
    ros2 = _dict(medkit.get("ros2"))
    found = {
        key: wire[key] for key in ("id", "name", "description", "tags", "translation_id") if wire.get(key) is not None
    }
    for key in ("source", "external", "available", "is_online", "component_id", "variant", "identity", "area"):
        if medkit.get(key) is not None:
            found[key] = medkit[key]
    if ros2.get("namespace") is not None:
        found["namespace"] = ros2["namespace"]
    node = ros2.get("node")
    if node is not None:
        found["fqn"] = node
    if kind is Kind.AREA:
        _put(found, "parent_area_id", medkit.get("parent_area_id"))
    elif kind is Kind.COMPONENT:
        _put(found, "type", medkit.get("type"))
        _put(found, "parent_component_id", medkit.get("parentComponentId"))
        _put(found, "depends_on", medkit.get("dependsOn"))
        _put(found, "area", medkit.get("area"))
    elif kind is Kind.FUNCTION:
        hosts = medkit.get("hosts")
        if isinstance(hosts, list):
            found["hosts"] = [host for host in hosts if isinstance(host, str) and is_valid_id(host)]
    return found


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _put(found: dict[str, Any], key: str, value: Any) -> None:
    if value is not None and value != "":
        found[key] = value


class CompatiblePoll:
    """Polls one such gateway."""

    def __init__(self, client: PeerClient, refresh_s: float, max_entities: int, find_echoes: FindEchoes | None) -> None:
        self._client = client
        self._refresh_s = refresh_s
        self._max_entities = max_entities
        self._find_echoes = find_echoes
        self._tree: EntityTree | None = None
        self._generation: Any = None
        self._fetched_at = -1e9
        # Whether it has an item only from us or from another peer of ours, as the item says itself (§8).
        self.is_echo: Callable[[dict[str, Any]], bool] = _is_no_echo

    def use(self, client: PeerClient) -> None:
        """Ask by this one from now on, and fetch everything at the next poll; versions go on being counted."""
        self._client = client
        self.forget()

    def forget(self) -> None:
        """Fetch everything at the next poll."""
        self._tree, self._generation, self._fetched_at = None, None, -1e9

    async def poll(self) -> CompatibleResult:
        """Ask `/health`, and the collections when they may be different. Raises what PeerClient raises."""
        answer = await self._client.get(b"/api/v1/health", lane=CONTROL)
        if answer.status != 200:
            raise BadAnswer(f"answered {answer.status} when asked for its health")
        health = await answer.json()
        if not isinstance(health, dict) or not isinstance(health.get("status"), str):
            raise BadAnswer("is no gateway: its /health says nothing of a status")
        if isinstance(_dict(health.get("x-medkit")).get("instance_id"), str):
            return CompatibleResult(is_ours=True)
        generation = _dict(health.get("x-medkit-entity-cache")).get("generation")
        now = time.monotonic()
        is_fresh = now - self._fetched_at < self._refresh_s and generation == self._generation
        if self._tree is not None and is_fresh:
            return CompatibleResult()
        fetch = await self._fetch(_urls_of(health.get("peers")))
        self._generation, self._fetched_at = generation, now
        found: dict[str, Any] = {kind.value: dict(sorted(items.items())) for kind, items in fetch.found.items()}
        tree = EntityTree(**found)
        if tree != self._tree:
            self._tree = tree
        origin = origin_id(self._client.url)
        section = OriginSection(origin, self._client.name, NO_AGE[0], NO_AGE[1], (origin,), tree=tree)
        return CompatibleResult(section, False, "", tuple(fetch.dropped), fetch.dropped_count)

    async def _fetch(self, peer_urls: dict[str, str]) -> _Fetch:
        if self._find_echoes is not None:
            self.is_echo = await self._find_echoes(self._client.url, peer_urls)
        fetch = _Fetch(self._client, self._max_entities, self.is_echo)

        async def children(kind: Kind, entity_id: str, collection: str, parent: str, depth: int) -> None:
            if depth > MAX_DEPTH:
                return
            path = f"/{kind.value}/{entity_id}/{collection}"
            for index, item in enumerate(await fetch.items(path)):
                child = fetch.take(kind, item, f"{path}[{index}]")
                if child is not None:
                    entity: Any = fetch.found[kind][child]
                    fetch.found[kind][child] = replace(entity, **{parent: entity_id})
                    await children(kind, child, collection, parent, depth + 1)

        async def detail(kind: Kind, entity_id: str) -> None:
            fetch.refine(kind, await fetch.object(f"/{kind.value}/{entity_id}"), f"/{kind.value}/{entity_id}")

        for kind in Kind:
            top = []
            for index, item in enumerate(await fetch.items(f"/{kind.value}")):
                taken = fetch.take(kind, item, f"/{kind.value}[{index}]")
                if taken is not None:
                    top.append(taken)
            if kind is Kind.AREA:
                await fetch.each(top, lambda area: children(Kind.AREA, area, "subareas", "parent_area_id", 1))
            elif kind is Kind.COMPONENT:
                await fetch.each(
                    top, lambda one: children(Kind.COMPONENT, one, "subcomponents", "parent_component_id", 1)
                )
                parents = {one.id: getattr(one, "parent_component_id", "") for one in fetch.found[kind].values()}
                await fetch.each(list(fetch.found[kind]), lambda one: detail(Kind.COMPONENT, one))
                for component_id, parent in parents.items():
                    if parent:
                        here: Any = fetch.found[kind][component_id]
                        fetch.found[kind][component_id] = replace(here, parent_component_id=parent)
            elif kind is Kind.FUNCTION:
                await fetch.each(top, lambda one: detail(Kind.FUNCTION, one))
        return fetch


def _is_no_echo(_item: dict[str, Any]) -> bool:
    return False


def _urls_of(peers: Any) -> dict[str, str]:
    """Name to URL of the peers that a `/health` lists."""
    if not isinstance(peers, list):
        return {}
    return {
        one["name"]: one["url"]
        for one in peers
        if isinstance(one, dict) and isinstance(one.get("name"), str) and isinstance(one.get("url"), str)
    }
