"""The Linux process behind each app: `GET /apps/{app_id}/x-medkit-procfs`, and all of a component at once.

A node's process is told by its command line, where `ros2 launch` writes the node's name and namespace (`-r
__node:=lidar -r __ns:=/front`). A process of several nodes, or of one that keeps the name it has in its code, names
none; the parameter `plugins.procfs.processes` says whose it is, each entry `/name/of/node=words of the command line`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from fastapi import APIRouter

from medkit_gateway_py.plugin import EntityView, NotFound, PluginParameter, RoutesPlugin, Unavailable

KEEP_S = 1.0  # Reading every command line takes some 10 ms for 300 processes, so they are kept for this long.


@dataclass(frozen=True)
class Process:
    """A process and what its command line says of it; `node` is a FQN, "" where it names none."""

    pid: int
    node: str
    command: str


class ProcessRoutes(RoutesPlugin):
    """Two routes, answered from /proc by psutil."""

    parameters = (
        PluginParameter(
            "processes",
            (),
            "Whose process is which, where the command line does not say: /name/of/node=words of the command line.",
            lambda pairs: "" if all("=" in one for one in pairs) else "each entry is NODE=WORDS",
        ),
    )

    async def start(self) -> None:
        """Refuse a machine that has no processes to look at."""
        if not psutil.LINUX:
            raise RuntimeError("there is no /proc on this machine")
        self._known: tuple[float, list[Process]] = (0.0, [])
        pairs = (one.partition("=") for one in self.context.parameters["processes"])
        self._given = {node: words.strip() for node, _, words in pairs}

    def router(self) -> APIRouter:
        """The routes, relative to `/api/v1`."""
        router = APIRouter()

        @router.get("/apps/{app_id}/x-medkit-procfs", summary="The process of one app")
        async def of_app(app_id: str) -> dict[str, Any]:
            app = next((one for one in self.context.apps() if one.id == app_id), None)
            if app is None:
                raise NotFound(f"{app_id} is no app of this gateway")
            return facts(self._pid(app))

        @router.get("/components/{component_id}/x-medkit-procfs", summary="The processes of one component")
        async def of_component(component_id: str) -> dict[str, Any]:
            apps = [one for one in self.context.apps() if one.component_id == component_id]
            return {"processes": self._together(apps)}

        return router

    def _together(self, apps: Sequence[EntityView]) -> list[dict[str, Any]]:
        owners: dict[int, list[str]] = {}
        for app in apps:
            try:
                owners.setdefault(self._pid(app), []).append(app.id)
            except NotFound:
                continue
        found = []
        for pid, ids in sorted(owners.items()):
            try:
                found.append({**facts(pid), "node_ids": ids})
            except Unavailable:
                continue  # it ended just now
        return found

    def _pid(self, app: EntityView) -> int:
        if not app.fqn:
            raise NotFound(f"{app.id} is no ROS node")
        before, processes = self._known
        if time.monotonic() - before > KEEP_S:
            processes = list(running())
            self._known = (time.monotonic(), processes)
        pid = pid_of(app.fqn, processes, self._given)
        if pid is None:
            raise NotFound(f"no command line names {app.fqn}: say so in plugins.procfs.processes")
        return pid


def pid_of(fqn: str, processes: Iterable[Process], given: dict[str, str]) -> int | None:
    """The process of a node; the oldest when several fit, None when none does."""
    words = given.get(fqn)
    fitting = [one.pid for one in processes if one.node == fqn or (words and words in one.command and not one.node)]
    return min(fitting, default=None)


def running() -> Iterable[Process]:
    """All processes whose command line can be read."""
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
        except (psutil.Error, OSError):
            continue
        if arguments:
            yield Process(process.pid, node_of(arguments), " ".join(arguments))


def node_of(arguments: Sequence[str]) -> str:
    """The FQN that remappings on a command line give to its node, "" when they give none."""
    name, namespace = "", ""
    for argument in arguments:
        left, remaps, right = argument.partition(":=")
        if remaps and left.endswith("__node"):
            name = right
        elif remaps and left.endswith("__ns"):
            namespace = right.rstrip("/")
    if not name:
        return ""
    return f"/{namespace.strip('/')}/{name}" if namespace else f"/{name}"


def facts(pid: int) -> dict[str, Any]:
    """What the system knows of a process; sizes in bytes, times in seconds."""
    ticks = os.sysconf("SC_CLK_TCK")
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            cpu, memory = process.cpu_times(), process.memory_info()
            return {
                "pid": pid,
                "ppid": process.ppid(),
                "state": process.status(),
                "exe": _readable(process.exe),
                "cmdline": " ".join(process.cmdline()),
                "rss_bytes": memory.rss,
                "vm_size_bytes": memory.vms,
                "threads": process.num_threads(),
                "cpu_user_ticks": round(cpu.user * ticks),
                "cpu_system_ticks": round(cpu.system * ticks),
                "cpu_user_seconds": cpu.user,
                "cpu_system_seconds": cpu.system,
                "uptime_seconds": round(time.time() - process.create_time(), 3),
            }
    except psutil.Error as error:
        raise Unavailable(f"process {pid} cannot be read: {error}") from None


def _readable(read: Any) -> str:
    try:
        return str(read())
    except psutil.AccessDenied:
        return ""
