"""One peer: how it is followed, its state, and the last good tree that it told (AGGREGATION.md §6).

What its tree means beside others is decided in `federation.py`; nothing here merges.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Any

import anyio

from ..errors import GatewayError, NotResponding, PeerUnavailable, ServiceUnavailable
from .breaker import Breaker
from .client import DECODE_ON_LOOP, MAX_TREE, BadAnswer, PeerClient, client_of
from .compatible import CompatiblePoll, FindEchoes
from .peer_discovery import PeerSpec
from .peer_status import PeerStatus, counts_of
from .section_reader import tree_from_wire
from .sections import DroppedItem, GatewayIdentity, OriginSection, TreeDocument, TreeDocumentError
from .transport import CONTROL
from .tree_sync import TreeStream

OURS, COMPATIBLE = "medkit_gateway_py", "compatible"
TREE_TARGET = b"/api/v1/x-medkit/tree"
HEALTH_TARGET = b"/api/v1/health"
# How often the round trip to a peer is measured.
MEASURE_S = 10.0
# A peer that gives no stream of its changes is asked so often; a 304 costs it next to nothing.
POLL_INTERVAL_S = 1.0
# `/health` of a C++ gateway is polled less often (AGGREGATION.md §6).
COMPATIBLE_INTERVAL_S = 2.0
# Polls asked for by failing traffic come no faster than this.
MIN_POLL_GAP_S = 0.2
# A tree may come slowly, as long as it begins in time.
TREE_TOTAL_TIMEOUTS = 5
# One 404 may come from a proxy while a gateway restarts; as many in a row mean another kind of gateway.
STRANGE_ANSWERS_TO_SWITCH = 3

_log = logging.getLogger(__name__)


class Peer:
    """One peer and its poll. `changed` is called on the loop whenever what the merge sees of it is different."""

    def __init__(
        self,
        spec: PeerSpec,
        config: Any,
        identity: GatewayIdentity,
        changed: Callable[[], None],
        find_echoes: FindEchoes | None = None,
    ) -> None:
        aggregation = config.aggregation
        self.spec = spec
        self.name = spec.name
        self.role = "peer"
        self.kind = ""
        self.gateway = GatewayIdentity("", "")
        self.sections: tuple[OriginSection, ...] | None = None
        # The pinned certificate that it showed when it told its tree, "" for none.
        self.certificate = ""
        self.breaker = Breaker()
        self.first_seen_boot = 0.0
        self.last_seen: float | None = None
        self.last_error = ""
        self.paused = spec.paused
        self._since = time.time()
        self._changed = changed
        self._aggregation = aggregation
        self._identity = identity
        self._timeout_s = aggregation.timeout_ms / 1000
        self._max_entities = aggregation.max_entities_per_peer
        self.client = client_of(spec, aggregation, identity)
        self._compatible = CompatiblePoll(
            self.client, config.refresh_interval_ms / 1000, self._max_entities, find_echoes
        )
        self._etag = ""
        self._strange = 0
        # How many more answers that are no tree a new URL may give until what the old one told is not believed.
        self._unproven = 0
        self._is_stale = False
        self._rtt_s: float | None = None
        self._dropped: tuple[DroppedItem, ...] = ()
        self._dropped_count = 0
        self._dropped_text = ""
        self._wake = anyio.Event()
        self._document: TreeDocument | None = None
        self._stream = TreeStream(self.client, self._max_entities)
        self._stream_ended = False
        self._round = anyio.CancelScope()

    def reconfigure(self, spec: PeerSpec) -> PeerClient | None:
        """Other settings from now on, of the peer of the same name; the client to be closed when its calls are over.

        What it told stays until it tells something else over the new connections, or cannot be reached by them: then
        it is lost like any other (AGGREGATION.md §9). Paused and resumed by hand stays so, unless `paused` itself is
        what changed.
        """
        before, self.spec = self.spec, spec
        old = None
        if (spec.url, spec.source, spec.access) != (before.url, before.source, before.access):
            old = self.client
            self.client = client_of(spec, self._aggregation, self._identity, self.client.stats)
            self.client.use_short_connections(self.kind == COMPATIBLE)
            self._compatible.use(self.client)
            self._stream = TreeStream(self.client, self._max_entities)
            # The settings may be what was wrong: what failed before them does not count.
            self.breaker = Breaker()
            if spec.url != before.url:
                # Another kind of gateway may be there, or none at all.
                self._strange = self._unproven = STRANGE_ANSWERS_TO_SWITCH
            self._round.cancel()
            self._wake.set()
        if spec.paused != before.paused:
            self.set_paused(spec.paused)
        return old

    @property
    def is_online(self) -> bool:
        """Whether it answers and has told a tree that is usable."""
        return self.sections is not None

    def status(self) -> PeerStatus:
        """The present state as a value."""
        now = time.monotonic()
        return PeerStatus(
            name=self.name,
            url=self.spec.url,
            status="online" if self.is_online else "offline",
            state="paused" if self.paused else self.breaker.state,
            kind=self.kind,
            role=self.role,
            source=self.spec.source,
            instance_id=self.gateway.id,
            boot_id=self.gateway.boot_id,
            version=self.gateway.version,
            since=self._since,
            last_seen_s=None if self.last_seen is None else round(now - self.last_seen, 3),
            last_error=self.last_error,
            rtt_ms=None if self._rtt_s is None else round(self._rtt_s * 1000, 2),
            rtt_percentiles_ms=self.client.stats.percentiles_ms(),
            calls=dict(self.client.stats.calls),
            counts=counts_of(self.sections),
            dropped_count=self._dropped_count,
            dropped=self._dropped,
            is_stale=self._is_stale,
        )

    def is_echo(self, item: dict[str, Any]) -> bool:
        """Whether a C++ peer has this item only from us or from another peer of ours, as the item says itself."""
        return self.kind == COMPATIBLE and self._compatible.is_echo(item)

    def age_ms(self) -> int | None:
        """Milliseconds since it last answered anything, None when it never did."""
        return None if self.last_seen is None else int((time.monotonic() - self.last_seen) * 1000)

    async def run(self) -> None:
        """Fetch its tree and follow its changes, until cancelled; where it cannot be followed, it is polled."""
        async with anyio.create_task_group() as group:
            group.start_soon(self._measure)
            await self._follow_or_poll()

    async def _measure(self) -> None:
        """Ask now and then how long it takes: a peer that is followed is hardly ever polled."""
        while True:
            await anyio.sleep(MEASURE_S * (0.8 + 0.4 * random.random()))
            if self.is_online and not self.paused:
                started = time.monotonic()
                # Whether it lives is for the stream and the polls to say.
                with contextlib.suppress(GatewayError, BadAnswer):
                    await self.client.get(HEALTH_TARGET, lane=CONTROL)
                    self._took(time.monotonic() - started)

    async def _follow_or_poll(self) -> None:
        while True:
            with anyio.CancelScope() as self._round:
                if not self.paused and self.breaker.allows_probe(time.monotonic()):
                    await self._poll()
                    self._stream_ended = await self._follow()
            if self._round.cancel_called:
                # By new settings: they are tried at once.
                continue
            self._wake = anyio.Event()
            await anyio.sleep(MIN_POLL_GAP_S)
            with anyio.move_on_after(max(0.0, self._pause() - MIN_POLL_GAP_S)):
                await self._wake.wait()

    def set_paused(self, paused: bool) -> None:
        """Paused: it is not asked for anything and counts as away, until it is resumed or the gateway starts anew."""
        if paused == self.paused:
            return
        self.paused = paused
        if paused:
            self._lost("it was paused")
        else:
            self.breaker.succeeded()
            self._wake.set()

    def _pause(self) -> float:
        if self.breaker.state != "closed":
            return self.breaker.delay(time.monotonic())
        if self.breaker.failures or self._stream_ended:
            return MIN_POLL_GAP_S
        interval = COMPATIBLE_INTERVAL_S if self.kind == COMPATIBLE else POLL_INTERVAL_S
        return interval * (0.9 + 0.2 * random.random())

    def answered(self) -> None:
        """A client's call was answered: proof of life. An open breaker is closed by the poll only."""
        self.last_seen = time.monotonic()
        if self.breaker.allows_calls():
            self.breaker.succeeded()

    def call_failed(self, error: GatewayError, by: PeerClient) -> None:
        """A client's call was not answered; the poll is asked at once whether the peer is still there.

        Those with earlier settings do not count, nor those that took too long: one node must not cut off its gateway.
        """
        if by is not self.client:
            return
        if isinstance(error, PeerUnavailable) and self.breaker.allows_calls():
            self.last_error = error.message
            if self.breaker.failed(time.monotonic()):
                self._lost(error.message)
        if not isinstance(error, ServiceUnavailable):
            self._wake.set()

    def check_callable(self) -> None:
        """Raise PeerUnavailable at once while the peer is paused or known to be down."""
        if self.paused:
            raise PeerUnavailable(f"Peer '{self.name}' is paused", peer=self.name, details="it was paused")
        if not self.breaker.allows_calls():
            reason = "it did not answer lately and is tried again every few seconds"
            raise PeerUnavailable(
                f"Peer '{self.name}' cannot be reached: {reason}", peer=self.name, details=self.last_error or reason
            )

    async def _poll(self) -> None:
        started = time.monotonic()
        try:
            if self.kind == COMPATIBLE:
                await self._poll_compatible()
            else:
                await self._poll_tree()
        except (PeerUnavailable, NotResponding) as error:
            self._poll_failed(error.message)
        except (BadAnswer, TreeDocumentError) as error:
            self._alive(started)
            self._report(f"Peer '{self.name}': {error}")
            self._is_stale = self.sections is not None
            self._unproven -= 1
            if self._unproven == 0:
                self._lost(f"its new URL does not lead to a gateway: {error}")
        except ServiceUnavailable as error:
            self._report(error.message)
        except Exception:
            # A fault of ours with one peer must not end its poll, nor touch the others.
            _log.exception("Polling peer '%s' failed", self.name)
            self._poll_failed(f"Peer '{self.name}': internal error while reading its tree")
        else:
            self._alive(started)
            if self.last_error:
                _log.info("Peer '%s' answers", self.name)
            self.last_error, self._is_stale = "", False

    async def _follow(self) -> bool:
        """Follow its stream of changes for as long as that goes; False when it gives none."""
        if self._document is None:
            return False
        try:
            return await self._stream.follow(self._document, self._heard, self._accept)
        except NotResponding as error:
            self._silent(error.message)
            return True

    def _heard(self) -> bool:
        """Its stream said something; False when it is thought to be gone all the same, and the poll must decide."""
        self.last_seen = time.monotonic()
        if self.breaker.allows_calls():
            self.breaker.succeeded()
            self.last_error, self._is_stale = "", False
        return self.sections is not None

    def _silent(self, text: str) -> None:
        """Nothing came for too long: offline at once, calls fail fast until a poll is answered."""
        self.last_error = text
        while self.breaker.allows_calls():
            self.breaker.failed(time.monotonic())
        self._lost(text)

    async def _poll_tree(self) -> None:
        headers = [(b"if-none-match", self._etag.encode("latin-1", "replace"))] if self._etag else []
        answer = await self.client.get(
            TREE_TARGET,
            headers=headers,
            lane=CONTROL,
            total_s=self._timeout_s * TREE_TOTAL_TIMEOUTS,
            max_bytes=MAX_TREE,
        )
        if answer.status == 304 and self._etag and self.sections is not None:
            return
        if answer.status in (404, 501):
            await self._maybe_compatible(answer.status)
            return
        if answer.status != 200:
            raise BadAnswer(f"answered {answer.status} when asked for its tree")
        wire = await answer.json()
        if len(answer.body) > DECODE_ON_LOOP:
            document = await anyio.to_thread.run_sync(tree_from_wire, wire, self._max_entities)
        else:
            document = tree_from_wire(wire, self._max_entities)
        self._strange = 0
        self.kind = OURS
        self.client.use_short_connections(False)
        etag = answer.headers.get("etag", "")
        self._accept(document)
        self._etag = etag if len(etag) < 300 else ""

    async def _maybe_compatible(self, status: int) -> None:
        self._strange += 1
        if self.kind == OURS and self._strange < STRANGE_ANSWERS_TO_SWITCH:
            raise BadAnswer(f"answered {status} when asked for its tree")
        await self._poll_compatible()

    async def _poll_compatible(self) -> None:
        self.client.use_short_connections(True)
        result = await self._compatible.poll()
        if result.is_ours:
            # It says that it is one of ours after all: ask for its tree again at the next poll.
            if self.kind == COMPATIBLE:
                self.kind = ""
            raise BadAnswer("is one of ours, and does not serve its tree")
        self.kind, self._document = COMPATIBLE, None
        if result.section is not None:
            self._dropped, self._dropped_count = result.dropped, result.dropped_count
            self._take(GatewayIdentity(result.section.id, "", self.name, result.version), (result.section,))

    def _accept(self, document: TreeDocument) -> None:
        self._document, self._etag = document, f'"{document.gateway.boot_id}-{document.seq}"'
        self._dropped, self._dropped_count = document.dropped, document.dropped_count
        if document.dropped_count:
            first = document.dropped[0]
            text = f"{document.dropped_count} items dropped, the first: {first.where}: {first.reason}"
            # Each change of a section with a bad item drops it again.
            _log.log(logging.DEBUG if text == self._dropped_text else logging.WARNING, "Peer '%s': %s", self.name, text)
            self._dropped_text = text
        self._take(document.gateway, document.sections)

    def _take(self, gateway: GatewayIdentity, sections: tuple[OriginSection, ...]) -> None:
        if self.paused:
            return
        before = (self.gateway, self.sections, self.certificate)
        if (gateway.id, gateway.boot_id) != (self.gateway.id, self.gateway.boot_id):
            self.first_seen_boot = time.monotonic()
        if self.sections is None:
            self._since = time.time()
            _log.info("Peer '%s' (%s) is online", self.name, self.spec.url)
        self.gateway, self.sections, self._unproven = gateway, sections, 0
        self.certificate = self.client.certificate
        self.breaker.succeeded()
        if (gateway, sections, self.certificate) != before:
            self._changed()

    def _alive(self, started: float) -> None:
        now = time.monotonic()
        self._took(now - started)
        self.last_seen = now
        self.breaker.succeeded()

    def _took(self, seconds: float) -> None:
        self._rtt_s = seconds if self._rtt_s is None else 0.7 * self._rtt_s + 0.3 * seconds

    def _report(self, text: str) -> None:
        if text != self.last_error:
            _log.warning("%s", text)
        self.last_error = text

    def _poll_failed(self, text: str) -> None:
        self.breaker.failed(time.monotonic())
        self.last_error = text
        if not self.breaker.allows_calls():
            self._lost(text)

    def _lost(self, reason: str) -> None:
        """Its tree leaves the merge; what kind of gateway comes back is asked anew."""
        self._strange, self._etag, self._document = 0, "", None
        if self.sections is None:
            return
        _log.warning("Peer '%s' (%s) is offline: %s", self.name, self.spec.url, reason)
        self.kind, self.certificate, self.sections, self._since = "", "", None, time.time()
        self._compatible.forget()
        self._changed()

    async def aclose(self) -> None:
        """Close its connections; `run` must have been cancelled."""
        await self.client.aclose()
