"""`demo_robot`: a small robot to try the gateway on. All its nodes live in one process.

    demo_robot --robot a            # power train and diagnostics
    demo_robot --robot b            # chassis, body, perception
    demo_robot --robot all --prefix robot1

The nodes are those of the example manifest (API.md §12.6). Needs `sensor_msgs`, `std_srvs`, `diagnostic_msgs`; the
action of `long_calibration` needs `test_msgs` and is left out without it.
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

STOP_LIMIT_S = 2.5  # less than the 3 s promised; then the process leaves without ROS's goodbye
SPIN_S = 0.2


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM, then end with 0 within 3 s."""
    own, ros_arguments = _parse(list(sys.argv[1:] if argv is None else argv))
    wait_for_signal = _catch_signals()

    # Only now: these take a second, and a signal that comes meanwhile must end in a clean stop, too.
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    from ..ros.last_resort import leave_within
    from . import nodes

    context = rclpy.Context()
    rclpy.init(args=ros_arguments, context=context, signal_handler_options=SignalHandlerOptions.NO)
    made = [kind(context, own.prefix) for kind in nodes.robot(own.robot)]
    executor = SingleThreadedExecutor(context=context)
    for node in made:
        executor.add_node(node)
    stop = threading.Event()
    thread = threading.Thread(target=_run, args=(executor, made, context, stop), name="ros", daemon=True)
    thread.start()
    names = ", ".join(node.get_fully_qualified_name() for node in made)
    print(f"robot {own.robot}: {names}", flush=True)
    while thread.is_alive() and not wait_for_signal(SPIN_S):
        pass
    leave_within(STOP_LIMIT_S)  # the destruction of a node has been seen to hang for ever
    stop.set()
    thread.join(STOP_LIMIT_S)
    return 0


def _run(executor: Any, nodes: list[Any], context: Any, stop: threading.Event) -> None:
    """Spin, and then destroy everything in the thread that used it."""
    while not stop.is_set():
        try:
            executor.spin_once(timeout_sec=SPIN_S)
        except Exception as error:  # a callback raised; a demo that goes silent shows nothing
            print(f"demo_robot: {type(error).__name__}: {error}", file=sys.stderr)
            stop.wait(SPIN_S)
    executor.shutdown(timeout_sec=0.5)
    for node in nodes:
        node.destroy_node()
    context.try_shutdown()


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    split = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
    parser = argparse.ArgumentParser(prog="demo_robot", description="A small robot to try the gateway on.")
    parser.add_argument("--robot", choices=("a", "b", "all"), default="all", help="which nodes to run (all)")
    parser.add_argument("--prefix", default="", help="a namespace before all namespaces, so that robots can be many")
    return parser.parse_args(arguments[:split]), arguments[split:]


def _catch_signals() -> Callable[[float], bool]:
    """A function that waits some seconds for SIGINT or SIGTERM and says whether one came.

    Through a wake-up socket: a signal that some other thread takes is noticed at once all the same.
    """
    seen = threading.Event()
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: seen.set())

    def wait(timeout_s: float) -> bool:
        # `sender` is kept by this closure: the socket must live as long as the process.
        if not seen.is_set() and sender.fileno() >= 0:
            select.select([receiver], [], [], timeout_s)
        return seen.is_set()

    return wait


if __name__ == "__main__":
    sys.exit(main())
