"""A program: small robots, one to each ROS domain, that say who they are and what was written to them.

Arguments: the domains, `slot=domain`. One JSON object a line in: `{"slot", "life", "nodes": [full names]}`: this robot
is now the one called `life`, with these nodes (a node that stays is the same node). One out when that is so:
`{"slot", "life", "nodes", "at"}`; and one for each write: `{"owner", "value", "at"}`. It ends when stdin does.

Each node has the parameters `owner` (`life:full name`) and `note` (what was written last), and a latched topic
`~/whoami` that says the same as `owner`. Each robot reports one fault whose description is `owner <life> <number>`; the
number rises by one with each report.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
# A gateway tells another message of the same status once a second at most: it tells each of ours.
REPORT_S = 1.5

_lock = threading.Lock()
_births = 0


def say(**facts: Any) -> None:
    """One line to whoever started us, all of it at once."""
    with _lock:
        print(json.dumps(facts), flush=True)


class BotNode(Node):
    """One node of one robot."""

    def __init__(self, context: Context, life: str, fqn: str) -> None:
        namespace, _, name = fqn.rpartition("/")
        super().__init__(name, context=context, namespace=namespace or "/")
        self._owner = f"{life}:{fqn}"
        global _births
        _births += 1
        self.declare_parameter("owner", self._owner)
        self.declare_parameter("note", f"born-{_births}")
        say(owner=self._owner, value=f"born-{_births}", at=time.monotonic())
        self.add_on_set_parameters_callback(self._written)
        self._whoami = self.create_publisher(String, "~/whoami", LATCHED)
        self._whoami.publish(String(data=self._owner))

    def _written(self, parameters: list[Any]) -> SetParametersResult:
        for parameter in parameters:
            if parameter.name == "note":
                say(owner=self._owner, value=parameter.value, at=time.monotonic())
        return SetParametersResult(successful=True)


class Robot:
    """The robot in one domain; all of its nodes live in its own thread."""

    def __init__(self, slot: str, domain: int) -> None:
        self.slot = slot
        self._life = ""
        self._nodes: dict[str, BotNode] = {}
        self._reports = 0
        self._context = Context()
        # Many nodes of one name in one process: their logs have one topic only, which is said at each.
        self._context.init(args=["--ros-args", "--disable-rosout-logs"], domain_id=domain)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._reporter = Node("reporter", context=self._context)
        self._publisher = self._reporter.create_publisher(DiagnosticArray, "/diagnostics", 10)
        self._reporter.create_timer(REPORT_S, self._report)
        self._executor.add_node(self._reporter)
        threading.Thread(target=self._executor.spin, daemon=True).start()

    def become(self, life: str, nodes: list[str]) -> None:
        """Have these nodes and no others; all anew when this is another life."""
        self._executor.create_task(self._become, life, nodes)

    def _become(self, life: str, nodes: list[str]) -> None:
        for fqn in [fqn for fqn in self._nodes if life != self._life or fqn not in nodes]:
            node = self._nodes.pop(fqn)
            self._executor.remove_node(node)
            node.destroy_node()
        self._life = life
        for fqn in nodes:
            if fqn not in self._nodes:
                self._nodes[fqn] = BotNode(self._context, life, fqn)
                self._executor.add_node(self._nodes[fqn])
        say(slot=self.slot, life=life, nodes=nodes, at=time.monotonic())

    def _report(self) -> None:
        if self._life and self._nodes:
            name = f"{next(iter(self._nodes.values())).get_name()}: life {self._life}"
            self._reports += 1
            message = f"owner {self._life} {self._reports}"
            status = DiagnosticStatus(level=DiagnosticStatus.ERROR, name=name, message=message)
            self._publisher.publish(DiagnosticArray(status=[status]))


def main() -> None:
    """Serve until stdin ends."""
    robots = {slot: Robot(slot, int(domain)) for slot, _, domain in (word.partition("=") for word in sys.argv[1:])}
    for line in sys.stdin:
        order = json.loads(line)
        robots[order["slot"]].become(order["life"], order["nodes"])
    sys.stdout.flush()
    # Nothing is kept and threads of ROS may hang at the end.
    os._exit(0)


if __name__ == "__main__":
    main()
