"""Faults that are kept by a fault manager node: its services asked, its events passed on (API.md §7.1).

Reports go to it one after the other, so that what failed and then passed arrives in this order. While it is away they
wait, the oldest leave first, and that is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import anyio

from ...errors import GatewayError, ServiceUnavailable
from ...ros.fault_manager import NoAnswer, NoServer, NotSent
from ...ros.jobs import tell
from . import manager_messages
from .model import FaultEvent, FaultListing, FaultRecord, Report

MAX_REPORTS = 5000  # some seconds of a storm; a report has 2 kB at most
RETRY_S = 1.0
STOP_S = 0.5
FAILED, PASSED = 0, 1  # ReportFault.srv

Subscriber = Callable[[FaultEvent], None]

_log = logging.getLogger(__name__)


class Link(Protocol):
    """The node as `ros/fault_manager.py` reaches it."""

    async def call(self, name: str, **fields: Any) -> Any: ...
    async def listen(self, heard: Callable[[Any], None]) -> None: ...
    async def stop(self) -> None: ...


class ManagerFaults:
    """FaultBackend over a fault manager.

    :param link: None when the package of its types is not installed: then everything is answered with 503.
    """

    def __init__(self, link: Link | None) -> None:
        self._link = link
        self._subscribers: list[Subscriber] = []
        self._waiting: deque[Report] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._state, self._since, self._reason = "starting", time.time(), ""
        self._sent = self._dropped = self._events = self._odd = 0

    async def start(self) -> None:
        """Hear its events; whether it is there shows with the first call."""
        self._loop = asyncio.get_running_loop()
        if self._link is None:
            self._is("down", "the package ros2_medkit_msgs is not installed")
            _log.error("No faults: faults.backend is fault_manager, and %s.", self._reason)
            return
        try:
            await self._link.listen(self._heard)
        except Exception as error:  # rclpy raises RCLError, RMWError, errors of broken type supports, ...
            _log.warning("the events of the fault manager are not heard: %s", error)
            self._is("degraded", f"its events are not heard: {error}")
        self._task = asyncio.create_task(self._send(), name="fault-reports")

    async def stop(self) -> None:
        """Send what waits, as far as there is time, and end."""
        if self._task is not None:
            with anyio.move_on_after(STOP_S):
                while self._waiting and self._state != "down":  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._link is not None:
            await self._link.stop()

    def report(self, report: Report) -> None:
        """Take a report, from any thread, without waiting."""
        if self._link is None:
            self._dropped += 1
            return
        self._waiting.append(report)
        if len(self._waiting) > MAX_REPORTS:
            with contextlib.suppress(IndexError):  # the loop took the last one just now
                self._waiting.popleft()
            self._dropped += 1
        if self._loop is not None:
            tell(self._loop, self._wake.set)

    def take_waiting(self) -> list[Report]:
        """The reports that were not sent; they are forgotten here."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    async def list(
        self, statuses: Sequence[str], include_muted: bool = False, include_clusters: bool = False
    ) -> FaultListing:
        """All faults in these statuses. Raises ServiceUnavailable."""
        response = await self._ask(
            "Failed to get faults",
            "list_faults",
            filter_by_severity=False,
            severity=0,
            statuses=list(statuses),
            include_muted=include_muted,
            include_clusters=include_clusters,
        )
        return manager_messages.listing(response)

    async def get(self, fault_code: str) -> FaultRecord | None:
        """One fault in any status, None when there is none. Raises ServiceUnavailable."""
        response = await self._ask("Failed to get fault", "get_fault", fault_code=fault_code)
        if response.success:
            return manager_messages.record(response)
        if response.error_message and "not found" not in response.error_message.lower():
            raise ServiceUnavailable("Failed to get fault", details=response.error_message)
        return None

    async def clear(self, fault_codes: Sequence[str], skip_correlation_auto_clear: bool = True) -> tuple[str, ...]:
        """Clear faults; gives the codes that were there to be cleared. Raises ServiceUnavailable."""
        cleared: dict[str, None] = {}
        for code in fault_codes:
            if code in cleared:
                continue  # together with another one
            response = await self._ask(
                "Failed to clear fault",
                "clear_fault",
                fault_code=code,
                skip_correlation_auto_clear=skip_correlation_auto_clear,
            )
            if response.success:
                cleared |= dict.fromkeys([code, *response.auto_cleared_codes])
        return tuple(cleared)

    def subscribe(self, callback: Subscriber) -> None:
        """Call `callback` on the loop with each event, in order."""
        self._subscribers.append(callback)

    def health(self) -> Mapping[str, Any]:
        """The block of `/health` (DECISIONS 25)."""
        return {
            "state": self._state,
            "since": self._since,
            **({"reason": self._reason} if self._reason else {}),
            "backend": "fault_manager",
            "reports_sent": self._sent,
            "reports_waiting": len(self._waiting),
            "reports_dropped": self._dropped,
            "events": self._events,
            "events_unreadable": self._odd,
        }

    async def _ask(self, message: str, name: str, **fields: Any) -> Any:
        try:
            return await self._call(name, **fields)
        except (NoServer, NoAnswer, NotSent) as error:
            raise ServiceUnavailable(message, details=str(error)) from error

    async def _call(self, name: str, **fields: Any) -> Any:
        if self._link is None:
            raise NoServer(self._reason)
        try:
            response = await self._link.call(name, **fields)
        except (NoServer, NoAnswer, NotSent) as error:
            self._is("down", str(error))
            raise
        self._is("ok", "")
        return response

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                await self._send_one(self._waiting.popleft())

    async def _send_one(self, report: Report) -> None:
        try:
            await self._call(
                "report_fault",
                fault_code=report.fault_code,
                event_type=FAILED if report.failed else PASSED,
                severity=report.severity,
                description=report.description,
                source_id=report.source_id,
            )
            self._sent += 1
        except (NoServer, NotSent) as error:
            _log.debug("a report waits for the fault manager: %s", error)
            self._waiting.appendleft(report)
            await asyncio.sleep(RETRY_S)
        except (NoAnswer, GatewayError) as error:
            # It may have been taken: sent again it would count twice.
            _log.debug("a report was not answered by the fault manager: %s", error)
            self._dropped += 1

    def _heard(self, message: Any) -> None:
        """In the ros thread."""
        try:
            event = manager_messages.event(message)
        except Exception as error:  # another version of the package
            self._odd += 1
            if self._odd == 1:
                _log.warning("an event of the fault manager cannot be read: %s", error)
            return
        if self._loop is not None:
            tell(self._loop, lambda: self._tell(event))

    def _tell(self, event: FaultEvent) -> None:
        self._events += 1
        for subscriber in self._subscribers:
            try:
                subscriber(event)
            except Exception:
                # The others must hear of it all the same.
                _log.exception("a subscriber of fault events failed")

    def _is(self, state: str, reason: str) -> None:
        if state != self._state:
            self._since = time.time()
        self._state, self._reason = state, reason
