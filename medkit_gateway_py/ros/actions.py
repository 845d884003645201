"""Sending goals to action servers and following them (API.md §5.3, §5.5, §5.6).

An action is three services and two topics. rclpy's own ActionClient belongs to an executor's wait set and keeps goal
handles of its own; here the services are called through `services.py`, with its bounds and deadlines, and the topics
`_action/status` and `_action/feedback` are subscribed to as long as a goal of ours runs.

Nothing here remembers a goal that has ended, see `resources/executions.py`.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable
from typing import Any

from action_msgs.msg import GoalStatusArray
from action_msgs.srv import CancelGoal
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from ..errors import ActionFailed, ActionRejected, CancelUnavailable, GatewayError, GatewayShutdown, NotResponding
from . import messages
from .bridge import RosBridge
from .jobs import tell
from .services import NoAnswer, NoServer, NotSent, ServiceCaller

ROS_LIMIT_S = 2.0
CANCEL_SERVER_S = 2.0
# By the numbers of action_msgs/msg/GoalStatus.
STATES = ("unknown", "accepted", "executing", "canceling", "succeeded", "canceled", "aborted")
TERMINAL = frozenset({"succeeded", "canceled", "aborted"})
_REFUSALS = {1: "{} request rejected", 2: "Unknown execution ID", 3: "Execution already terminated"}
_STATUS_QOS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class Goal:
    """A goal of ours. Written by the ros thread, read by the loop.

    * `id`: 32 hex digits. `state`: one of STATES; a terminal one stays.
    * `heard_at`: `time.monotonic()` of the last news. `ended`: set in the loop once nothing more will come.
    * `lost`: its action server left the graph before the end.
    """

    def __init__(self, action: str, type_name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.id = uuid.uuid4().hex
        self.action, self.type = action, type_name
        self.state = "accepted"
        self.lost = False
        self.heard_at = time.monotonic()
        self.ended = asyncio.Event()
        self._loop = loop
        self._feedback: Any = None

    @property
    def feedback(self) -> dict[str, Any] | None:
        """The last feedback as JSON."""
        return None if self._feedback is None else messages.to_json(self._feedback)

    def take_feedback(self, feedback: Any) -> None:
        """In the ros thread."""
        self._feedback, self.heard_at = feedback, time.monotonic()

    def take_status(self, number: int) -> None:
        """In the ros thread."""
        self.heard_at = time.monotonic()
        if self.state in TERMINAL:
            return
        self.state = STATES[number] if 0 <= number < len(STATES) else "unknown"
        if self.state in TERMINAL:
            tell(self._loop, self.ended.set)

    def lose(self) -> None:
        """In the loop: the server has gone, and the goal with it."""
        if self.state not in TERMINAL:
            self.lost, self.state = True, "aborted"
        self.ended.set()


class ActionCaller:
    """Goals of this gateway; runs on the asyncio loop."""

    def __init__(self, bridge: RosBridge, services: ServiceCaller) -> None:
        self._bridge, self._services = bridge, services
        self._watches: dict[tuple[str, str], _Watch] = {}
        self._seen: frozenset[str] = frozenset()

    @property
    def followed(self) -> int:
        """Goals whose end is waited for."""
        return sum(len(watch.goals) for watch in self._watches.values())

    def servers_seen(self, actions: Iterable[str]) -> None:
        """All actions that are in the graph now; goals of those that have left it are lost."""
        now = frozenset(actions)
        for watch in list(self._watches.values()):
            if watch.action in self._seen and watch.action not in now:
                for goal in list(watch.goals.values()):
                    goal.lose()
        self._seen = now

    async def send(self, action: str, type_name: str, payload: object, timeout_s: float) -> Goal:
        """Send a goal and return it once the server has accepted it; `release` must follow.

        :raises ActionRejected: the server refuses it.
        :raises ActionFailed: whatever else went wrong; `details` has it.
        :raises GatewayShutdown: stopping.
        """
        try:
            action_class = _action_class(type_name)
            goal = Goal(action, type_name, asyncio.get_running_loop())
            request = action_class.Impl.SendGoalService.Request()
            request.goal_id.uuid = list(bytes.fromhex(goal.id))
            request.goal = messages.from_json(action_class.Goal, payload)
        except (messages.UnknownType, messages.FieldError) as error:
            raise _failed(error) from error
        try:
            await self._follow(goal, action_class)
            response = await self._services.request(
                f"{action}/_action/send_goal", type_name, action_class.Impl.SendGoalService, request, timeout_s
            )
            if not response.accepted:
                raise ActionRejected("Goal rejected", details="the action server rejected the goal")
        except (NoServer, NoAnswer, NotSent) as error:
            self.release(goal)
            raise _failed(error) from error
        except BaseException:
            self.release(goal)
            raise
        return goal

    async def result(self, goal: Goal, timeout_s: float) -> dict[str, Any]:
        """The result of a goal that has ended, as JSON.

        :raises ActionFailed: it cannot be had.
        """
        try:
            action_class = _action_class(goal.type)
            request = action_class.Impl.GetResultService.Request()
            request.goal_id.uuid = list(bytes.fromhex(goal.id))
            response = await self._services.request(
                f"{goal.action}/_action/get_result", goal.type, action_class.Impl.GetResultService, request, timeout_s
            )
        except (NoServer, NoAnswer, NotSent, messages.UnknownType) as error:
            raise _failed(error) from error
        return messages.to_json(response.result)

    async def cancel(self, goal: Goal, timeout_s: float, verb: str = "Cancel") -> None:
        """Ask the server to cancel; returns when it agreed, or when the goal is seen to be cancelled.

        :raises ActionRejected: the server refuses; `return_code` says why.
        :raises CancelUnavailable: nobody serves the cancellation.
        :raises NotResponding: no answer in time.
        :raises ActionFailed: the request could not be sent.
        """
        request = CancelGoal.Request()
        request.goal_info.goal_id.uuid = list(bytes.fromhex(goal.id))
        try:
            response = await self._services.request(
                f"{goal.action}/_action/cancel_goal", "", CancelGoal, request, timeout_s,
                server_within_s=CANCEL_SERVER_S,
            )  # fmt: skip
        except NoServer as error:
            raise CancelUnavailable(f"{verb} failed: Cancel service not available", details=str(error)) from error
        except NoAnswer as error:
            if goal.state in ("canceling", "canceled"):
                return
            raise NotResponding(f"{verb} failed: no answer in time", details=str(error)) from error
        except NotSent as error:
            raise ActionFailed(f"{verb} failed", details=str(error)) from error
        code = int(response.return_code)
        if not code and goal.id not in {_hex(info.goal_id) for info in response.goals_canceling}:
            code = 1  # what a refusal by rclpy's own server looks like: no error, and nothing cancelled
        if code:
            message = _REFUSALS.get(code, "{} request rejected").format(verb)
            raise ActionRejected(message, return_code=code)

    def release(self, goal: Goal) -> None:
        """Follow the goal no longer; the subscriptions go with the last goal of an action."""
        key = (goal.action, goal.type)
        watch = self._watches.get(key)
        if watch is None or watch.goals.pop(goal.id, None) is None or watch.goals:
            return
        del self._watches[key]
        self._bridge.post(lambda: watch.close(self._bridge))

    async def _follow(self, goal: Goal, action_class: Any) -> None:
        """Subscribe to the status and the feedback of the action, unless it is done already."""
        key = (goal.action, goal.type)
        watch = self._watches.get(key)
        if watch is None:
            watch = self._watches[key] = _Watch(goal.action, action_class)
        watch.goals[goal.id] = goal
        try:
            await self._bridge.call(lambda: watch.open(self._bridge), ROS_LIMIT_S)
        except GatewayShutdown:
            raise
        except GatewayError as error:
            raise _failed(error) from error
        except Exception as error:  # rclpy raises RCLError, InvalidTopicName, errors of broken type supports, ...
            raise ActionFailed("Action execution failed", details=f"{type(error).__name__}: {error}") from error


class _Watch:
    """The two subscriptions of an action, and the goals that they are for."""

    def __init__(self, action: str, action_class: Any) -> None:
        self.action = action
        self.goals: dict[str, Goal] = {}
        self._class = action_class
        self._handles: list[tuple[str, Any]] = []
        self._closed = False

    def open(self, bridge: RosBridge) -> None:
        """In the ros thread; a second time it does nothing."""
        if self._handles or self._closed:
            return
        for suffix, message_class, callback, qos in (
            ("status", GoalStatusArray, self._status_came, _STATUS_QOS),
            ("feedback", self._class.Impl.FeedbackMessage, self._feedback_came, QoSProfile(depth=10)),
        ):
            topic = f"{self.action}/_action/{suffix}"
            handle = bridge.node.create_subscription(message_class, topic, callback, qos)
            self._handles.append((topic, handle))
            bridge.mark_on_demand(topic, True)

    def close(self, bridge: RosBridge) -> None:
        """In the ros thread."""
        self._closed = True
        handles, self._handles = self._handles, []
        for topic, handle in handles:
            bridge.mark_on_demand(topic, False)
            bridge.node.destroy_subscription(handle)

    def _status_came(self, message: Any) -> None:
        for status in message.status_list:
            goal = self.goals.get(_hex(status.goal_info.goal_id))
            if goal is not None:
                goal.take_status(status.status)

    def _feedback_came(self, message: Any) -> None:
        goal = self.goals.get(_hex(message.goal_id))
        if goal is not None:
            goal.take_feedback(message.feedback)


def _hex(goal_id: Any) -> str:
    """The 32 hex digits of a unique_identifier_msgs/msg/UUID."""
    return bytes(goal_id.uuid).hex()


def _failed(error: Exception) -> ActionFailed:
    return ActionFailed("Action execution failed", details=str(error))


def _action_class(type_name: str) -> Any:
    found = messages.load(type_name)
    if type_name.split("/")[1] != "action" or not hasattr(found, "Goal"):
        raise messages.UnknownType(type_name, "not of the form package/action/Type")
    return found
