"""The history of executions: what is remembered, for how long, and how many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from medkit_gateway_py.errors import ActionFailed, ServiceUnavailable
from medkit_gateway_py.resources.executions import ExecutionHistory
from support.api import FakeGoal, Operations

ACTION = ("/count", "test_msgs/action/Fibonacci")


class Clock:
    """A time that only the test moves."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Goals(Operations):
    """Action servers that remember who is followed."""

    def __init__(self) -> None:
        super().__init__()
        self.released: list[str] = []

    def release(self, goal: FakeGoal) -> None:
        self.released.append(goal.id)


def using(body: Callable[[ExecutionHistory, Goals, Clock], Awaitable[Any]], **options: Any) -> None:
    async def whole() -> None:
        goals, clock = Goals(), Clock()
        history = ExecutionHistory(goals, 1.0, clock=clock, **options)
        await body(history, goals, clock)
        await history.stop()
        assert len(history) == 0
        assert set(goals.released) == {goal.id for goal in goals.goals}

    asyncio.run(asyncio.wait_for(whole(), 10.0))


async def end(history: ExecutionHistory, goal: FakeGoal, state: str = "succeeded") -> None:
    goal.state = state
    goal.ended.set()
    execution = history.get(goal.id)
    assert execution is not None
    await history.settled(execution)


def test_an_ended_goal_is_forgotten_after_300_s_and_a_silent_one_after_600() -> None:
    async def body(history: ExecutionHistory, goals: Goals, clock: Clock) -> None:
        for _ in range(3):
            await history.start(*ACTION, {}, 1.0)
        done, silent, lively = goals.goals
        await end(history, done)
        clock.now = 300.0
        history.sweep()
        assert len(history) == 3
        clock.now = 301.0
        history.sweep()
        assert [one.id for one in history.of_action("/count")] == [lively.id, silent.id]
        lively.heard_at = 500.0
        clock.now = 601.0
        history.sweep()
        assert [one.id for one in history.of_action("/count")] == [lively.id]
        assert history.get(done.id) is None

    using(body)


def test_the_oldest_ended_goal_makes_room_and_running_ones_never_do() -> None:
    async def body(history: ExecutionHistory, goals: Goals, clock: Clock) -> None:
        await history.start(*ACTION, {}, 1.0)
        await history.start(*ACTION, {}, 1.0)
        with pytest.raises(ServiceUnavailable):
            await history.start(*ACTION, {}, 1.0)
        await end(history, goals.goals[1])
        await history.start(*ACTION, {}, 1.0)
        assert [one.id for one in history.of_action("/count")] == [goals.goals[2].id, goals.goals[0].id]

    using(body, limit=2)


def test_a_result_that_cannot_be_had_leaves_the_status() -> None:
    async def body(history: ExecutionHistory, goals: Goals, clock: Clock) -> None:
        async def no_result(goal: FakeGoal, timeout_s: float) -> dict[str, Any]:
            raise ActionFailed("Action execution failed", details="gone")

        goals.result = no_result  # type: ignore[method-assign]
        execution = await history.start(*ACTION, {}, 1.0)
        goals.goals[0].feedback = {"sequence": [0]}
        await end(history, goals.goals[0], "canceled")
        found = execution.body()
        assert (found["status"], found["parameters"]) == ("failed", {"sequence": [0]})
        assert "result" not in found

    using(body)
