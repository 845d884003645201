"""The federation: all peers, the merged tree, and who is told when it changes (AGGREGATION.md §4-§6).

Runs on the asyncio loop. The merge itself is pure (`merge.py`); what is sent to peers is in `client.py`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import orjson

from ..entities.ids import GivenId, GivenIds
from ..entities.tree import EntityTree
from .ages import age_ms
from .echo import EchoFilter
from .id_keeper import IdKeeper
from .kept_running import contained, kept_running
from .merge import MergeOptions, Parts, merge, passed_over
from .origin_keeper import OriginKeeper
from .origins import Admitted
from .peer import Peer
from .peer_discovery import ADDED, CONFIGURED, REMOVED, DiscoveryContext, PeerDiscovery, PeerEvent, PeerSpec, load
from .peer_discovery.admission import Admission
from .peer_status import PeerStatus, health_block
from .peers_watch import PeersWatch
from .routing import FederatedTree, Warn
from .sections import GatewayIdentity, OriginSection, tree_to_wire
from .trust import Trust
from .views import Views, peer_views

if TYPE_CHECKING:
    from ..state import StateStore
    from .client import PeerClient

# Merges that peers cause are at most one in this time; local changes do not wait (AGGREGATION.md §4, §6).
MERGE_INTERVAL_S = 0.2
STOP_S = 2.0
# How soon identities are looked at again while a restart cannot be told from a clone.
UNDECIDED_S = 1.0
# A merge of more entities than this is made in a thread, so that requests are served meanwhile.
MERGE_ON_LOOP = 2000
# Connections with settings that were replaced, whose last calls are not over; the oldest are cut beyond this.
MAX_REPLACED = 200
# How often ids in use are marked as such, and those unused for `forget_after_s` are forgotten.
MAINTENANCE_S = 600.0

_log = logging.getLogger(__name__)


class Federation:
    """Our tree and those of all peers as one. All methods run on the asyncio loop that `start` was called on."""

    def __init__(self, config: Any, identity: GatewayIdentity, state: StateStore) -> None:
        self.config = config
        self.identity = identity
        self.enabled = bool(config.aggregation.enabled)
        self._state = state
        self._given = state.given()
        self._ids = IdKeeper(state, self._given)
        self._local = EntityTree()
        self._local_seq = 0
        self._origins = OriginKeeper(
            state,
            self._given,
            retain=config.aggregation.unreachable == "retain",
            max_entities=config.aggregation.max_entities_per_peer,
            now=time.monotonic(),
        )
        self._memory = self._origins.memory
        self._admitted = Admitted()
        self._parts = Parts()
        self._again: asyncio.TimerHandle | None = None
        own = OriginSection(identity.id, identity.name, identity.boot_id, 0, (identity.id,))
        self.tree = FederatedTree(own=own, given=self._given)
        self._peers: dict[str, Peer] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._file = PeersWatch(config.aggregation, self._on_peer_event)
        self._discoveries: list[PeerDiscovery] = []
        self._merger: asyncio.Task[None] | None = None
        self._keepers: list[asyncio.Task[None]] = []
        self._closing: dict[asyncio.Task[None], PeerClient] = {}
        self._lock = asyncio.Lock()
        self._dirty = asyncio.Event()
        self._subscribers: list[Callable[[FederatedTree], None]] = []
        self._documents: dict[bool, tuple[int, str, bytes]] = {}
        self._warned: set[Warn] = set()
        self._views = Views()
        self._echoes = EchoFilter(self)

    # What requests ask for

    @property
    def peers(self) -> tuple[PeerStatus, ...]:
        """All peers in their configured order."""
        return tuple(peer.status() for peer in self._peers.values())

    @property
    def given(self) -> GivenIds:
        """The memory of ids, the one that local discovery looks into as well."""
        return self._given

    def peer(self, name: str) -> Peer | None:
        """The peer of this name, to call it."""
        return self._peers.get(name)

    def age_ms(self, label: str) -> int | None:
        """How old what is known of the gateway of this name is; None: unknown."""
        return age_ms(label, self.tree, self._peers.get(label.split("/")[0]), self._memory.left_at)

    def peer_names(self) -> tuple[str, ...]:
        """The names of all peers that take part, up or down, in their order; our own address is none of them."""
        return tuple(name for name, peer in self._peers.items() if peer.role != "self")

    def origins_at(self, peer: str, origins: Sequence[str]) -> tuple[str, ...]:
        """These origins as the peer itself calls them: clones have names of our making here (AGGREGATION.md §2)."""
        suffix = f"~{peer}"
        return tuple(origin.removesuffix(suffix) for origin in origins)

    def warnings(self) -> tuple[Warn, ...]:
        """What `/health.warnings` says of aggregation."""
        found = (*self.tree.warnings, *self._views.warnings, *self._admitted.warnings, *self._file.warnings())
        problems = [one for one in (self._ids.problem, self._origins.problem) if one]
        return (*found, *(Warn("state_not_persistent", one) for one in problems))

    def tree_document(self, local_only: bool = False) -> tuple[str, bytes]:
        """ETag and body of `GET /x-medkit/tree`; made once a version. `local_only` answers a request that loops."""
        version = self.tree.version
        known = self._documents.get(local_only)
        if known is None or known[0] != version:
            sections = self.tree.export()[: 1 if local_only else None]
            etag = f'"{self.identity.boot_id}-{version}{"-local" if local_only else ""}"'
            known = (version, etag, orjson.dumps(tree_to_wire(self.identity, version, sections)))
            self._documents[local_only] = known
        return known[1], known[2]

    def subscribe(self, callback: Callable[[FederatedTree], None]) -> None:
        """Call `callback` on the loop with each new tree."""
        self._subscribers.append(callback)

    def health(self) -> dict[str, Any]:
        """The block of aggregation in `/health`."""
        return health_block(self.enabled, self.peers, [one.message for one in self._file.warnings()])

    def discovery_health(self) -> dict[str, Any]:
        """The blocks of `/health` of those discoveries that have one, by their names."""
        found = {one.name: getattr(one, "health", None) for one in self._discoveries}
        return {name: health() for name, health in found.items() if health is not None}

    # Life

    async def start(self) -> None:
        """Find peers and begin to poll them; returns without waiting for any."""
        if not self.enabled or self._merger is not None:
            return
        self._merger = asyncio.create_task(self._merge_when_dirty(), name="federation merge")
        keepers = (self._keep_ids(), self._origins.run())
        self._keepers = [asyncio.create_task(one, name="federation keeper") for one in keepers]
        # First, because it has settings for peers that others find.
        await self._file.start()
        for discovery in load(DiscoveryContext(self.config, self.identity, lambda: self.peers, self._file.access)):
            try:
                with anyio.fail_after(1.0):
                    await discovery.start(Admission(self.config.aggregation, lambda: self.peers, self._on_peer_event))
                self._discoveries.append(discovery)
            except Exception:
                _log.exception("Peer discovery '%s' did not start", discovery.name)
        # Before anything is answered it must be known who is missing.
        async with self._lock:
            await self._merge()

    async def stop(self) -> None:
        """End all polls and close all connections, in two seconds at most."""
        tasks = [task for task in (self._merger, *self._keepers, *self._tasks.values()) if task is not None]
        for task in tasks:
            task.cancel()
        with anyio.move_on_after(STOP_S):
            await asyncio.gather(*tasks, self._file.stop(), return_exceptions=True)
            await self._origins.write()
            for discovery in self._discoveries:
                await contained(f"Stopping peer discovery '{discovery.name}'", discovery.stop())
            for peer in self._peers.values():
                await contained(f"Closing peer '{peer.name}'", peer.aclose())
            for client in self._closing.values():
                client.hurry()
            await asyncio.gather(*self._closing, return_exceptions=True)
        if self._again is not None:
            self._again.cancel()
        self._merger = self._again = None
        self._keepers.clear()
        self._tasks.clear()
        self._peers.clear()
        self._discoveries.clear()

    def change(self, event: PeerEvent) -> None:
        """Add, replace or remove a peer, as a discovery or an operator says; on the loop, while started."""
        self._on_peer_event(event)

    def _on_peer_event(self, event: PeerEvent) -> None:
        name = event.peer.name
        known = self._peers.get(name)
        is_configured = event.peer.source in CONFIGURED
        beats = known is None or (is_configured and known.spec.source not in CONFIGURED)
        if known is not None and known.spec.source in CONFIGURED and not is_configured:
            if event.change == ADDED:
                _log.error("A second peer named '%s' (%s) is not used", name, event.peer.url)
            return
        if event.change == REMOVED:
            self._file.gone(name)
            spec = None
        else:
            spec = self._file.judged(event.peer)
        if known is not None and spec == known.spec:
            return
        if event.change == ADDED and not beats:
            _log.error("A second peer named '%s' (%s) is not used", name, event.peer.url)
            return
        if known is not None and spec is not None:
            self._reconfigure(known, spec)
        elif spec is not None:
            self._add_peer(spec)
        else:
            self._drop_peer(name)
        self._dirty.set()

    def _add_peer(self, spec: PeerSpec) -> None:
        peer = Peer(spec, self.config, self.identity, self._dirty.set, self._echoes.of)
        self._peers[spec.name] = peer
        following = kept_running(f"Following peer '{spec.name}'", peer.run)
        self._tasks[spec.name] = asyncio.create_task(following, name=f"peer {spec.name}")

    def _drop_peer(self, name: str) -> None:
        peer, task = self._peers.pop(name, None), self._tasks.pop(name, None)
        if task is not None:
            task.cancel()
        if peer is not None:
            for client in self._closing.values():
                if client.name == name:
                    client.hurry()
            peer.client.hurry()
            self._close(peer.client)

    def _reconfigure(self, peer: Peer, spec: PeerSpec) -> None:
        old = peer.reconfigure(spec)
        _log.info("Peer '%s' (%s) has new settings", spec.name, spec.url)
        if old is None:
            return
        for client in list(self._closing.values())[:-MAX_REPLACED]:
            client.hurry()
        self._close(old)

    def _close(self, client: PeerClient) -> None:
        closing = asyncio.create_task(contained(f"Closing peer '{client.name}'", client.aclose_when_done()))
        self._closing[closing] = client
        closing.add_done_callback(lambda done: self._closing.pop(done, None))

    # Merging

    async def set_local(self, tree: EntityTree, new_ids: Sequence[GivenId] = ()) -> None:
        """Our own graph is `tree` now. New ids are committed first; the merged tree is served when this returns."""
        await self.update_local(lambda: (tree, new_ids))

    async def update_local(self, build: Callable[[], tuple[EntityTree, Sequence[GivenId]]]) -> None:
        """As `set_local`; `build` runs while no merge can give the same ids to others (AGGREGATION.md §4)."""
        async with self._lock:
            tree, new_ids = build()
            await self._ids.remember(new_ids, lambda: self.tree.owners())
            if tree != self._local:
                self._local = tree
                self._local_seq += 1
            await self._merge()

    async def _merge_when_dirty(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                async with self._lock:
                    await self._merge()
            except Exception:
                _log.exception("Merging the trees of the peers failed; the tree stays as it was")
            await asyncio.sleep(MERGE_INTERVAL_S)

    async def _merge(self) -> None:
        now = time.monotonic()
        trust = self._trust()
        is_pinned = partial(self._memory.is_pinned, trust=trust)
        self._views = peer_views(list(self._peers.values()), self.identity, now, self._memory.way, is_pinned)
        aggregation = self.config.aggregation
        local = self._local if self._local_seq else None
        self._admitted = self._memory.admit(
            self._views.views, self.identity.id, local, trust, aggregation.max_hops, now
        )
        self._look_again(self._admitted.again_in)
        options = MergeOptions(naming=aggregation.naming, max_hops=aggregation.max_hops, peers=self.peer_names())
        views = self._admitted.views
        arguments = (
            self.identity, self._local, self._local_seq, views, self._given, options, self._memory.past, self._parts
        )  # fmt: skip
        entities = sum(sum(section.tree.counts().values()) for view in views for section in view.sections)
        if entities + len(self._local.apps) > MERGE_ON_LOOP:
            merged = await anyio.to_thread.run_sync(merge, *arguments)
        else:
            merged = merge(*arguments)
        await self._ids.remember(merged.new_ids, lambda: self.tree.owners())
        self._memory.merged(merged.chosen, now)
        await self._origins.note()
        self._parts = merged.parts
        self._log_warnings((*merged.tree.warnings, *self._views.warnings, *self._admitted.warnings))
        others = passed_over(merged.chosen, self._views.views)
        new = replace(merged.tree, version=self.tree.version, passed_over=others)
        if new != self.tree:
            self._swap(replace(new, version=self.tree.version + 1))
        elif others != self.tree.passed_over:
            # Nothing that anybody lists or is told of: the same version.
            self.tree = replace(self.tree, passed_over=others)

    def _trust(self) -> Trust:
        peers = self._peers.values()
        return Trust(
            static={peer.name for peer in peers if peer.spec.source in CONFIGURED},
            certificates={peer.name: peer.certificate for peer in peers if peer.certificate},
            accepted={pin for peer in peers if peer.spec.access is not None for pin in peer.spec.access.fingerprints},
        )

    def _look_again(self, in_s: float | None) -> None:
        """Merge again when time alone will change what is believed."""
        if self._views.undecided:
            in_s = UNDECIDED_S if in_s is None else min(in_s, UNDECIDED_S)
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(in_s, self._dirty.set) if in_s is not None else None

    async def forget(self, name: str) -> int:
        """Forget a peer: the ids of all that was reached over it alone (AGGREGATION.md §4); how many there were.

        Gateways that are reached now, over it or another peer, keep theirs: what is listed must not change its id.
        """
        async with self._lock:
            # A peer that was removed a moment ago is no way any more.
            await self._merge()
            present = {section.id for section in self.tree.sections}
            origins = self._memory.forget_peer(name, present)
            forgotten = 0
            for origin in origins:
                owners = await self._origins.forget(origin)
                owners = owners or [one.owner for one in self._given if one.origin == origin]
                self._given.discard(owners)
                forgotten += len(owners)
            self._dirty.set()
            return forgotten

    def _swap(self, tree: FederatedTree) -> None:
        self.tree = tree
        for callback in list(self._subscribers):
            try:
                callback(tree)
            except Exception:
                _log.exception("A subscriber of the tree failed")

    def _log_warnings(self, warnings: Sequence[Warn]) -> None:
        for warning in warnings:
            if warning not in self._warned:
                level = logging.ERROR if warning.code == "duplicate_instance_id" else logging.WARNING
                _log.log(level, "%s: %s", warning.code, warning.message)
        # One that comes back after it was gone is said again.
        self._warned = set(warnings)

    async def _keep_ids(self) -> None:
        while True:
            await asyncio.sleep(MAINTENANCE_S)
            await contained("Keeping the ids", self._mark_and_forget())

    async def _mark_and_forget(self) -> None:
        """What is listed counts as seen; what was not seen for `forget_after_s` is forgotten."""
        async with self._lock:
            now = time.time()
            await anyio.to_thread.run_sync(self._state.touch, self.tree.owners(), now)
            forgotten = await anyio.to_thread.run_sync(
                self._state.forget_older_than, now, self.config.aggregation.forget_after_s
            )
            self._given.discard(forgotten or ())
            present = {section.id for section in self.tree.sections}
            await self._origins.touch(present)
            unseen = set(await self._origins.forget_older_than(self.config.aggregation.forget_after_s))
            gone = ({owner[0] for owner in forgotten or ()} | unseen) - present - {one.origin for one in self._given}
            self._memory.forget(gone)
            if forgotten or gone:
                self._dirty.set()
