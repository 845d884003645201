"""What an mDNS announcement says, read strictly, and what ours says (AGGREGATION.md §3). Pure: nothing is sent.

Whatever cannot be read is refused with a reason; nothing of it is ever used in part, but for the name, which is made
to fit.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ...parameters import peer_url
from ..names import peer_name_from
from ..sections import GatewayIdentity
from .addresses import AddressRefused, usable

# `server.port` is 1024 or more; a proxy in front may listen where web servers do.
WEB_PORTS = frozenset({80, 443})
FIRST_PORT = 1024
# More of them are no gateway's, and each would be tried.
MAX_ADDRESSES = 16
MAX_TXT_VALUE = 255
# Length of the part of an instance id that tells equal names apart.
SHORT_ID = 8
# A DNS label holds 63 bytes.
MAX_LABEL = 63

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]*")
FALLBACK_NAME = "gateway"


class Refused(ValueError):
    """The announcement is not used; the text says why, and holds nothing of the announcement but addresses."""


class CleartextRefused(Refused):
    """It is reached by http, and `aggregation.require_tls` is true."""


@dataclass(frozen=True)
class Rules:
    """What the configuration says of discovered peers."""

    scheme: str = "http"
    require_tls: bool = False
    allow_loopback: bool = False


@dataclass(frozen=True)
class Announcement:
    """A gateway as it announced itself. `service` is the full instance name; `urls` are tried in their order.

    `instance_id` and `boot_id` are "" for gateways that do not announce them (C++); `server_name` is the target of the
    SRV record, against which a certificate is verified.
    """

    service: str
    name: str
    urls: tuple[str, ...]
    addresses: tuple[str, ...]
    port: int
    instance_id: str = ""
    boot_id: str = ""
    version: str = ""
    server_name: str = ""


def read(
    service: str,
    service_type: str,
    addresses: Iterable[str],
    port: int | None,
    txt: Mapping[bytes, bytes | None],
    server: str,
    rules: Rules,
) -> Announcement:
    """The announcement of `service`, an instance of `service_type`. Raises Refused."""
    given = list(addresses)
    if len(given) > MAX_ADDRESSES:
        raise Refused(f"has more than {MAX_ADDRESSES} addresses")
    if port is None or not (port in WEB_PORTS or FIRST_PORT <= port <= 65535):
        raise Refused(f"has port {port}, and a gateway has one from {FIRST_PORT}, 80 or 443")
    try:
        tried = usable(given, rules.allow_loopback)
    except AddressRefused as error:
        raise Refused(str(error)) from None
    scheme = _text(txt, "scheme") or rules.scheme
    if scheme not in ("http", "https"):
        raise Refused("its TXT record has a scheme that is neither http nor https")
    if scheme == "http" and rules.require_tls:
        raise CleartextRefused("aggregation.require_tls is true, and it is reached by http")
    path = _text(txt, "path").rstrip("/")
    if path and not path.startswith("/"):
        raise Refused("its TXT record has a path that does not begin with a slash")
    urls = []
    for address in tried:
        url = peer_url(f"{scheme}://{f'[{address}]' if ':' in address else address}:{port}{path}")
        if isinstance(url, str):
            raise Refused(f"its URL {url}")
        urls.append(url.text)
    label = service.removesuffix(f".{service_type}")
    return Announcement(
        service=service,
        name=peer_name_from(_text(txt, "name") or label, FALLBACK_NAME),
        urls=tuple(urls),
        addresses=tried,
        port=port,
        instance_id=_identity(txt, "id"),
        boot_id=_identity(txt, "boot"),
        version=_text(txt, "version")[:64],
        server_name=server.rstrip("."),
    )


def _text(txt: Mapping[bytes, bytes | None], key: str) -> str:
    raw = txt.get(key.encode())
    if raw is None:
        return ""
    try:
        value = raw.decode()
    except UnicodeDecodeError:
        raise Refused(f"its TXT record has a {key} that is no text") from None
    if len(raw) > MAX_TXT_VALUE or not _TEXT.fullmatch(value):
        raise Refused(f"its TXT record has a {key} that is too long or holds control characters")
    return value


def _identity(txt: Mapping[bytes, bytes | None], key: str) -> str:
    value = _text(txt, key)
    if value and not _ID.fullmatch(value):
        raise Refused(f"its TXT record has no valid {key}")
    return value


def unique_name(wish: str, distinct: str, taken: Iterable[str]) -> str:
    """`wish`, with the first characters of `distinct` behind it where another peer has that name."""
    others = frozenset(taken)
    if wish not in others:
        return wish
    short = re.sub(r"[^A-Za-z0-9]", "", distinct)[:SHORT_ID] or "2"
    name = peer_name_from(f"{wish[: MAX_LABEL - SHORT_ID]}-{short}", FALLBACK_NAME)
    number = 2
    while name in others:
        name = peer_name_from(f"{wish[: MAX_LABEL - SHORT_ID - 8]}-{short}-{number}", FALLBACK_NAME)
        number += 1
    return name


@dataclass(frozen=True)
class Own:
    """How this gateway announces itself: DNS label, host label of the SRV target, TXT record."""

    label: str
    host: str
    txt: Mapping[str, str]


def own(identity: GatewayIdentity, mdns_name: str, gateway_name: str, host_name: str, scheme: str) -> Own:
    """Our announcement. The label gets part of the instance id unless `mdns_name` gives it (AGGREGATION.md §3)."""
    name = mdns_name or gateway_name or host_name or FALLBACK_NAME
    short = re.sub(r"[^A-Za-z0-9]", "", identity.id)[:SHORT_ID]
    label = _label(name, MAX_LABEL) if mdns_name else f"{_label(name, MAX_LABEL - 1 - len(short))}-{short}"
    # A name of its own, so that no other responder of this machine thinks that the machine's name is taken.
    host = re.sub(r"[^A-Za-z0-9-]", "-", name)[: MAX_LABEL - 1 - len(short)].strip("-") or FALLBACK_NAME
    txt = {
        "id": identity.id,
        "boot": identity.boot_id,
        "name": _cut(name, 200),
        "scheme": scheme,
        "path": "",
        "version": identity.version,
        "api": "v1",
    }
    return Own(label, f"{host}-{short}", txt)


def _label(text: str, size: int) -> str:
    """A DNS label of at most `size` bytes: no dots, because a simple client takes them for separators."""
    return _cut(re.sub(r"[\x00-\x1f\x7f.\\]", "-", text), size) or FALLBACK_NAME


def _cut(text: str, size: int) -> str:
    return text.encode()[:size].decode(errors="ignore")
