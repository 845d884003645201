"""Turning a peer's app ids into ours in what it answers, and ours into its in what it is asked (AGGREGATION.md §7).

Only apps have other ids here than there. What is rewritten is told by the member's name and place, never by searching
text: nothing under `data`, `parameters`, `value`, a log's `message` or another member of `_FOREIGN` is touched, because
that is what robots say. Pure.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import unquote

from ..entities.model import Kind

API = "/api/v1"
_KINDS = frozenset(kind.type for kind in Kind)
# What is below these is said by robots or describes what they say.
_FOREIGN = frozenset(
    {
        "data", "parameters", "value", "message", "default_value", "schema", "type_info",
        # Of freeze frames (API.md §7.5), of actions (§5.5), of triggers (§10.3), of components (§3.3).
        "full_data", "result", "last_feedback", "trigger_condition", "identity",
    }
)  # fmt: skip
_APP_ID = frozenset({"source_app", "app_id", "member_id"})
# These name the entity of the request (of any kind) or an app.
_ENTITY_ID = frozenset({"entity_id"})
_APP_IDS = frozenset({"member_ids"})
_ENTITY_IDS = frozenset({"aggregation_sources", "source_ids"})
_ITEM_IDS = frozenset({"operation_ids", "data_ids"})
_APP_LINK = re.compile(r"(?P<head>/api/v1/apps/)(?P<id>[A-Za-z0-9_-]+)(?P<tail>[/?#].*)?", re.DOTALL)
# An item of an entity of several members: `member:item` (API.md §4.1, §5.1, §6.2).
_ITEM_LINK = re.compile(
    r"(?P<head>/api/v1/(?:areas|components|functions)/[A-Za-z0-9_-]+/(?:data|operations|configurations)/)"
    r"(?P<id>[A-Za-z0-9_-]+)(?P<tail>(?::|%3A|%3a).*)",
    re.DOTALL,
)
# Bulk-data links come without the prefix of the API (CLIENTS.md §1).
_BARE_LINK = re.compile(r"(?P<head>/apps/)(?P<id>[A-Za-z0-9_-]+)(?P<tail>/.*)?", re.DOTALL)
MAX_DEPTH = 64


@dataclass(frozen=True)
class Rewriter:
    """Rewrites for one peer and one request.

    `ids` maps app ids at the peer to ours, `name_of` gives the name of one of our apps; `kind` and `entity_id` are
    those of the request, the id as the peer knows it; `owner` is the peer's name where the entity is its alone.
    """

    ids: Mapping[str, str]
    name_of: Callable[[str], str]
    kind: Kind | None = None
    entity_id: str = ""
    owner: str = ""

    @cached_property
    def _reverse(self) -> Mapping[str, str]:
        return {here: there for there, here in self.ids.items()}

    @cached_property
    def stamp(self) -> str:
        """Eight hex digits that change whenever the ids do; part of the ETags of rewritten answers."""
        text = "\0".join(f"{there}\0{here}" for there, here in sorted(self.ids.items()))
        return hashlib.blake2b(f"{self.owner}\0{text}".encode(), digest_size=4).hexdigest()

    # Answers: from the peer's ids to ours

    def body(self, value: Any) -> Any:
        """A whole JSON answer."""
        if isinstance(value, dict) and isinstance(value.get("error_code"), str) and "message" in value:
            return self._error(value)
        rewritten = self._value(value, "", 0)
        if self.owner and isinstance(rewritten, dict) and "_links" in rewritten and "id" in rewritten:
            self._claim(rewritten)
        return rewritten

    def _claim(self, detail: dict[str, Any]) -> None:
        """A detail says from which peer it is, as the list does (AGGREGATION.md §4)."""
        source = detail["source"] = f"peer:{self.owner}"
        medkit = detail.setdefault("x-medkit", {})
        if isinstance(medkit, dict):
            medkit["source"] = source
            medkit["contributors"] = [source]

    def _error(self, body: dict[str, Any]) -> dict[str, Any]:
        """Error bodies: their `parameters` are the gateway's own words, ids among them."""
        parameters = body.get("parameters")
        rewritten = dict(body)
        if isinstance(parameters, dict):
            rewritten["parameters"] = {
                key: self._member(key, value, 1) if key not in _FOREIGN else value for key, value in parameters.items()
            }
        return rewritten

    def _value(self, value: Any, key: str, depth: int) -> Any:
        if depth > MAX_DEPTH:
            return value
        if isinstance(value, dict):
            return self._object(value, key, depth)
        if isinstance(value, list):
            return [self._value(item, key, depth + 1) for item in value]
        if isinstance(value, str):
            return self.link(value)
        return value

    def _object(self, wire: dict[str, Any], key: str, depth: int) -> dict[str, Any]:
        if key == "payload" and not _is_our_payload(wire):
            return wire
        kind = wire.get("type")
        is_entity = isinstance(kind, str) and kind in _KINDS and isinstance(wire.get("id"), str)
        rewritten: dict[str, Any] = {}
        for name, value in wire.items():
            if key == "x-medkit" and name == "parameters" and isinstance(value, list):
                rewritten[name] = [self._listed(one) for one in value]
            elif name in _FOREIGN:
                # Of a detail these are links, and links only (API.md §3.2).
                rewritten[name] = self.link(value) if is_entity and isinstance(value, str) else value
            else:
                rewritten[name] = self._member(name, value, depth + 1)
        if is_entity or isinstance(wire.get("href"), str):
            self._entity(wire, rewritten)
        elif isinstance(wire.get("id"), str):
            rewritten["id"] = self._item_id(wire["id"])
            if wire.get("type") == "parameter":
                self._parameter(rewritten)
        return rewritten

    def _entity(self, wire: dict[str, Any], rewritten: dict[str, Any]) -> None:
        href = wire.get("href")
        is_app = wire.get("type") == "app" or (isinstance(href, str) and href.startswith(f"{API}/apps/"))
        if not is_app:
            return
        entity_id = wire.get("id")
        here = self.ids.get(entity_id) if isinstance(entity_id, str) else None
        if here is not None:
            rewritten["id"] = here
            if "name" in wire:
                rewritten["name"] = self.name_of(here)

    def _listed(self, wire: Any) -> Any:
        """One of `x-medkit.parameters`: the node's word, but for the app that it is of (API.md §6.2)."""
        if not isinstance(wire, dict) or not isinstance(wire.get("x-medkit"), dict):
            return wire
        rewritten = {**wire, "x-medkit": dict(wire["x-medkit"])}
        self._parameter(rewritten)
        return rewritten

    def _parameter(self, rewritten: dict[str, Any]) -> None:
        """A configuration item of an aggregated list names its app as `x-medkit.source` (API.md §6.2)."""
        medkit = rewritten.get("x-medkit")
        if isinstance(medkit, dict) and isinstance(medkit.get("source"), str):
            medkit["source"] = self._entity_or_app(medkit["source"])

    def _member(self, name: str, value: Any, depth: int) -> Any:
        if isinstance(value, str):
            if name in _APP_ID:
                return self.ids.get(value, value)
            if name in _ENTITY_ID:
                return self._entity_or_app(value)
            if name == "bulk_data_uri":
                return self.link(value) if value.startswith(API) else _replace(_BARE_LINK, value, self.ids)
            return self.link(value)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            if name in _APP_IDS or name == "hosts" or (name in ("depends_on", "dependsOn") and self.kind is Kind.APP):
                return [self.ids.get(item, self.link(item)) for item in value]
            if name in _ENTITY_IDS:
                return [self._entity_or_app(item) for item in value]
            if name in _ITEM_IDS:
                return [self._item_id(item) for item in value]
        return self._value(value, name, depth)

    def _entity_or_app(self, entity_id: str) -> str:
        """An id that is the entity's of the request, or an app's: a component may be called as an app is."""
        if self.kind not in (None, Kind.APP) and entity_id == self.entity_id:
            return entity_id
        return self.ids.get(entity_id, entity_id)

    def _item_id(self, item_id: str) -> str:
        """`member:item` of an aggregated list (API.md §4.1, §5.1, §6.2)."""
        member, colon, item = item_id.partition(":")
        if not colon or member not in self.ids:
            return item_id
        return f"{self.ids[member]}:{item}"

    def link(self, text: str) -> str:
        """A link into the API, `text` itself when it is none."""
        return _replace(_APP_LINK, _replace(_ITEM_LINK, text, self.ids), self.ids)

    def etag(self, etag: str) -> str:
        """The ETag of the rewritten answer: weak, and made of the peer's and of the ids that went into it."""
        weak, opaque = etag.startswith("W/"), etag.removeprefix("W/").strip('"')
        return f'W/"{opaque}-{"w" if weak else "s"}{self.stamp}"'

    # Requests: from our ids to the peer's

    def peer_etags(self, if_none_match: str) -> str:
        """`If-None-Match` in the peer's ETags; those made with other ids match nothing and are left out."""
        found = []
        for part in if_none_match.split(","):
            opaque = part.strip().removeprefix("W/").strip('"')
            if opaque.endswith((f"-s{self.stamp}", f"-w{self.stamp}")):
                weak = opaque[-9] == "w"
                found.append(f'{"W/" if weak else ""}"{opaque[:-10]}"')
            elif not re.search(r"-[sw][0-9a-f]{8}$", opaque):
                found.append(part.strip())
        return ", ".join(found)

    def request_body(self, body: Any) -> Any:
        """The body that creates a trigger or a subscription: its `resource` is a link (API.md §10.3, §10.4)."""
        if not isinstance(body, dict) or not isinstance(body.get("resource"), str):
            return body
        resource = _replace(_APP_LINK, _replace(_ITEM_LINK, body["resource"], self._reverse), self._reverse)
        return {**body, "resource": resource}

    def rest(self, rest: str) -> str:
        """The raw rest of a path behind the entity's id; `member:` of an item id becomes the peer's.

        `rest` is percent-encoded and stays so: `/configurations/arm__cam%3Arate` -> `/configurations/cam%3Arate`.
        """
        match = re.match(
            r"(?P<head>/(?:data|operations|configurations)/)(?P<member>[A-Za-z0-9_%-]+?)(?P<tail>(?::|%3A|%3a).*)", rest
        )
        if match is None:
            return rest
        there = self._reverse.get(unquote(match["member"]))
        return rest if there is None else f"{match['head']}{there}{match['tail']}"


