"""What the calls to one peer came to: how many, how long, how many bytes. Counts only, and within fixed bounds."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator
from dataclasses import dataclass, field

from .transport import CONTROL, STREAMS

# The latest answers to polls: of a peer that is polled two minutes, of one that is followed twenty.
MAX_ROUND_TRIPS = 128
# Upper bounds in seconds of the classes that forwards are counted in, from a LAN to the longest wait.
BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# Lanes of what the gateway asks for itself.
_OWN = frozenset({CONTROL, STREAMS})
ANSWERED, UNAVAILABLE, LATE = "answered", "unavailable", "late"


@dataclass
class CallStats:
    """Of one peer since its connections were made.

    `calls` counts clients' requests by how they ended, `classes` those answered by the time to the first byte (one
    more class than bounds), `seconds` is the sum of these times. Polls are in `round_trips` only.
    """

    calls: dict[str, int] = field(default_factory=lambda: dict.fromkeys((ANSWERED, UNAVAILABLE, LATE), 0))
    classes: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_S) + 1))
    seconds: float = 0.0
    bytes_received: int = 0
    bytes_sent: int = 0
    round_trips: deque[float] = field(default_factory=lambda: deque(maxlen=MAX_ROUND_TRIPS))

    def answered(self, lane: str, took_s: float) -> None:
        """The head of an answer came after this time."""
        if lane == CONTROL:
            self.round_trips.append(took_s)
        if lane in _OWN:
            return
        self.calls[ANSWERED] += 1
        self.classes[bisect_left(BUCKETS_S, took_s)] += 1
        self.seconds += took_s

    def failed(self, lane: str, outcome: str) -> None:
        """No answer came."""
        if lane not in _OWN:
            self.calls[outcome] += 1

    async def sent(self, content: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
        """The pieces of a body, counted."""
        async for piece in content:
            self.bytes_sent += len(piece)
            yield piece

    def percentiles_ms(self) -> dict[str, float] | None:
        """Of the round trips of the latest polls; None before the first."""
        ordered = sorted(self.round_trips)
        if not ordered:
            return None
        last = len(ordered) - 1
        return {f"p{part}": round(ordered[(last * part + 50) // 100] * 1000, 2) for part in (50, 95, 99)}
