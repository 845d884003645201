"""`medkit doctor`: why a node, a peer, a topic or a web page does not get what it expects.

Asks the gateway over HTTP, and the ROS graph of this shell where rclpy is there; judges, and changes nothing.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from .gateway import UNREACHABLE, CommandFailed, Gateway
from .output import medkit_of

GOOD, WARNING, PROBLEM, UNKNOWN = "ok", "warning", "problem", "unknown"
# A clock that is further off makes tokens and ages wrong; NTP keeps robots far below.
CLOCK_LIMIT_S = 5.0
DEFAULT_RANGE = "SUBNET"
SIGHT_S = 3.5  # finding other participants has been seen to take up to 3.1 s

# The nodes that this shell's ROS sees, and under which settings; None: no ROS here.
Sight = Callable[[float], "tuple[frozenset[str], Mapping[str, str]] | None"]


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: `level` ok, warning, problem or unknown; `advice` what to do about it."""

    level: str
    subject: str
    message: str
    advice: str = ""


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The document that a script reads."""
    return {
        "problems": sum(finding.level == PROBLEM for finding in findings),
        "warnings": sum(finding.level == WARNING for finding in findings),
        "findings": [{name: value for name, value in asdict(one).items() if value} for one in findings],
    }


def examine(
    gateway: Gateway,
    now: Callable[[], float],
    sight: Sight,
    *,
    node: str = "",
    topic: str = "",
    peer: str = "",
    origin: str = "",
) -> list[Finding]:
    """Everything there is to say; `node`, `topic`, `peer` and `origin` are what somebody misses."""
    try:
        before = now()
        health = gateway.get("/health")
    except CommandFailed as error:
        return [_no_answer(gateway, error)]
    after = now()
    findings = [_status(gateway, health), _clock(health, before, after)]
    findings += _warnings(health)
    findings += _subsystems(health)
    findings += _peers(gateway, health, peer)
    findings += _graph(gateway, health, sight, node)
    if topic:
        findings.append(_topic(gateway, topic))
    if origin:
        findings.append(_cors(gateway, origin))
    return findings


def _no_answer(gateway: Gateway, error: CommandFailed) -> Finding:
    advice = ""
    if error.exit_code == UNREACHABLE:
        advice = (
            "Start it (`medkit serve`), or give its address with --url or MEDKIT_URL. A gateway listens on 127.0.0.1 "
            "unless server.host says otherwise, so from another machine it needs server.host:=0.0.0.0 and an open port."
        )
    return Finding(PROBLEM, "gateway", str(error), advice)


def _status(gateway: Gateway, health: Mapping[str, Any]) -> Finding:
    version = gateway.try_get("/version-info") or {}
    items = version.get("items")
    vendor = items[0].get("vendor_info") if isinstance(items, list) and items and isinstance(items[0], dict) else None
    known = f" {vendor.get('name')} {vendor.get('version')}" if isinstance(vendor, dict) else ""
    status = str(health.get("status"))
    return Finding(GOOD if status == "healthy" else PROBLEM, "gateway", f"{gateway.address.url}{known}: {status}")


def _clock(health: Mapping[str, Any], before: float, after: float) -> Finding:
    told = health.get("timestamp")
    if isinstance(told, bool) or not isinstance(told, int):
        return Finding(UNKNOWN, "clock", "the gateway does not tell its time")
    theirs = told / 1e9
    # The time in between is the network's: anything inside it agrees.
    off = min(0.0, theirs - before) + max(0.0, theirs - after)
    if abs(off) <= CLOCK_LIMIT_S:
        return Finding(GOOD, "clock", "the gateway's clock agrees with this machine's")
    shown = datetime.timedelta(seconds=round(abs(off)))
    ahead = "ahead of" if off > 0 else "behind"
    return Finding(
        PROBLEM, "clock", f"the gateway's clock is {shown} {ahead} this machine's",
        "Let both follow one time server (chrony, systemd-timesyncd): tokens and times of faults depend on it.",
    )  # fmt: skip


def _warnings(health: Mapping[str, Any]) -> list[Finding]:
    found = health.get("warnings")
    return [
        Finding(WARNING, str(one.get("code", "warning")), str(one.get("message", "")))
        for one in (found if isinstance(found, list) else [])
        if isinstance(one, dict)
    ]


def _subsystems(health: Mapping[str, Any]) -> list[Finding]:
    """The blocks of subsystems that do not work (DECISIONS 25)."""
    findings = []
    for name, block in medkit_of(health).items():
        if isinstance(block, dict) and block.get("state") in ("degraded", "down"):
            level = PROBLEM if block["state"] == "down" else WARNING
            findings.append(Finding(level, name, f"{block['state']}: {block.get('reason', 'no reason given')}"))
    return findings


def _peers(gateway: Gateway, health: Mapping[str, Any], wanted: str) -> list[Finding]:
    listed = health.get("peers")
    if not isinstance(listed, list):
        if not wanted:
            return []
        return [
            Finding(PROBLEM, f"peer {wanted}", "this gateway aggregates no others", "Set aggregation.enabled to true.")
        ]
    details = gateway.try_get("/x-medkit/peers") or {}
    items = details.get("items")
    known = {
        str(item.get("name")): item for item in (items if isinstance(items, list) else []) if isinstance(item, dict)
    }
    findings = [_peer(one, known.get(str(one.get("name")), {})) for one in listed if isinstance(one, dict)]
    if wanted:
        findings = [one for one in findings if one.subject == f"peer {wanted}"]
        if not findings:
            names = ", ".join(str(one.get("name")) for one in listed if isinstance(one, dict)) or "none"
            advice = (
                "Add it to aggregation.peer_urls and aggregation.peer_names, or let mDNS find it: aggregation.announce "
                "there, aggregation.discover here."
            )
            findings = [Finding(PROBLEM, f"peer {wanted}", f"no such peer; the gateway knows {names}", advice)]
    return findings


def _peer(peer: Mapping[str, Any], details: Mapping[str, Any]) -> Finding:
    subject = f"peer {peer.get('name')}"
    if peer.get("status") == "online":
        dropped = details.get("dropped_count")
        if isinstance(dropped, int) and dropped:
            return Finding(
                WARNING, subject, f"{peer.get('url')}: online, but {dropped} of its items are not usable",
                f"GET /api/v1/x-medkit/peers/{peer.get('name')} names them.",
            )  # fmt: skip
        return Finding(GOOD, subject, f"{peer.get('url')}: online")
    why = details.get("last_error") or "it does not answer"
    return Finding(
        PROBLEM, subject, f"{peer.get('url')}: offline: {why}",
        "Does it run, and does it listen on more than 127.0.0.1 (server.host there)? From the gateway's machine: "
        f"curl {peer.get('url')}/api/v1/health",
    )  # fmt: skip


def _graph(gateway: Gateway, health: Mapping[str, Any], sight: Sight, node: str) -> list[Finding]:
    nodes = {
        str(ros2.get("node"))
        for item in gateway.items("/apps")
        if isinstance(ros2 := medkit_of(item).get("ros2"), dict) and ros2.get("node")
    }
    block = medkit_of(health).get("ros")
    theirs: Mapping[str, Any] = block if isinstance(block, dict) else {}
    seen = sight(SIGHT_S)
    findings = [Finding(GOOD if nodes else WARNING, "nodes", f"the gateway lists {len(nodes)} nodes")]
    if seen is not None:
        findings += _settings(theirs, seen[1])
    if not node:
        return findings
    wanted = node if node.startswith("/") else f"/{node}"
    subject = f"node {wanted}"
    if wanted in nodes:
        return [*findings, Finding(GOOD, subject, "the gateway lists it")]
    if wanted.rsplit("/", 1)[-1].startswith("_"):
        text = "its name begins with an underscore, so it counts as internal and is left out"
        return [*findings, Finding(PROBLEM, subject, text, "Set discovery.runtime.filter_internal_nodes to false.")]
    if seen is None:
        text = "the gateway does not list it; whether it runs cannot be told, because this shell has no ROS 2"
        return [*findings, Finding(PROBLEM, subject, text, "Source ROS 2 and run the doctor again.")]
    if wanted not in seen[0]:
        near = [one for one in sorted(seen[0] | nodes) if one.rsplit("/", 1)[-1] == wanted.rsplit("/", 1)[-1]]
        advice = f"Did you mean {', '.join(near)}?" if near else "Start it, or look at its own output."
        return [*findings, Finding(PROBLEM, subject, "neither the gateway nor this shell sees it", advice)]
    text = "this shell sees it, the gateway does not"
    differing = [one.subject for one in findings if one.level == PROBLEM and one.subject.startswith("ROS ")]
    advice = (
        f"The two differ in {', '.join(differing)}: see there."
        if differing
        else "Both have the same settings. Do they run on one machine or network? With the range LOCALHOST a gateway "
        "sees nodes of its own machine only, and at most 32 other processes."
    )
    return [*findings, Finding(PROBLEM, subject, text, advice)]


def _settings(theirs: Mapping[str, Any], ours: Mapping[str, str]) -> list[Finding]:
    """Domain, RMW and discovery range of the gateway beside those of this shell."""
    findings = []
    for name, label, variable in (
        ("domain_id", "ROS domain", "ROS_DOMAIN_ID"),
        ("rmw", "ROS middleware", "RMW_IMPLEMENTATION"),
        ("discovery_range", "ROS discovery range", "ROS_AUTOMATIC_DISCOVERY_RANGE"),
    ):
        if name not in theirs or name not in ours:
            continue
        here, there = ours[name], str(theirs[name])
        if here == there:
            findings.append(Finding(GOOD, label, f"{there}, here and at the gateway"))
        else:
            # Another range may still reach; another domain never does, another RMW hardly ever.
            level = WARNING if name == "discovery_range" else PROBLEM
            advice = f"Start both with the same {variable}."
            findings.append(Finding(level, label, f"{there} at the gateway, {here} in this shell", advice))
    return findings


def _topic(gateway: Gateway, topic: str) -> Finding:
    wanted = topic if topic.startswith("/") else f"/{topic}"
    subject = f"topic {wanted}"
    users = []
    for app in gateway.items("/apps"):
        listed = gateway.try_get(f"/apps/{app.get('id')}/data") or {}
        items = listed.get("items")
        for item in items if isinstance(items, list) else []:
            ros2 = medkit_of(item).get("ros2") if isinstance(item, dict) else None
            if isinstance(ros2, dict) and ros2.get("topic") == wanted:
                users.append((str(app.get("id")), str(ros2.get("direction"))))
    if not users:
        return Finding(
            PROBLEM, subject, "no node that the gateway lists publishes or subscribes it",
            "`ros2 topic info -v` tells who does; then run the doctor with --node for that node.",
        )  # fmt: skip
    publishers = [app for app, direction in users if direction in ("publish", "both")]
    if not publishers:
        return Finding(WARNING, subject, f"only subscribed, by {', '.join(app for app, _ in users)}: it has no values")
    value = gateway.get(f"/apps/{publishers[0]}/data/{wanted.lstrip('/')}")
    status = medkit_of(value).get("status")
    if status == "metadata_only":
        return Finding(
            WARNING, subject, f"published by {', '.join(publishers)}, but no message came in time",
            "Its publisher may send seldom, or with a QoS that nobody can receive: topic_sample_timeout_sec is how "
            "long a read waits.",
        )  # fmt: skip
    return Finding(GOOD, subject, f"published by {', '.join(publishers)}; a read gives a value")


def _cors(gateway: Gateway, origin: str) -> Finding:
    subject = f"web page of {origin}"
    answer = gateway.preflight("/health", origin)
    if answer.is_success and answer.headers.get("access-control-allow-origin") in (origin, "*"):
        return Finding(GOOD, subject, "it may call this gateway")
    if answer.status_code == 404:
        text = "CORS is off, so no page of another origin may call this gateway"
    else:
        text = "its origin is not allowed"
    return Finding(
        PROBLEM, subject, text,
        f"Add {origin} to cors.allowed_origins, spelled exactly like that: scheme, host and port, no slash at the end.",
    )  # fmt: skip


def shell_sight(seconds: float) -> tuple[frozenset[str], Mapping[str, str]] | None:
    """What the ROS of this shell sees within some seconds; None when there is no rclpy."""
    try:
        from ..ros.sight import visible_nodes
    except ImportError:
        return None
    nodes, domain, rmw = visible_nodes(seconds)
    found = os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE") or DEFAULT_RANGE
    return nodes, {"domain_id": str(domain), "rmw": rmw, "discovery_range": found}
