"""What tokens are refused with. A module of its own, so that only a gateway with authentication loads its libraries."""

from __future__ import annotations


class TokenRefused(Exception):
    """A token that is not accepted; the text says why, in words for its client."""


class RevocationError(Exception):
    """The revocation is not on disk, and holds until this gateway ends at most. The text says why."""


class Refused(Exception):
    """No token: the error of OAuth2 and its description. `retry_after` seconds when it came too often, else 0."""

    def __init__(self, error: str, description: str, retry_after: int = 0) -> None:
        super().__init__(description)
        self.error = error
        self.description = description
        self.retry_after = retry_after
