"""What the parameters of authentication and of rate limits mean together (API.md §9.2, §9.6). Pure: reads no file."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .rules import Finding

if TYPE_CHECKING:
    from . import GatewayConfig


@dataclass(frozen=True)
class EndpointLimit:
    """Requests per minute to paths that match: segments as they are, `*` for any one."""

    segments: tuple[str, ...]
    per_minute: int

    def matches(self, segments: tuple[str, ...]) -> bool:
        """Whether a path of these segments is meant."""
        return len(segments) == len(self.segments) and all(
            mine in ("*", theirs) for mine, theirs in zip(self.segments, segments, strict=True)
        )


def check_auth(config: GatewayConfig) -> list[Finding]:
    """Refusals and warnings for authentication; what is in files is judged where it is read."""
    auth = config.auth
    if not auth.enabled:
        return []
    findings = []
    if auth.refresh_token_expiry_seconds < auth.token_expiry_seconds:
        message = (
            f"auth.refresh_token_expiry_seconds {auth.refresh_token_expiry_seconds} is less than "
            f"auth.token_expiry_seconds {auth.token_expiry_seconds}. The gateway does not start."
        )
        findings.append(
            Finding("ERROR", "auth.refresh_token_expiry_seconds", str(auth.refresh_token_expiry_seconds), message, True)
        )
    if not config.server.tls.enabled and not is_loopback(config.server.host):
        message = (
            f"auth.enabled is true and server.tls.enabled is false, while server.host is {config.server.host}: secrets "
            "and tokens travel over the network in cleartext."
        )
        findings.append(Finding("WARN", "server.tls.enabled", "false", message))
    if auth.require_auth_for == "none":
        message = "auth.require_auth_for is none: tokens are given and checked, and nothing needs one."
        findings.append(Finding("WARN", "auth.require_auth_for", "none", message))
    return findings


def check_rate_limits(config: GatewayConfig) -> tuple[GatewayConfig, list[Finding]]:
    """The limits, off when a setting of theirs is wrong, with an error that says which (API.md §9.6)."""
    if not config.rate_limiting.enabled:
        return config, []
    problem = next(_rate_limit_problems(config), None)
    if problem is None:
        return config, []
    name, value, rule = problem
    message = f"rate_limiting.{name} {value} {rule}. Requests are not limited."
    off = replace(config, rate_limiting=replace(config.rate_limiting, enabled=False))
    return off, [Finding("ERROR", f"rate_limiting.{name}", value, message)]


def endpoint_limit(text: str) -> EndpointLimit | None:
    """`pattern:rpm`, split at the last colon; None when it is nothing of the kind."""
    pattern, _, rate = text.rpartition(":")
    if not pattern.startswith("/") or not rate.strip().isdecimal() or not int(rate):
        return None
    return EndpointLimit(path_segments(pattern), int(rate))


def path_segments(path: str) -> tuple[str, ...]:
    """The parts of a path; a slash at its end makes no difference."""
    return tuple(path.strip("/").split("/"))


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server on `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _rate_limit_problems(config: GatewayConfig) -> Iterator[tuple[str, str, str]]:
    """Name, value and broken rule."""
    limits = config.rate_limiting
    for name in ("global_requests_per_minute", "client_requests_per_minute", "client_cleanup_interval_seconds"):
        if getattr(limits, name) <= 0:
            yield name, str(getattr(limits, name)), "must be above 0"
    if limits.client_requests_per_minute > limits.global_requests_per_minute:
        total = limits.global_requests_per_minute
        value = str(limits.client_requests_per_minute)
        yield "client_requests_per_minute", value, f"is more than global_requests_per_minute {total}"
    if limits.client_max_idle_seconds < limits.client_cleanup_interval_seconds:
        value = str(limits.client_max_idle_seconds)
        least = limits.client_cleanup_interval_seconds
        yield "client_max_idle_seconds", value, f"is less than client_cleanup_interval_seconds {least}"
    for text in limits.endpoint_limits:
        if endpoint_limit(text) is None:
            yield "endpoint_limits", repr(text), "is not of the form /path/pattern:rpm, with rpm above 0"
