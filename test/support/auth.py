"""Clients, tokens and gateways with authentication for tests."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jwt

from medkit_gateway_py.api.context import GatewayContext
from medkit_gateway_py.parameters import check
from medkit_gateway_py.security.authority import Authority, AuthSettings
from medkit_gateway_py.security.revocations import Revocations
from medkit_gateway_py.security.settings import read_auth
from support.api import gateway

SECRET = "a secret of the tests, long enough"
CLIENTS = [f"{role}:pass-of-{role}-x:{role}" for role in ("viewer", "operator", "configurator", "admin")]
PEER = "robot_b:pass-of-robot-b:viewer+peer"


def auth_parameters(**more: Any) -> dict[str, Any]:
    """Parameters of a gateway with one client for each role, and one that is another gateway."""
    found = {"enabled": True, "jwt_secret": SECRET, "clients": [*CLIENTS, PEER], **more}
    return {f"auth.{name}": value for name, value in found.items()}


def settings(environ: dict[str, str] | None = None, **more: Any) -> AuthSettings:
    """Settings that are good."""
    checked = check(auth_parameters(**more))
    assert checked.refused == ()
    found, findings = read_auth(checked.config, environ or {})
    assert found is not None, findings
    return found


def authority(
    directory: Path | None = None,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    **more: Any,
) -> Authority:
    """An authority whose revocations are in `directory`, or in memory but without their restriction."""
    revocations = Revocations.open(directory, clock=clock)
    if directory is None:
        revocations.not_before = 0
    return Authority(settings(**more), revocations, clock=clock, monotonic=monotonic)


def secured(one: Authority | None = None, parameters: dict[str, Any] | None = None, **auth: Any) -> GatewayContext:
    """A gateway without ROS that asks for tokens."""
    return gateway(parameters={**auth_parameters(**auth), **(parameters or {})}, authority=one or authority(**auth))


def token(one: Authority, role: str = "admin") -> str:
    """An access token of the client of this role."""
    return one.authorize(role, f"pass-of-{role}-x", "127.0.0.1").access_token


def bearer(text: str) -> dict[str, str]:
    """The header."""
    return {"Authorization": f"Bearer {text}"}


def claims_of(text: str) -> dict[str, Any]:
    """What a token says, unchecked."""
    found: dict[str, Any] = jwt.decode(text, options={"verify_signature": False})
    return found


def forged(
    changes: dict[str, Any], *, of: str, key: Any = SECRET, algorithm: str = "HS256", typ: str = "access"
) -> str:
    """A token with other claims; None takes one away."""
    claims = {**claims_of(of), **changes}
    claims = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(claims, key, algorithm, headers={"typ": typ})
