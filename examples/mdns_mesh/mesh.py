#!/usr/bin/env python3
"""Three gateways in three network namespaces that find each other by mDNS (AGGREGATION.md §3, §5). Started by `run`.

    robot-a 10.77.0.1 ─┐
    robot-b 10.77.0.2 ─┼─ bridge, in a namespace of its own, where this program asks from (10.77.0.254)
    robot-c 10.77.0.3 ─┘

Nothing outside these four namespaces is touched. ROS itself stays inside each robot: own domain, own loopback.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import httpx

from medkit_gateway_py.demo.processes import Child, free_domains, stop, until

HERE = Path(__file__).resolve().parent
PORT = 8080
ROBOTS = (("robot-a", "a"), ("robot-b", "b"), ("robot-c", "a"))
CLONE_NEWNET = 0x40000000
# Some are chosen of so many, for another mesh may run here, too, and is not seen.
FREE_DOMAINS = 25
START_S = 60.0
FOUND_S = 30.0
# "Stopping one removes it from the others within seconds."
GONE_S = 5.0
COMMAND_S = 15.0


class Failed(Exception):
    """What was promised is not so; the text says what."""


def ip(*arguments: str) -> None:
    """Run `ip`. Raises Failed with what it said."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode:
        raise Failed(f"ip {' '.join(arguments)}: {done.stderr.strip()}")


def enter(namespace: str) -> None:
    """Go with this thread into a network namespace, so that its sockets are made there."""
    with open(f"/run/netns/{namespace}") as handle:
        if ctypes.CDLL(None, use_errno=True).setns(handle.fileno(), CLONE_NEWNET):
            raise Failed(f"cannot enter the namespace {namespace}: {os.strerror(ctypes.get_errno())}")


