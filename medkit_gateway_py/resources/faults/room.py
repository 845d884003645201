"""Everything about faults of one gateway, put together: where they are kept, where they come from, their freeze frames.

Nothing is decided here; the HTTP side uses `backend`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ...entities.model import GraphNode
from ...errors import GatewayError
from ...parameters import GatewayConfig
from ...ros.bridge import RosBridge
from ...ros.fault_manager import FaultManagerLink, Interfaces, find_interfaces, is_present
from ...ros.node_parameters import NodeParameters
from ...ros.services import ServiceCaller
from ...ros.topics import TopicReader
from .capture import FreezeFrames
from .choice import ChosenFaults
from .embedded import EmbeddedFaults
from .manager import ManagerFaults
from .model import CONFIRMED, PREFAILED, FaultBackend
from .sources import FaultSources

EXPECT_TRIES = 3  # a fault manager that was just discovered may lose an answer

_log = logging.getLogger(__name__)


class FaultRoom:
    """Backend and sources.

    :param directory: where the store of our own keeps its file, None: in memory.
    :param nodes: the nodes of the ROS graph now; the same tuple as long as nothing changes; called in any thread.
    """

    def __init__(
        self,
        config: GatewayConfig,
        bridge: RosBridge,
        directory: Path | None,
        reader: TopicReader,
        parameters: NodeParameters,
        services: ServiceCaller,
        nodes: Callable[[], Sequence[GraphNode]],
    ) -> None:
        self._since = time.time()
        faults = config.faults
        snapshots = faults.snapshots
        self._frames = FreezeFrames(reader, parameters, nodes, snapshots.topics) if snapshots.enabled else None
        interfaces = find_interfaces() if faults.backend != "embedded" else None

        def manager(found: Interfaces | None) -> ManagerFaults:
            wanted = config.fault_manager
            link = None
            if found is not None:
                link = FaultManagerLink(bridge, services, found, wanted.namespace, wanted.service_timeout_sec)
            return ManagerFaults(link)

        def own() -> EmbeddedFaults:
            return EmbeddedFaults.of(faults, directory, self._frames.capture if self._frames is not None else None)

        if faults.backend == "fault_manager":
            self.backend: FaultBackend = manager(interfaces)
        elif interfaces is None:
            self.backend = own()
        else:
            self.backend = ChosenFaults(
                own(),
                manager(interfaces),
                lambda: is_present(nodes(), config.fault_manager.namespace),
                self._backend_changed,
            )
        self.sources = FaultSources(
            faults,
            bridge,
            self.backend.report,
            nodes,
            failed_times=faults.confirmation_threshold,
            passed_times=faults.healing_threshold,
        )
        self._expecting: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """The backend, and then what feeds it."""
        await self.backend.start()
        await self.sources.start()
        self._expect_soon()

    async def stop(self) -> None:
        """What feeds the backend; `backend.stop` must follow."""
        if self._expecting is not None:
            self._expecting.cancel()
            await asyncio.gather(self._expecting, return_exceptions=True)
        await self.sources.stop()

    def health(self) -> dict[str, Any]:
        """Two blocks of `/health`."""
        sources: dict[str, Any] = dict(self.sources.health())
        frames = self._frames
        sources["snapshots"] = (
            {"state": "off", "since": self._since}
            if frames is None
            else {"state": "ok", "since": self._since, "captures": frames.captures, "skipped": frames.skipped}
        )
        return {"faults": dict(self.backend.health()), "fault_sources": sources}

    def _backend_changed(self) -> None:
        self.sources.tell_again()
        self._expect_soon()

    def _expect_soon(self) -> None:
        if self._expecting is None or self._expecting.done():
            self._expecting = asyncio.create_task(self._expect(), name="known-faults")

    async def _expect(self) -> None:
        for _ in range(EXPECT_TRIES):
            try:
                self.sources.expect((await self.backend.list((PREFAILED, CONFIRMED))).faults)
                return
            except GatewayError as error:
                _log.debug("the active faults are not known: %s", error)
                await asyncio.sleep(1.0)