def _replace(pattern: re.Pattern[str], text: str, ids: Mapping[str, str]) -> str:
    """The link with another id in it; `text` itself when it is no such link."""
    match = pattern.fullmatch(text) if text.startswith("/") else None
    if match is None or match["id"] not in ids:
        return text
    return f"{match['head']}{ids[match['id']]}{match['tail'] or ''}"


def _is_our_payload(payload: dict[str, Any]) -> bool:
    """Whether an event's payload is one of the API's objects, not a message of a robot (API.md §10.3, §10.4).

    A message may have any member; so it must have several that only the API's objects have together.
    """
    items = payload.get("items")
    return (
        isinstance(payload.get("fault_code"), str)
        or (isinstance(items, list) and bool(items) and all(_is_our_item(item) for item in items))
        or (isinstance(payload.get("id"), str) and "data" in payload and isinstance(payload.get("x-medkit"), dict))
    )


def _is_our_item(item: Any) -> bool:
    """Whether something is an item of a list of faults, log lines, parameters, operations or data."""
    return isinstance(item, dict) and (
        isinstance(item.get("fault_code"), str)
        or ("severity" in item and "timestamp" in item and isinstance(item.get("id"), str))
        or (item.get("type") == "parameter" and isinstance(item.get("id"), str))
        or (isinstance(item.get("id"), str) and isinstance(item.get("x-medkit"), dict))
    )