@dataclass
class Robot:
    """One machine: its namespace, its address, and what runs on it."""

    name: str
    which: str
    namespace: str
    address: str
    domain: int
    folder: Path
    children: list[Child] = field(default_factory=list)

    @property
    def api(self) -> str:
        return f"http://{self.address}:{PORT}/api/v1"

    def start(self) -> None:
        """A gateway, and the nodes of a robot."""
        gateway = ["medkit_gateway_py.gateway_node", "--ros-args", "--params-file", str(HERE / "params.yaml")]
        gateway += ["-r", f"__node:=gateway_{self.name[-1]}"]
        for module in (gateway, ["medkit_gateway_py.demo.robot", "--robot", self.which]):
            self.children.append(self._child(module))

    def _child(self, module: Sequence[str]) -> Child:
        # A namespace for the host name as well: it is what the others call this robot.
        as_host = ["unshare", "--uts", "sh", "-c", 'echo "$0" >/proc/sys/kernel/hostname; exec "$@"', self.name]
        command = ["ip", "netns", "exec", self.namespace, *as_host, sys.executable, "-m", *module]
        environment = {
            "ROS_DOMAIN_ID": str(self.domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "XDG_STATE_HOME": str(self.folder / self.name),
            "ROS_LOG_DIR": str(self.folder / "log"),
        }
        name = f"{self.name} {module[0].rpartition('.')[2]}"
        return Child(name, command, environment, self.folder / f"{self.name}.log")

    def stop(self) -> None:
        """End both; the gateway says goodbye."""
        children, self.children = self.children, []
        if not stop(children):
            raise Failed(f"{self.name} did not end in time")

    def get(self, path: str) -> Any:
        """The JSON of a GET."""
        return httpx.get(f"{self.api}{path}", timeout=5.0, trust_env=False).json()

    def apps(self) -> list[tuple[str, str, str]]:
        """(robot, node, id) of every app that it lists."""
        found = []
        for item in self.get("/apps")["items"]:
            medkit = item["x-medkit"]
            source = medkit["source"]
            owner = source.removeprefix("peer:") if source.startswith("peer:") else self.name
            found.append((owner, medkit["ros2"]["node"], item["id"]))
        return found

    def peers(self) -> list[str]:
        """The names of the peers that are online."""
        return sorted(peer["name"] for peer in self.get("/health")["peers"] if peer["status"] == "online")


@contextmanager
def network(mesh: str, names: Sequence[str]) -> Iterator[dict[str, str]]:
    """The namespaces, by robot; this program is in that of the bridge meanwhile. All are deleted at the end."""
    switch = f"{mesh}-switch"
    made: list[str] = []
    home = os.open("/proc/self/ns/net", os.O_RDONLY)

    def add(namespace: str) -> None:
        if Path("/run/netns", namespace).exists():
            raise Failed(f"there is a namespace {namespace} already")
        # Noted first: a signal may come between its making and the next line.
        made.append(namespace)
        ip("netns", "add", namespace)

    try:
        add(switch)
        ip("-n", switch, "link", "add", "bridge0", "type", "bridge", "mcast_snooping", "0")
        ip("-n", switch, "link", "set", "bridge0", "up")
        ip("-n", switch, "link", "set", "lo", "up")
        ip("-n", switch, "address", "add", "10.77.0.254/24", "dev", "bridge0")
        found = {}
        for number, name in enumerate(names, 1):
            namespace = f"{mesh}-{name}"
            add(namespace)
            ip("-n", switch, "link", "add", f"port{number}", "type", "veth", "peer", "name", "eth0", "netns", namespace)
            ip("-n", switch, "link", "set", f"port{number}", "master", "bridge0", "up")
            # ROS talks over loopback, which must be up and takes multicast only when told so.
            ip("-n", namespace, "link", "set", "lo", "multicast", "on", "up")
            ip("-n", namespace, "address", "add", f"10.77.0.{number}/24", "dev", "eth0")
            ip("-n", namespace, "link", "set", "eth0", "up")
            found[name] = namespace
        enter(switch)
        yield found
    finally:
        ctypes.CDLL(None).setns(home, CLONE_NEWNET)
        os.close(home)
        for namespace in made:
            with suppress(Failed, subprocess.TimeoutExpired):
                ip("netns", "delete", namespace)


@contextmanager
def mesh(name: str) -> Iterator[list[Robot]]:
    """The robots, started; ended and cleaned away when the block is left."""
    folder = Path(tempfile.mkdtemp(prefix="medkit-mesh-"))
    robots: list[Robot] = []
    try:
        # Shared memory knows no network namespaces: ROS domains that nobody else on this machine uses keep it apart.
        domains = random.sample(free_domains(FREE_DOMAINS), len(ROBOTS))
        with network(name, [robot for robot, _ in ROBOTS]) as namespaces:
            for number, (robot, which) in enumerate(ROBOTS):
                address = f"10.77.0.{number + 1}"
                robots.append(Robot(robot, which, namespaces[robot], address, domains[number], folder))
            try:
                for one in robots:
                    one.start()
                yield robots
            finally:
                stop([child for one in robots for child in one.children])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def answers(robot: Robot) -> bool:
    """Whether its gateway serves."""
    ended = [child for child in robot.children if not child.running]
    if ended:
        raise Failed(f"{ended[0].name} ended with exit code {ended[0].exit_code}:\n{ended[0].last_output()}")
    with suppress(httpx.HTTPError, ValueError, KeyError):
        return bool(robot.get("/health")["status"] == "healthy")
    return False


def await_all(what: str, condition: Any, within_s: float, robots: Sequence[Robot]) -> float:
    """Seconds until `condition` holds. Raises Failed with the state of all when it does not."""
    began = time.monotonic()

    def holds() -> bool:
        with suppress(httpx.HTTPError, ValueError, KeyError):
            return bool(condition())
        return False

    if not until(holds, within_s):
        shown = "\n".join(f"{one.name}: {one.children[0].last_output(30) if one.children else ''}" for one in robots)
        raise Failed(f"not so within {within_s:.0f} s: {what}\n{shown}")
    took = time.monotonic() - began
    print(f"ok      {what} ({took:.1f} s)", flush=True)
    return took


def lists_all_once(asked: Sequence[Robot]) -> bool:
    """Whether each of these lists what each of these has itself, once and under one id, and nothing else."""
    lists = {one.name: one.apps() for one in asked}
    own = Counter((owner, node) for name, apps in lists.items() for owner, node, _ in apps if owner == name)
    robots_run = all(sum(owner == one.name for owner, _ in own) >= 3 for one in asked)
    return robots_run and all(
        Counter((owner, node) for owner, node, _ in apps) == own and len({app for *_, app in apps}) == len(apps)
        for apps in lists.values()
    )


def check(robots: list[Robot]) -> None:
    """What the page on aggregation promises of this example. Raises Failed."""
    everybody = [one.name for one in robots]
    await_all("all three serve", lambda: all(answers(one) for one in robots), START_S, robots)
    await_all(
        "each has found the two others",
        lambda: all(one.peers() == [name for name in everybody if name != one.name] for one in robots),
        FOUND_S, robots,
    )  # fmt: skip
    await_all("each lists the apps of all, once", lambda: lists_all_once(robots), FOUND_S, robots)
    *staying, leaving = robots
    before = {one.name: sorted(one.apps()) for one in staying}
    leaving.stop()
    await_all(
        f"{leaving.name} was stopped and is gone from the others",
        lambda: all(leaving.name not in one.peers() for one in staying) and lists_all_once(staying),
        GONE_S, robots,
    )  # fmt: skip
    leaving.start()
    await_all(
        f"{leaving.name} was started again and is back under the same ids",
        lambda: all(sorted(one.apps()) == before[one.name] for one in staying),
        START_S, robots,
    )  # fmt: skip
    print("All of it holds.", flush=True)


def show(robots: list[Robot]) -> None:
    """What each lists and what to type, until Ctrl-C."""
    await_all("all three serve", lambda: all(answers(one) for one in robots), START_S, robots)
    await_all("each lists the apps of all, once", lambda: lists_all_once(robots), FOUND_S, robots)
    for one in robots:
        print(f"\n{one.name} ({one.api}), peers {', '.join(one.peers())}")
        for owner, node, app in sorted(one.apps()):
            print(f"  {app:40} {node:45} {owner}")
    operator = robots[0].namespace.removesuffix("robot-a") + "switch"
    print(
        f"\nTry   sudo ip netns exec {operator} curl -s {robots[0].api}/health\n\nCtrl-C stops everything.", flush=True
    )
    while all(child.running for one in robots for child in one.children):
        time.sleep(0.5)
    raise Failed("a process ended by itself")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    """0: as promised, or stopped by Ctrl-C; 1: not; 2: cannot run here."""
    parser = argparse.ArgumentParser(description="Three gateways that find each other by mDNS.")
    parser.add_argument("--check", action="store_true", help="look whether all is as promised, then end")
    parser.add_argument("--name", default=f"medkit-mesh-{os.getpid()}", help="begins the names of the namespaces")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("Network namespaces need root: run this with sudo.", file=sys.stderr)
        return 2
    missing = [command for command in ("ip", "unshare") if shutil.which(command) is None]
    if missing:
        print(f"'{missing[0]}' is missing: sudo apt-get install iproute2 util-linux", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        with mesh(arguments.name) as robots:
            (check if arguments.check else show)(robots)
        return 0
    except Failed as error:
        print(f"FAILED  {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130 if arguments.check else 0


if __name__ == "__main__":
    sys.exit(main())
