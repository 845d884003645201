"""Every ROS parameter of the gateway, declared once, and the check that makes a frozen configuration of given values.

    checked = check({"server.port": 8081})
    checked.config.server.port        # 8081
    checked.findings                  # what was wrong, in sentences; a fatal one means: do not start

Pure: `ros/` declares the parameters, `gateway_node.py` logs the findings. The sections are in `sections.py`,
`later.py` and `aggregation.py`, the mechanism in `rules.py`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from .access import check_auth, check_rate_limits
from .aggregation import Aggregation, PeerUrl, StaticPeer, check_peers, peer_url
from .faults import Faults
from .later import (
    BulkData,
    EntityFreezeFrame,
    FaultTriggers,
    Locking,
    Scripts,
    Triggers,
    Updates,
)
from .rules import Finding, ParameterSpec, Value, build, flatten, group, judge, parameter, specifications
from .sections import (
    Auth,
    Cors,
    DataProvider,
    Discovery,
    Docs,
    EntityCache,
    FaultManager,
    Gateway,
    Logs,
    RateLimiting,
    Server,
    Sse,
    SubscriptionExecutor,
)

__all__ = [
    "SPECIFICATIONS",
    "Checked",
    "Finding",
    "GatewayConfig",
    "ParameterSpec",
    "PeerUrl",
    "StaticPeer",
    "check",
    "peer_url",
]


@dataclass(frozen=True)
class GatewayConfig:
    """The whole configuration. `plugin_parameters` are the `plugins.<name>.*` of the plugins that are named."""

    gateway: Gateway = group(Gateway)
    server: Server = group(Server)
    state_dir: str = parameter(
        "",
        "Directory for the identity of this gateway and the ids it has given; one per gateway. Empty: "
        "`$XDG_STATE_HOME/medkit_gateway_py/port-<server.port>`, below `~/.local/state` where that is unset.",
    )
    refresh_interval_ms: int = parameter(
        10000,
        "How often everything is looked at again, even when nothing was reported as changed, in milliseconds. "
        "Peers without a tree stream are asked for their entities at least as often.",
        minimum=100,
        maximum=60000,
        text="Invalid backstop refresh interval {given}ms. Must be between 100-60000. Using default 10000ms.",
    )
    topic_sample_timeout_sec: float = parameter(
        1.0,
        "How long a read of a topic waits for a message, in seconds.",
        minimum=0.1,
        maximum=30.0,
        text="topic_sample_timeout_sec {given} is outside 0.1-30.0. Using default 1.0.",
    )
    parameter_service_timeout_sec: float = parameter(
        2.0, "How long a node's parameter service may take, in seconds.",
        minimum=0.1, maximum=10.0, on_bad="refuse",
    )  # fmt: skip
    parameter_service_negative_cache_sec: float = parameter(
        60.0, "How long a node whose parameter service did not answer is not asked again, in seconds; 0: always asked.",
        minimum=0.0, maximum=3600.0, on_bad="refuse",
    )  # fmt: skip
    service_call_timeout_sec: int = parameter(
        10, "How long a service call or an action goal may take to be answered, in seconds.",
        minimum=1, maximum=3600, on_bad="clamp",
    )  # fmt: skip
    discovery: Discovery = group(Discovery)
    entity_cache: EntityCache = group(EntityCache)
    data_provider: DataProvider = group(DataProvider)
    subscription_executor: SubscriptionExecutor = group(SubscriptionExecutor)
    cors: Cors = group(Cors)
    sse: Sse = group(Sse)
    docs: Docs = group(Docs)
    aggregation: Aggregation = group(Aggregation)
    auth: Auth = group(Auth)
    rate_limiting: RateLimiting = group(RateLimiting)
    faults: Faults = group(Faults)
    fault_manager: FaultManager = group(FaultManager)
    logs: Logs = group(Logs)
    bulk_data: BulkData = group(BulkData)
    locking: Locking = group(Locking)
    triggers: Triggers = group(Triggers)
    fault_triggers: FaultTriggers = group(FaultTriggers)
    scripts: Scripts = group(Scripts)
    updates: Updates = group(Updates)
    entity_freeze_frame: EntityFreezeFrame = group(EntityFreezeFrame)
    plugins: tuple[str, ...] = parameter(
        ("",),
        "Plugins to load, by the names of their entry points. A plugin's parameters are `plugins.<name>.<parameter>`.",
    )
    plugin_parameters: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


SPECIFICATIONS: Mapping[str, ParameterSpec] = MappingProxyType(
    {spec.name: spec for spec in specifications(GatewayConfig)}
)

REMOVED = (
    "discovery.runtime.create_synthetic_areas",
    "discovery.runtime.create_synthetic_components",
    "discovery.runtime.grouping_strategy",
    "discovery.runtime.synthetic_component_name_pattern",
    "discovery.runtime.topic_only_policy",
    "discovery.runtime.min_topics_for_component",
    "discovery.merge_pipeline.gap_fill.allow_heuristic_areas",
    "discovery.merge_pipeline.gap_fill.allow_heuristic_components",
)
# rclpy declares and reads these itself.
_OF_RCLPY = re.compile(r"use_sim_time|start_type_description_service|qos_overrides\..+")


@dataclass(frozen=True)
class Checked:
    """The configuration to run with, what there is to say about it, and all values by full name, as ROS takes them."""

    config: GatewayConfig
    findings: tuple[Finding, ...] = ()
    effective: Mapping[str, Any] = field(default_factory=dict)

    @property
    def refused(self) -> tuple[Finding, ...]:
        """The findings for which the gateway must not start."""
        return tuple(finding for finding in self.findings if finding.fatal)


def check(values: Mapping[str, object]) -> Checked:
    """Judge the given values (the overrides of the node, by full name); never raises for a bad one.

    A bad value gives a finding and then what API.md §11 says: the nearest bound, the default, or a refusal to start.
    """
    findings: list[Finding] = []
    accepted: dict[str, Value] = {}
    for name, spec in SPECIFICATIONS.items():
        if name in values:
            accepted[name], finding = judge(spec, values[name])
            findings += [finding] if finding else []
    config: GatewayConfig = build(GatewayConfig, accepted)

    undeclared = {name: values[name] for name in sorted(values) if name not in SPECIFICATIONS}
    plugin_parameters, more = _undeclared(undeclared, config.plugins)
    config = replace(config, plugin_parameters=plugin_parameters)
    findings += more

    aggregation, more = check_peers(
        config.aggregation, _strings(accepted, "aggregation.peer_urls"), _strings(accepted, "aggregation.peer_names")
    )
    config = replace(config, aggregation=aggregation)
    findings += more
    config, more = _together(config, host_given="server.host" in values)
    findings += more
    return Checked(config, tuple(findings), flatten(config))


def _together(config: GatewayConfig, *, host_given: bool) -> tuple[GatewayConfig, list[Finding]]:
    """The rules between parameters (AGGREGATION.md §1, API.md §1.10, §9.5)."""
    findings: list[Finding] = []
    aggregation, server = config.aggregation, config.server
    if aggregation.enabled and aggregation.announce and not host_given:
        config = replace(config, server=replace(server, host="0.0.0.0"))
        message = (
            "aggregation.announce is true and server.host is not set: listening on all network interfaces (0.0.0.0). "
            "Set server.host to choose."
        )
        findings.append(Finding("WARN", "server.host", "", message))
    if aggregation.peers_file and not aggregation.enabled:
        message = f"aggregation.enabled is false: aggregation.peers_file {aggregation.peers_file} is not read."
        findings.append(Finding("WARN", "aggregation.enabled", "false", message))
    if aggregation.enabled and aggregation.forward_auth and not aggregation.require_tls:
        message = (
            "aggregation.forward_auth is true and aggregation.require_tls is false: the Authorization headers of "
            "clients may travel to peers over cleartext HTTP."
        )
        findings.append(Finding("WARN", "aggregation.forward_auth", "true", message))
    config, more = _manifest_given(config)
    findings += more
    if "*" in config.cors.allowed_origins and config.cors.allow_credentials:
        message = (
            "cors.allowed_origins holds * and cors.allow_credentials is true: every web page could act with the "
            "rights of its visitor. The gateway does not start."
        )
        findings.append(Finding("ERROR", "cors.allow_credentials", "true", message, True))
    if server.tls.enabled:
        for name in ("cert_file", "key_file"):
            if not getattr(server.tls, name):
                message = f"server.tls.enabled is true, but server.tls.{name} is empty. The gateway does not start."
                findings.append(Finding("ERROR", f"server.tls.{name}", "", message, True))
    findings += check_auth(config)
    config, more = check_rate_limits(config)
    return config, [*findings, *more]


def _manifest_given(config: GatewayConfig) -> tuple[GatewayConfig, list[Finding]]:
    """The modes that need a manifest have one (API.md §3.7); what is in it is seen when it is read."""
    discovery = config.discovery
    if discovery.manifest_path or discovery.mode == "runtime_only":
        return config, []
    said = f"discovery.mode is {discovery.mode}, but discovery.manifest_path is empty."
    if discovery.mode == "manifest_only":
        message = f"{said} The gateway does not start."
        return config, [Finding("ERROR", "discovery.manifest_path", "", message, True)]
    if not discovery.manifest.enabled:
        return config, []
    finding = Finding("WARN", "discovery.manifest_path", "", f"{said} Using runtime_only.")
    return replace(config, discovery=replace(discovery, mode="runtime_only")), [finding]


def _undeclared(
    values: Mapping[str, object], plugins: tuple[str, ...]
) -> tuple[dict[str, dict[str, object]], list[Finding]]:
    """Parameters of plugins, and a finding for each name that nothing reads. Values may be secrets: not shown."""
    of_plugins: dict[str, dict[str, object]] = {}
    findings: list[Finding] = []
    for name, value in values.items():
        if _OF_RCLPY.fullmatch(name):
            continue
        plugin, _, rest = name.removeprefix("plugins.").partition(".")
        if not name.startswith("plugins.") or not rest:
            findings.append(Finding("WARN", name, "", _unknown_text(name)))
        elif plugin not in plugins:
            message = f"{name} is set, but {plugin} is not in plugins: add it there with dots, not as a nested mapping."
            findings.append(Finding("ERROR", name, "", message))
        elif rest == "path":
            message = f"{name} names a library of the C++ gateway and is ignored: plugins are entry points here."
            findings.append(Finding("WARN", name, "", message))
        else:
            of_plugins.setdefault(plugin, {})[rest] = value
    return of_plugins, findings


def _unknown_text(name: str) -> str:
    if name in REMOVED:
        return f"{name} was removed from the gateway and is ignored."
    if name == "scripts.enabled":
        return f"{name} is no parameter and is ignored: scripts are enabled by scripts.scripts_dir."
    if name.startswith(("aggregation.registry.", "sync.")):
        return f"{name} is not in this version of the gateway and is ignored."
    near = difflib.get_close_matches(name, SPECIFICATIONS, n=1, cutoff=0.6)
    return f"{name} is no parameter of the gateway and is ignored." + (f" Did you mean {near[0]}?" if near else "")


def _strings(values: Mapping[str, Value], name: str) -> tuple[str, ...]:
    value = values.get(name, ())
    return value if isinstance(value, tuple) else ()
