"""The border between asyncio and rclpy: one thread with a node and its executor, and the only way into it.

`await bridge.call(fn, timeout_s)` runs `fn` in the `ros` thread and comes back with its result; a returned rclpy
Future is awaited, too. The node is made by whoever makes the bridge, so that its parameters can be declared before
anyone can ask for them; from `start()` on every rclpy entity is made, used and destroyed in the ros thread. Nothing
here knows topics, services or HTTP.

    bridge = RosBridge("my_gateway", args=sys.argv)   # the node is there
    bridge.start()                                    # and now it spins
    subscription = await bridge.call(lambda: bridge.node.create_subscription(...), 1.0)
    bridge.stop(2.0)

Executor: `EventsExecutor` from Kilted on, driven by `spin_once` (its `spin()` busy-loops in the 9.1.2 wheel),
`SingleThreadedExecutor` before. Never `MultiThreadedExecutor`: it spends the CPU on handing over the GIL and loses
messages (ARCHITECTURE.md, Threads and loops).

A task or an event callback (`matched` and its like) that raises kills the whole process under `EventsExecutor`
(segmentation fault, rclpy 7.1.6 and 9.1.2). Whatever is handed to `call` and `post` is caught here; event callbacks
must not raise, which for handing something to a loop means `jobs.tell`. What callbacks of subscriptions and timers
raise is logged.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import importlib.metadata
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from ..errors import GatewayShutdown, ServiceUnavailable
from .jobs import Call, Counters, Job, Post

_LOG = logging.getLogger(__name__)

SPIN_S = 0.5  # the longest the loop sleeps without looking whether it has to stop; work wakes it at once
FIRST_KILTED_RCLPY = 9


class RosBridge:
    """One rclpy context, node and executor; they run in a thread of their own from `start` on.

    :param args: command line as rclpy takes it (`["--ros-args", "-r", ...]`, a leading program name is fine);
        None or empty: no arguments.
    :param executor: `auto`, `events` or `single`.
    :param max_queue_depth: calls that may wait for the thread; one more is refused with `ServiceUnavailable`.
    :param watchdog_s: a single piece of work that takes longer is logged and makes `health()` say `degraded`.
    :raises Exception: whatever rclpy raised: bad `--ros-args`, a bad node name, no middleware.
    """

    def __init__(
        self,
        node_name: str,
        namespace: str = "",
        args: Sequence[str] | None = None,
        executor: str = "auto",
        *,
        start_parameter_services: bool = True,
        enable_rosout: bool = True,
        max_queue_depth: int = 256,
        watchdog_s: float = 5.0,
    ) -> None:
        if executor not in ("auto", "events", "single"):
            raise ValueError(f"executor must be auto, events or single, not {executor!r}")
        self.executor_kind = _choose_executor(executor)
        self.created_at = time.monotonic()
        self.graph_events = 0  # counted up by whoever watches the graph
        self._on_demand: collections.Counter[str] = collections.Counter()
        self._max_queue_depth, self._watchdog_s = max_queue_depth, watchdog_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._queue: collections.deque[Job] = collections.deque()
        self._calls: set[Call] = set()
        self._drain_scheduled = self._closed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ros", daemon=True)
        self._counters = Counters()
        self._context: Any = rclpy.Context()
        self._node: Any = None
        self._executor: Any = None
        try:
            # An empty list is no arguments; None would be this process's own command line.
            rclpy.init(args=list(args or []), context=self._context, signal_handler_options=SignalHandlerOptions.NO)
            self._node = rclpy.create_node(
                node_name,
                context=self._context,
                namespace=namespace,
                start_parameter_services=start_parameter_services,
                enable_rosout=enable_rosout,
            )
            self.executor_kind, self._executor = _make_executor(self.executor_kind, self._context)
            self._executor.add_node(self._node)
        except BaseException:
            self._close()
            raise

    @property
    def node(self) -> Any:
        """The rclpy node. Once started, to be touched inside `call` or `post` only, but for its names and logger."""
        return self._node

    @property
    def context(self) -> Any:
        """The rclpy context of the node."""
        return self._context

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The asyncio loop given to `attach`, None before."""
        return self._loop

    @property
    def worker_alive(self) -> bool:
        """Whether the ros thread runs and takes work."""
        return self._thread.is_alive() and not self._stopping.is_set()

    @property
    def pending_calls(self) -> int:
        """Calls whose answer is still waited for."""
        with self._lock:
            return len(self._calls)

    @property
    def on_demand_subscriptions(self) -> frozenset[str]:
        """Topics that the node subscribes to only because somebody reads or watches them."""
        with self._lock:
            return frozenset(self._on_demand)

    def mark_on_demand(self, topic: str, subscribed: bool) -> None:
        """Count a subscription made (or destroyed) on somebody's behalf: it says nothing about the node itself."""
        with self._lock:
            self._on_demand[topic] += 1 if subscribed else -1
            if self._on_demand[topic] <= 0:
                del self._on_demand[topic]

    def limit(self, max_queue_depth: int, watchdog_s: float) -> None:
        """Other limits than those of the constructor; to be called before `start`."""
        self._max_queue_depth, self._watchdog_s = max_queue_depth, watchdog_s

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Name the loop that calls come from; others than it (tests) still may call."""
        self._loop = loop

    def start(self) -> None:
        """Begin to spin. To be called once."""
        self._thread.start()

    async def call(self, function: Callable[[], Any], timeout_s: float) -> Any:
        """Run `function` in the ros thread, return its result; await an rclpy Future that it returns.

        A call that ran out of time before its turn is not run at all; an rclpy Future that is no longer waited for
        is cancelled, so that its client forgets the request.

        :raises TimeoutError: no result within `timeout_s` seconds.
        :raises GatewayShutdown: the bridge is stopping.
        :raises ServiceUnavailable: the queue of the ros thread is full.
        """
        loop = asyncio.get_running_loop()
        call = Call(self, function, loop)
        self._enqueue(call, "call")
        timer = loop.call_later(timeout_s, call.expire, timeout_s)
        try:
            return await call.answer
        finally:
            timer.cancel()
            call.abandon()

    def call_blocking(self, function: Callable[[], Any], timeout_s: float) -> Any:
        """`call` for the main thread, before there is a loop; an rclpy Future is returned as it is.

        :raises TimeoutError, GatewayShutdown, ServiceUnavailable: as `call`.
        """
        done = threading.Event()
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.extend((True, function()))
            except Exception as error:
                outcome.extend((False, error))
            done.set()

        self._enqueue(Post(run), "call")
        if not done.wait(timeout_s):
            raise TimeoutError(f"the ROS thread gave no answer within {timeout_s:g} s")
        if not outcome[0]:
            raise outcome[1]
        return outcome[1]

    def post(self, function: Callable[[], Any]) -> None:
        """Run `function` in the ros thread, some time soon; what it raises is logged. Dropped once stopping."""
        with contextlib.suppress(GatewayShutdown):  # what is posted is clean-up; stopping cleans up everything
            self._enqueue(Post(function), "post")

    def stop(self, timeout_s: float) -> bool:
        """Refuse new work, answer what waits with `GatewayShutdown`, destroy node and context.

        The ros thread itself destroys them, and it is a daemon: `destroy_node` has been seen to hang for ever.
        Returns within `timeout_s` seconds; False (and an ERROR in the log) when the destruction was given up.
        """
        deadline = time.monotonic() + timeout_s
        self._refuse_work()
        if self._thread.ident is None:
            self._thread.start()  # never started: it finds that it has to stop, and destroys what there is
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            _LOG.error("the ROS node was not destroyed within %g s; giving up on it", timeout_s)
            return False
        return True

    def health(self) -> dict[str, Any]:
        """The members of `x-medkit-subscription-executor` (API.md §2.2). Callable from any thread."""
        counters = self._counters
        began = counters.current_began
        age_s = time.monotonic() - began if began else 0.0
        return {
            "worker_alive": self.worker_alive,
            "degraded": not self.worker_alive or age_s > self._watchdog_s,
            "queue_depth": len(self._queue),
            "queue_max_depth_observed": counters.max_depth,
            "queue_dropped": counters.dropped,
            "tasks_completed": counters.completed,
            "tasks_failed": counters.failed,
            "last_task_latency_us": counters.last_latency_us,
            "max_task_latency_us": counters.max_latency_us,
            "current_task_age_ms": int(age_s * 1000),
            "watchdog_trips": counters.watchdog_trips,
            "graph_events_received": self.graph_events,
        }

    def _enqueue(self, job: Job, kind: str) -> None:
        with self._lock:
            if not self.worker_alive:
                raise GatewayShutdown("The gateway is shutting down")
            if kind == "call" and len(self._queue) >= self._max_queue_depth:
                self._counters.dropped += 1
                raise ServiceUnavailable("The ROS thread is busy", queue_depth=len(self._queue))
            self._queue.append(job)
            self._counters.max_depth = max(self._counters.max_depth, len(self._queue))
            if isinstance(job, Call):
                self._calls.add(job)
            if not self._drain_scheduled:
                self._drain_scheduled = True
                self._executor.create_task(self._drain)

    def _refuse_work(self) -> None:
        with self._lock:
            self._stopping.set()
            waiting, self._calls = self._calls, set()
            self._queue.clear()
            if self._executor is not None and not self._closed:
                self._executor.create_task(_nothing)  # wakes it
        for call in waiting:
            call.fail(GatewayShutdown("The gateway is shutting down"))

    def _drain(self) -> None:
        """Run what is queued now; what is queued meanwhile gets a task of its own, so subscriptions get their turn."""
        with self._lock:
            self._drain_scheduled = False
            jobs = list(self._queue)
            self._queue.clear()
        for job in jobs:
            if self._stopping.is_set():
                return
            self._counters.begin()
            try:
                job.run()
            except BaseException:  # anything that gets out of a task ends the process, see the module's docstring
                _LOG.exception("a task in the ROS thread failed")
                job.failed = True
            if self._counters.end(job) > self._watchdog_s:
                self._counters.watchdog_trips += 1
                _LOG.warning("a task held the ROS thread for more than %g s", self._watchdog_s)

    def forget(self, call: Call) -> None:
        """A call ended; for `Call` only."""
        with self._lock:
            self._calls.discard(call)

    def _run(self) -> None:
        while not self._stopping.is_set() and self._context.ok():
            try:
                self._executor.spin_once(timeout_sec=SPIN_S)
            except Exception:  # a subscription's or timer's callback raised
                _LOG.exception("a callback in the ROS thread failed")
                self._counters.failed += 1
                self._stopping.wait(0.01)  # so that a callback that always fails does not take the whole CPU
        if not self._stopping.is_set():
            _LOG.error("the ROS context was shut down by someone else; no ROS request can be served any more")
            self._refuse_work()
        self._close()

    def _close(self) -> None:
        with self._lock:
            self._closed = True  # from here on nobody hands a task to the executor
        steps: list[tuple[str, Callable[[], Any]]] = []
        if self._executor is not None and self._node is not None:
            steps.append(("remove the node from the executor", lambda: self._executor.remove_node(self._node)))
        if self._node is not None:
            steps.append(("destroy the node", lambda: self._node.destroy_node()))
        if self._executor is not None:
            steps.append(("shut the executor down", lambda: self._executor.shutdown()))
        if self._context is not None and self._context.ok():
            steps.append(("shut the context down", lambda: rclpy.shutdown(context=self._context)))
        for what, step in steps:
            try:
                step()
            except Exception:
                _LOG.exception("could not %s", what)


def _nothing() -> None:
    """A task that only wakes the executor."""


def _make_executor(kind: str, context: Any) -> tuple[str, Any]:
    """The executor, and which one it has become."""
    if kind == "events":
        from rclpy.experimental import EventsExecutor

        try:
            return kind, EventsExecutor(context=context)
        except (OSError, RuntimeError, ValueError) as error:
            # It switches faulthandler on, which cannot be done in a process without a stderr.
            _LOG.warning("no EventsExecutor (%s): using the slower SingleThreadedExecutor", error)
    return "single", SingleThreadedExecutor(context=context)


def _choose_executor(wanted: str) -> str:
    if wanted == "single":
        return "single"
    try:
        from rclpy.experimental import EventsExecutor  # noqa: F401
    except ImportError:
        return "single"
    if wanted == "events":
        return "events"
    try:
        major = int(importlib.metadata.version("rclpy").split(".")[0])
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return "single"
    return "events" if major >= FIRST_KILTED_RCLPY else "single"
