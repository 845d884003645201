"""What security needs from files and environment before the gateway starts, in one value."""

from __future__ import annotations

import os
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..parameters import Finding, GatewayConfig

if TYPE_CHECKING:
    from .authority import AuthSettings


@dataclass(frozen=True)
class Security:
    """Authentication and TLS of this gateway; None: off."""

    auth: AuthSettings | None = None
    tls: ssl.SSLContext | None = None


def prepare(config: GatewayConfig, environ: Mapping[str, str] = os.environ) -> tuple[Security, list[Finding]]:
    """Read keys, secrets and certificates. With a fatal finding the value must not be used."""
    # Imported here: most gateways run without either, and the libraries take a tenth of a second.
    auth, tls = None, None
    findings: list[Finding] = []
    if config.auth.enabled:
        from .settings import read_auth

        auth, findings = read_auth(config, environ)
    if config.server.tls.enabled:
        from .tls import server_context

        tls, more = server_context(config)
        findings += more
    return Security(auth, tls), findings


def issue_token(config: GatewayConfig, client_id: str, days: int, environ: Mapping[str, str] = os.environ) -> str:
    """An access token of a client for so many days. Raises ValueError with the reason why there is none."""
    from .authority import Authority
    from .refusals import Refused
    from .revocations import Revocations
    from .settings import read_auth

    if not config.auth.enabled:
        raise ValueError("auth.enabled is false: there are no tokens")
    settings, findings = read_auth(config, environ)
    if settings is None:
        raise ValueError("; ".join(finding.message for finding in findings if finding.fatal))
    authority = Authority(settings, Revocations(None, "", 0, {}, time.time, 0))
    try:
        return authority.issue(client_id, days * 86400)
    except Refused as refused:
        raise ValueError(f"{refused.description}: {client_id}") from None
