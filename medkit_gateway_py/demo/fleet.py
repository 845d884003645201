"""The fleet of the demo: robots and gateways by name, each with its ROS domain, port, parameter file and state.

What it starts is what a user would type: `demo_robot` and `gateway_node --ros-args ...` with a parameter file.
"""

from __future__ import annotations

import importlib.util
import json
import os
import secrets
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from .processes import Child, StartFailed, free_domains, free_ports, stop, until, wait_for_health

START_WITHIN_S = 30.0
"""A gateway answers within two seconds; a first start on a slow disk compiles every module."""


def executable(name: str, module: str) -> list[str]:
    """How to start one of our executables: the installed one, else its module with this Python."""
    found = shutil.which(name)
    return [found] if found else [sys.executable, "-m", module]


@dataclass
class Site:
    """One machine of the fleet, played by a ROS domain: its robot, and the gateway that shows it."""

    name: str
    """Name of the gateway's node, and of its files."""

    component: str
    """Id of the machine's component (`discovery.runtime.default_component.id`)."""

    robot: str
    """Which of the demo robots lives here, "a" or "b"; "" for none."""

    domain: int
    port: int
    peers: Mapping[str, str] = field(default_factory=dict)
    """Name to URL of the gateways that this one shows, too."""

    clients: Sequence[str] = ()
    """Who may write, `id:secret:role` each; empty: everybody."""

    @property
    def url(self) -> str:
        """Where its gateway answers."""
        return f"http://localhost:{self.port}"


class Fleet:
    """Starts and stops robots and gateways; a context manager that leaves nothing running and no files behind."""

    def __init__(self, show: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="medkit-demo-"))
        self._show = show
        self._robots: dict[str, Child] = {}
        self._gateways: dict[str, Child] = {}
        self._arguments: dict[str, list[str]] = {}

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop_all()
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def places(count: int, first_port: int = 8080) -> list[tuple[int, int]]:
        """`count` pairs of a free ROS domain and a free port."""
        return list(zip(free_domains(count), free_ports(first_port, count), strict=True))

    def start_robot(self, site: Site) -> None:
        """Starts the site's robot; its nodes appear in the graph in a second or so."""
        command = [*executable("demo_robot", "medkit_gateway_py.demo.robot"), "--robot", site.robot]
        log = self.folder / f"robot_{site.component}.log"
        self._robots[site.name] = Child(f"robot of {site.component}", command, self._environment(site), log)

    def start_gateway(self, site: Site, remap: Sequence[str] = (), parameters: Sequence[str] = ()) -> list[str]:
        """Starts the site's gateway and waits until it is healthy; returns the command. Raises StartFailed."""
        arguments = ["--ros-args"]
        if not parameters:
            arguments += ["--params-file", str(self.parameter_file(site))]
        for pair in parameters:
            arguments += ["-p", pair]
        for rule in (f"__node:={site.name}", *remap):
            arguments += ["-r", rule]
        self._arguments[site.name] = arguments
        self.start_gateway_again(site)
        return ["gateway_node", *arguments]

    def start_gateway_again(self, site: Site) -> None:
        """Starts the site's gateway with the arguments of the last time. Raises StartFailed."""
        command = [*executable("gateway_node", "medkit_gateway_py.gateway_node"), *self._arguments[site.name]]
        child = Child(site.name, command, self._environment(site), self.folder / f"{site.name}.log", self._show)
        self._gateways[site.name] = child
        wait_for_health(child, site.url, START_WITHIN_S)

    @staticmethod
    def wait_for(site: Site, path: str, within_s: float = START_WITHIN_S) -> None:
        """Returns when the site's gateway answers a GET below /api/v1 with 200. Raises StartFailed."""

        def answers() -> bool:
            try:
                return httpx.get(f"{site.url}/api/v1{path}", timeout=5.0, trust_env=False).status_code == 200
            except httpx.HTTPError:
                return False

        if not until(answers, within_s):
            raise StartFailed(f"{site.name} has no {path} after {within_s:.0f} s")

    def parameter_file(self, site: Site) -> Path:
        """Writes the site's parameter file, keyed as the tutorial's are, and gives its path."""
        aggregation: dict[str, Any] = {"enabled": bool(site.peers)}
        if site.peers:
            aggregation.update(peer_urls=list(site.peers.values()), peer_names=list(site.peers))
        parameters: dict[str, Any] = {
            "server": {"port": site.port},
            "discovery": {"runtime": {"default_component": {"id": site.component}}},
            "aggregation": aggregation,
        }
        if site.clients:
            parameters["auth"] = {
                "enabled": True,
                "jwt_secret_file": self._secret(site, "jwt", secrets.token_hex(32)),
                "clients_file": self._secret(site, "clients", "\n".join(site.clients)),
            }
        path = self.folder / f"{site.name}_params.yaml"
        # JSON is YAML, and needs no library to be written.
        path.write_text(json.dumps({"medkit_gateway_py": {"ros__parameters": parameters}}, indent=2) + "\n")
        return path

    def _secret(self, site: Site, name: str, text: str) -> str:
        path = self.folder / f"{site.name}.{name}"
        path.touch(mode=0o600)
        path.write_text(text + "\n")
        return str(path)

    def stop_gateway(self, site: Site) -> tuple[bool, int | None]:
        """Stops the site's gateway; whether it ended by itself in time, and its exit code."""
        child = self._gateways.pop(site.name)
        in_time = stop([child])
        return in_time, child.exit_code

    def gateway_output(self, site: Site) -> str:
        """The end of what the site's gateway printed."""
        return self._gateways[site.name].last_output()

    def ended(self) -> list[str]:
        """Names of children that ended although nobody stopped them."""
        return [child.name for child in (*self._gateways.values(), *self._robots.values()) if not child.running]

    def stop_all(self) -> bool:
        """Stops every child for good, gateways first; True when all ended by themselves in time. Main thread only."""
        # It takes a bounded time; a second Ctrl-C must not leave children behind.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        gateways_ended = stop(self._gateways.values())
        robots_ended = stop(self._robots.values())
        self._gateways.clear()
        self._robots.clear()
        return gateways_ended and robots_ended

    def _environment(self, site: Site) -> dict[str, str]:
        return {
            "ROS_DOMAIN_ID": str(site.domain),
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "ROS_LOG_DIR": str(self.folder / "ros-log"),
            # Ids that a gateway gave live here; a restart within one demo finds them again.
            "XDG_STATE_HOME": str(self.folder / "state"),
        }


def ready() -> str:
    """Why the demo cannot run here ("" when it can)."""
    if importlib.util.find_spec("rclpy") is None:
        return "rclpy is missing: start the demo with ./scripts/demo, or source a ROS 2 first"
    if os.environ.get("RMW_IMPLEMENTATION", "").startswith("rmw_zenoh"):
        return "the demo's ROS domains keep its robots apart, and rmw_zenoh knows no domains: unset RMW_IMPLEMENTATION"
    return ""
