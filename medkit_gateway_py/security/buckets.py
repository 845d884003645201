"""Token buckets, a bounded number of them: how often somebody may do something (API.md §9.6).

Counts only; who is counted and what a refusal looks like is decided by the callers.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

# A bucket that was empty is full again after a minute, whatever its rate.
REFILL_S = 60.0
# Far more clients than one gateway has; 2 MB.
MAX_BUCKETS = 10_000


@dataclass
class Bucket:
    """`limit` tokens at most, refilled in a minute. Times are monotonic seconds."""

    limit: int
    tokens: float
    at: float

    def refill(self, now: float) -> None:
        """Bring it up to now."""
        self.tokens = min(float(self.limit), self.tokens + max(0.0, now - self.at) * self.limit / REFILL_S)
        self.at = now

    @property
    def is_empty(self) -> bool:
        """Whether nothing can be taken. A millionth is missing only by rounding."""
        return self.tokens < 1.0 - 1e-6

    @property
    def remaining(self) -> int:
        """Whole tokens left."""
        return max(0, int(self.tokens + 1e-6))

    @property
    def wait_s(self) -> int:
        """Whole seconds until the next token, at least one."""
        return max(1, math.ceil((1.0 - self.tokens) * REFILL_S / self.limit))

    @property
    def full_in_s(self) -> float:
        """Seconds until it is full."""
        return (self.limit - self.tokens) * REFILL_S / self.limit


class Buckets:
    """Buckets by key, full when first seen. The one that was used longest ago leaves when there are too many."""

    def __init__(
        self,
        *,
        max_buckets: int = MAX_BUCKETS,
        max_idle_s: float = REFILL_S,
        cleanup_interval_s: float = REFILL_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_buckets = max_buckets
        # A bucket that is forgotten before it is full would give its client more than the limit.
        self._max_idle_s = max(max_idle_s, REFILL_S)
        self._cleanup_interval_s = cleanup_interval_s
        self._clock = clock
        self._cleaned_at = clock()
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def get(self, key: Hashable, limit: int) -> Bucket:
        """The bucket of this key, brought up to now."""
        now = self._clock()
        if now - self._cleaned_at >= self._cleanup_interval_s:
            self._clean(now)
        bucket = self._buckets.get(key)
        if bucket is None:
            if len(self._buckets) >= self._max_buckets:
                self._buckets.popitem(last=False)
            bucket = self._buckets[key] = Bucket(limit, float(limit), now)
        else:
            self._buckets.move_to_end(key)
            bucket.refill(now)
        return bucket

    def _clean(self, now: float) -> None:
        self._cleaned_at = now
        while self._buckets:
            key, bucket = next(iter(self._buckets.items()))
            if now - bucket.at <= self._max_idle_s:
                return
            del self._buckets[key]
