"""What became of the goals that this gateway sent: a bounded history (API.md §5.4, §5.5).

A goal that has ended is forgotten 300 s later; one that nothing was heard of for 600 s, too, whatever its state.
Nothing here knows HTTP, ROS or entities.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..errors import CancelUnavailable, GatewayError, ServiceUnavailable

Json = dict[str, Any]

MAX_EXECUTIONS = 1000
SWEEP_S = 60.0
ENDED_S = 300.0
SILENT_S = 600.0
RESULT_S = 5.0
# A read of an execution that has just ended waits this long for the result that is on its way.
RESULT_WAIT_S = 1.0
LOST = "the action server left before the goal had ended"

_log = logging.getLogger(__name__)
_COMPLETED, _FAILED = frozenset({"succeeded"}), frozenset({"canceled", "aborted"})


class Goal(Protocol):
    """A goal as `ros/actions.py` follows it."""

    @property
    def id(self) -> str: ...
    @property
    def action(self) -> str: ...
    @property
    def type(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def lost(self) -> bool: ...
    @property
    def feedback(self) -> Json | None: ...
    @property
    def heard_at(self) -> float: ...
    @property
    def ended(self) -> asyncio.Event: ...


class Goals(Protocol):
    """What `ros/actions.py` gives; its goals are handed back to it as they came."""

    async def send(self, action: str, type_name: str, payload: object, timeout_s: float) -> Any:
        """An accepted goal."""

    async def result(self, goal: Any, timeout_s: float) -> Json:
        """The result of a goal that has ended."""

    async def cancel(self, goal: Any, timeout_s: float, verb: str = "Cancel") -> None:
        """Ask the server to cancel it."""

    def release(self, goal: Any) -> None:
        """Follow it no longer."""


@dataclass
class Execution:
    """One goal and its result; `ended_at` is `time.monotonic()`, None as long as it runs."""

    goal: Goal
    result: Json | None = None
    ended_at: float | None = None
    follower: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """32 hex digits."""
        return self.goal.id

    @property
    def status(self) -> str:
        """`running`, `completed` or `failed`."""
        state = self.goal.state
        return "completed" if state in _COMPLETED else "failed" if state in _FAILED else "running"

    def body(self) -> Json:
        """The answer to a read (API.md §5.5): `parameters` are the result, before that the last feedback."""
        goal = self.goal
        feedback = goal.feedback
        body: Json = {"status": self.status, "capability": "execute"}
        if self.result is not None:
            body["parameters"] = body["result"] = self.result
        elif feedback is not None:
            body["parameters"] = feedback
        if feedback is not None:
            body["last_feedback"] = feedback
        if goal.lost:
            body["error"] = LOST
        body["x-medkit"] = {
            "goal_id": goal.id,
            "ros2_status": goal.state,
            "ros2": {"action": goal.action, "type": goal.type},
        }
        return body


class ExecutionHistory:
    """The executions of one gateway by id; the oldest that has ended makes room for a new one. Runs on the loop."""

    def __init__(
        self,
        goals: Goals,
        cancel_timeout_s: float,
        *,
        limit: int = MAX_EXECUTIONS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._goals = goals
        self._cancel_timeout_s = cancel_timeout_s
        self._limit = limit
        self._clock = clock
        self._executions: dict[str, Execution] = {}  # oldest first
        self._starting = 0
        self._sweep_timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._executions)

    async def start(self, action: str, type_name: str, payload: object, timeout_s: float) -> Execution:
        """Send a goal and follow it.

        :raises ServiceUnavailable: as many goals run as can be remembered.
        :raises ActionRejected, ActionFailed: see `ros/actions.py`.
        """
        self._make_room()
        self._starting += 1
        try:
            goal = await self._goals.send(action, type_name, payload, timeout_s)
        finally:
            self._starting -= 1
        execution = self._executions[goal.id] = Execution(goal)
        execution.follower = asyncio.ensure_future(self._follow(execution))
        self._sweep_later()
        return execution

    def get(self, execution_id: str) -> Execution | None:
        """The execution, None when it is not or no longer known."""
        return self._executions.get(execution_id)

    def of_action(self, action: str) -> list[Execution]:
        """The executions of an action, newest first."""
        return [one for one in reversed(list(self._executions.values())) if one.goal.action == action]

    async def settled(self, execution: Execution) -> Execution:
        """The same execution; if it has just ended, once its result is there, within a bound."""
        if execution.goal.ended.is_set() and execution.follower is not None:
            await asyncio.wait({execution.follower}, timeout=RESULT_WAIT_S)
        return execution

    async def cancel(self, execution: Execution, verb: str = "Cancel") -> None:
        """Ask the server to cancel.

        :raises ActionRejected, CancelUnavailable, NotResponding, ActionFailed: see `ros/actions.py`.
        """
        if execution.goal.lost:
            raise CancelUnavailable(f"{verb} failed: Cancel service not available", details=LOST)
        await self._goals.cancel(execution.goal, self._cancel_timeout_s, verb)

    async def stop(self) -> None:
        """Follow nothing any more."""
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()
        for execution_id in list(self._executions):
            self._forget(execution_id)

    def sweep(self) -> None:
        """Forget what is older than the contract says."""
        now = self._clock()
        for execution in list(self._executions.values()):
            ended = execution.ended_at is not None and now - execution.ended_at > ENDED_S
            if ended or now - execution.goal.heard_at > SILENT_S:
                self._forget(execution.id)

    async def _follow(self, execution: Execution) -> None:
        goal = execution.goal
        try:
            await goal.ended.wait()
            execution.ended_at = self._clock()
            if not goal.lost:
                execution.result = await self._goals.result(goal, RESULT_S)
        except GatewayError as error:
            _log.info("the result of goal %s of %s cannot be had: %s", goal.id, goal.action, error.parameters)
        except Exception:
            # Nobody awaits this task, so nobody else would say it.
            _log.exception("following goal %s of %s failed", goal.id, goal.action)
        finally:
            self._goals.release(goal)

    def _make_room(self) -> None:
        if len(self._executions) + self._starting < self._limit:
            return
        oldest = next((one.id for one in self._executions.values() if one.ended_at is not None), None)
        if oldest is None:
            raise ServiceUnavailable("Too many executions are running", limit=self._limit)
        self._forget(oldest)

    def _forget(self, execution_id: str) -> None:
        execution = self._executions.pop(execution_id)
        if execution.follower is not None:
            execution.follower.cancel()
        self._goals.release(execution.goal)

    def _sweep_later(self) -> None:
        if self._sweep_timer is None:
            self._sweep_timer = asyncio.get_running_loop().call_later(SWEEP_S, self._sweep_now)

    def _sweep_now(self) -> None:
        self._sweep_timer = None
        self.sweep()
        if self._executions:
            self._sweep_later()
