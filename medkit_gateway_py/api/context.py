"""What the HTTP room needs from the others, in one value, built once before the first request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..aggregation.routing import Warn
from ..aggregation.sections import GatewayIdentity
from ..parameters import GatewayConfig
from ..resources.configurations import ConfigurationService
from ..resources.data import DataService
from ..resources.faults.events import FaultEvents
from ..resources.faults.model import FaultBackend
from ..resources.logs import LogStore
from ..resources.operations import OperationService
from ..resources.plugins import Plugins, no_plugins
from ..resources.status import StatusService
from .sse import Streams

if TYPE_CHECKING:
    from ..aggregation.federation import Federation
    from ..security.authority import Authority

PREFIX = "/api/v1"
SOVD_VERSION = "1.0.0"
SERVER_NAME = "ROS 2 Medkit Gateway"


def _nothing() -> Mapping[str, Any]:
    return {}


def _runtime_only() -> Mapping[str, Any]:
    return {"mode": "runtime_only", "strategy": "runtime"}


def _no_warnings() -> Sequence[Warn]:
    return ()


@dataclass(frozen=True)
class GatewayContext:
    """One gateway, as its HTTP side sees it.

    * `identity.version` is the version of this software, `1.2.3`.
    * `fault_events`: what streams of faults replay and follow.
    * `discovery`: gives `{mode, strategy, ...}` of `/health` (API.md §2.2), after any fallback; must not wait.
    * `health_blocks`: called at every `/health`, must not wait. Keys that begin with `x-medkit-` stand at top level,
      all others are subsystem blocks inside `x-medkit` (DECISIONS 25).
    * `warnings`: more warnings for `/health`, beside those of the federation.
    * `authority`: gives and checks tokens; None when authentication is off.
    """

    config: GatewayConfig
    identity: GatewayIdentity
    federation: Federation
    data: DataService
    operations: OperationService
    configurations: ConfigurationService
    logs: LogStore
    status: StatusService
    faults: FaultBackend
    fault_events: FaultEvents = field(default_factory=FaultEvents)
    streams: Streams = field(default_factory=Streams)
    plugins: Plugins = field(default_factory=no_plugins)
    discovery: Callable[[], Mapping[str, Any]] = _runtime_only
    health_blocks: Callable[[], Mapping[str, Any]] = _nothing
    warnings: Callable[[], Sequence[Warn]] = _no_warnings
    authority: Authority | None = None
