"""The fault PEER_OFFLINE: a peer of this gateway does not answer (DECISIONS 25). Its sources are the names of peers.

Looks at what the federation knows, asks nobody itself. When a fault is confirmed and healed is the backend's matter.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

import anyio

from ..errors import GatewayError
from ..resources.faults.model import CONFIRMED, PREFAILED, PREPASSED, WARN, FaultBackend, Report
from .peer_status import PeerStatus

PEER_OFFLINE = "PEER_OFFLINE"
LOOK_S = 1.0
# A peer that was not seen yet may be starting together with us.
GRACE_S = 10.0
ASK_S = 6.0

_log = logging.getLogger(__name__)


class PeerFaults:
    """Reports peers that went, and those that came back or are no peers any more.

    :param peers: all peers as they are now.
    :param passes: how often a source has to pass for the fault to heal; it is told so often at once.
    """

    def __init__(
        self,
        peers: Callable[[], Sequence[PeerStatus]],
        backend: FaultBackend,
        passes: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._peers, self._backend, self._passes, self._clock = peers, backend, passes, clock
        # Peer to whether it is told as failed; those that nothing was told of yet are in `_new`.
        self._told: dict[str, bool] = {}
        self._new: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._watch(), name="peer faults")

    async def stop(self) -> None:
        """Look no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def look(self) -> None:
        """Tell what is different from what was told."""
        now = self._clock()
        peers = {peer.name: peer for peer in self._peers() if peer.role == "peer"}
        for name, peer in peers.items():
            # Who pauses a peer knows that it is away.
            if peer.status == "online" or peer.state == "paused":
                self._tell(name, False)
            elif name in self._told or now - self._new.setdefault(name, now) >= GRACE_S:
                self._tell(
                    name, True, f"Peer {name} ({peer.url}) does not answer: {peer.last_error or 'no reason known'}"
                )
        for name in [name for name in self._told if name not in peers]:
            self._tell(name, False)
            del self._told[name]
        self._new = {name: since for name, since in self._new.items() if name in peers}

    def _tell(self, name: str, failed: bool, text: str = "") -> None:
        if self._told.get(name) == failed:
            return
        was_known = name in self._told
        self._told[name] = failed
        if failed or was_known:
            for _ in range(1 if failed else self._passes):
                self._backend.report(Report(name, PEER_OFFLINE, failed, WARN, text, time.time()))

    async def _watch(self) -> None:
        await self._recall()
        while True:
            try:
                self.look()
            except Exception:
                _log.exception("Looking for peers that are offline failed")
            await asyncio.sleep(LOOK_S)

    async def _recall(self) -> None:
        """What an earlier process told, so that it can be taken back."""
        try:
            with anyio.fail_after(ASK_S):
                listing = await self._backend.list((PREFAILED, CONFIRMED, PREPASSED))
        except (GatewayError, TimeoutError) as error:
            _log.debug("The faults of before are not known: %s", error)
        else:
            sources = (fault.reporting_sources for fault in listing.faults if fault.fault_code == PEER_OFFLINE)
            self._told = {name: True for names in sources for name in names}
