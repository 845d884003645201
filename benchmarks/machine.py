"""What has to be known of a machine to read its numbers; nothing that tells where on it something is."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from .processes import ROOT

LIBRARIES = (
    "uvicorn", "uvloop", "httptools", "fastapi", "starlette", "pydantic", "orjson", "httpx", "httpx-aiohttp", "aiohttp",
    "ros-rclpy", "ros-rmw-fastrtps-cpp",
)  # fmt: skip


def facts() -> dict[str, Any]:
    """CPU, memory, system, Python, ROS, versions, load before the run, commit."""
    return {
        "cpu": _cpu_model(),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{_system()}, {platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "ros": os.environ.get("ROS_DISTRO") or "wheels",
        "load_average_before": [round(load, 2) for load in os.getloadavg()],
        "commit": _commit(),
        "libraries": {name: version for name in LIBRARIES if (version := _version(name))},
    }


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _commit() -> str:
    try:
        said = subprocess.run(
            ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return said.stdout.strip()
