"""A program that hosts ROS nodes and does with them what its stdin says; `support.ros.Nodes` speaks to it.

One JSON object a line in, `{"do": name, ...arguments}`; one out, `{"ok": result}` or `{"error": text}`. The first
line that comes out is `ready`. It ends when stdin does.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from diagnostic_msgs.srv import AddDiagnostics
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy, qos_profile_sensor_data
from rclpy.serialization import serialize_message
from rclpy.task import Future
from test_msgs.msg import Strings

from medkit_gateway_py.ros import messages
from medkit_gateway_py.ros.graph import scan
from support.fake_fault_manager import FakeFaultManager

QOS = {
    "default": QoSProfile(depth=10),
    "sensor": qos_profile_sensor_data,
    "latched": QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL),
}


class World:
    """The nodes of this process; every public method is a command."""

    def __init__(self) -> None:
        rclpy.init(args=[])
        self.executor = SingleThreadedExecutor()
        self._nodes: dict[str, Any] = {}
        self._publishers: dict[tuple[str, str], Any] = {}
        self._timers: dict[tuple[str, str], Any] = {}
        self._received: dict[str, list[Any]] = {}
        self._servers: list[Any] = []
        self._calls: dict[str, int] = {}
        self._stormed = 0

    def add_node(self, name: str, namespace: str = "/") -> str:
        node = rclpy.create_node(name, namespace=namespace)
        fqn = node.get_fully_qualified_name()
        self._nodes[fqn] = node
        self.executor.add_node(node)
        return str(fqn)

    def add_lifecycle_node(self, name: str) -> str:
        node = LifecycleNode(name)
        self._nodes[node.get_fully_qualified_name()] = node
        self.executor.add_node(node)
        return str(node.get_fully_qualified_name())

    def activate(self, fqn: str) -> None:
        self._nodes[fqn].trigger_configure()
        self._nodes[fqn].trigger_activate()

    def add_nodes(self, prefix: str, count: int) -> None:
        for number in range(count):
            self.add_node(f"{prefix}{number}")

    def remove_node(self, fqn: str) -> None:
        node = self._nodes.pop(fqn)
        self.executor.remove_node(node)
        node.destroy_node()

    def publish(
        self, fqn: str, topic: str, type: str, value: Any = None, qos: str = "default", period_s: float = 0.0
    ) -> None:
        """Publish `value` once, or every `period_s`; without a value stay silent."""
        node, message_class = self._nodes[fqn], messages.load(type)
        publisher = self._publishers[fqn, topic] = node.create_publisher(message_class, topic, QOS[qos])
        if value is None:
            return
        message = messages.from_json(message_class, value)
        publisher.publish(message)
        if period_s:
            self._timers[fqn, topic] = node.create_timer(period_s, lambda: publisher.publish(message))

    def publish_again(self, fqn: str, topic: str, type: str, value: Any) -> None:
        self._publishers[fqn, topic].publish(messages.from_json(messages.load(type), value))

    def publish_bytes(self, fqn: str, topic: str, type: str, value: Any, changes: list[list[str]]) -> None:
        """Publish a message of which bytes were changed after it was serialised; `changes` are pairs of hex digits."""
        serialised = serialize_message(messages.from_json(messages.load(type), value))
        for before, after in changes:
            serialised = serialised.replace(bytes.fromhex(before), bytes.fromhex(after))
        self._publishers[fqn, topic].publish(serialised)

    def unpublish(self, fqn: str, topic: str) -> None:
        node, timer = self._nodes[fqn], self._timers.pop((fqn, topic), None)
        if timer is not None:
            node.destroy_timer(timer)
        node.destroy_publisher(self._publishers.pop((fqn, topic)))

    def storm(self, fqn: str, names: int, messages: int, flip_every: int, per_second: int) -> None:
        """Publish so many messages on /diagnostics, one status each, in turn for each name; see `Nodes.storm`."""
        node = self._nodes[fqn]
        publisher = node.create_publisher(DiagnosticArray, "/diagnostics", QoSProfile(depth=10_000))
        began, self._stormed = 0.0, 0

        def burst() -> None:
            nonlocal began
            if not began and publisher.get_subscription_count():
                began = time.monotonic()
            if not began:
                return
            due = min(messages, int((time.monotonic() - began) * per_second), self._stormed + per_second // 10)
            for number in range(self._stormed, due):
                turn, name = divmod(number, names)
                bad = turn // flip_every % 2
                level = DiagnosticStatus.ERROR if bad else DiagnosticStatus.OK
                status = DiagnosticStatus(
                    level=level, name=f"{node.get_name()}: part {name}", message="bad" if bad else "ok"
                )
                publisher.publish(DiagnosticArray(status=[status]))
            self._stormed = max(self._stormed, due)
            if self._stormed >= messages:
                node.destroy_timer(timer)

        timer = node.create_timer(0.01, burst)

    def stormed(self) -> int:
        return self._stormed

    def manage_faults(self, fqn: str) -> None:
        """A fault manager; its messages are those of `stand_in_types`."""
        from support.stand_in_types.ros2_medkit_msgs import fields, text

        node, manager = self._nodes[fqn], FakeFaultManager()
        events = node.create_publisher(Strings, f"{fqn}/events", 100)
        manager.publish = lambda event: events.publish(Strings(string_value=text(event)))

        def serve(name: str) -> None:
            def answer(request: Any, response: Any) -> Any:
                found = manager.answer(name, vars(fields(request.load_namespace)))
                response.success, response.message = getattr(found, "success", True), text(found)
                return response

            node.create_service(AddDiagnostics, f"{fqn}/{name}", answer)

        for name in ("report_fault", "list_faults", "get_fault", "clear_fault"):
            serve(name)

    def subscribe(self, fqn: str, topic: str, type: str, qos: str = "default") -> None:
        kept = self._received.setdefault(topic, [])
        self._nodes[fqn].create_subscription(
            messages.load(type), topic, lambda message: kept.append(messages.to_json(message)), QOS[qos]
        )

    def received(self, topic: str) -> list[Any]:
        return self._received.get(topic, [])

    def declare(self, fqn: str, name: str, value: Any, description: str = "", read_only: bool = False) -> None:
        descriptor = ParameterDescriptor(description=description, read_only=read_only)
        self._nodes[fqn].declare_parameter(name, value, descriptor)

    def declare_empty(self, fqn: str, name: str, type: str) -> None:
        """A parameter of a type without a value."""
        self._nodes[fqn].declare_parameter(name, Parameter.Type[type.upper()])

    def log(self, fqn: str, severity: str, message: str) -> None:
        # A call site each: rclpy refuses one that changes its severity.
        logger = self._nodes[fqn].get_logger()
        if severity == "info":
            logger.info(message)
        elif severity == "warning":
            logger.warning(message)
        elif severity == "fatal":
            logger.fatal(message)
        else:
            logger.error(message)

    def serve(self, fqn: str, name: str, type: str, hang: bool = False) -> None:
        """A service; a `message` in its response says how often it was called. One that hangs never answers."""
        self._calls[name] = 0

        async def answer(request: Any, response: Any) -> Any:
            self._calls[name] += 1
            if hang:
                await Future(executor=self.executor)
            if hasattr(response, "message"):
                response.message = str(self._calls[name])
            return response

        # A group of its own: in the node's, a call that hangs would hold up all others.
        group = ReentrantCallbackGroup()
        self._nodes[fqn].create_service(messages.load(type), name, answer, callback_group=group)

    def calls(self, name: str) -> int:
        return self._calls[name]

    def act(self, fqn: str, name: str, type: str, period_s: float = 0.05) -> None:
        """An action server that counts: one Fibonacci number a period; rejects a negative order, aborts 13."""
        node, action = self._nodes[fqn], messages.load(type)

        async def execute(goal: Any) -> Any:
            sequence = [0, 1]
            while len(sequence) < goal.request.order:
                if goal.is_cancel_requested:
                    goal.canceled()
                    return action.Result(sequence=sequence)
                sequence.append(sequence[-1] + sequence[-2])
                goal.publish_feedback(action.Feedback(sequence=sequence))
                await self._pause(node, period_s)
            if goal.request.order == 13:
                goal.abort()
            else:
                goal.succeed()
            return action.Result(sequence=sequence)

        self._servers.append(
            ActionServer(
                node,
                action,
                name,
                execute,
                goal_callback=lambda goal: GoalResponse.REJECT if goal.order < 0 else GoalResponse.ACCEPT,
                cancel_callback=lambda goal: (
                    CancelResponse.REJECT if goal.request.order == 1000 else CancelResponse.ACCEPT
                ),
            )
        )

    async def _pause(self, node: Any, period_s: float) -> None:
        future = Future(executor=self.executor)
        timer = node.create_timer(period_s, lambda: future.done() or future.set_result(None))
        await future
        node.destroy_timer(timer)

    def scan(self, fqn: str) -> dict[str, str]:
        """Graph keys as this process sees them, by FQN."""
        node = self._nodes[fqn]
        return {found.fqn: found.graph_key for found in scan(node, node.context.get_domain_id())}


def main() -> None:
    world = World()
    ended = threading.Event()

    def answer(line: str) -> None:
        request = json.loads(line)
        try:
            reply = {"ok": getattr(world, request.pop("do"))(**request)}
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), flush=True)

    def listen() -> None:
        for line in sys.stdin:
            world.executor.create_task(answer, line)
        ended.set()
        world.executor.wake()

    threading.Thread(target=listen, daemon=True).start()
    print("ready", flush=True)
    while not ended.is_set():
        try:
            world.executor.spin_once(timeout_sec=1.0)
        except Exception as error:  # on a busy machine a status may not be published; the others go on
            print(f"nodes: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    world.executor.shutdown()
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
