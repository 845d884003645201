"""What faults are made of, and what a source of faults must offer (API.md §7.1, §7.2). Values only: no I/O, no clock.

The names are those of `ros2_medkit_msgs`, so that a fault of our own store and one of a fault manager are the same.
Times are seconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

INFO, WARN, ERROR, CRITICAL = range(4)
SEVERITY_LABELS = ("INFO", "WARN", "ERROR", "CRITICAL")

PREFAILED, PREPASSED, CONFIRMED, HEALED, CLEARED = "PREFAILED", "PREPASSED", "CONFIRMED", "HEALED", "CLEARED"
STATUSES = (PREFAILED, PREPASSED, CONFIRMED, HEALED, CLEARED)

FAULT_CONFIRMED, FAULT_UPDATED, FAULT_CLEARED = "fault_confirmed", "fault_updated", "fault_cleared"


@dataclass(frozen=True)
class Report:
    """What one source says about one fault: it failed or it passed.

    `source_id` is the FQN of a node, or the id of an entity that is no node; `stamp` is when it was so.
    """

    source_id: str
    fault_code: str
    failed: bool
    severity: int = ERROR
    description: str = ""
    stamp: float = 0.0


@dataclass(frozen=True)
class Fault:
    """One fault: what is known of one code."""

    fault_code: str
    severity: int
    description: str
    first_occurred: float
    last_occurred: float
    occurrence_count: int
    status: str
    reporting_sources: tuple[str, ...]
    last_passed: float | None = None


@dataclass(frozen=True)
class Snapshot:
    """What was kept of the moment a fault was confirmed. `data` is JSON text; fields as in `Snapshot.msg`."""

    type: str
    name: str
    data: str = ""
    topic: str = ""
    message_type: str = ""
    captured_at: float = 0.0
    bulk_data_id: str = ""
    size_bytes: int = 0
    duration_sec: float = 0.0
    format: str = ""


@dataclass(frozen=True)
class FaultRecord:
    """A fault with the circumstances of its confirmation."""

    fault: Fault
    snapshots: tuple[Snapshot, ...] = ()


@dataclass(frozen=True)
class FaultEvent:
    """A change of a fault, as subscribers hear it (`FaultEvent.msg`)."""

    event_type: str
    fault: Fault
    timestamp: float
    auto_cleared_codes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FaultListing:
    """Faults, and what a correlation kept out of the list."""

    faults: tuple[Fault, ...]
    muted: tuple[Mapping[str, Any], ...] = ()
    muted_count: int = 0
    clusters: tuple[Mapping[str, Any], ...] = ()
    cluster_count: int = 0


class FaultBackend(Protocol):
    """Where faults are kept. Everything but `report` is called on the asyncio loop; nothing blocks it.

    A backend that cannot be asked raises ServiceUnavailable with API.md §7.1's texts.
    """

    async def start(self) -> None:
        """Begin: load what is known."""

    async def stop(self) -> None:
        """Write what is not written yet and end; called once, with a deadline of one second."""

    def report(self, report: Report) -> None:
        """Take a report, from any thread, without waiting. What there is no room for is counted, never silent."""

    async def list(
        self, statuses: Sequence[str], include_muted: bool = False, include_clusters: bool = False
    ) -> FaultListing:
        """All faults in these statuses."""

    async def get(self, fault_code: str) -> FaultRecord | None:
        """One fault in any status, None when there is none."""

    async def clear(self, fault_codes: Sequence[str], skip_correlation_auto_clear: bool = True) -> tuple[str, ...]:
        """Clear faults; gives the codes that were there to be cleared."""

    def subscribe(self, callback: Callable[[FaultEvent], None]) -> None:
        """Call `callback` on the loop with each change, in order, after it is on disk."""

    def health(self) -> Mapping[str, Any]:
        """The block of `/health` (DECISIONS 25): state, since, reason, counts."""
