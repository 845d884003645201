"""A gateway on its loop: all rooms built and joined, started and stopped in order.

Which thread it runs in, and the server in front of it, are `http_thread.py`'s.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING, Any

import anyio

from . import __version__
from .aggregation.federation import Federation
from .aggregation.peer_faults import PeerFaults
from .aggregation.routing import FederatedTree, Warn
from .aggregation.sections import GatewayIdentity
from .api.context import GatewayContext
from .api.plugin_routes import PluginRoutes, usable
from .api.sse import Streams
from .database import StateError
from .discovery.local import LocalDiscovery, layer_options
from .discovery.provider import ProviderContext
from .parameters import GatewayConfig
from .plugins.api import EntityView
from .plugins.loading import LoadedPlugins
from .resources.configurations import ConfigurationService
from .resources.data import DataService
from .resources.executions import ExecutionHistory
from .resources.faults.events import FaultEvents
from .resources.faults.model import ERROR, SEVERITY_LABELS, Report
from .resources.faults.room import FaultRoom
from .resources.logs import LogLine, LogStore, plugin_logger, rank
from .resources.operations import OperationService
from .resources.plugins import PluginHooks, Plugins
from .resources.status import StatusService
from .ros.actions import ActionCaller
from .ros.bridge import RosBridge
from .ros.lifecycle import LifecycleStates
from .ros.node_parameters import NodeParameters
from .ros.rosout import Rosout
from .ros.services import ServiceCaller, operation_info
from .ros.topic_writer import TopicWriter
from .ros.topics import TopicReader
from .state import StateStore

if TYPE_CHECKING:
    from .security.authority import Authority, AuthSettings

CLOSE_S = 1.0

_log = logging.getLogger(__name__)


class Assembly:
    """Everything of a gateway but its server. Made and used on the asyncio loop; `stop` it also when `start` raised."""

    def __init__(
        self,
        config: GatewayConfig,
        bridge: RosBridge,
        state: StateStore,
        hints: dict[str, str],
        authority: Authority | None,
        loaded_plugins: LoadedPlugins,
    ) -> None:
        self._config, self._bridge, self._state, self._hints = config, bridge, state, hints
        self._authority = authority
        identity = GatewayIdentity(
            state.instance_id, state.boot_id, config.gateway.name or bridge.node.get_name(), __version__
        )
        reader = TopicReader(bridge, config.data_provider)
        writer = TopicWriter(bridge)
        services = ServiceCaller(bridge)
        actions = ActionCaller(bridge, services)
        executions = ExecutionHistory(actions, config.service_call_timeout_sec)
        parameters = NodeParameters(
            bridge, config.parameter_service_timeout_sec, config.parameter_service_negative_cache_sec
        )
        logs = LogStore(config.logs.buffer_size)

        def heard(*line: Any) -> None:
            logs.add(LogLine(*line))
            faults.sources.heard_line(*line[2:5])

        rosout = Rosout(bridge, heard)
        federation = Federation(config, identity, state)
        federation.subscribe(lambda tree: _tell_servers(tree, services, actions))
        plugins = Plugins(
            loaded_plugins,
            PluginHooks(
                apps=lambda: _apps_for_plugins(federation.tree),
                report_fault=lambda *said: _report_fault(faults, *said),
                add_log=lambda *said: _add_log(logs, *said),
            ),
        )
        discovery = LocalDiscovery(
            ProviderContext(config, bridge, _known_nodes(state)),
            layer_options(config, identity.id),
            federation.given,
            federation.update_local,
            plugins,
            state.keep_nodes,
        )
        # Beside the state, whose directory is ours alone, or in memory as the state is.
        faults = FaultRoom(config, bridge, state.directory, reader, parameters, services, lambda: discovery.nodes)
        peer_faults = PeerFaults(lambda: federation.peers, faults.backend, config.faults.healing_threshold)
        fault_events = FaultEvents()
        faults.backend.subscribe(fault_events.publish)
        self._reader, self._rosout, self._plugins = reader, rosout, plugins
        self._discovery, self._federation = discovery, federation
        self._faults, self._peer_faults = faults, peer_faults
        self.context = GatewayContext(
            config=config,
            identity=identity,
            federation=federation,
            data=DataService(reader, writer, config.topic_sample_timeout_sec, plugins),
            operations=OperationService(services, executions, operation_info, config.service_call_timeout_sec, plugins),
            configurations=ConfigurationService(parameters, plugins),
            logs=logs,
            status=StatusService(LifecycleStates(bridge, config.parameter_service_timeout_sec).state),
            streams=Streams(config.sse.max_clients, config.aggregation.max_peer_streams),
            plugins=plugins,
            faults=faults.backend,
            fault_events=fault_events,
            discovery=discovery.status,
            health_blocks=self._health_blocks,
            warnings=self._warnings,
            authority=authority,
        )
        # Those that tell come before those that are told.
        self._closers = (
            plugins.stop, faults.stop, peer_faults.stop, discovery.stop, federation.stop, faults.backend.stop,
            executions.stop, services.stop, reader.stop, writer.stop, parameters.stop, rosout.stop,
        )  # fmt: skip

    async def start_plugins(self) -> tuple[PluginRoutes, ...]:
        """Start the plugins; the routes that they bring."""
        await self._plugins.start()
        return usable(self._plugins, await self._plugins.routers())

    async def start(self) -> None:
        """Find what is there. Our own nodes get their ids before any peer's."""
        await self._rosout.start()
        await self._discovery.start()
        await self._faults.start()
        await self._federation.start()
        await self._peer_faults.start()

    async def stop(self) -> None:
        """End all of it, each part within a second."""
        if self._authority is not None:
            self._authority.close()
        for close in self._closers:
            with anyio.move_on_after(CLOSE_S, shield=True) as scope:
                await close()
            if scope.cancelled_caught:
                _log.warning("%s did not end in time", getattr(close, "__qualname__", close))

    def _health_blocks(self) -> dict[str, Any]:
        """The blocks of `/health` that are not the API's own (DECISIONS 25)."""
        return {
            "x-medkit-data-provider": self._reader.health(),
            "x-medkit-subscription-executor": self._bridge.health(),
            "discovery": self._discovery.health(),
            "ros": {"state": "ok", **_ros_block(self._hints)},
            "aggregation": self._federation.health(),
            **self._federation.discovery_health(),
            **self._faults.health(),
            "plugins": self._plugins.health(),
        }

    def _warnings(self) -> tuple[Warn, ...]:
        found: list[Warn] = []
        if not self._state.persistent:
            found.append(
                Warn("state_not_persistent", f"{self._state.problem} After a restart entities may have other ids.")
            )
        if self._discovery.manifest_problem:
            found.append(Warn("manifest_rejected", self._discovery.manifest_problem))
        orphans = self._discovery.orphans()
        if orphans:
            text = f"{len(orphans)} nodes run that the manifest does not declare."
            found.append(Warn("unmanifested_nodes", text, ros_node_fqns=orphans))
        return tuple(found)

    def summary(self, listener: socket.socket) -> None:
        """One line that says what runs, and a hint when nothing was found (USERS.md)."""
        address = listener.getsockname()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        nodes = [node for node in self._discovery.nodes if node.fqn != self._bridge.node.get_fully_qualified_name()]
        topics = {use.name for node in self._discovery.nodes for use in node.topics}
        peers = ", ".join(f"{peer.name} ({peer.url})" for peer in self._federation.peers) or "none"
        _log.info(
            "Serving %s://%s:%d/api/v1 (%s). Swagger UI: /api/v1/swagger-ui. %d nodes, %d topics. Peers: %s.",
            "https" if self._config.server.tls.enabled else "http",
            host,
            address[1],
            self._discovery.built.mode,
            len(nodes),
            len(topics),
            peers,
        )
        if not nodes:
            shown = ", ".join(f"{name} {value}" for name, value in self._hints.items())
            _log.warning(
                "No ROS node but the gateway itself was found (%s). A node is seen when it is in the same ROS domain,"
                " uses a compatible RMW, and its discovery range reaches this machine.",
                shown,
            )


