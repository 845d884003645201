"""Entity provider `host`: the machine that the gateway runs on, as a component (API.md §3.7, DECISIONS 20)."""

from __future__ import annotations

import platform
import re
import shlex
import socket
from collections.abc import Callable
from pathlib import Path

from ..entities.model import Component
from .provider import Contribution, ProviderContext

OS_RELEASE = Path("/etc/os-release")
MAX_ID_LENGTH = 256
NAMELESS = "unknown_host"


class HostProvider:
    """Contributes one component, or none when `discovery.runtime.default_component.enabled` is false."""

    name = "host"

    def __init__(self, context: ProviderContext) -> None:
        default_component = context.config.discovery.runtime.default_component
        self._components: tuple[Component, ...] = ()
        if default_component.enabled:
            self._components = (
                host_component(
                    socket.gethostname(), platform.machine(), _read(OS_RELEASE), component_id=default_component.id
                ),
            )

    async def start(self, changed: Callable[[], None]) -> None:
        """Nothing to watch: a host does not change while it runs."""

    async def stop(self) -> None:
        """Nothing to release."""

    def contribution(self) -> Contribution:
        """The host component, made once."""
        return Contribution(components=self._components)


def host_component(hostname: str, machine: str, os_release: str, component_id: str = "") -> Component:
    """The component of a host, from its raw name, `uname -m` and the text of os-release.

    `component_id` wins over the id made of the name.
    """
    system = pretty_name(os_release)
    return Component(
        id=component_id or host_id(hostname),
        name=hostname or NAMELESS,
        type="Component",
        description=f"{system} on {machine}" if machine else system,
        source="runtime",
    )


def host_id(hostname: str) -> str:
    """An entity id made of a host name: lower case, `.` and space to `_`, everything but `[a-z0-9_-]` dropped."""
    lowered = hostname.lower().replace(".", "_").replace(" ", "_")
    return re.sub(r"[^a-z0-9_-]", "", lowered)[:MAX_ID_LENGTH] or NAMELESS


def pretty_name(os_release: str) -> str:
    """PRETTY_NAME of an os-release text (shell quoting as os-release(5) allows); "Linux", its default, when absent."""
    for line in os_release.splitlines():
        key, equals, value = line.strip().partition("=")
        if key == "PRETTY_NAME" and equals:
            try:
                return " ".join(shlex.split(value)) or "Linux"
            except ValueError:  # an unclosed quote
                return value.strip("\"'") or "Linux"
    return "Linux"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not every system has one
        return ""
