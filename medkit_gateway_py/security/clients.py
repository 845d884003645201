"""Clients that may ask for a token: `id:secret:role`, and the comparison of their secrets (API.md §9.2).

The role may be followed by permissions: `robot_b:secret:viewer+peer` (AGGREGATION.md §9).
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from .principal import PEER_PERMISSION, ROLES

MAX_ID_LENGTH = 256
# Shorter ones are accepted with a warning: they can be guessed in the end.
SHORT_SECRET = 12
PERMISSIONS = frozenset({PEER_PERMISSION})


class ClientError(ValueError):
    """A client that cannot be used; the text names no secret."""


@dataclass(frozen=True)
class Client:
    """One client. Its secret is kept as a digest, so that all have one length to be compared."""

    id: str
    role: str
    permissions: frozenset[str] = frozenset()
    digest: bytes = field(default=b"", repr=False)
    has_short_secret: bool = False


def parse_client(text: str, place: str) -> Client:
    """A client of `id:secret:role`, split at the first and the last colon. Raises ClientError, naming `place`."""
    client_id, colon, rest = text.partition(":")
    secret, other_colon, last = rest.rpartition(":")
    if not colon or not other_colon:
        raise ClientError(f"{place} is not of the form id:secret:role")
    role, *permissions = last.strip().split("+")
    client_id = client_id.strip()
    if not client_id or len(client_id) > MAX_ID_LENGTH or not client_id.isprintable():
        raise ClientError(f"{place} needs an id of 1 to {MAX_ID_LENGTH} printable characters")
    if not secret:
        raise ClientError(f"{place} has an empty secret")
    if role not in ROLES:
        raise ClientError(f"{place} has an unknown role; the roles are {', '.join(ROLES)}")
    if not set(permissions) <= PERMISSIONS:
        raise ClientError(f"{place} has an unknown permission; the only one is {PEER_PERMISSION}")
    return Client(client_id, role, frozenset(permissions), _digest(secret), len(secret) < SHORT_SECRET)


def parse_clients(texts: Iterable[str], source: str) -> dict[str, Client]:
    """Clients by id. Raises ClientError for the first that is wrong; places are counted from 1."""
    clients: dict[str, Client] = {}
    for number, text in enumerate(texts, 1):
        client = parse_client(text, f"client {number} of {source}")
        if client.id in clients:
            raise ClientError(f"client {number} of {source} has an id that another one has")
        clients[client.id] = client
    return clients


def lines(text: str) -> list[str]:
    """One client a line; empty lines and those that begin with # are left out."""
    return [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


class Clients:
    """Who exists, and whether a secret is theirs."""

    def __init__(self, clients: Mapping[str, Client]) -> None:
        self._clients = dict(clients)
        # Compared with where there is no such client, so that both cases take the same time.
        self._nobody = Client("", ROLES[0], digest=_digest(secrets.token_hex(32)))

    def get(self, client_id: str) -> Client | None:
        """The client of this id."""
        return self._clients.get(client_id)

    def authenticate(self, client_id: str, secret: str) -> Client | None:
        """The client, when the secret is its own; None for a wrong one and for an unknown client alike."""
        client = self._clients.get(client_id, self._nobody)
        is_right = hmac.compare_digest(_digest(secret), client.digest)
        return client if is_right and client is not self._nobody else None


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
