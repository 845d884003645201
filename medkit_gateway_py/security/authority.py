"""The one who gives tokens to clients, knows which of them still count, and takes them back (API.md §9.1, §9.3)."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from .buckets import Buckets
from .clients import Client, Clients
from .principal import Principal
from .refusals import Refused, TokenRefused
from .revocations import Revocations
from .tokens import ACCESS, REFRESH, Claims, Keys, Tokens, new_id

# Wrong secrets from one address in a minute; a person who mistypes stays below it.
FAILED_ATTEMPTS_PER_MINUTE = 20
_MAX_ADDRESSES = 4096


@dataclass(frozen=True)
class AuthSettings:
    """What the configuration says about authentication, secrets read and checked. Times in seconds."""

    keys: Keys = field(repr=False)
    clients: Clients = field(repr=False)
    issuer: str
    access_s: int
    refresh_s: int
    require_for: str  # none | write | all


@dataclass(frozen=True)
class Grant:
    """What a client gets. `expires_in` is seconds."""

    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    role: str
    expires_in: int


class Authority:
    """Used on the event loop; only `revoke` blocks and belongs in a worker thread."""

    def __init__(
        self,
        settings: AuthSettings,
        revocations: Revocations,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._tokens = Tokens(settings.keys, settings.issuer, clock)
        self._revocations = revocations
        self._clock = clock
        self._attempts = Buckets(max_buckets=_MAX_ADDRESSES, clock=monotonic)
        self.require_for = settings.require_for

    def authorize(self, client_id: str, secret: str, address: str) -> Grant:
        """Tokens for a client with its secret. Raises Refused.

        After too many wrong secrets from one address even the right one is refused for a while: otherwise whoever
        tries all of them is only slowed down until the right one comes.
        """
        bucket = self._attempts.get(_network(address), FAILED_ATTEMPTS_PER_MINUTE)
        if bucket.is_empty:
            raise Refused("slow_down", "Too many failed attempts", bucket.wait_s)
        client = self._settings.clients.authenticate(client_id, secret)
        if client is None:
            bucket.tokens -= 1.0
            raise Refused("invalid_client", "Unknown client or wrong secret")
        now = self._now()
        refresh = Claims(new_id(), client.id, client.role, now, now + self._settings.refresh_s, client.permissions)
        return self._grant(client, refresh.id, self._tokens.sign(REFRESH, refresh))

    def issue(self, client_id: str, seconds: int) -> str:
        """An access token of a client for so long, without its secret: for who may read the configuration anyway.

        Raises Refused for an unknown client.
        """
        client = self._settings.clients.get(client_id)
        if client is None:
            raise Refused("invalid_client", "There is no such client")
        now = self._now()
        claims = Claims(new_id(), client.id, client.role, now, now + seconds, client.permissions)
        return self._tokens.sign(ACCESS, claims)

    def refresh(self, token: str) -> Grant:
        """A new access token, and the same refresh token; with the role that the client has now. Raises Refused."""
        try:
            claims = self._accepted(REFRESH, token)
        except TokenRefused as error:
            raise Refused("invalid_grant", str(error)) from None
        client = self._settings.clients.get(claims.client_id)
        if client is None:
            raise Refused("invalid_grant", "The client does not exist any more")
        return self._grant(client, claims.id, token)

    def principal(self, token: str) -> Principal:
        """Who an access token belongs to. Raises TokenRefused."""
        claims = self._accepted(ACCESS, token)
        return Principal(claims.client_id, claims.role, claims.permissions)

    def revoke(self, token: str) -> None:
        """Take back a token of either kind; a refresh token with all access tokens that came of it. Blocks.

        A token that is not good anyway is nobody's business and no error. Raises RevocationError.
        """
        for kind in (ACCESS, REFRESH):
            try:
                claims = self._tokens.read(kind, token)
            except TokenRefused:
                continue
            # The last access token that came of a refresh token may outlive it.
            more = self._settings.access_s if kind == REFRESH else 0
            self._revocations.revoke(claims.id, float(claims.expires_at + more))
            return

    def close(self) -> None:
        """Close what is on disk."""
        self._revocations.close()

    def _grant(self, client: Client, refresh_id: str, refresh_token: str) -> Grant:
        now = self._now()
        access = Claims(
            new_id(), client.id, client.role, now, now + self._settings.access_s, client.permissions, refresh_id
        )
        return Grant(self._tokens.sign(ACCESS, access), refresh_token, client.role, self._settings.access_s)

    def _accepted(self, kind: str, token: str) -> Claims:
        claims = self._tokens.read(kind, token)
        if self._revocations.is_revoked(claims.id, claims.refresh_token_id):
            raise TokenRefused("Token has been revoked")
        if claims.issued_at < self._revocations.not_before:
            raise TokenRefused("Token is from before the last start of the gateway; get a new one")
        return claims

    def _now(self) -> int:
        # Not earlier than what is accepted at all, see `Revocations.not_before`.
        return max(int(self._clock()), self._revocations.not_before)


def _network(address: str) -> str:
    """Who is counted: an IPv4 address, or the IPv6 network that one customer has whole."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)
