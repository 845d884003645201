"""`gateway_node`: the order in which a gateway starts and stops, nothing else.

    gateway_node [--check | --print-config | --issue-token CLIENT | --version]
                 --ros-args --params-file X -r __node:=gateway_a

Threads (ARCHITECTURE.md): main waits for signals; `ros` runs the executor; `graph` watches the ROS graph; `http` runs
the asyncio loop with uvicorn and the peers. Stopping is the reverse of starting and bounded in time.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING

from . import __version__

if TYPE_CHECKING:
    from .http_thread import HttpThread
    from .ros.bridge import RosBridge

NODE_NAME = "medkit_gateway_py"
# Every stage of the stop has its own, shorter limit; together they stay below the 5 s that systemd and launch allow.
STOP_TIMEOUT_S = 4.5

_log = logging.getLogger("medkit_gateway_py")


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGINT or SIGTERM. 0: stopped as asked; 1: refused to start, or ended by itself; 2: wrong usage."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    own, ros_arguments = _parse(arguments)
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, on_signal)

    if own.issue_token is not None:
        return _issue_token(own, ros_arguments)
    if own.check or own.print_config:
        return _report(own, ros_arguments)
    # Imported only now: these take a second, and a signal that comes meanwhile must end in a clean stop too.
    from .ros.bridge import RosBridge

    try:
        bridge = RosBridge(NODE_NAME, args=ros_arguments)
    except Exception as error:  # rclpy raises several private types for arguments it cannot read
        print(f"gateway_node: ROS refuses the arguments: {_explain(error, ros_arguments)}", file=sys.stderr)
        return 1
    exit_code = 1
    try:
        exit_code = _run(bridge, ros_arguments, stop)
    finally:
        _finish(bridge, exit_code)
    return exit_code


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    split = arguments.index("--ros-args") if "--ros-args" in arguments else len(arguments)
    parser = argparse.ArgumentParser(
        prog="gateway_node",
        description="Serves the ROS graph as a SOVD-style REST API; aggregates other gateways.",
        epilog="Parameters come after --ros-args: -p name:=value, --params-file FILE, -r __node:=NAME, -r __ns:=/NS.",
    )
    parser.add_argument("--check", action="store_true", help="say what is wrong with the parameters and their files")
    parser.add_argument("--print-config", action="store_true", help="print the parameters that would be used")
    parser.add_argument("--issue-token", metavar="CLIENT", help="print an access token of a client of auth.clients")
    parser.add_argument("--days", type=int, default=30, help="how long it is good: 1 to 3650 (30)")
    parser.add_argument("--version", action="version", version=f"medkit_gateway_py {__version__}")
    own = parser.parse_args(arguments[:split])
    if not 1 <= own.days <= 3650:
        parser.error(f"--days must be 1 to 3650, but is {own.days}")
    return own, arguments[split:]


def _explain(error: Exception, ros_arguments: Sequence[str]) -> str:
    """The reason in a person's words where a parameter file is at fault, else what rclpy said, on one line."""
    from .parameters.files import ParameterFileError, alias_overrides

    try:
        alias_overrides(ros_arguments, f"/{NODE_NAME}")
    except ParameterFileError as problem:
        return str(problem)
    return " ".join(str(error).split())


