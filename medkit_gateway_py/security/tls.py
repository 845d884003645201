"""HTTPS of this gateway (API.md §9.5): the context that the server speaks TLS with, checked before it starts.

Certificates of clients are not asked for: `server.tls.ca_file` has no meaning here, as in the C++ gateway.
"""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

from ..parameters import Finding, GatewayConfig
from .settings import file_findings

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
# With TLS 1.2 only what has forward secrecy and an authenticated cipher; TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_EXPIRES_SOON = datetime.timedelta(days=14)
_STOP = "The gateway does not start."


def server_context(config: GatewayConfig) -> tuple[ssl.SSLContext | None, list[Finding]]:
    """The context, and what there is to say; None when TLS is off or cannot be as asked for (fatal findings)."""
    tls = config.server.tls
    if not tls.enabled:
        return None, []
    names = {"server.tls.cert_file": tls.cert_file, "server.tls.key_file": tls.key_file}
    if not all(names.values()):
        return None, []  # `parameters` has said so
    fatal = [
        Finding("ERROR", name, path, f"{name} {path} cannot be read: {reason}. {_STOP}", True)
        for name, path in names.items()
        if (reason := _unreadable(path))
    ]
    if fatal:
        return None, fatal
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    context.set_ciphers(_CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    problem = _load(context, tls.cert_file, tls.key_file)
    if problem:
        return None, [Finding("ERROR", "server.tls.cert_file", tls.cert_file, f"{problem} {_STOP}", True)]
    findings = list(file_findings("server.tls.key_file", tls.key_file))
    findings += _validity(tls.cert_file, datetime.datetime.now(datetime.timezone.utc))
    return context, findings


def _load(context: ssl.SSLContext, cert_file: str, key_file: str) -> str:
    """Why the two files cannot be used; "" when they can."""
    asked = False

    def no_password() -> str:
        nonlocal asked
        asked = True
        return ""

    try:
        context.load_cert_chain(cert_file, key_file, no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        if asked:
            return f"server.tls.key_file {key_file} needs a password, which a gateway cannot be asked for."
        if getattr(error, "reason", "") == "KEY_VALUES_MISMATCH":
            return f"server.tls.key_file {key_file} is not the key of the certificate {cert_file}."
        return (
            f"server.tls.cert_file {cert_file} and server.tls.key_file {key_file} are no certificate and key in PEM "
            f"form that can be used ({getattr(error, 'reason', '') or error})."
        )
    return ""


def _validity(cert_file: str, now: datetime.datetime) -> list[Finding]:
    """Warnings for a certificate that clients will not accept today, or soon."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(Path(cert_file).read_bytes())
    except (OSError, ValueError) as error:  # OpenSSL took it, so this is only the date that nobody can tell
        return [Finding("INFO", "server.tls.cert_file", cert_file, f"The dates of {cert_file} are not known: {error}.")]
    utc = datetime.timezone.utc
    # The names with _utc are younger than the oldest library that we run with.
    begin = getattr(certificate, "not_valid_before_utc", None) or certificate.not_valid_before.replace(tzinfo=utc)
    end = getattr(certificate, "not_valid_after_utc", None) or certificate.not_valid_after.replace(tzinfo=utc)
    if end < now:
        text = f"The certificate {cert_file} has expired on {end:%Y-%m-%d}: clients will refuse it."
    elif begin > now:
        text = f"The certificate {cert_file} is valid from {begin:%Y-%m-%d} only: clients will refuse it, or the clock "
        text += "of this machine is wrong."
    elif end - now < _EXPIRES_SOON:
        text = f"The certificate {cert_file} expires on {end:%Y-%m-%d}."
    else:
        return []
    return [Finding("WARN", "server.tls.cert_file", cert_file, text)]


def _unreadable(path: str) -> str:
    try:
        with Path(path).open("rb"):
            return ""
    except OSError as error:
        return error.strerror or str(error)
