"""From announcements to peers: who is asked, who is taken in, who is let go (AGGREGATION.md §1, §3).

An announcement proves nothing. It becomes a peer when `/health` there answers as a gateway, and stays one until it says
goodbye and stops answering, or is away for very long: liveness is the peer's own poll, never mDNS. Everything that
strangers can make us hold or do is bounded by `Limits`. Knows nothing of how announcements travel.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

import anyio

from ..access import Access
from . import ADDED, CONFIGURED, REMOVED, UPDATED, DiscoveryContext, PeerEvent, PeerSpec
from .announcement import Announcement, unique_name
from .candidate import Answer, Ask, Counts, Limits, Pending, Taken, is_of, is_unchanged, key_of, shown
from .complaints import Complaints

_log = logging.getLogger(__name__)


class Candidates:
    """The announcements of one discovery and what became of them. All methods run on the asyncio loop."""

    def __init__(
        self,
        context: DiscoveryContext,
        emit: Callable[[PeerEvent], None],
        ask: Ask,
        source: str,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._emit = emit
        self._ask = ask
        self._source = source
        self._limits = limits or Limits()
        self._clock = clock
        self._max = context.config.aggregation.max_discovered_peers
        self._forget_s = context.config.aggregation.forget_after_s
        self._pending: dict[str, Pending] = {}
        self._peers: dict[str, Taken] = {}
        self._aside: OrderedDict[str, Announcement] = OrderedDict()
        self._names: OrderedDict[str, str] = OrderedDict()
        self._probes = anyio.CapacityLimiter(self._limits.probes_at_once)
        self._goodbyes: set[asyncio.Task[None]] = set()
        self.complaints = Complaints()
        self.counts = Counts()

    @property
    def peers(self) -> tuple[PeerSpec, ...]:
        """The peers that were taken in, the oldest first."""
        return tuple(peer.spec for peer in self._peers.values())

    @property
    def size(self) -> int:
        """How many announcements are held in memory."""
        return len(self._pending) + len(self._peers) + len(self._aside)

    def knows(self, service: str) -> bool:
        """Whether this announcement is held, in whatever state."""
        return service in self._pending or service in self._peers or service in self._aside

    # What mDNS says

    def found(self, announcement: Announcement) -> None:
        """It was announced, or announced anew with other records."""
        service = announcement.service
        own = self._context.identity
        if (announcement.instance_id, announcement.boot_id) == (own.id, own.boot_id):
            return
        self._aside.pop(service, None)
        peer = self._peers.get(service)
        if peer is not None and is_unchanged(peer, announcement):
            peer.announcement, peer.leaving = announcement, False
            return
        pending = self._pending.get(service)
        if pending is None or pending.announcement != announcement:
            self._begin(announcement)

    def _begin(self, announcement: Announcement) -> None:
        service = announcement.service
        pending = self._pending.pop(service, None)
        if pending is not None:
            _cancel(pending.task)
        if len(self._pending) >= self._limits.pending and not self._make_room():
            self.counts.refused += 1
            self.complaints.say(
                "flood", logging.WARNING,
                f"More than {self._limits.pending} gateways announce themselves at once; some are looked at later",
            )  # fmt: skip
            return
        pending = Pending(announcement)
        self._pending[service] = pending
        pending.task = asyncio.create_task(self._pursue(pending), name=f"candidate {service}")

    def lost(self, service: str) -> None:
        """It said goodbye. Anybody can say so in its name: it goes when it no longer answers, which is mostly now."""
        pending = self._pending.pop(service, None)
        if pending is not None:
            _cancel(pending.task)
        self._aside.pop(service, None)
        peer = self._peers.get(service)
        if peer is not None and not peer.leaving:
            peer.leaving = True
            task = asyncio.create_task(self._check_goodbye(peer), name=f"goodbye of {service}")
            self._goodbyes.add(task)
            task.add_done_callback(self._goodbyes.discard)

    def refuse(self, service: str, reason: str, level: int = logging.WARNING) -> None:
        """It cannot be used, as its own records show; said once for each reason."""
        self.counts.refused += 1
        self.complaints.say(f"{service}\0{reason}", level, f"The gateway announced as '{shown(service)}' {reason}")

    async def run(self) -> None:
        """Let go of peers that left or are away for too long, until cancelled."""
        while True:
            await anyio.sleep(self._limits.sweep_s)
            self.sweep()

    def sweep(self) -> None:
        """One look at the peers that were taken in; `run` calls it."""
        self.complaints.summarize()
        if not self._peers:
            return
        silences = self._silences()
        of_others = {one.name for one in self._context.peers() if one.source != self._source}
        for service, peer in list(self._peers.items()):
            silence = silences[peer.spec.name]
            if peer.spec.name in of_others:
                self._let_go(service, "a configured peer took its name")
                self._begin(peer.announcement)
            elif peer.leaving and silence > self._limits.alive_s:
                self._let_go(service, "it said goodbye and does not answer")
            elif silence > self._forget_s:
                self._let_go(service, f"it has been away for {self._forget_s} s")
            elif silence > self._limits.alive_s and len(peer.announcement.urls) > 1 and self._clock() > peer.retry_at:
                peer.retry_at = self._clock() + 2 * self._limits.candidate_s
                self._begin(peer.announcement)

    async def close(self) -> None:
        """End all questions; emits nothing."""
        tasks = [*self._goodbyes, *(one.task for one in self._pending.values() if one.task is not None)]
        self._pending.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # Asking

    def _make_room(self) -> bool:
        """Drop the one that failed most often; who has not been asked yet keeps its place."""
        worst = max(self._pending.values(), key=lambda one: one.failures)
        if worst.failures == 0:
            return False
        del self._pending[worst.announcement.service]
        _cancel(worst.task)
        self.counts.dropped += 1
        return True

    async def _pursue(self, pending: Pending) -> None:
        announcement = pending.announcement
        limits = self._limits
        deadline, delay = self._clock() + limits.candidate_s, limits.first_retry_s
        while True:
            if await self._try(pending):
                return
            pending.failures += 1
            if self._clock() + delay > deadline:
                break
            await anyio.sleep(delay)
            delay = min(delay * 2, limits.longest_retry_s)
        if self._pending.get(announcement.service) is pending:
            del self._pending[announcement.service]
        if announcement.service in self._peers:
            return  # a peer that is away; its own poll says so
        self.counts.dropped += 1
        self.complaints.say(
            f"{announcement.service}\0silent", logging.WARNING,
            f"The gateway announced as '{shown(announcement.service)}' does not answer as one at "
            f"{' or '.join(announcement.urls[:3])}: not used",
        )  # fmt: skip

    async def _try(self, pending: Pending) -> bool:
        """Ask its addresses, one after the other. True when the announcement was dealt with."""
        announcement = pending.announcement
        for url in announcement.urls:
            answer = await self._probe(url, announcement)
            if answer is None or not is_of(announcement, answer):
                continue
            before = self._same(announcement.service, url, answer)
            # Ids are no secret: a known peer moves to another address only when it is gone from its own.
            stays = before is not None and before.spec.url != url and await self._answers_still(before)
            if self._pending.get(announcement.service) is pending:
                del self._pending[announcement.service]
                self._answered(announcement, url, answer, before, stays)
            return True
        return False

    async def _answers_still(self, peer: Taken) -> bool:
        answer = await self._probe(peer.spec.url, peer.announcement)
        return answer is not None and key_of(answer, peer.spec.url) == key_of(peer.answer, peer.spec.url)

    async def _probe(self, url: str, announcement: Announcement) -> Answer | None:
        async with self._probes:
            with anyio.move_on_after(self._limits.probe_s):
                return await self._ask(self._spec(announcement.name, url, announcement))
        return None

    def _spec(self, name: str, url: str, announcement: Announcement) -> PeerSpec:
        # The address is in the URL; the certificate is for the name that the SRV record points to.
        is_secure = url.startswith("https://") and announcement.server_name
        return PeerSpec(name, url, self._source, Access(server_name=announcement.server_name) if is_secure else None)

    async def _check_goodbye(self, peer: Taken) -> None:
        service = peer.announcement.service
        answer = await self._probe(peer.spec.url, peer.announcement)
        if self._peers.get(service) is not peer or not peer.leaving:
            return
        if answer is None or answer != peer.answer:
            self._let_go(service, "it said goodbye")
        else:
            self.complaints.say(
                f"{service}\0goodbye", logging.WARNING,
                f"Peer '{peer.spec.name}' said goodbye by mDNS and still answers: it stays as long as it does",
            )  # fmt: skip

    # Taking in and letting go

    def _answered(
        self, announcement: Announcement, url: str, answer: Answer, before: Taken | None, stays: bool
    ) -> None:
        own = self._context.identity
        if answer.instance_id and (answer.instance_id, answer.boot_id) == (own.id, own.boot_id):
            self.refuse(announcement.service, f"is this gateway itself ({url}): not used")
            return
        if before is not None and self._is_settled(announcement, url, answer, before, stays):
            return
        silences = self._silences()
        other = self._peers.get(announcement.service)
        if other is not None:
            if silences.get(other.spec.name, 0.0) < self._limits.alive_s:
                self.refuse(announcement.service, f"is announced by two gateways; the one at {url} is not used")
                return
            self._let_go(announcement.service, "another gateway has its place")
        if not self._has_slot(silences):
            self.refuse(
                announcement.service,
                f"is not used: there are {self._max} discovered peers already (aggregation.max_discovered_peers)",
            )
            self._set_aside(announcement)
            return
        self._take_in(announcement, url, answer)

    def _same(self, service: str, url: str, answer: Answer) -> Taken | None:
        """The peer that this is: the one of that name, the same process, or another start of the same gateway."""
        same = [peer for peer in self._peers.values() if key_of(peer.answer, peer.spec.url) == key_of(answer, url)]
        same.sort(key=lambda peer: (peer.announcement.service != service, peer.answer.boot_id != answer.boot_id))
        return same[0] if same else None

    def _is_settled(self, announcement: Announcement, url: str, answer: Answer, before: Taken, stays: bool) -> bool:
        """Deal with another announcement of a gateway that is a peer already; False when it is a peer of its own."""
        service = before.announcement.service
        is_same_process = before.answer.boot_id == answer.boot_id
        if stays and not is_same_process:
            # Two living gateways of one id: copies of a disk image (AGGREGATION.md §2). Both are shown.
            return False
        if (stays or before.spec.url == url) and is_same_process and service != announcement.service:
            self._set_aside(announcement)
        elif stays:
            before.announcement, before.leaving = announcement, False
        elif self._peers.get(service) is before:
            del self._peers[service]
            self._peers[announcement.service] = self._moved(before, announcement, url, answer)
        else:
            self.found(announcement)
        return True

    def _moved(self, peer: Taken, announcement: Announcement, url: str, answer: Answer) -> Taken:
        spec = self._spec(peer.spec.name, url, announcement)
        if spec != peer.spec:
            self._emit(PeerEvent(UPDATED, spec))
        return Taken(announcement, answer, spec, self._clock())

    def _take_in(self, announcement: Announcement, url: str, answer: Answer) -> None:
        key = key_of(answer, url)
        taken = {one.name for one in self._context.peers()} | {peer.spec.name for peer in self._peers.values()}
        name = unique_name(self._names.get(key, announcement.name), answer.instance_id or str(announcement.port), taken)
        self._names.setdefault(key, name)
        self._names.move_to_end(key)
        while len(self._names) > self._limits.names:
            self._names.popitem(last=False)
        spec = self._spec(name, url, announcement)
        self._peers[announcement.service] = Taken(announcement, answer, spec, self._clock())
        if url.startswith("http://"):
            self.complaints.say(
                f"cleartext\0{name}\0{url}", logging.WARNING,
                f"Peer '{name}' ({url}) is reached by cleartext HTTP: anybody on the way can read along",
            )  # fmt: skip
        self._emit(PeerEvent(ADDED, spec))

    def _has_slot(self, silences: dict[str, float]) -> bool:
        """Whether one more peer fits; one that is away for long makes room."""
        known = self._context.peers()
        elsewhere = {one.instance_id for one in known if one.source in CONFIGURED and one.instance_id}
        # Those that were found and are not allowed take no slot of others, and are bounded on their own.
        admitted = {one.name for one in known if one.source == self._source}
        if len(self._peers) >= self._max + self._limits.aside:
            return False
        counted = {
            service: peer
            for service, peer in self._peers.items()
            if peer.spec.name in admitted and peer.answer.instance_id not in elsewhere
        }
        if len(counted) < self._max:
            return True
        away = [(silences.get(peer.spec.name, 0.0), service) for service, peer in counted.items()]
        longest, service = max(away)
        if longest < self._limits.yields_slot_s:
            return False
        self._let_go(service, f"it has been away for {longest:.0f} s, and another needs its slot", look_again=False)
        return True

    def _let_go(self, service: str, reason: str, look_again: bool = True) -> None:
        peer = self._peers.pop(service)
        _log.info("Peer '%s' (%s) is let go: %s", peer.spec.name, peer.spec.url, reason)
        self._emit(PeerEvent(REMOVED, peer.spec))
        if look_again:
            waiting, self._aside = self._aside, OrderedDict()
            for announcement in waiting.values():
                self.found(announcement)

    def _set_aside(self, announcement: Announcement) -> None:
        self._aside[announcement.service] = announcement
        while len(self._aside) > self._limits.aside:
            self._aside.popitem(last=False)

    def _silences(self) -> dict[str, float]:
        """Seconds since each peer answered last, or since it was taken in when it never did."""
        now = self._clock()
        heard = {one.name: one for one in self._context.peers() if one.source == self._source}
        found = {}
        for peer in self._peers.values():
            status = heard.get(peer.spec.name)
            taken_in = now - peer.since
            last = status.last_seen_s if status is not None else None
            if peer.leaving and status is not None and status.status == "offline":
                found[peer.spec.name] = max(self._limits.alive_s + 1, taken_in)
            else:
                found[peer.spec.name] = taken_in if last is None else min(last, taken_in)
        return found


def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None and task is not asyncio.current_task():
        task.cancel()
