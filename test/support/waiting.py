"""Waiting for a condition with a deadline; the only way in which a test waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")

POLL_S = 0.02


def eventually(condition: Callable[[], Found], within: float = 5.0, message: Callable[[], str] | None = None) -> Found:
    """The first true result of `condition`; AssertionError with `message()` when there is none in time."""
    deadline = time.monotonic() + within
    pause = threading.Event()
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"not so within {within} s" + (f":\n{message()}" if message else ""))
        pause.wait(POLL_S)


async def async_eventually(
    condition: Callable[[], Found], within: float = 5.0, message: Callable[[], str] | None = None
) -> Found:
    """`eventually` that lets the loop run meanwhile."""
    deadline = time.monotonic() + within
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() >= deadline:
            raise AssertionError(f"not so within {within} s" + (f":\n{message()}" if message else ""))
        await asyncio.sleep(POLL_S)
