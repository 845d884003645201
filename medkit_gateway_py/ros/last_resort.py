"""An end in bounded time even when ROS hangs with the GIL held, when no Python code can run any more.

`Node.destroy_node()` has been seen to do that at the end of a process, a few times in a thousand. A deadline that a
Python thread watches is then worth nothing; this one is kept by a timer of the C library, which calls `_exit` itself.
"""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Callable

_LOG = logging.getLogger(__name__)

_CLOCK_MONOTONIC = 1
_SIGEV_THREAD = 2


class _Event(ctypes.Structure):
    """`struct sigevent` of 64-bit Linux, padded to its 64 bytes."""

    _fields_ = [
        ("value", ctypes.c_void_p),
        ("signal_number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_byte * 32),
    ]


class _Times(ctypes.Structure):
    """`struct itimerspec`: interval and first expiry, seconds and nanoseconds each."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "after_s", "after_ns")]


def leave_within(seconds: float, exit_code: int = 0) -> Callable[[], None]:
    """End the process with `exit_code` when `seconds` have passed, whatever it does then; returns what calls it off.

    Nothing is flushed and ROS says no goodbye: to be started when all that matters has been done. Where the C
    library has no such timer, a warning in the log is all that happens.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        event = _Event(value=exit_code, notify=_SIGEV_THREAD, function=ctypes.cast(libc._exit, ctypes.c_void_p).value)
        timer = ctypes.c_void_p()
        times = _Times(after_s=int(seconds), after_ns=int(seconds % 1 * 1e9))
        if libc.timer_create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) != 0:
            raise OSError(ctypes.get_errno(), "timer_create")
        if libc.timer_settime(timer, 0, ctypes.byref(times), None) != 0:
            raise OSError(ctypes.get_errno(), "timer_settime")
    except (OSError, AttributeError) as error:
        _LOG.warning("no last resort against a ROS that hangs at the end: %s", error)
        return lambda: None

    def call_off() -> None:
        libc.timer_delete(timer)

    return call_off
