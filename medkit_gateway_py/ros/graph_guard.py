"""Waiting for a change of the ROS graph without polling.

rclpy has no call for it, librcl has: every node owns a guard condition that fires when a node, topic or service
appears or goes anywhere in the graph. `GraphGuard` waits on it through ctypes (which gives the GIL back meanwhile);
it sees a change 1 to 7 ms after the middleware does. `MatchedGuard` is the substitute where librcl cannot be
reached so: `matched` events of `/parameter_events` tell of nodes, and a poll once a second finds the rest.

Neither looks at the graph; that is `graph.py`.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import threading
from types import TracebackType
from typing import Any

from rcl_interfaces.msg import ParameterEvent
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
from rclpy.guard_condition import GuardCondition
from rclpy.qos import qos_profile_parameter_events

from .bridge import RosBridge

_LOG = logging.getLogger(__name__)

_RCL_RET_OK, _RCL_RET_TIMEOUT = 0, 2
POLL_S = 1.0  # MatchedGuard only: topics and services of known nodes are found this much later
CREATE_LIMIT_S = 5.0


class _Allocator(ctypes.Structure):
    """`rcutils_allocator_t`: four functions and their state, passed by value."""

    _fields_ = [(name, ctypes.c_void_p) for name in ("allocate", "deallocate", "reallocate", "zero", "state")]


class _WaitSet(ctypes.Structure):
    """`rcl_wait_set_t`: six arrays with their sizes, and a pointer to the rest; unchanged from Humble to Kilted."""

    _fields_ = [
        field
        for name in ("subscriptions", "guard_conditions", "timers", "clients", "services", "events")
        for field in ((name, ctypes.c_void_p), (f"{name}_size", ctypes.c_size_t))
    ] + [("impl", ctypes.c_void_p)]


class GraphGuard:
    """Waits on the graph guard condition of a node; a context manager for the thread that waits.

    Holds the handles of node and context while open, so that neither is freed under the wait.

    :raises OSError, AttributeError: librcl is not where the loader finds it, or lacks a function.
    :raises RuntimeError: librcl refused.
    """

    def __init__(self, bridge: RosBridge) -> None:
        self._rcl, self._allocator = _bind()
        self._node, self._context = bridge.node, bridge.context
        self._stack = contextlib.ExitStack()
        self._wait_set = self._rcl.rcl_get_zero_initialized_wait_set()
        self._graph: int | None = None
        # Not added to the node: an EventsExecutor refuses nodes with guard conditions.
        self._waker = GuardCondition(None, MutuallyExclusiveCallbackGroup(), self._context)

    def __enter__(self) -> GraphGuard:
        for handle in (self._context.handle, self._node.handle, self._waker.handle):
            self._stack.enter_context(handle)
        try:
            self._graph = self._rcl.rcl_node_get_graph_guard_condition(self._node.handle.pointer)
            if not self._graph:
                raise RuntimeError("librcl gave no graph guard condition")
            context = self._context.handle.pointer
            self._check(
                self._rcl.rcl_wait_set_init(ctypes.byref(self._wait_set), 0, 2, 0, 0, 0, 0, context, self._allocator())
            )
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rcl.rcl_wait_set_fini(ctypes.byref(self._wait_set))
        self._stack.close()
        self._waker.destroy()

    def wait(self, timeout_s: float) -> bool:
        """True: the graph changed (or `wake` was called); False: nothing within `timeout_s` seconds."""
        wait_set = ctypes.byref(self._wait_set)
        self._check(self._rcl.rcl_wait_set_clear(wait_set))
        for condition in (self._graph, self._waker.handle.pointer):
            self._check(self._rcl.rcl_wait_set_add_guard_condition(wait_set, condition, None))
        result = self._rcl.rcl_wait(wait_set, int(timeout_s * 1e9))
        if result == _RCL_RET_TIMEOUT:
            return False
        self._check(result)
        return True

    def wake(self) -> None:
        """End a `wait` from another thread."""
        with contextlib.suppress(Exception):  # destroyed meanwhile: nobody waits any more
            self._waker.trigger()

    @staticmethod
    def _check(result: int) -> None:
        if result != _RCL_RET_OK:
            raise RuntimeError(f"librcl returned {result}")


class MatchedGuard:
    """The same without ctypes: events of a subscription that every node's publisher matches, and a poll."""

    def __init__(self, bridge: RosBridge) -> None:
        self._bridge = bridge
        self._event = threading.Event()
        self._subscription: Any = None

    def __enter__(self) -> MatchedGuard:
        self._bridge.mark_on_demand("/parameter_events", True)
        self._subscription = self._bridge.call_blocking(self._subscribe, CREATE_LIMIT_S)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bridge.mark_on_demand("/parameter_events", False)
        self._bridge.post(lambda: self._bridge.node.destroy_subscription(self._subscription))

    def wait(self, timeout_s: float) -> bool:
        """True: a node came or went, or a second has passed, or `wake` was called."""
        happened = self._event.wait(min(timeout_s, POLL_S))
        self._event.clear()
        return happened or timeout_s >= POLL_S

    def wake(self) -> None:
        """End a `wait` from another thread."""
        self._event.set()

    def _subscribe(self) -> Any:
        return self._bridge.node.create_subscription(
            ParameterEvent,
            "/parameter_events",
            lambda message: None,
            qos_profile_parameter_events,
            event_callbacks=SubscriptionEventCallbacks(matched=lambda info: self._event.set()),  # must not raise
            raw=True,
        )


def open_guard(bridge: RosBridge, use_librcl: bool = True) -> GraphGuard | MatchedGuard:
    """The better of the two that works here, not entered yet."""
    if use_librcl:
        try:
            guard = GraphGuard(bridge)
            with guard:
                guard.wait(0.0)
            return GraphGuard(bridge)
        except (OSError, AttributeError, RuntimeError) as error:
            _LOG.warning("no graph events from librcl (%s): watching by `matched` events and once a second", error)
    return MatchedGuard(bridge)


def _bind() -> tuple[Any, Any]:
    """librcl with the signatures of what is used, and the function that makes a default allocator."""
    rcl, rcutils = ctypes.CDLL("librcl.so"), ctypes.CDLL("librcutils.so")
    rcl.rcl_node_get_graph_guard_condition.restype = ctypes.c_void_p
    rcl.rcl_node_get_graph_guard_condition.argtypes = [ctypes.c_void_p]
    rcl.rcl_get_zero_initialized_wait_set.restype = _WaitSet
    wait_set = ctypes.POINTER(_WaitSet)
    rcl.rcl_wait_set_init.argtypes = [wait_set] + [ctypes.c_size_t] * 6 + [ctypes.c_void_p, _Allocator]
    rcl.rcl_wait_set_clear.argtypes = [wait_set]
    rcl.rcl_wait_set_fini.argtypes = [wait_set]
    rcl.rcl_wait_set_add_guard_condition.argtypes = [wait_set, ctypes.c_void_p, ctypes.c_void_p]
    rcl.rcl_wait.argtypes = [wait_set, ctypes.c_int64]
    rcutils.rcutils_get_default_allocator.restype = _Allocator
    return rcl, rcutils.rcutils_get_default_allocator
