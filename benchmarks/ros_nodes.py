"""A robot for measuring: many nodes in one process, one of them publishing ten times a second.

    python -m benchmarks.ros_nodes --count 100 --source bench_source

Commands come on standard input, one a line: `create NAME`, `destroy NAME`, and `faults PREFIX COUNT PER_SECOND`, which
tells of so many faults of different names. Each is answered with the monotonic time at which it began. Ends at the end
of the input.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import Temperature
from std_srvs.srv import Trigger

NAMESPACE = "/bench"
PERIOD_S = 0.1


def publish(source: Any, ended: threading.Event) -> None:
    """Ten messages a second until `ended`."""
    publisher = source.create_publisher(Temperature, f"{source.get_name()}/temperature", 10)
    message = Temperature(variance=0.5)
    message.header.frame_id = "engine"
    while not ended.wait(PERIOD_S):
        message.header.stamp = source.get_clock().now().to_msg()
        message.temperature += 0.25
        publisher.publish(message)


def main() -> int:
    """0 when the input ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, required=True, help="nodes beside the source")
    parser.add_argument("--source", required=True, help="name of the node that publishes")
    own = parser.parse_args()
    rclpy.init(args=[])
    nodes: dict[str, Any] = {name: Node(name, namespace=NAMESPACE) for name in _names(own.count)}
    source = Node(own.source, namespace=NAMESPACE)
    source.create_service(Trigger, f"/{NAMESPACE.strip('/')}/{own.source}/trigger", lambda _request, response: response)
    ended = threading.Event()
    thread = threading.Thread(target=publish, args=(source, ended), daemon=True)
    thread.start()
    # The source alone answers: its parameters and its service are measured.
    executor = SingleThreadedExecutor()
    executor.add_node(source)
    threading.Thread(target=_spin, args=(executor, ended), daemon=True).start()
    print("ready", flush=True)
    try:
        _serve(nodes, source)
    except KeyboardInterrupt:
        pass
    finally:
        ended.set()
        thread.join(2.0)
        rclpy.try_shutdown()
    return 0


def _spin(executor: SingleThreadedExecutor, ended: threading.Event) -> None:
    while not ended.is_set():
        executor.spin_once(timeout_sec=0.1)


def _names(count: int) -> list[str]:
    return [f"bench_{number:03d}" for number in range(count)]


def _tell_faults(publisher: Any, prefix: str, count: int, per_second: int) -> None:
    """Each fault in a message of its own, at this pace."""
    began = time.monotonic()
    for number in range(count):
        time.sleep(max(0.0, began + number / per_second - time.monotonic()))
        status = DiagnosticStatus(level=DiagnosticStatus.ERROR, name=f"{prefix}{number}", message="benchmark")
        publisher.publish(DiagnosticArray(status=[status]))


def _serve(nodes: dict[str, Any], source: Any) -> None:
    faults = source.create_publisher(DiagnosticArray, "/diagnostics", 1000)
    for line in sys.stdin:
        command, _, name = line.strip().partition(" ")
        began = time.monotonic()
        if command == "create":
            nodes[name] = Node(name, namespace=NAMESPACE)
        elif command == "destroy":
            nodes.pop(name).destroy_node()
        elif command == "faults":
            prefix, count, per_second = name.split()
            arguments = (faults, prefix, int(count), int(per_second))
            threading.Thread(target=_tell_faults, args=arguments, daemon=True).start()
        print(began, flush=True)


if __name__ == "__main__":
    sys.exit(main())
