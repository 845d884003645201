"""Which of two places keeps the faults: `faults.backend` decides, and with `auto` the ROS graph.

With `auto` a fault manager is used from the moment its services are in the graph, and this gateway's own store again
once they have been gone for GONE_S, so that a fault manager that is restarted does not change what clients see; until
then requests are answered with its errors. Nothing is copied from one to the other: whoever listens to faults tells
again what is so now.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .manager import ManagerFaults
from .model import FaultBackend, FaultEvent, FaultListing, FaultRecord, Report

GONE_S = 10.0  # longer than a node takes to come back
LOOK_S = 0.5

_log = logging.getLogger(__name__)


class ChosenFaults:
    """FaultBackend that is one of two others, whichever is right now.

    :param is_present: whether the fault manager is in the graph; asked on the loop, often.
    :param changed: called on the loop after each change of place.
    """

    def __init__(
        self,
        own: FaultBackend,
        manager: ManagerFaults,
        is_present: Callable[[], bool],
        changed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._own, self._manager = own, manager
        self._is_present, self._changed, self._clock = is_present, changed, clock
        self._active: FaultBackend = own
        self._seen_at = 0.0
        self._task: asyncio.Task[None] | None = None

    @property
    def uses_manager(self) -> bool:
        """Whether the fault manager has the faults now."""
        return self._active is self._manager

    async def start(self) -> None:
        """Start both, and look at the graph from now on."""
        await self._own.start()
        await self._manager.start()
        self.look()
        self._task = asyncio.create_task(self._watch(), name="fault-backend")

    async def stop(self) -> None:
        """Stop both."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(self._own.stop(), self._manager.stop())

    def look(self) -> None:
        """Look at the graph, and change the place if need be."""
        now = self._clock()
        if self._is_present():
            self._seen_at = now
            if not self.uses_manager:
                _log.info("Faults are kept by the fault manager in the ROS graph from now on.")
                self._active = self._manager
                self._changed()
        elif self.uses_manager and now - self._seen_at >= GONE_S:
            _log.warning("The fault manager has left the ROS graph. Faults are kept in this gateway from now on.")
            self._active = self._own
            for report in self._manager.take_waiting():
                self._own.report(report)
            self._changed()

    def report(self, report: Report) -> None:
        """To the one that is used."""
        self._active.report(report)

    async def list(
        self, statuses: Sequence[str], include_muted: bool = False, include_clusters: bool = False
    ) -> FaultListing:
        """As the one that is used."""
        return await self._active.list(statuses, include_muted, include_clusters)

    async def get(self, fault_code: str) -> FaultRecord | None:
        """As the one that is used."""
        return await self._active.get(fault_code)

    async def clear(self, fault_codes: Sequence[str], skip_correlation_auto_clear: bool = True) -> tuple[str, ...]:
        """As the one that is used."""
        return await self._active.clear(fault_codes, skip_correlation_auto_clear)

    def subscribe(self, callback: Callable[[FaultEvent], None]) -> None:
        """The events of the one that is used at that moment."""
        for backend in (self._own, self._manager):
            backend.subscribe(lambda event, backend=backend: self._pass_on(backend, event, callback))  # type: ignore[misc]

    def health(self) -> Mapping[str, Any]:
        """The block of the one that is used."""
        return {"backend": "fault_manager" if self.uses_manager else "embedded", **self._active.health()}

    def _pass_on(self, backend: FaultBackend, event: FaultEvent, callback: Callable[[FaultEvent], None]) -> None:
        if backend is self._active:
            callback(event)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()