def _run(bridge: RosBridge, ros_arguments: Sequence[str], stop: threading.Event) -> int:
    from .discovery.provider import StartRefused
    from .http_server import PortTaken
    from .http_thread import HttpThread
    from .parameters import check
    from .parameters.files import ParameterFileError, alias_overrides
    from .plugins.loading import load_plugins
    from .ros.node import declare, declare_plugins, graph_hints, raw_overrides, ros_logger
    from .security.startup import prepare
    from .state import StateStore, state_directory

    node = bridge.node
    try:
        aliased, notes = alias_overrides(ros_arguments, node.get_fully_qualified_name())
    except ParameterFileError as problem:
        print(f"gateway_node: {problem}", file=sys.stderr)
        return 1
    checked = check({**aliased, **raw_overrides(node)})
    config = checked.config
    security, more = prepare(config)
    plugins = load_plugins(config.plugins, config.plugin_parameters)
    findings = (*checked.findings, *more, *plugins.findings)
    handler = ros_logger(node)
    for note in notes:
        _log.info("%s", note)
    for finding in findings:
        _log.log(logging.getLevelName(finding.level), "%s", finding.message)
    fatal = sum(finding.fatal for finding in findings)
    if fatal:
        _log.error("Not started: %d of the parameters above must be put right first.", fatal)
        return 1
    declare(node, checked.effective)
    declare_plugins(node, plugins.declared)
    executor = config.subscription_executor
    bridge.limit(executor.max_queue_depth, executor.watchdog_threshold_ms / 1000)
    state = StateStore.open(state_directory(config.state_dir, config.server.port), config.aggregation.instance_id)
    for text in (*state.notes, *([state.problem] if state.problem else [])):
        _log.warning("%s", text)
    http = HttpThread(config, bridge, state, graph_hints(node), security, plugins)
    try:
        bridge.start()
        http.start(stop)
        # What is there now stays. Looking through it takes the garbage collector 45 ms, in which nothing is answered.
        gc.collect()
        gc.freeze()
        _wait(stop, http)
        return 0 if stop.is_set() else 1
    except (PortTaken, StartRefused) as problem:
        _log.error("%s", problem)
        return 1
    finally:
        if http.stop(STOP_TIMEOUT_S - 1.0):
            state.close()
        else:
            _log.warning("The HTTP thread did not end in time.")
        _log.removeHandler(handler)


def _wait(stop: threading.Event, http: HttpThread) -> None:
    """Until a signal, or until the HTTP thread ended by itself."""
    while not stop.wait(0.2):
        if not http.is_alive:
            _log.error("The HTTP thread ended by itself; the gateway stops.")
            return


def _report(own: argparse.Namespace, ros_arguments: Sequence[str]) -> int:
    """`--check` and `--print-config`: what ROS would give to the node, judged without starting it."""
    from .aggregation.peers_read import peers_findings
    from .discovery.manifest_files import manifest_findings
    from .parameters import check
    from .parameters.files import ParameterFileError, node_fqn, read_overrides
    from .parameters.report import check_report, print_config
    from .plugins.loading import load_plugins
    from .security.startup import prepare

    try:
        given = read_overrides(ros_arguments, node_fqn(ros_arguments, NODE_NAME))
    except ParameterFileError as problem:
        print(f"gateway_node: {problem}", file=sys.stderr)
        return 1
    checked = check(given.values)
    plugins = load_plugins(checked.config.plugins, checked.config.plugin_parameters)
    findings = (*checked.findings, *prepare(checked.config)[1], *plugins.findings)
    if own.check:
        findings = (*findings, *manifest_findings(checked.config), *peers_findings(checked.config))
    text, exit_code = check_report(findings)
    if own.check:
        print("\n".join([*given.notes, text]))
    if own.print_config:
        print(print_config(checked.effective, given.sources))
    return exit_code if own.check else 0


def _issue_token(own: argparse.Namespace, ros_arguments: Sequence[str]) -> int:
    """`--issue-token`: what a program that cannot log in itself needs, as another gateway; signed without a start."""
    from .parameters import check
    from .parameters.files import ParameterFileError, node_fqn, read_overrides
    from .security.startup import issue_token

    try:
        given = read_overrides(ros_arguments, node_fqn(ros_arguments, NODE_NAME))
        print(issue_token(check(given.values).config, own.issue_token, own.days))
    except (ParameterFileError, ValueError) as problem:
        print(f"gateway_node: {problem}", file=sys.stderr)
        return 1
    return 0


def _finish(bridge: RosBridge, exit_code: int) -> None:
    """Stop ROS; leave without it when its destruction hangs (seen in about 3 of 700 exits, ENVIRONMENT.md)."""
    from .ros.last_resort import leave_within

    # Beyond every other limit: destruction was seen to hang with the GIL held, and then nothing in Python ends it.
    leave_within(1.3, exit_code)
    if not bridge.stop(1.0):
        print("gateway_node: ROS did not stop in time; leaving without it", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    ours = ("http", "ros", "graph")
    for thread in threading.enumerate():
        # One that a plugin left, and that is no daemon, would be waited for.
        if thread is not threading.main_thread() and thread.is_alive() and (thread.name in ours or not thread.daemon):
            os._exit(exit_code)


if __name__ == "__main__":
    sys.exit(main())
