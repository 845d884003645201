"""Snapshots of confirmed faults: made beside everything else, so many at a time, each with a deadline.

What a snapshot holds is its maker's business, where it is kept the store's.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import anyio

from .model import Fault, Snapshot

Capture = Callable[[Fault], Awaitable[Sequence[Snapshot]]]
Attach = Callable[[Fault, Sequence[Snapshot]], Awaitable[int]]

AT_ONCE = 4
# A storm of new faults has one cause, and the snapshots of the first ones tell it; later values would mislead.
MAX_WAITING = 16
CAPTURE_S = 3.0

_log = logging.getLogger(__name__)


class Captures:
    """The captures under way.

    :param capture: makes the snapshots, None for none; ended after CAPTURE_S.
    :param attach: keeps them, and gives how many were left out.
    """

    def __init__(self, capture: Capture | None, attach: Attach) -> None:
        self._capture = capture
        self._attach = attach
        self._tasks: set[asyncio.Task[None]] = set()
        self._slots = asyncio.Semaphore(AT_ONCE)
        self.refused: Counter[str] = Counter()

    def begin(self, fault: Fault) -> None:
        """Make the snapshots of a fault that was just confirmed; returns at once."""
        if self._capture is None:
            return
        if len(self._tasks) >= MAX_WAITING:
            self.refused["captures_skipped"] += 1
            return
        task = asyncio.create_task(self._one(self._capture, fault), name=f"capture {fault.fault_code}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End those under way."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self, capture: Capture, fault: Fault) -> None:
        async with self._slots:
            try:
                with anyio.fail_after(CAPTURE_S):
                    snapshots = await capture(fault)
                left_out = await self._attach(fault, snapshots) if snapshots else 0
                if left_out:
                    self.refused["snapshots_left_out"] += left_out
            except TimeoutError:
                self.refused["captures_late"] += 1
            except Exception as error:
                self.refused["captures_failed"] += 1
                _log.warning("The snapshots of fault %s were not made: %s", fault.fault_code, error)
