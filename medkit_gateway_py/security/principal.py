"""Who sent a request, as the authentication found out (API.md §9). Does not find out itself."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

ROLES = ("viewer", "operator", "configurator", "admin")  # each one may do what those before it may
PEER_PERMISSION = "peer"  # AGGREGATION.md §9
_KEY = "medkit.principal"


@dataclass(frozen=True)
class Principal:
    """A client whose token was accepted: its id, its role, and extra permissions of the token."""

    client_id: str
    role: str
    permissions: frozenset[str] = frozenset()

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything."""
        return self.role == "admin"

    @property
    def is_peer(self) -> bool:
        """Whether it is another gateway."""
        return PEER_PERMISSION in self.permissions


def principal_of(scope: Mapping[str, Any]) -> Principal | None:
    """Who sent the request of this ASGI scope; None when no token was given or authentication is off."""
    found = scope.get(_KEY)
    return found if isinstance(found, Principal) else None


def set_principal(scope: MutableMapping[str, Any], principal: Principal) -> None:
    """Note in the ASGI scope who sent the request."""
    scope[_KEY] = principal
