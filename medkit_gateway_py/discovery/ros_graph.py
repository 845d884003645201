"""Entity provider `ros_graph`: the nodes of the ROS graph, as `ros/graph.py` watches them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import anyio.to_thread

from ..entities.model import GraphNode
from ..ros.graph import FIRST_LIMIT_S, KNOWN_AGE_S, GraphWatcher
from .provider import Contribution, ProviderContext

_LOG = logging.getLogger(__name__)

FIRST_SCAN_LIMIT_S = KNOWN_AGE_S + FIRST_LIMIT_S + 1.5  # settling, the scan, and a busy machine
STOP_LIMIT_S = 0.8  # a provider has one second


class RosGraphProvider:
    """Contributes every node of the graph, hidden ones and the gateway's own included.

    Reads `refresh_interval_ms` (a scan at least this often) and `discovery.refresh_debounce_ms` (quiet time after a
    change before the scan) from the configuration. After a restart the first snapshot waits for the nodes that were
    known before, so that an id is never unknown because the graph is not seen yet (AGGREGATION.md §4).
    """

    name = "ros_graph"
    start_timeout_s = FIRST_SCAN_LIMIT_S + 0.5

    def __init__(self, context: ProviderContext) -> None:
        config = context.config
        self._changed: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._nodes: tuple[GraphNode, ...] = ()
        self._watcher = GraphWatcher(
            context.ros,
            self._graph_changed,
            debounce_s=config.discovery.refresh_debounce_ms / 1000,
            backstop_s=config.refresh_interval_ms / 1000,
            known=context.known_nodes,
        )

    async def start(self, changed: Callable[[], None]) -> None:
        """Watch the graph; returns when the first snapshot is there, so that the first tree is whole."""
        self._loop = asyncio.get_running_loop()
        self._watcher.start()
        settled = await anyio.to_thread.run_sync(self._watcher.settled.wait, FIRST_SCAN_LIMIT_S, abandon_on_cancel=True)
        if not settled:
            _LOG.warning("the ROS graph has not been seen within %g s; its nodes will follow", FIRST_SCAN_LIMIT_S)
        self._changed = changed  # from now on: the first snapshot is already in `contribution()`

    async def stop(self) -> None:
        """End the watching thread."""
        self._changed = None
        if not await anyio.to_thread.run_sync(self._watcher.stop, STOP_LIMIT_S, abandon_on_cancel=True):
            _LOG.warning("the thread that watches the ROS graph did not end within %g s", STOP_LIMIT_S)

    def contribution(self) -> Contribution:
        """The nodes of the last snapshot."""
        return Contribution(nodes=self._nodes)

    def _graph_changed(self, nodes: tuple[GraphNode, ...]) -> None:
        """In the graph thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        try:
            loop.call_soon_threadsafe(self._take, nodes)
        except RuntimeError:
            _LOG.debug("the loop is closed, a change of the ROS graph has no taker")

    def _take(self, nodes: tuple[GraphNode, ...]) -> None:
        self._nodes = nodes
        if self._changed is not None:
            self._changed()
