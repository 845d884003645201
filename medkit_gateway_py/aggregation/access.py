"""How one peer is spoken to: its credentials, its TLS, and what it may be asked for at all (AGGREGATION.md §9).

Values only: files are read by `peers_file.py` and `tls.py`, and `client.py` obeys what stands here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from ..errors import Forbidden

if TYPE_CHECKING:
    from ..parameters.aggregation import Aggregation

# What gateways need of each other to work at all; an allow-list is about what clients ask for.
_ALWAYS = frozenset({"health", "version-info", "x-medkit"})
_KINDS = frozenset({"areas", "components", "apps", "functions"})


@dataclass(frozen=True)
class Access:
    """The settings of one peer.

    * `token`: sent to this peer as `Authorization: Bearer`, and to nobody else.
    * `ca_file`, `client_cert`, `client_key`: paths of PEM files; "" for the system's store, and for no certificate.
    * `fingerprints`: SHA-256 of the certificates that are accepted, 64 lower-case hex digits each. With pins and
      without a `ca_file` of its own, the pin alone decides: no authority, name or date does.
    * `server_name`: the name the certificate must be for, instead of the URL's host.
    * `forward_auth`: whether it gets the client's `Authorization`; None: as `aggregation.forward_auth` says.
    * `methods`, `collections`: what it may be asked for; None: everything.
    * `stamp`: differs when a file behind these settings does, so that equal settings mean equal connections.
    """

    token: str = field(default="", repr=False)
    ca_file: str = ""
    client_cert: str = ""
    client_key: str = ""
    fingerprints: tuple[str, ...] = ()
    server_name: str = ""
    forward_auth: bool | None = None
    methods: frozenset[str] | None = None
    collections: frozenset[str] | None = None
    stamp: str = ""

    def check(self, peer: str, method: str, target: bytes) -> None:
        """Raise Forbidden (403) when the peer may not be asked for this. `target` begins with `/api/v1`.

        A path is judged as a server may understand it: decoded, and refused where dots could lead elsewhere.
        """
        if self.methods is None and self.collections is None:
            return
        parts = unquote(target.split(b"?", 1)[0].decode("latin-1")).split("/")[3:]
        if parts and parts[0] in _ALWAYS and "." not in parts and ".." not in parts:
            return
        if self.methods is not None and ("GET" if method == "HEAD" else method) not in self.methods:
            raise Forbidden(f"Peer '{peer}' may not be asked to {method}", peer=peer, method=method)
        if self.collections is None:
            return
        collection = _collection(parts)
        if "." in parts or ".." in parts or (collection is not None and collection not in self.collections):
            raise Forbidden(
                f"Peer '{peer}' may not be asked for this collection", peer=peer, collection=(collection or "")[:64]
            )


def _collection(parts: list[str]) -> str | None:
    """`data` of `apps/x/data/y`, `faults` of `faults`; None for an entity itself."""
    if not parts:
        return None
    if parts[0] not in _KINDS:
        return parts[0]
    return parts[2] if len(parts) > 2 and parts[2:] != [""] else None


def access_of(given: Access | None, aggregation: Aggregation) -> Access:
    """`given` with the gateway's own settings where it says nothing."""
    given = given or Access()
    tls = aggregation.tls
    has_certificate = bool(given.client_cert)
    return replace(
        given,
        # A pin of its own replaces the authorities that all peers share.
        ca_file=given.ca_file or ("" if given.fingerprints else tls.ca_file),
        client_cert=given.client_cert if has_certificate else tls.client_cert,
        client_key=given.client_key if has_certificate else tls.client_key,
        forward_auth=aggregation.forward_auth if given.forward_auth is None else given.forward_auth,
    )


def is_token(text: str) -> bool:
    """Whether a header can carry it: printable characters without white space, 8 KiB at most."""
    return re.fullmatch(r"[\x21-\x7e]{1,8192}", text) is not None


def fingerprint_of(text: str) -> str | None:
    """A SHA-256 in one spelling: `AB:CD:...` and `sha256:abcd...` as 64 lower-case hex digits; None for none."""
    digits = re.sub(r"(?i)^sha-?256[:=/ ]", "", text.strip()).replace(":", "").lower()
    return digits if re.fullmatch(r"[0-9a-f]{64}", digits) else None
