"""The circuit breaker of one peer: fail fast while it is down, try again soon (AGGREGATION.md §6).

Pure state: time is passed in, nothing is sent.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

# One lost packet or one stale connection is no outage; two polls in a row are.
FAILURES_TO_OPEN = 2
FIRST_BACKOFF_S = 0.5
# A peer that was restarted shall be back within seconds, and a probe every five costs nothing.
MAX_BACKOFF_S = 5.0

CLOSED, OPEN, HALF_OPEN = "closed", "open", "half_open"


@dataclass
class Breaker:
    """Closed: calls go out. Open: they fail at once. Half-open: one probe, by the poll, decides."""

    state: str = CLOSED
    failures: int = 0
    retry_at: float = 0.0
    jitter: Callable[[], float] = field(default=random.random, repr=False)

    def allows_calls(self) -> bool:
        """Whether a client's request may be sent to the peer; only the poll probes a peer that is down."""
        return self.state == CLOSED

    def allows_probe(self, now: float) -> bool:
        """Whether the poll may be sent; an open breaker becomes half-open when its time has come."""
        if self.state == OPEN and now >= self.retry_at:
            self.state = HALF_OPEN
        return self.state != OPEN

    def succeeded(self) -> bool:
        """The peer answered. True when that closed the breaker."""
        closed_now = self.state != CLOSED
        self.state, self.failures = CLOSED, 0
        return closed_now

    def failed(self, now: float) -> bool:
        """The peer could not be reached. True when that opened a closed breaker."""
        self.failures += 1
        opened_now = self.state == CLOSED and self.failures >= FAILURES_TO_OPEN
        if self.state != CLOSED or opened_now:
            self.state = OPEN
            self.retry_at = now + self._backoff()
        return opened_now

    def delay(self, now: float) -> float:
        """Seconds until a probe may be sent."""
        return max(0.0, self.retry_at - now) if self.state == OPEN else 0.0

    def _backoff(self) -> float:
        doublings = min(max(0, self.failures - FAILURES_TO_OPEN), 10)
        return min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2.0**doublings) * (0.8 + 0.2 * self.jitter())