async def open_authority(settings: AuthSettings | None, state: StateStore) -> Authority | None:
    """Who gives tokens and takes them back; None without authentication."""
    if settings is None:
        return None
    # Imported here: its libraries take their time, and most gateways do without.
    from .security.authority import Authority
    from .security.revocations import Revocations

    revocations = await anyio.to_thread.run_sync(Revocations.open, state.directory, state.problem)
    if revocations.problem:
        _log.warning("%s", revocations.problem)
    return Authority(settings, revocations)


def _known_nodes(state: StateStore) -> frozenset[str] | None:
    """Which nodes were there when this gateway ran last."""
    try:
        return state.known_nodes()
    except StateError as error:
        _log.warning("which nodes there were before is not known: %s", error)
        return None


def _apps_for_plugins(tree: FederatedTree) -> tuple[EntityView, ...]:
    """The apps of this gateway as plugins see them; from any thread, because a tree never changes."""
    return tuple(
        EntityView(app.id, app.name, app.fqn, app.component_id, app.is_online, app.source)
        for app in tree.local.apps.values()
    )


def _report_fault(
    faults: FaultRoom, app_id: str, fault_code: str, failed: bool, severity: str, description: str
) -> None:
    level = SEVERITY_LABELS.index(severity) if severity in SEVERITY_LABELS else ERROR
    faults.backend.report(Report(app_id, fault_code, failed, level, description, time.time()))


def _add_log(logs: LogStore, app_id: str, severity: str, message: str) -> None:
    now = time.time_ns()
    level = 10 * (rank(severity) + 1)
    logs.add(LogLine(now // 10**9, now % 10**9, level, plugin_logger(app_id), message))


def _ros_block(hints: dict[str, str]) -> dict[str, Any]:
    """Where our node looks for others, in `/health`: what a person compares when a node is missing."""
    return {
        "domain_id": int(hints["ROS_DOMAIN_ID"]),
        "rmw": hints["RMW"],
        "discovery_range": hints["discovery range"],
    }


def _tell_servers(tree: FederatedTree, services: ServiceCaller, actions: ActionCaller) -> None:
    """Say which services and actions the own graph has, with each new tree."""
    apps = tree.local.apps.values()
    served = frozenset(use.name for app in apps for use in app.actions)
    actions.servers_seen(served)
    services.servers_seen(served.union(use.name for app in apps for use in app.services))
