"""The goals of all actions in the graph, as their servers tell them on `<action>/_action/status`.

One subscription an action, whoever sent the goals; it follows the graph. What the states mean is not known here, and
goals of this gateway are followed in `actions.py`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable
from typing import Any

from action_msgs.msg import GoalStatusArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from .bridge import RosBridge

# Status topics keep their last message for who comes later. Each message has all goals, so few need to be kept.
QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# A subscription costs some 0.5 ms to make and 100 kB to keep; large robots have some fifty actions.
MAX_ACTIONS = 256

_LOG = logging.getLogger(__name__)

# Goal id, number of its state, seconds of the server's clock at which it was accepted.
State = tuple[bytes, int, float]


class ActionStatuses:
    """`heard(action, states)` and `left(action)` are called in the ros thread."""

    def __init__(
        self, bridge: RosBridge, heard: Callable[[str, list[State]], None], left: Callable[[str], None],
        max_actions: int = MAX_ACTIONS,
    ) -> None:  # fmt: skip
        self._bridge, self._heard, self._left, self._max = bridge, heard, left, max_actions
        self._wanted: tuple[str, ...] = ()
        self._handles: dict[str, Any] = {}
        self._refused: set[str] = set()
        self.problem = ""

    @property
    def followed(self) -> int:
        """How many actions are followed."""
        return len(self._handles)

    def follow(self, actions: Iterable[str]) -> None:
        """These are the actions in the graph now. From any thread; takes effect some time soon."""
        wanted = tuple(sorted(set(actions)))
        if wanted != self._wanted:
            self._wanted = wanted
            self._bridge.post(self._update)

    async def stop(self) -> None:
        """Unsubscribe, some time soon."""
        self._wanted = ()
        self._bridge.post(self._unsubscribe)

    def _update(self) -> None:
        wanted = self._wanted
        for action in [action for action in self._handles if action not in wanted]:
            self._destroy(action)
            self._left(action)
        self._refused.intersection_update(wanted)
        for action in wanted:
            if action in self._handles or action in self._refused:
                continue
            if len(self._handles) >= self._max:
                self.problem = f"{len(wanted)} actions, of which {self._max} are followed"
                return
            self._create(action)
        self.problem = f"{len(self._refused)} actions cannot be followed" if self._refused else ""

    def _create(self, action: str) -> None:
        topic = f"{action}/_action/status"
        try:
            heard = functools.partial(self._take, action)
            self._handles[action] = self._bridge.node.create_subscription(GoalStatusArray, topic, heard, QOS)
            self._bridge.mark_on_demand(topic, True)
        except Exception as error:  # rclpy raises RCLError, InvalidTopicNameException, ...
            self._refused.add(action)
            _LOG.warning("aborted goals of %s are not noticed: %s", action, error)

    def _destroy(self, action: str) -> None:
        self._bridge.node.destroy_subscription(self._handles.pop(action))
        self._bridge.mark_on_demand(f"{action}/_action/status", False)

    def _unsubscribe(self) -> None:
        for action in list(self._handles):
            self._destroy(action)

    def _take(self, action: str, message: Any) -> None:
        states = []
        for status in message.status_list:
            stamp = status.goal_info.stamp
            states.append((bytes(status.goal_info.goal_id.uuid), status.status, stamp.sec + stamp.nanosec * 1e-9))
        self._heard(action, states)
