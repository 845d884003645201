"""Asking several gateways at once, and saying whose answer is missing (AGGREGATION.md §8).

Every origin is asked once, through the peer its best way leads over. The wait is the slowest peer's, at most
`aggregation.timeout_ms` and what the asker still waits.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio

from ..entities.model import Kind
from ..errors import GatewayError
from .client import DECODE_ON_LOOP, BadAnswer
from .forward import rewriter_for
from .peer import COMPATIBLE
from .request import NO_FAN_OUT, RequestInfo, origins_header
from .rewrite import Rewriter
from .routing import FederatedTree, Shared

if TYPE_CHECKING:
    from .federation import Federation
    from .peer import Peer

API = "/api/v1"
# What one peer's answer may say of dropped items.
MAX_DROPPED_NAMED = 20
# Ten times the longest list of log lines, and more than the parameters of a thousand nodes.
MAX_ITEMS = 100_000
# Gateways behind a peer that it may name as missing, and the length of a name with its way.
MAX_BEHIND = 1024
MAX_LABEL = 300
# What it may say of each of them: a sentence, and a hundred years.
MAX_ERROR = 300
MAX_AGE_MS = 3.2e12

Json = dict[str, Any]

_log = logging.getLogger(__name__)


@dataclass
class FanOut:
    """What came back.

    `items` are the peers' items in peer order, ids rewritten to ours, each with `x-medkit.peer`; `bodies` the whole
    answers by peer; `failed` the labels of those whose answer is missing, sorted; `peers` how each one did.
    """

    items: list[Json] = field(default_factory=list)
    bodies: list[tuple[str, Json]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    peers: dict[str, Json] = field(default_factory=dict)
    dropped: list[Json] = field(default_factory=list)


def envelope(fan_out: FanOut) -> Json:
    """What a partial answer says in its `x-medkit`; empty when everybody answered (API.md §1.11)."""
    found: Json = {}
    if fan_out.failed:
        found.update(partial=True, failed_peers=list(fan_out.failed), peers=fan_out.peers)
    if fan_out.dropped:
        found["peer_dropped_items"] = list(fan_out.dropped)
    return found


def qualify_duplicates(items: Sequence[Json]) -> list[Json]:
    """Items whose id several gateways use get `<member>:<id>`, all of them (API.md §4.1); the others stay."""
    counts = Counter(item.get("id") for item in items if isinstance(item.get("id"), str))
    found = []
    for item in items:
        member = _first_member(item)
        if counts.get(item.get("id"), 0) > 1 and member:
            item = {**item, "id": f"{member}:{item['id']}"}
        found.append(item)
    return found


def _first_member(item: Json) -> str:
    medkit = item.get("x-medkit")
    members = medkit.get("member_ids") if isinstance(medkit, dict) else None
    return members[0] if isinstance(members, list) and members and isinstance(members[0], str) else ""


async def gather_entity(
    federation: Federation, request: RequestInfo, shared: Shared, kind: Kind, entity_id: str, collection: str
) -> FanOut:
    """The peers' shares of `GET /{kind}/{id}/{collection}` of an entity that several gateways have."""
    tree = federation.tree
    if request.is_local_only(federation.identity.id):
        return _only_local(federation, request)
    targets = [(share.peer, share.origins) for share in shared.contributions]
    missing = tree.missing(kind, entity_id) if request.origins is None else tree.lacking(request.origins)
    path = f"/{kind.value}/{entity_id}/{collection}"
    return await fan_out(federation, request, path, targets, missing, kind, entity_id)


async def gather_everyone(federation: Federation, request: RequestInfo, path: str) -> FanOut:
    """What all gateways have at `path` (relative to `/api/v1`): `/faults`, `/version-info`."""
    if not federation.enabled or request.is_local_only(federation.identity.id):
        return _only_local(federation, request)
    tree = federation.tree
    targets, missing = tree.targets(request.origins)
    return await fan_out(federation, request, path, targets, missing)


def _only_local(federation: Federation, request: RequestInfo) -> FanOut:
    """Nobody is asked. A request that came round and wants others' entities, too, does not get them from us."""
    lacking = (request.origins or frozenset()) - {federation.identity.id}
    if request.no_fan_out or not lacking:
        return FanOut()
    labels = sorted({federation.tree.label_of(origin) for origin in lacking})
    return FanOut(failed=labels, peers={label: _known_down(federation, label) for label in labels})


