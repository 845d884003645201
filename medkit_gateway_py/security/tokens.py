"""Tokens as signed texts (API.md §9.2): made and read with one algorithm that the configuration names, no other.

Whether a token was revoked, and whether its client still exists, is asked elsewhere (`authority.py`).
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from jwt.api_jwt import decode_complete

from .principal import ROLES
from .refusals import TokenRefused

ACCESS = "access"
REFRESH = "refresh"
# Gateways that share their secret may differ by so much: a token of another one is not "from the future" at once.
# An expired token is expired on the second.
CLOCK_LEEWAY_S = 5
# Ours are below 1 kB; with many permissions or an RSA key of 8192 bits a token stays below this.
MAX_TOKEN_LENGTH = 8192
MAX_PERMISSIONS = 32

_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Keys:
    """What tokens are signed and checked with: the same secret for HS256, a pair of keys for RS256."""

    algorithm: str
    signing: Any = field(repr=False)
    verifying: Any = field(repr=False)


@dataclass(frozen=True)
class Claims:
    """What a good token says. Times are whole seconds since the epoch."""

    id: str
    client_id: str
    role: str
    issued_at: int
    expires_at: int
    permissions: frozenset[str] = frozenset()
    refresh_token_id: str = ""


class Tokens:
    """Signs and reads tokens of one issuer."""

    def __init__(self, keys: Keys, issuer: str, clock: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._issuer = issuer
        self._clock = clock

    def sign(self, kind: str, claims: Claims) -> str:
        """The token of kind `access` or `refresh` that says this."""
        payload: dict[str, Any] = {
            "iss": self._issuer,
            "sub": claims.client_id,
            "iat": claims.issued_at,
            "exp": claims.expires_at,
            "jti": claims.id,
            "role": claims.role,
        }
        if claims.refresh_token_id:
            payload["refresh_token_id"] = claims.refresh_token_id
        if claims.permissions:
            payload["permissions"] = sorted(claims.permissions)
        return jwt.encode(payload, self._keys.signing, self._keys.algorithm, headers={"typ": kind})

    def read(self, kind: str, token: str) -> Claims:
        """What a token of this kind says, when it is good in itself. Raises TokenRefused."""
        if len(token) > MAX_TOKEN_LENGTH or not _FORM.fullmatch(token):
            raise TokenRefused("Malformed token")
        try:
            found = decode_complete(
                token,
                self._keys.verifying,
                # Fixed here: what the token itself asks for must not choose, least of all `none`.
                algorithms=[self._keys.algorithm],
                issuer=self._issuer,
                leeway=CLOCK_LEEWAY_S,
                options={"require": ["iss", "sub", "iat", "exp", "jti"], "verify_exp": False},
            )
        except jwt.InvalidSignatureError:
            raise TokenRefused("Invalid token signature") from None
        except jwt.InvalidIssuerError:
            raise TokenRefused("Token has another issuer") from None
        except jwt.ImmatureSignatureError:
            raise TokenRefused("Token is not valid yet") from None
        except jwt.InvalidAlgorithmError:
            raise TokenRefused("Token has another algorithm") from None
        except jwt.MissingRequiredClaimError as error:
            raise TokenRefused(f"Token lacks the claim {error.claim}") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise TokenRefused("Malformed token") from None
        if found["header"].get("typ") != kind:
            raise TokenRefused(f"Not {'an access' if kind == ACCESS else 'a refresh'} token")
        if "crit" in found["header"]:
            raise TokenRefused("Malformed token")
        claims = _claims(found["payload"])
        if claims.expires_at <= self._clock():
            raise TokenRefused("Token has expired")
        return claims


def new_id() -> str:
    """An id that nobody guesses and none has twice."""
    return secrets.token_hex(16)


def _is_moment(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**53


def _claims(payload: Mapping[str, Any]) -> Claims:
    """The claims with their types checked: whoever shares the secret may have written others than we do."""
    permissions = payload.get("permissions", [])
    texts = [payload.get(name) for name in ("jti", "sub", "role")]
    times = [payload.get(name) for name in ("iat", "exp")]
    refresh_token_id = payload.get("refresh_token_id", "")
    if (
        not all(isinstance(text, str) and text for text in texts)
        or not all(_is_moment(moment) for moment in times)
        or not isinstance(refresh_token_id, str)
        or not isinstance(permissions, list)
        or len(permissions) > MAX_PERMISSIONS
        or not all(isinstance(one, str) for one in permissions)
    ):
        raise TokenRefused("Malformed token")
    if payload["role"] not in ROLES:
        raise TokenRefused("Token has an unknown role")
    return Claims(
        payload["jti"], payload["sub"], payload["role"], payload["iat"], payload["exp"], frozenset(permissions),
        refresh_token_id,
    )  # fmt: skip
