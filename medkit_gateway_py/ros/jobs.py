"""Pieces of work on their way into the ros thread and their answers on the way back, and the counts of them.

Nothing here knows the executor or the queue.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Protocol

from rclpy.task import Future as RosFuture

from ..errors import ServiceUnavailable

_LOG = logging.getLogger(__name__)


class Owner(Protocol):
    """What a call needs of the bridge it went into."""

    def post(self, function: Callable[[], Any]) -> None:
        """Run `function` in the ros thread, some time soon."""

    def forget(self, call: Call) -> None:
        """The call has ended."""


def tell(loop: asyncio.AbstractEventLoop, function: Callable[[], Any]) -> None:
    """Run `function` on the loop, from any thread; never raises, and does nothing once the loop is closed."""
    try:
        loop.call_soon_threadsafe(function)
    except RuntimeError:
        _LOG.debug("the loop is closed, news from ROS have no taker")


class Counters:
    """Numbers for `health()`; written by the ros thread (and under the bridge's lock), read by anyone."""

    def __init__(self) -> None:
        self.completed = self.failed = self.dropped = self.max_depth = 0
        self.last_latency_us = self.max_latency_us = self.watchdog_trips = 0
        self.current_began = 0.0

    def begin(self) -> None:
        self.current_began = time.monotonic()

    def end(self, job: Job) -> float:
        """Count the job that just ended; returns the seconds it ran. Latency counts from when it was queued."""
        now = time.monotonic()
        took, self.current_began = now - self.current_began, 0.0
        self.last_latency_us = int((now - job.queued) * 1e6)
        self.max_latency_us = max(self.max_latency_us, self.last_latency_us)
        if job.failed:
            self.failed += 1
        else:
            self.completed += 1
        return took


class Job:
    """Something to run in the ros thread."""

    failed = False

    def __init__(self) -> None:
        self.queued = time.monotonic()

    def run(self) -> None:
        raise NotImplementedError


class Post(Job):
    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__()
        self._function = function

    def run(self) -> None:
        self._function()


class Call(Job):
    """A call under way: `run` in the ros thread, everything about `answer` in the loop."""

    def __init__(self, owner: Owner, function: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self.answer: asyncio.Future[Any] = loop.create_future()
        self._owner, self._function, self._loop = owner, function, loop
        self._ros_future: Any = None
        self._abandoned = self._expired = False

    def run(self) -> None:
        if self._abandoned:
            return
        try:
            result = self._function()
        except Exception as error:
            self.failed = True
            self.fail(error)
            return
        if not isinstance(result, RosFuture):
            self._settle(result, None)
            return
        self._ros_future = result
        result.add_done_callback(self._ros_future_done)

    def _ros_future_done(self, future: Any) -> None:
        """Runs as a task of the executor: must not raise."""
        try:
            if future.cancelled():
                self.fail(ServiceUnavailable("The ROS request was cancelled"))
            elif future.exception() is not None:
                self.fail(future.exception())
            else:
                self._settle(future.result(), None)
        except BaseException:
            _LOG.exception("an answer from ROS could not be handed over")

    def expire(self, timeout_s: float) -> None:
        """In the loop: the time is over."""
        self._expired = True
        if not self.answer.done():
            self.answer.set_exception(TimeoutError(f"ROS gave no answer within {timeout_s:g} s"))

    def abandon(self) -> None:
        """In the loop, when the caller has its answer or has gone: cancel what is still under way in ROS."""
        self._abandoned = True
        self._owner.forget(self)
        if self._expired or self.answer.cancelled():
            self._owner.post(self._cancel)

    def _cancel(self) -> None:
        """In the ros thread, after the function has run or been skipped: only now its rclpy Future is known."""
        if self._ros_future is not None and not self._ros_future.done():
            self._ros_future.cancel()

    def fail(self, error: BaseException) -> None:
        self._settle(None, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        def settle() -> None:
            if self.answer.done():
                return
            if error is None:
                self.answer.set_result(result)
            else:
                self.answer.set_exception(error)

        tell(self._loop, settle)
