"""The local tree: starts the entity providers and turns what they contribute into one tree, again at each change.

Runs on the asyncio loop. A provider that raises or hangs is logged with its name, shown in `/health`, and the others
go on without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Protocol

import anyio
import anyio.to_thread

from ..database import StateError
from ..entities.ids import GivenId, GivenIds, is_anonymous_name, is_internal
from ..entities.layers import Built, LayerOptions, build_tree
from ..entities.manifest import Manifest
from ..entities.model import GraphNode
from ..entities.plugin_layer import PluginLayer, with_plugins
from ..entities.policies import MANIFEST, RUNTIME
from ..entities.tree import EntityTree
from ..plugins import find_plugins
from ..plugins.api import Entities, PluginApp
from .layer_health import LinkingLog, discovery_health
from .provider import ENTRY_POINT_GROUP, Contribution, EntityProvider, ProviderContext, StartRefused

_log = logging.getLogger(__name__)

BUILT_IN = {
    "host": "medkit_gateway_py.discovery.host:HostProvider",
    "manifest": "medkit_gateway_py.discovery.manifest:ManifestProvider",
    "ros_graph": "medkit_gateway_py.discovery.ros_graph:RosGraphProvider",
}
# Of a provider that names no time of its own (`start_timeout_s`).
START_TIMEOUT_S = 5.0
STOP_TIMEOUT_S = 1.0

Build = Callable[[], tuple[EntityTree, Sequence[GivenId]]]
Publish = Callable[[Build], Awaitable[None]]


class PluginSource(Protocol):
    """What `resources/plugins.py` gives: what plugins say exists, and who wants to know what became of it."""

    said: dict[str, Entities]

    def subscribe(self, changed: Callable[[], None]) -> None: ...
    def place(self, offers: Mapping[str, tuple[str, PluginApp]], refused: Mapping[str, tuple[str, ...]]) -> None: ...


class LocalDiscovery:
    """Owns the providers.

    `publish` is given a function that makes each new local tree and the ids it gives for the first time; it calls it at
    a moment when nobody else gives ids. `keep_nodes` is given the FQNs to wait for after a restart; it may block and
    raise, and is called in a worker thread.
    """

    def __init__(
        self,
        context: ProviderContext,
        options: LayerOptions,
        given: GivenIds,
        publish: Publish,
        plugins: PluginSource | None = None,
        keep_nodes: Callable[[frozenset[str]], None] | None = None,
    ) -> None:
        self._context = context
        self._keep_nodes = keep_nodes
        self._kept = context.known_nodes
        self._plugins = plugins
        if plugins is not None:
            plugins.subscribe(self.tell)
        self._options = options
        self._given = given
        self._publish = publish
        self._providers: list[EntityProvider] = []
        self._problems: dict[str, str] = {}
        self._contributed: dict[str, Contribution] = {}
        self._dirty = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._last: tuple[Any, ...] | None = None
        self._linking = LinkingLog()
        self.nodes: tuple[GraphNode, ...] = ()
        self.manifest: Manifest | None = None
        self.built = Built(EntityTree(), [])
        self._entities = 0

    async def start(self) -> None:
        """Start every provider, publish the first tree, and go on watching in a task.

        Raises StartRefused when a provider says that the gateway must not run without it.
        """
        factories, failed = find_plugins(ENTRY_POINT_GROUP, BUILT_IN)
        self._problems.update(failed)
        # One that hangs must not hold up the others.
        started = await asyncio.gather(
            *(self._start_one(name, factory) for name, factory in factories.items()), return_exceptions=True
        )
        for refused in started:
            if isinstance(refused, BaseException):
                raise refused
        await self._rebuild()
        self._task = asyncio.create_task(self._watch(), name="local-discovery")

    async def _start_one(self, name: str, factory: Callable[..., Any]) -> None:
        try:
            provider: EntityProvider = factory(self._context)
            with anyio.fail_after(getattr(provider, "start_timeout_s", START_TIMEOUT_S)):
                await provider.start(self._dirty.set)
        except StartRefused:
            raise
        except Exception as error:  # a plugin may raise anything
            self._failed(name, error)
        else:
            self._providers.append(provider)

    async def stop(self) -> None:
        """Stop watching, then every provider, each within a second."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for provider in self._providers:
            try:
                with anyio.fail_after(STOP_TIMEOUT_S):
                    await provider.stop()
            except Exception as error:  # a plugin may raise anything
                _log.warning("entity provider %s did not stop cleanly: %s", provider.name, error)

    def health(self) -> dict[str, str]:
        """The block of `/health` (DECISIONS 25): `degraded` with a reason when a provider fails, else `ok`."""
        if not self._problems:
            return {"state": "ok"}
        return {"state": "degraded", "reason": "; ".join(f"{name}: {text}" for name, text in self._problems.items())}

    def status(self) -> dict[str, Any]:
        """The `discovery` member of `/health` (API.md §2.2)."""
        has_plugins = self._plugins is not None and any(one != Entities() for one in self._plugins.said.values())
        return discovery_health(self.built, self._entities, has_plugins)

    @property
    def manifest_problem(self) -> str:
        """Why the manifest as it is now is not used; "" when it is, or when there is none to use."""
        return self._contributed["manifest"].problem if "manifest" in self._contributed else ""

    def orphans(self) -> tuple[str, ...]:
        """FQNs of the nodes that the manifest does not declare although it says that this is an error."""
        report = self.built.report
        return report.orphans if report is not None and report.policy == "error" else ()

    def tell(self) -> None:
        """Something that is no provider has changed what exists."""
        self._dirty.set()

    async def _watch(self) -> None:
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            try:
                await self._rebuild()
            except Exception:
                # The next change, at the latest the backstop scan, tries again.
                _log.exception("the local tree could not be rebuilt")

    async def _rebuild(self) -> None:
        contributions = [self._contribution(provider) for provider in self._providers]
        nodes = tuple(node for one in contributions for node in one.nodes)
        components = tuple(component for one in contributions for component in one.components)
        manifest = next((one.manifest for one in contributions if one.manifest is not None), None)
        said = dict(self._plugins.said) if self._plugins is not None else {}
        if self._last == (nodes, components, manifest, said):
            return
        built: list[Built] = []
        layers: list[PluginLayer] = []

        def build() -> tuple[EntityTree, Sequence[GivenId]]:
            built.append(build_tree(nodes, components, manifest, self._given, self._options))
            layers.append(with_plugins(built[-1].tree, said, self._given, self._options.origin, built[-1].new_ids))
            return layers[-1].tree, layers[-1].new_ids

        await self._publish(build)
        self._last = (nodes, components, manifest, said)
        self.nodes, self.manifest = nodes, manifest
        if built:
            self.built = built[-1]
            self._linking.tell(self.built)
            self._entities = sum(layers[-1].tree.counts().values())
        if layers and self._plugins is not None:
            self._plugins.place(layers[-1].offers, layers[-1].refused)
        await self._keep()

    async def _keep(self) -> None:
        """Keep which nodes there are; those whose names are made anew at each start are not worth a wait."""
        if self._keep_nodes is None:
            return
        lasting = frozenset(
            node.fqn for node in self.nodes if not is_internal(node) and not is_anonymous_name(node.name)
        )
        if lasting == self._kept:
            return
        try:
            await anyio.to_thread.run_sync(self._keep_nodes, lasting)
        except StateError as error:
            # The next change tries again; until then a restart waits for nodes that were.
            _log.warning("which nodes there are could not be kept: %s", error)
        else:
            self._kept = lasting

    def _contribution(self, provider: EntityProvider) -> Contribution:
        try:
            found = provider.contribution()
        except Exception as error:  # a plugin may raise anything
            # What it said last stays: a plugin's bug must not make a robot's nodes vanish.
            self._failed(provider.name, error)
            return self._contributed.get(provider.name, Contribution())
        # The provider itself logs a problem that it tells of.
        if found.problem:
            self._problems[provider.name] = found.problem
        else:
            self._problems.pop(provider.name, None)
        self._contributed[provider.name] = found
        return found

    def _failed(self, name: str, error: Exception) -> None:
        text = f"{type(error).__name__}: {error}"
        if self._problems.get(name) != text:
            _log.error("entity provider %s failed: %s", name, text)
        self._problems[name] = text


def layer_options(config: Any, origin: str) -> LayerOptions:
    """What the parameters under `discovery` say of the local tree; `origin` is this gateway's instance id."""
    discovery = config.discovery
    runtime, gap_fill, layers = discovery.runtime, discovery.merge_pipeline.gap_fill, discovery.merge_pipeline.layers
    return LayerOptions(
        origin,
        runtime.create_functions_from_namespaces,
        runtime.filter_internal_nodes,
        discovery.mode,
        discovery.manifest.enabled,
        runtime.enabled,
        gap_fill.allow_heuristic_apps,
        gap_fill.allow_heuristic_functions,
        gap_fill.namespace_whitelist,
        gap_fill.namespace_blacklist,
        {MANIFEST: dict(vars(layers.manifest)), RUNTIME: dict(vars(layers.runtime))},
    )