async def fan_out(
    federation: Federation,
    request: RequestInfo,
    path: str,
    targets: Sequence[tuple[str, Sequence[str]]],
    missing: Sequence[str] = (),
    kind: Kind | None = None,
    entity_id: str = "",
) -> FanOut:
    """Ask the peers of `targets` (peer, origins to ask for through it) for `path`, relative to `/api/v1`.

    Only origins that the request asks for are passed on; peers left without any are not asked. `missing` are labels
    of gateways known to be out of reach. Never raises for what a peer does.
    """
    tree = federation.tree
    path = path.removeprefix(API)
    asked: list[_Asked] = []
    for name, origins in targets:
        wanted = [origin for origin in origins if request.origins is None or origin in request.origins]
        if wanted:
            rewriter = rewriter_for(tree, name, kind, entity_id)
            asked.append(_Asked(federation, request, path, name, wanted, rewriter))
    async with anyio.create_task_group() as group:
        for one in asked:
            group.start_soon(one.ask)
    found = FanOut()
    failed = set(missing)
    for label in missing:
        found.peers[label] = _known_down(federation, label)
    for one in asked:
        if one.name in missing and one.report.get("status") == "ok":
            one.report.update(status="partial", error="the gateway that answered there before is not found")
            one.report = _with_age(one.report, federation, one.name)
        found.peers[one.name] = one.report
        failed.update(one.failed)
        for label, report in one.behind.items():
            found.peers.setdefault(label, report)
        if one.body is not None:
            found.bodies.append((one.name, one.body))
        found.items.extend(one.items)
        found.dropped.extend(one.dropped)
    found.failed = sorted(failed)
    return found


def _known_down(federation: Federation, label: str) -> Json:
    return _with_age({"status": "failed", "error": "not reachable"}, federation, label)


def _with_age(report: Json, federation: Federation, label: str) -> Json:
    age = federation.age_ms(label)
    return report if age is None else {**report, "age_ms": age}


def _passed_on(wire: Any) -> Json:
    """What a gateway in between says of one behind it, as far as it is as documented."""
    said = wire if isinstance(wire, dict) else {}
    report: Json = {"status": "partial" if said.get("status") == "partial" else "failed", "error": "not reachable"}
    if isinstance(said.get("error"), str):
        report["error"] = said["error"][:MAX_ERROR]
    for name in ("age_ms", "latency_ms"):
        value = said.get(name)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < MAX_AGE_MS:
            report[name] = value
    return report


def _is_of_ours(tree: FederatedTree, item: Json) -> bool:
    """Whether all members of a peer's item are nodes of ours: then we list it ourselves."""
    medkit = item.get("x-medkit")
    members = medkit.get("member_ids") if isinstance(medkit, Mapping) else None
    if not isinstance(members, list) or not members:
        return False
    return all(isinstance(member, str) and tree.is_local_app(member) for member in members)


class _Echoes:
    """Tells items that a peer only passes on from others that we have or ask ourselves.

    A C++ gateway asks its own peers for faults whatever the request says, and marks none of them. But a fault names
    nodes; one of nodes that others have, and this peer has none of, is no fault of its own.
    """

    def __init__(self, tree: FederatedTree, peer: Peer, origins: Sequence[str]) -> None:
        self._tree = tree
        self._peer = peer
        self._own: set[str] = set()
        self._others: set[str] = set()
        if peer.kind == COMPATIBLE:
            self._others.update(app.fqn for app in tree.local.apps.values() if app.fqn)
            for section in tree.sections:
                nodes = self._own if section.id in origins else self._others
                nodes.update(app.fqn for app in section.tree.apps.values() if app.fqn)

    def has(self, item: Json) -> bool:
        """Whether this item is one."""
        if _is_of_ours(self._tree, item) or self._peer.is_echo(item):
            return True
        sources = item.get("reporting_sources")
        if not self._others or not isinstance(sources, list) or not sources:
            return False
        return all(isinstance(one, str) and one in self._others and one not in self._own for one in sources)


def marked(item: Json, peer: str) -> Json:
    """A peer's item with `x-medkit.peer`: who has it, with the way when that is a gateway behind the peer."""
    medkit = item.get("x-medkit")
    medkit = dict(medkit) if isinstance(medkit, dict) else {}
    behind = medkit.get("peer")
    medkit["peer"] = f"{peer}/{behind}"[:MAX_LABEL] if isinstance(behind, str) and behind else peer
    return {**item, "x-medkit": medkit}


