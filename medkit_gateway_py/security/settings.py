"""Authentication as the configuration, files and the environment have it, read once at start (API.md §9.2, §11).

A secret has one source. Two are refused: nobody could tell which of them was changed for nothing. No text here ever
holds a secret, and none is kept in a parameter that ROS would show.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..parameters import Finding, GatewayConfig
from .authority import AuthSettings
from .clients import SHORT_SECRET, Client, ClientError, Clients, lines, parse_clients
from .tokens import Keys

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

SECRET_VARIABLE = "MEDKIT_GATEWAY_JWT_SECRET"
CLIENTS_VARIABLE = "MEDKIT_GATEWAY_CLIENTS"
MIN_SECRET_LENGTH = 32  # API.md §9.2
MIN_RSA_BITS = 2048
# Longer than any key or list of clients; a wrong path may lead to a device or a core dump.
MAX_FILE_BYTES = 1_048_576

_STOP = "The gateway does not start."


class _Wrong(Exception):
    """A setting that authentication cannot begin with."""

    def __init__(self, parameter: str, text: str) -> None:
        super().__init__(text)
        self.parameter = parameter


def read_auth(
    config: GatewayConfig, environ: Mapping[str, str] = os.environ
) -> tuple[AuthSettings | None, list[Finding]]:
    """The settings, and what there is to say; None when authentication is off or cannot be as asked for (fatal)."""
    auth = config.auth
    if not auth.enabled:
        return None, []
    findings: list[Finding] = []
    try:
        keys = _keys(config, environ, findings)
        clients = _clients(config, environ, findings)
    except _Wrong as wrong:
        findings.append(Finding("ERROR", wrong.parameter, "", f"{wrong} {_STOP}", True))
        return None, findings
    settings = AuthSettings(
        keys, Clients(clients), auth.issuer, auth.token_expiry_seconds, auth.refresh_token_expiry_seconds,
        auth.require_auth_for,
    )  # fmt: skip
    return settings, findings


def file_findings(parameter: str, path: str) -> Iterator[Finding]:
    """A warning when a file with a secret may be read or changed by every user of this machine."""
    try:
        mode = Path(path).stat().st_mode
    except OSError:
        return  # reading it says more
    if stat.S_ISREG(mode) and mode & (stat.S_IROTH | stat.S_IWOTH):
        message = f"{parameter} {path} holds a secret and every user of this machine can read it: chmod 600 {path}"
        yield Finding("WARN", parameter, path, message)


def _keys(config: GatewayConfig, environ: Mapping[str, str], findings: list[Finding]) -> Keys:
    auth = config.auth
    given = {
        "auth.jwt_secret": auth.jwt_secret,
        "auth.jwt_secret_file": auth.jwt_secret_file,
        f"the environment variable {SECRET_VARIABLE}": environ.get(SECRET_VARIABLE, ""),
    }
    source = _one_source("auth.jwt_secret", given)
    if not source:
        raise _Wrong(
            "auth.jwt_secret",
            "auth.enabled is true and there is no secret: set auth.jwt_secret_file, auth.jwt_secret or "
            f"the environment variable {SECRET_VARIABLE}.",
        )
    if auth.jwt_algorithm == "RS256":
        return _rsa_keys(given[source], auth.jwt_public_key, findings)
    secret = given[source]
    if source == "auth.jwt_secret_file":
        findings += file_findings(source, secret)
        secret = _read_text(source, secret).strip()
    if len(secret) < MIN_SECRET_LENGTH:
        raise _Wrong("auth.jwt_secret", f"The secret of {source} is shorter than {MIN_SECRET_LENGTH} characters.")
    key = secret.encode()
    if key.lstrip().startswith((b"-----BEGIN", b"ssh-")):
        raise _Wrong("auth.jwt_secret", f"The secret of {source} is a key for RS256, but auth.jwt_algorithm is HS256.")
    return Keys("HS256", key, key)


def _rsa_keys(private_path: str, public_path: str, findings: list[Finding]) -> Keys:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    def loaded(name: str, path: str, load: Any, kind: type) -> Any:
        content = _read_text(name, path).encode()
        try:
            key = load(content)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            what = "private key without a password" if kind is rsa.RSAPrivateKey else "public key"
            raise _Wrong(name, f"{name} {path} is no RSA {what} in PEM form.") from None
        if not isinstance(key, kind):
            raise _Wrong(name, f"{name} {path} is a key of another kind; RS256 takes RSA keys.")
        return key

    if not public_path:
        raise _Wrong("auth.jwt_public_key", "auth.jwt_algorithm is RS256 and auth.jwt_public_key names no file.")
    findings += file_findings("auth.jwt_secret", private_path)
    private: RSAPrivateKey = loaded(
        "auth.jwt_secret", private_path, lambda pem: load_pem_private_key(pem, None), rsa.RSAPrivateKey
    )
    public: RSAPublicKey = loaded("auth.jwt_public_key", public_path, load_pem_public_key, rsa.RSAPublicKey)
    if private.key_size < MIN_RSA_BITS:
        raise _Wrong("auth.jwt_secret", f"The RSA key {private_path} has fewer than {MIN_RSA_BITS} bits.")
    if private.public_key().public_numbers() != public.public_numbers():
        raise _Wrong("auth.jwt_public_key", f"{public_path} is not the public key of {private_path}.")
    return Keys("RS256", private, public)


def _clients(config: GatewayConfig, environ: Mapping[str, str], findings: list[Finding]) -> dict[str, Client]:
    auth = config.auth
    given: dict[str, str | Sequence[str]] = {
        "auth.clients": auth.clients,
        "auth.clients_file": auth.clients_file,
        f"the environment variable {CLIENTS_VARIABLE}": environ.get(CLIENTS_VARIABLE, ""),
    }
    source = _one_source("auth.clients", given)
    texts: Sequence[str] = auth.clients
    if source == "auth.clients_file":
        findings += file_findings(source, auth.clients_file)
        texts = lines(_read_text(source, auth.clients_file))
    elif source and source != "auth.clients":
        texts = lines(environ[CLIENTS_VARIABLE])
    try:
        clients = parse_clients(texts, source)
    except ClientError as error:
        raise _Wrong("auth.clients", f"{str(error)[0].upper()}{str(error)[1:]}.") from None
    if not clients:
        message = (
            "auth.enabled is true and there are no clients: nobody can get a token here. Only tokens of another "
            "gateway with the same secret and issuer are accepted."
        )
        findings.append(Finding("WARN", "auth.clients", "", message))
    for client in clients.values():
        if client.has_short_secret:
            message = (
                f"The secret of client {client.id!r} is shorter than {SHORT_SECRET} characters and can be guessed."
            )
            findings.append(Finding("WARN", "auth.clients", "", message))
    return clients


def _one_source(parameter: str, given: Mapping[str, object]) -> str:
    """The name of the only source that has something, "" when none has."""
    names = [name for name, value in given.items() if value]
    if len(names) > 1:
        raise _Wrong(parameter, f"One secret has two sources, {' and '.join(names)}: keep one of them.")
    return names[0] if names else ""


def _read_text(parameter: str, path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _Wrong(parameter, f"{parameter} {path} cannot be read: {reason}.") from None
    if len(content) > MAX_FILE_BYTES:
        raise _Wrong(parameter, f"{parameter} {path} is longer than {MAX_FILE_BYTES} bytes.")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _Wrong(parameter, f"{parameter} {path} is not text.") from None
