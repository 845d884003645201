"""What an operator may change while the gateway runs: peers added, paused, removed (AGGREGATION.md §10).

Nothing of it is kept over a restart, and that is the point: what shall last stands in the parameters or in
`aggregation.peers_file`. Who may do it is not judged here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import anyio

from ..errors import InvalidParameter, InvalidRequest, ResourceNotFound, ServiceUnavailable
from ..parameters.aggregation import PEER_NAME, PEER_NAME_RULE, PeerUrl, peer_url
from .access import Access, fingerprint_of, is_token
from .lookup import look_up
from .peer_discovery import ADDED, BY_OPERATOR, REMOVED, PeerEvent, PeerSpec
from .resolver import refusal

if TYPE_CHECKING:
    from .federation import Federation
    from .peer import Peer

# Each costs a poll and its connections; whoever has more keeps them in a file.
MAX_ADDED = 100
RESOLVE_S = 2.0
_TYPES: Mapping[str, tuple[type, str]] = {
    "name": (str, "a string"),
    "url": (str, "a string"),
    "token": (str, "a string"),
    "fingerprint": (str, "a string"),
    "forward_auth": (bool, "a boolean"),
}


async def add_peer(federation: Federation, body: Any) -> Peer:
    """The peer of `{name, url, token, fingerprint, forward_auth}`, added. Raises GatewayError, 400 and 503."""
    given = _checked(body)
    name = given["name"]
    if not PEER_NAME.fullmatch(name):
        raise InvalidParameter(f"The name of a peer must be {PEER_NAME_RULE}", parameter="name")
    url = _url(federation, given["url"])
    access = _access(given, url)
    _check_room(federation, name)
    await _check_addresses(url)
    # Somebody else may have been faster while the name was looked up.
    _check_room(federation, name)
    federation.change(PeerEvent(ADDED, PeerSpec(name, url.text, BY_OPERATOR, access)))
    return found(federation, name)


def found(federation: Federation, name: str) -> Peer:
    """The peer of this name. Raises ResourceNotFound."""
    peer = federation.peer(name)
    if peer is None:
        raise ResourceNotFound("Peer not found", peer=name[:256])
    return peer


async def forget_peer(federation: Federation, name: str) -> None:
    """Remove the peer until it is found or configured anew, and forget the ids given to what it had.

    Also for a peer that is gone and still remembered. Raises ResourceNotFound.
    """
    peer = federation.peer(name)
    if peer is not None:
        federation.change(PeerEvent(REMOVED, peer.spec))
    forgotten = await federation.forget(name)
    if peer is None and not forgotten:
        raise ResourceNotFound("Peer not found", peer=name[:256])


def _checked(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        raise InvalidRequest("Request body must be a JSON object")
    problems = [{"field": str(name)[:64], "message": "unknown field"} for name in body if name not in _TYPES]
    for name, (kind, words) in _TYPES.items():
        if name in body and not isinstance(body[name], kind):
            problems.append({"field": name, "message": f"expected {words}"})
    problems += [{"field": name, "message": "missing required field"} for name in ("name", "url") if name not in body]
    if problems:
        raise InvalidRequest("Request body validation failed", fields=problems[:20])
    return body


def _url(federation: Federation, text: str) -> PeerUrl:
    parts = peer_url(text)
    if isinstance(parts, str):
        raise InvalidParameter(f"The URL of a peer {parts}", parameter="url")
    if parts.scheme == "http" and federation.config.aggregation.require_tls:
        raise InvalidParameter("aggregation.require_tls is true: the URL must begin with https://", parameter="url")
    return parts


def _access(given: dict[str, Any], url: PeerUrl) -> Access:
    token = given.get("token", "")
    if token and not is_token(token):
        raise InvalidParameter("A token is printable characters without white space", parameter="token")
    pin = fingerprint_of(given["fingerprint"]) if "fingerprint" in given else ""
    if pin is None:
        raise InvalidParameter("A fingerprint is a SHA-256, 64 hex digits", parameter="fingerprint")
    if pin and url.scheme != "https":
        raise InvalidParameter("A fingerprint needs a URL that begins with https://", parameter="fingerprint")
    return Access(token, fingerprints=(pin,) if pin else (), forward_auth=given.get("forward_auth"))


def _check_room(federation: Federation, name: str) -> None:
    if not federation.enabled:
        raise InvalidRequest("This gateway does not aggregate: aggregation.enabled is false")
    if federation.peer(name) is not None:
        raise InvalidParameter("Another peer has this name", parameter="name", value=name)
    if sum(peer.source == BY_OPERATOR for peer in federation.peers) >= MAX_ADDED:
        raise ServiceUnavailable(f"{MAX_ADDED} peers were added already; a peers file holds more", limit=MAX_ADDED)


async def _check_addresses(url: PeerUrl) -> None:
    """Refuse what must not be reached through us: this machine, everybody at once, what is unspecified."""
    answers: list[Any] = []
    with anyio.move_on_after(RESOLVE_S):
        try:
            answers = await look_up(url.host)
        except OSError:
            answers = []
    if not answers:
        raise InvalidParameter("The host of the URL is not known", parameter="url", host=url.host)
    for answer in answers:
        reason = refusal(str(answer[4][0]), allow_loopback=False)
        if reason:
            raise InvalidParameter(f"The URL leads to an address that {reason}", parameter="url", host=url.host)
