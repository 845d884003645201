"""The `http` thread: one asyncio loop for uvicorn, the peers and all that waits.

Starts, in order: local discovery (its first scan settles before anything is served), the federation (its peers are
asked in the background), the server. Stops in the reverse order, each stage with a deadline.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import anyio
import uvicorn

from . import __version__
from .aggregation.federation import Federation
from .aggregation.peer_faults import PeerFaults
from .aggregation.routing import FederatedTree, Warn
from .aggregation.sections import GatewayIdentity
from .api.app import create_app
from .api.context import GatewayContext
from .api.plugin_routes import usable
from .api.sse import Streams
from .discovery.local import LocalDiscovery, layer_options
from .discovery.provider import ProviderContext, StartRefused
from .http_server import GRACEFUL_STOP_S, PortTaken, listen, server_of
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
from .security.startup import Security
from .state import StateStore

if TYPE_CHECKING:
    from .security.authority import Authority, AuthSettings

START_TIMEOUT_S = 20.0

_log = logging.getLogger(__name__)


class HttpThread:
    """Owns the loop, and everything on it. `start` returns when the server listens."""

    def __init__(
        self,
        config: GatewayConfig,
        bridge: RosBridge,
        state: StateStore,
        hints: dict[str, str],
        security: Security | None = None,
        plugins: LoadedPlugins | None = None,
    ) -> None:
        self._loaded_plugins = plugins or LoadedPlugins()
        self._config = config
        self._bridge = bridge
        self._state = state
        self._hints = hints
        self._security = security or Security()
        self._thread = threading.Thread(target=self._main, name="http", daemon=True)
        self._ready = threading.Event()
        self._problem: Exception | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self, stop: threading.Event) -> None:
        """Start the thread and wait until it serves, or until `stop` is set. Raises what kept it from serving."""
        self._thread.start()
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._ready.wait(0.05) and not stop.is_set() and self.is_alive and time.monotonic() < deadline:
            pass
        if self._problem is not None:
            raise self._problem

    def stop(self, timeout_s: float) -> bool:
        """Ask the loop to end and wait for it; False when it did not end in time."""
        loop, stop = self._loop, self._stop
        if loop is not None and stop is not None and self.is_alive:
            with contextlib.suppress(RuntimeError):  # it ended by itself just now
                loop.call_soon_threadsafe(stop.set)
        self._thread.join(timeout_s)
        return not self.is_alive

    def _main(self) -> None:
        try:
            anyio.run(self._serve, backend_options={"use_uvloop": _has_uvloop()})
        except Exception as error:
            if not isinstance(error, (PortTaken, StartRefused)):
                _log.exception("the HTTP thread failed")
            self._problem = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._bridge.attach(self._loop)
        config = self._config
        listener = listen(config.server.host, config.server.port)
        identity = GatewayIdentity(
            self._state.instance_id,
            self._state.boot_id,
            config.gateway.name or self._bridge.node.get_name(),
            __version__,
        )
        reader = TopicReader(self._bridge, config.data_provider)
        writer = TopicWriter(self._bridge)
        services = ServiceCaller(self._bridge)
        actions = ActionCaller(self._bridge, services)
        executions = ExecutionHistory(actions, config.service_call_timeout_sec)
        parameters = NodeParameters(
            self._bridge, config.parameter_service_timeout_sec, config.parameter_service_negative_cache_sec
        )
        logs = LogStore(config.logs.buffer_size)

        def heard(*line: Any) -> None:
            logs.add(LogLine(*line))
            faults.sources.heard_line(*line[2:5])

        rosout = Rosout(self._bridge, heard)
        federation = Federation(config, identity, self._state)
        federation.subscribe(lambda tree: _tell_servers(tree, services, actions))
        plugins = Plugins(
            self._loaded_plugins,
            PluginHooks(
                apps=lambda: _apps_for_plugins(federation.tree),
                report_fault=lambda *said: _report_fault(faults, *said),
                add_log=lambda *said: _add_log(logs, *said),
            ),
        )
        discovery = LocalDiscovery(
            ProviderContext(config, self._bridge),
            layer_options(config, identity.id),
            federation.given,
            federation.update_local,
            plugins,
        )
        # Beside the state, whose directory is ours alone, or in memory as the state is.
        folder = self._state.directory
        faults = FaultRoom(config, self._bridge, folder, reader, parameters, services, lambda: discovery.nodes)
        peer_faults = PeerFaults(lambda: federation.peers, faults.backend, config.faults.healing_threshold)
        fault_events = FaultEvents()
        faults.backend.subscribe(fault_events.publish)
        streams = Streams(config.sse.max_clients, config.aggregation.max_peer_streams)
        authority = await self._authority(self._security.auth) if self._security.auth is not None else None
        context = GatewayContext(
            config=config,
            identity=identity,
            federation=federation,
            data=DataService(reader, writer, config.topic_sample_timeout_sec, plugins),
            operations=OperationService(services, executions, operation_info, config.service_call_timeout_sec, plugins),
            configurations=ConfigurationService(parameters, plugins),
            logs=logs,
            status=StatusService(LifecycleStates(self._bridge, config.parameter_service_timeout_sec).state),
            streams=streams,
            plugins=plugins,
            faults=faults.backend,
            fault_events=fault_events,
            discovery=discovery.status,
            health_blocks=lambda: {
                **self._health_blocks(reader, discovery),
                "aggregation": federation.health(),
                **federation.discovery_health(),
                **faults.health(),
                "plugins": plugins.health(),
            },
            warnings=lambda: self._warnings(discovery),
            authority=authority,
        )
        # Before there are routes, because some of them are theirs.
        await plugins.start()
        routes = usable(plugins, await plugins.routers())
        server = server_of(create_app(context, routes), config.server, self._security.tls)
        try:
            # Our own nodes get their ids before any peer's.
            await rosout.start()
            await discovery.start()
            await faults.start()
            await federation.start()
            await peer_faults.start()
            self._summary(discovery, federation, listener)
            await self._serve_until_stopped(server, listener, streams)
        finally:
            listener.close()
            if authority is not None:
                authority.close()
            for close in (
                plugins.stop, faults.stop, peer_faults.stop, discovery.stop, federation.stop, faults.backend.stop,
                executions.stop,
                services.stop, reader.stop, writer.stop, parameters.stop, rosout.stop,
            ):  # fmt: skip
                with anyio.move_on_after(1.0, shield=True) as scope:
                    await close()
                if scope.cancelled_caught:
                    _log.warning("%s did not end in time", getattr(close, "__qualname__", close))

    async def _authority(self, settings: AuthSettings) -> Authority:
        # Imported here: its libraries take their time, and most gateways do without.
        from .security.authority import Authority
        from .security.revocations import Revocations

        revocations = await anyio.to_thread.run_sync(Revocations.open, self._state.directory, self._state.problem)
        if revocations.problem:
            _log.warning("%s", revocations.problem)
        return Authority(settings, revocations)

    async def _serve_until_stopped(self, server: uvicorn.Server, listener: socket.socket, streams: Streams) -> None:
        assert self._stop is not None
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        stopping = asyncio.ensure_future(self._stop.wait())
        self._ready.set()
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        streams.close()
        server.should_exit = True
        await asyncio.wait({serving}, timeout=GRACEFUL_STOP_S + 1.0)
        if serving.done() and not serving.cancelled() and serving.exception() is not None:
            raise serving.exception()  # type: ignore[misc]

    def _health_blocks(self, reader: TopicReader, discovery: LocalDiscovery) -> dict[str, Any]:
        """The blocks of `/health` that are not the API's own: the ROS side, and providers that failed."""
        return {
            "x-medkit-data-provider": reader.health(),
            "x-medkit-subscription-executor": self._bridge.health(),
            "discovery": discovery.health(),
            "ros": {"state": "ok", **_ros_block(self._hints)},
        }

    def _warnings(self, discovery: LocalDiscovery) -> tuple[Warn, ...]:
        found: list[Warn] = []
        if not self._state.persistent:
            found.append(
                Warn("state_not_persistent", f"{self._state.problem} After a restart entities may have other ids.")
            )
        if discovery.manifest_problem:
            found.append(Warn("manifest_rejected", discovery.manifest_problem))
        orphans = discovery.orphans()
        if orphans:
            text = f"{len(orphans)} nodes run that the manifest does not declare."
            found.append(Warn("unmanifested_nodes", text, ros_node_fqns=orphans))
        return tuple(found)

    def _summary(self, discovery: LocalDiscovery, federation: Federation, listener: socket.socket) -> None:
        """One line that says what runs, and a hint when nothing was found (USERS.md)."""
        address = listener.getsockname()
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        nodes = [node for node in discovery.nodes if node.fqn != self._bridge.node.get_fully_qualified_name()]
        topics = {use.name for node in discovery.nodes for use in node.topics}
        peers = ", ".join(f"{peer.name} ({peer.url})" for peer in federation.peers) or "none"
        _log.info(
            "Serving %s://%s:%d/api/v1 (%s). Swagger UI: /api/v1/swagger-ui. %d nodes, %d topics. Peers: %s.",
            "https" if self._config.server.tls.enabled else "http",
            host,
            address[1],
            discovery.built.mode,
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


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return False
    return True
