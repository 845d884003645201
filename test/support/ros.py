"""Nodes in a process of their own, for tests that need a ROS graph with somebody else in it.

with Nodes() as nodes:
    talker = nodes.add_node("talker", "/ns")
    nodes.publish(talker, "/chatter", "std_msgs/msg/String", {"data": "hello"}, period_s=0.1)
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from medkit_gateway_py.ros.bridge import RosBridge

from .waiting import eventually

START_S = 20.0
ANSWER_S = 10.0
Result = TypeVar("Result")


def run(coroutine: Coroutine[Any, Any, Result], within: float = 30.0) -> Result:
    """Run a test's coroutine to its end, with a deadline for all of it."""

    async def bounded() -> Result:
        return await asyncio.wait_for(coroutine, within)

    return asyncio.run(bounded())


@dataclass
class Limits:
    """As `data_provider.*`."""

    max_pool_size: int = 256
    cold_wait_cap: int = 4
    idle_safety_net_sec: int = 900
    idle_sweep_tick_sec: int = 60


@contextmanager
def bridge_that_sees(node_name: str) -> Iterator[RosBridge]:
    """A started bridge with the node `/gateway`, once it has discovered a node of this name."""
    made = RosBridge("gateway")
    made.start()
    eventually(lambda: node_name in made.call_blocking(made.node.get_node_names, 2.0), within=10.0)
    yield made
    assert made.stop(5.0)


class Nodes:
    """Starts `support/nodes.py`; every public method of its `World` can be called here, with keywords or in order."""

    def __init__(self) -> None:
        root = Path(__file__).resolve().parents[2]
        paths = [str(root), str(root / "test"), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
        self._child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("nodes.py"))],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._collect, daemon=True).start()
        line = self._line(START_S)
        if line != "ready":
            raise RuntimeError(f"the test nodes did not start: {line}")

    def __enter__(self) -> Nodes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        return self._child.pid

    def stop(self) -> None:
        """End the process: cleanly, so that its nodes leave the graph at once."""
        if self._child.stdin is not None and not self._child.stdin.closed:
            self._child.stdin.close()
        try:
            self._child.wait(5.0)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait(5.0)

    def add_node(self, name: str, namespace: str = "/") -> str:
        """A new node; its fully qualified name."""
        return str(self._ask(do="add_node", name=name, namespace=namespace))

    def add_lifecycle_node(self, name: str) -> str:
        """A lifecycle node, unconfigured; its fully qualified name."""
        return str(self._ask(do="add_lifecycle_node", name=name))

    def activate(self, fqn: str) -> None:
        """Configure and activate a lifecycle node."""
        self._ask(do="activate", fqn=fqn)

    def add_nodes(self, prefix: str, count: int) -> None:
        """Nodes `<prefix>0`, `<prefix>1`, ... in the root namespace."""
        self._ask(do="add_nodes", prefix=prefix, count=count)

    def remove_node(self, fqn: str) -> None:
        """Destroy a node."""
        self._ask(do="remove_node", fqn=fqn)

    def publish(
        self, fqn: str, topic: str, type: str, value: Any = None, *, qos: str = "default", period_s: float = 0.0
    ) -> None:
        """Publish a value once, or every `period_s`; `qos` is default, sensor or latched. No value: stay silent."""
        self._ask(do="publish", fqn=fqn, topic=topic, type=type, value=value, qos=qos, period_s=period_s)

    def publish_again(self, fqn: str, topic: str, type: str, value: Any) -> None:
        """Publish one more message with a publisher that is there."""
        self._ask(do="publish_again", fqn=fqn, topic=topic, type=type, value=value)

    def publish_bytes(self, fqn: str, topic: str, type: str, value: Any, changes: list[tuple[bytes, bytes]]) -> None:
        """Publish a message of which bytes were changed after it was serialised, as no rclpy would."""
        pairs = [[before.hex(), after.hex()] for before, after in changes]
        self._ask(do="publish_bytes", fqn=fqn, topic=topic, type=type, value=value, changes=pairs)

    def unpublish(self, fqn: str, topic: str) -> None:
        """Destroy the publisher."""
        self._ask(do="unpublish", fqn=fqn, topic=topic)

    def storm(self, fqn: str, *, names: int, messages: int, flip_every: int, per_second: int) -> None:
        """Publish statuses `<node>: part <n>` in turn, good ones first; each name changes every `flip_every` turns.

        When the process is too slow it takes longer, and nothing is left out.
        """
        self._ask(do="storm", fqn=fqn, names=names, messages=messages, flip_every=flip_every, per_second=per_second)

    def stormed(self) -> int:
        """How many messages of the storm have been published."""
        return int(self._ask(do="stormed"))

    def manage_faults(self, fqn: str) -> None:
        """Make the node a fault manager, with the types of `stand_in_types`."""
        self._ask(do="manage_faults", fqn=fqn)

    def subscribe(self, fqn: str, topic: str, type: str, *, qos: str = "default") -> None:
        """Subscribe; `received` tells what came."""
        self._ask(do="subscribe", fqn=fqn, topic=topic, type=type, qos=qos)

    def received(self, topic: str) -> list[Any]:
        """The messages that came to the subscriptions of `topic`, as JSON."""
        return list(self._ask(do="received", topic=topic))

    def declare(self, fqn: str, name: str, value: Any, *, description: str = "", read_only: bool = False) -> None:
        """Declare a parameter."""
        self._ask(do="declare", fqn=fqn, name=name, value=value, description=description, read_only=read_only)

    def declare_empty(self, fqn: str, name: str, type: str) -> None:
        """Declare a parameter of a type (`string`, `integer`, ...) without a value."""
        self._ask(do="declare_empty", fqn=fqn, name=name, type=type)

    def kill(self) -> None:
        """SIGKILL: its nodes stay in the graph for some 20 s."""
        self._child.kill()
        self._child.wait(5.0)

    def freeze(self) -> None:
        """Stop the process: its nodes stay in the graph and answer nothing."""
        self._child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._child.send_signal(signal.SIGCONT)

    def log(self, fqn: str, severity: str, message: str) -> None:
        """Log a line of severity info, warning, error or fatal."""
        self._ask(do="log", fqn=fqn, severity=severity, message=message)

    def serve(self, fqn: str, name: str, type: str, *, hang: bool = False) -> None:
        """A service that answers at once, or never; a `message` in its response counts its calls."""
        self._ask(do="serve", fqn=fqn, name=name, type=type, hang=hang)

    def calls(self, name: str) -> int:
        """How often a service was called."""
        return int(self._ask(do="calls", name=name))

    def act(self, fqn: str, name: str, type: str, *, period_s: float = 0.05) -> None:
        """A Fibonacci action server; a number each period, order < 0 is rejected, 1000 not cancelled, 13 aborted."""
        self._ask(do="act", fqn=fqn, name=name, type=type, period_s=period_s)

    def scan(self, fqn: str) -> dict[str, str]:
        """Graph keys by FQN, as that node's process sees them."""
        return dict(self._ask(do="scan", fqn=fqn))

    def _ask(self, **request: Any) -> Any:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(request) + "\n")
        self._child.stdin.flush()
        reply = json.loads(self._line(ANSWER_S))
        if "error" in reply:
            raise RuntimeError(f"{request['do']}: {reply['error']}")
        return reply["ok"]

    def _collect(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put('{"error": "the process has ended"}')

    def _line(self, within: float) -> str:
        return self._lines.get(timeout=within)
