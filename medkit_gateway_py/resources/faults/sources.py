"""Where the faults of the ROS graph come from: diagnostics, log lines, aborted actions. Starts and stops listening.

What they mean is decided in `diagnostics.py`, `log_lines.py` and `aborted_actions.py`, all of it in the ros thread; the
loop only gives the time and tells what the graph is. Where reports go, and what becomes of them, is not known here.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...entities.model import GraphNode
from ...errors import GatewayError
from ...parameters.faults import Faults
from ...ros.action_status import ActionStatuses, State
from ...ros.bridge import RosBridge
from ...ros.diagnostics import Diagnostics
from .aborted_actions import ActionFaults, GoalState
from .diagnostics import DiagnosticStatuses, Observation
from .log_lines import ERROR_LEVEL, FATAL_LEVEL, LogFaults
from .model import Fault, Report
from .outbox import Outbox

TICK_S = 0.5
ROS_LIMIT_S = 2.0
MIN_LEVELS = {"error": ERROR_LEVEL, "fatal": FATAL_LEVEL}

_log = logging.getLogger(__name__)


class FaultSources:
    """All sources of one gateway.

    :param report: takes a report from any thread without waiting.
    :param nodes: the nodes of the graph now, the same tuple as long as nothing changes; called in any thread.
    :param failed_times: how many reports in a row confirm a fault; `passed_times`: how many heal it.
    """

    def __init__(
        self,
        config: Faults,
        bridge: RosBridge,
        report: Callable[[Report], None],
        nodes: Callable[[], Sequence[GraphNode]],
        *,
        failed_times: int = 1,
        passed_times: int = 1,
    ) -> None:
        self._config, self._bridge, self._nodes = config, bridge, nodes
        self._outbox = Outbox(report, nodes, time.time)
        own_logger = str(bridge.node.get_fully_qualified_name()).strip("/").replace("/", ".")
        self._statuses = DiagnosticStatuses(failed_times, passed_times)
        self._logs = LogFaults(
            own_logger, MIN_LEVELS[config.rosout.min_severity], config.rosout.heal_after_s, passed_times
        )
        self._actions = ActionFaults(passed_times)
        self._diagnostics = Diagnostics(bridge, config.diagnostics.topics, self._heard_status)
        self._action_statuses = ActionStatuses(bridge, self._heard_goals, self._action_left)
        self._servers: dict[str, str] = {}
        self._followed: Sequence[GraphNode] | None = None
        self._task: asyncio.Task[None] | None = None
        self._listening = False
        self._since = time.time()
        self._states: dict[str, tuple[str, float]] = {}

    async def start(self) -> None:
        """Begin to listen."""
        self._listening = True
        if self._config.diagnostics.enabled:
            await self._diagnostics.start()
        self.graph_changed()
        self._task = asyncio.create_task(self._tick(), name="fault-sources")

    async def stop(self) -> None:
        """Listen no longer; reports that wait for their node go without it."""
        self._listening = False
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._diagnostics.stop()
        await self._action_statuses.stop()
        with contextlib.suppress(TimeoutError, GatewayError):
            await self._bridge.call(self._outbox.drain, 0.5)

    def graph_changed(self) -> None:
        """On the loop: follow the actions that there are now. Also done at every tick."""
        nodes = self._nodes()
        if not self._listening or not self._config.actions.enabled or nodes is self._followed:
            return
        self._followed = nodes
        # Of several servers of one action the first by name stands for all.
        servers = {use.name: node.fqn for node in reversed(nodes) for use in node.actions}
        if servers != self._servers:
            self._servers = servers
            self._bridge.post(lambda: self._actions.serve(servers))
            self._action_statuses.follow(servers)

    def expect(self, known: Iterable[Fault]) -> None:
        """These faults are active in the backend: what never says that it passes is waited for in silence."""
        faults = tuple(known)

        def take() -> None:
            now = time.monotonic()
            for fault in faults:
                for source in fault.reporting_sources:
                    self._logs.expect(fault.fault_code, source, fault.severity, now)

        self._bridge.post(take)

    def tell_again(self) -> None:
        """Tell what is so now, as if nothing had been told: another backend has the faults."""
        self._bridge.post(self._statuses.tell_again)
        self._bridge.post(self._actions.tell_again)

    def heard_line(self, level: int, logger: str, message: str) -> None:
        """In the ros thread: a line of `/rosout`."""
        if level >= ERROR_LEVEL and self._listening and self._config.rosout.enabled:
            now = time.monotonic()
            self._put(self._logs.take(level, logger, message, now), now)

    def health(self) -> Mapping[str, Any]:
        """A block with one for each source: state, since, reason, counts (DECISIONS 25)."""
        diagnostics, statuses = self._diagnostics, self._statuses
        problem = diagnostics.problem
        if not problem and statuses.refused:
            problem = f"more than {len(statuses)} bad statuses at once; others are not noticed"
        lines = f"more than {len(self._logs)} loggers with errors; others are not noticed" if self._logs.refused else ""
        config = self._config
        blocks: dict[str, dict[str, Any]] = {
            "diagnostics": {
                **self._state("diagnostics", config.diagnostics.enabled, problem),
                "messages": diagnostics.messages,
                "unreadable": diagnostics.unreadable,
                "statuses": len(statuses),
                "bad": statuses.bad,
                "shared_codes": statuses.shared_codes,
            },
            "rosout": {**self._state("rosout", config.rosout.enabled, lines), "loggers": len(self._logs)},
            "actions": {
                **self._state("actions", config.actions.enabled, self._action_statuses.problem),
                "followed": self._action_statuses.followed,
            },
        }
        reasons = [f"{name}: {block['reason']}" for name, block in blocks.items() if "reason" in block]
        return {
            **self._state("all", True, "; ".join(reasons)),
            **blocks,
            "reported": self._outbox.reported,
            "waiting_for_node": len(self._outbox),
        }

    def _state(self, name: str, enabled: bool, problem: str) -> dict[str, Any]:
        state = "degraded" if problem else "ok"
        if not enabled or not self._listening:
            state, problem = "off" if not enabled else "starting", ""
        before, since = self._states.get(name, ("", self._since))
        if state != before:
            since = time.time() if before else self._since
            self._states[name] = (state, since)
        return {"state": state, "since": since, **({"reason": problem} if problem else {})}

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            self.graph_changed()
            try:
                await self._bridge.call(self._take_time, ROS_LIMIT_S)
            except (TimeoutError, GatewayError) as error:
                _log.debug("the sources of faults were not given the time: %s", error)

    def _take_time(self) -> None:
        now = time.monotonic()
        for observation in self._logs.tick(now):
            self._put(observation, now)
        self._outbox.flush(now)

    def _heard_status(self, status: Any, topic: str) -> None:
        now = time.monotonic()
        self._put(self._statuses.take(status, topic, now), now)

    def _heard_goals(self, action: str, states: list[State]) -> None:
        now = time.monotonic()
        for observation in self._actions.take(action, [GoalState(*state) for state in states]):
            self._put(observation, now)

    def _action_left(self, action: str) -> None:
        now = time.monotonic()
        for observation in self._actions.gone(action):
            self._put(observation, now)

    def _put(self, observation: Observation | None, now: float) -> None:
        if observation is not None:
            self._outbox.put(observation, now)
