"""What the goals of actions say about faults. Pure: goal states go in, observations come out.

An aborted goal is a failure of its action; each later goal that succeeds has passed, as often as it takes to heal. A
server that leaves the graph in the middle of a goal has failed as well. Cancelled goals say nothing: somebody wanted
that.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from . import model
from .diagnostics import Observation
from .naming import Subject, fault_code

# By the numbers of action_msgs/msg/GoalStatus.
UNDER_WAY, SUCCEEDED, ABORTED = frozenset({1, 2, 3}), 4, 6
# Servers name the goals of the last seconds or minutes; of more than this the newest are looked at.
MAX_GOALS = 1000


class GoalState(NamedTuple):
    """A goal in a status message; `accepted_at` in seconds of the server's clock."""

    goal_id: bytes
    status: int
    accepted_at: float


class ActionFaults:
    """The actions that are followed, by name.

    :param passed_times: how many reports in a row heal a fault; more are not told.
    """

    def __init__(self, passed_times: int = 1) -> None:
        self._passed_times = passed_times
        self._servers: dict[str, str] = {}
        self._goals: dict[str, dict[bytes, int]] = {}
        self._passed: dict[str, int] = {}  # action to how often it was told that it works

    def serve(self, servers: Mapping[str, str]) -> None:
        """Which node serves which action now; that of an action that left is known until `gone`."""
        left = {action: fqn for action, fqn in self._servers.items() if action in self._goals}
        self._servers = {**left, **servers}

    def tell_again(self) -> None:
        """Tell of successes as if none had been told: somebody else listens now."""
        self._passed.clear()

    def take(self, action: str, states: Iterable[GoalState]) -> list[Observation]:
        """A status message: all goals that the server remembers."""
        newest = sorted(states, key=lambda one: one.accepted_at)[-MAX_GOALS:]
        before = self._goals.get(action)
        self._goals[action] = {one.goal_id: one.status for one in newest}
        ended = [one for one in newest if one.status in (SUCCEEDED, ABORTED)]
        if before is None:
            ended = ended[-1:]  # what was before the last is history
        else:
            ended = [one for one in ended if before.get(one.goal_id) != one.status]
        found: list[Observation] = []
        for one in ended:
            if one.status == ABORTED:
                found.append(self._failed(action, f"a goal of {action} was aborted"))
            elif self._passed.get(action, 0) < self._passed_times:
                self._passed[action] = self._passed.get(action, 0) + 1
                found.append(self._observation(action, False, model.INFO, f"a goal of {action} succeeded"))
        return found

    def gone(self, action: str) -> list[Observation]:
        """The action has left the graph; what was known of its goals is forgotten."""
        under_way = sum(status in UNDER_WAY for status in self._goals.pop(action, {}).values())
        found = []
        if under_way:
            goals = "a goal" if under_way == 1 else f"{under_way} goals"
            found = [self._failed(action, f"the server of {action} left in the middle of {goals}")]
        self._servers.pop(action, None)
        self._passed.pop(action, None)
        return found

    def _failed(self, action: str, text: str) -> Observation:
        self._passed.pop(action, None)
        return self._observation(action, True, model.ERROR, text)

    def _observation(self, action: str, failed: bool, severity: int, text: str) -> Observation:
        subject = Subject("node", self._servers.get(action, action))
        return Observation(fault_code("ACTION_ABORTED", action), failed, subject, severity, text)
