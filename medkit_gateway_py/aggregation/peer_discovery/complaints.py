"""Log lines that strangers can cause: each once, and not more than so many a minute."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

# What was said is remembered this far back; beyond, it may be said again.
REMEMBERED = 512
# Lines of a minute. What is beyond is counted, and the count is said at the minute's end.
LINES = 20
WINDOW_S = 60.0

_log = logging.getLogger(__name__)


class Complaints:
    """Says a thing once per key, within a rate."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: OrderedDict[str, None] = OrderedDict()
        self._window = clock()
        self._lines = 0
        self._held_back = 0

    def say(self, key: str, level: int, text: str) -> None:
        """Log `text` unless `key` was said before, or too much was said in this minute."""
        if key in self._said:
            self._said.move_to_end(key)
            return
        self._said[key] = None
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        self.summarize()
        if self._lines >= LINES:
            self._held_back += 1
            return
        self._lines += 1
        _log.log(level, "%s", text)

    def summarize(self) -> None:
        """Begin a new minute when it is time, and say how much the last one held back."""
        now = self._clock()
        if now - self._window < WINDOW_S:
            return
        self._window, self._lines = now, 0
        if self._held_back:
            _log.warning("%d more announcements by mDNS were refused in the last minute", self._held_back)
            self._held_back = 0