class _Asked:
    """One peer of a fan-out and what became of it."""

    def __init__(
        self, federation: Federation, request: RequestInfo, path: str, name: str, origins: Sequence[str],
        rewriter: Rewriter,
    ) -> None:  # fmt: skip
        self.name = name
        self.items: list[Json] = []
        self.body: Json | None = None
        self.failed: list[str] = []
        self.report: Json = {}
        # The same as `report` for those of `failed` that are behind it.
        self.behind: dict[str, Json] = {}
        self.dropped: list[Json] = []
        self._federation = federation
        self._request = request
        self._path = path
        self._origins = origins
        self._rewriter = rewriter

    async def ask(self) -> None:
        """Ask and read; every failure of the peer ends in `failed`."""
        started = time.monotonic()
        peer = self._federation.peer(self.name)
        client = peer.client if peer is not None else None
        try:
            if peer is None:
                raise BadAnswer("is no peer any more")
            body, size = await self._answer(peer)
            echoes = _Echoes(self._federation.tree, peer, self._origins)
            if size > DECODE_ON_LOOP:
                await anyio.to_thread.run_sync(self._read, body, echoes)
            else:
                self._read(body, echoes)
        except (GatewayError, BadAnswer) as error:
            self.failed = self._all()
            self.report = {"status": "failed", "error": str(error)}
            if peer is not None and client is not None and isinstance(error, GatewayError):
                peer.call_failed(error, client)
            self.report = _with_age(self.report, self._federation, self.name)
        except Exception:
            # A fault of ours with one answer must not take the others' with it.
            _log.exception("Reading the answer of peer '%s' failed", self.name)
            self.items, self.body, self.failed = [], None, self._all()
            self.report = {"status": "failed", "error": "internal error while reading its answer"}
        if self.report["status"] == "failed":
            lost: Json = {"status": "failed", "error": f"was to be asked through '{self.name}', which failed"}
            self.behind = {
                label: _with_age(lost, self._federation, label) for label in self.failed if label != self.name
            }
        self.report["latency_ms"] = round((time.monotonic() - started) * 1000, 1)

    def _all(self) -> list[str]:
        """The peer, and whoever was asked through it: their answers are missing as well."""
        tree = self._federation.tree
        return sorted({self.name, *(tree.labels[origin] for origin in self._origins if origin in tree.labels)})

    async def _answer(self, peer: Peer) -> tuple[Json, int]:
        """The answer, and its length in bytes."""
        peer.check_callable()
        request = self._request
        query = request.fan_out_query()
        target = f"{API}{self._path}".encode() + (b"?" + query if query else b"")
        headers = list(request.fan_out_headers())
        if peer.kind == COMPATIBLE:
            headers.append((NO_FAN_OUT.encode(), b"1"))
        else:
            origins = self._federation.origins_at(self.name, self._origins)
            headers.append(origins_header(origins))
        budget = request.bounded(self._federation.config.aggregation.timeout_ms / 1000)
        answer = await peer.client.get(target, request=request, headers=headers, first_byte_s=budget)
        peer.answered()
        if not 200 <= answer.status < 300:
            raise BadAnswer(f"answered {answer.status}")
        body = await answer.json()
        if not isinstance(body, dict) or not isinstance(body.get("items"), list):
            raise BadAnswer("answered with something that has no list of items")
        if len(body["items"]) > MAX_ITEMS:
            raise BadAnswer(f"answered with {len(body['items'])} items; at most {MAX_ITEMS} are read")
        return body, len(answer.body)

    def _read(self, body: Json, echoes: _Echoes) -> None:
        body = self._rewriter.body(body)
        for item in body["items"]:
            if isinstance(item, dict):
                if not echoes.has(item):
                    self.items.append(marked(item, self.name))
            elif len(self.dropped) < MAX_DROPPED_NAMED:
                self.dropped.append({"peer": self.name, "reason": "not an object", "source_id": ""})
        self.body = body
        self.report = {"status": "ok"}
        medkit = body.get("x-medkit")
        if isinstance(medkit, dict) and medkit.get("partial") is True:
            names = medkit.get("failed_peers")
            behind = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
            behind = [name[:MAX_LABEL] for name in behind[:MAX_BEHIND]]
            self.failed = [self._label_of(name) for name in behind] or [self.name]
            self.report = {"status": "partial"}
            reports = medkit.get("peers")
            said = reports if isinstance(reports, dict) else {}
            self.behind = {label: _passed_on(said.get(name)) for name, label in zip(behind, self.failed, strict=False)}
            self.behind.pop(self.name, None)

    def _label_of(self, name: str) -> str:
        """What is missing there, by its name here. A gateway that never heard of an origin can only give its id."""
        if name not in self._origins:
            return f"{self.name}/{name}"
        label = self._federation.tree.label_of(name)
        return label if label != name else self.name
