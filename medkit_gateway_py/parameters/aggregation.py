"""The parameters of aggregation and what they mean together (AGGREGATION.md §1): peers, their URLs and names.

Pure: nothing is resolved or contacted. Addresses that discovered peers must not have are refused where they are
resolved, not here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from .rules import Finding, group, hide_credentials, parameter

LATER = "later"
PEER_NAME = re.compile(r"(?!.*__)[A-Za-z0-9_-]{1,64}")
PEER_NAME_RULE = "1 to 64 letters, digits, `-` and `_`, without `__`"
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")


@dataclass(frozen=True)
class StaticPeer:
    """A peer that the configuration names: its local alias and its base URL without a slash at the end."""

    name: str
    url: str


@dataclass(frozen=True)
class PeerUrl:
    """The base URL of a peer in its parts. `path` is "" or `/base`; `host` is without brackets."""

    scheme: str  # http | https
    host: str
    port: int
    path: str = ""

    @property
    def text(self) -> str:
        """The URL in one spelling: lower case, no default port, no slash at the end."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.scheme == "https" else 80
        return f"{self.scheme}://{host}{'' if self.port == default else f':{self.port}'}{self.path}"


@dataclass(frozen=True)
class PeerTls:
    """TLS towards peers with https:// URLs; `aggregation.peers_file` may say otherwise for one peer."""

    ca_file: str = parameter("", "PEM file of the authorities that peers' certificates are from. Empty: the system's.")
    client_cert: str = parameter("", "PEM file of the certificate that this gateway shows to peers. Empty: none.")
    client_key: str = parameter(
        "", "PEM file of its key, without a password. Empty: the key is in `aggregation.tls.client_cert`."
    )


@dataclass(frozen=True)
class Aggregation:
    """Other gateways whose entities this one serves as well."""

    enabled: bool = parameter(
        False, "Aggregate peers. Off: the gateway stands alone, asks no peer, and `/health` has no `peers`."
    )
    instance_id: str = parameter(
        "",
        "Identity of this gateway, instead of the one that is made once and kept in `state_dir`. Must differ between "
        "all gateways that can see each other.",
        pattern=r"[A-Za-z0-9_-]{1,64}",
        clause="1 to 64 letters, digits, `-` and `_`",
    )
    timeout_ms: int = parameter(
        2000,
        "How long a peer may take until the first byte of its answer, in milliseconds: health checks, entity lists, "
        "forwarded requests, fan-out. Raise it for slow networks. Connecting may take a quarter of it.",
        minimum=50,
        maximum=60000,
        on_bad="clamp",
    )
    announce: bool = parameter(
        False,
        "Announce this gateway on the local network by mDNS. Without `server.host` it then listens on all network "
        "interfaces, and says so.",
    )
    discover: bool = parameter(
        False,
        "Look for gateways on the local network by mDNS, and aggregate those that answer. Who is found is trusted.",
    )
    mdns_service: str = parameter(
        "_medkit._tcp.local",
        "mDNS service type; the same on all gateways that shall find each other.",
        pattern=r"_[A-Za-z0-9]([A-Za-z0-9-]{0,13}[A-Za-z0-9])?\._(tcp|udp)\.local\.?",
        clause="a service type as `_medkit._tcp.local`, with a name of 1 to 15 letters, digits and `-`",
    )
    mdns_name: str = parameter(
        "",
        "mDNS instance name, and what other gateways call this one. Empty: `gateway.name` where that is set, else the "
        "host name; the instance name then ends with part of the instance id, so that gateways of one host differ.",
    )
    mdns_interfaces: tuple[str, ...] = parameter(
        ("",), "IP addresses of the network interfaces to announce and browse on. Empty: all.",
        pattern=r"[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?|", clause="IP addresses", on_bad="refuse",
    )  # fmt: skip
    forward_auth: bool = parameter(
        False,
        "Send the `Authorization` header of clients on to peers. Only where every peer is trusted, and with "
        "`aggregation.require_tls`.",
    )
    require_tls: bool = parameter(
        False,
        "Refuse peers with `http://` URLs. When false, each of them gives a warning.",
        on_bad="refuse",
    )
    peer_scheme: str = parameter(
        "http", "URL scheme of discovered peers that announce none.", choices=("http", "https")
    )
    max_discovered_peers: int = parameter(
        50, "Peers that discovery may add; static ones do not count. More are refused with a warning.",
        minimum=1, maximum=1000, on_bad="clamp",
    )  # fmt: skip
    allow_loopback_discovery: bool = parameter(
        False, "Accept discovered peers on loopback addresses: several gateways on one host."
    )
    peer_urls: tuple[str, ...] = parameter(
        ("",), "Base URLs of the static peers, as `http://192.168.1.10:8080`. Each belongs to the name at its place in "
        "`aggregation.peer_names`; an array of another length means that no static peer is used.",
        clause="`http://host:port` or `https://host:port`, without user, query and fragment",
    )  # fmt: skip
    peer_names: tuple[str, ...] = parameter(
        ("",),
        "Names of the static peers; prefix of ids that two gateways both use. Each name once.",
        clause=PEER_NAME_RULE,
    )
    naming: str = parameter(
        "collision",
        "`collision`: an app of a peer keeps its id unless that is taken. `always_prefix`: it is always prefixed.",
        choices=("collision", "always_prefix"),
    )
    unreachable: str = parameter(
        "drop",
        "What becomes of the entities of a peer that stopped answering. `drop`: they leave the lists. `retain`: those "
        "that its manifest declares stay, as not available.",
        choices=("drop", "retain"),
    )
    peers_file: str = parameter(
        "",
        "YAML file of peers with settings of their own: token, TLS, pins, what they may be asked for. It is read again "
        "when it changes.",
    )
    tls: PeerTls = group(PeerTls)
    max_hops: int = parameter(
        8, "Longest way over gateways that an entity may come.", minimum=1, maximum=64, on_bad="clamp"
    )
    max_entities_per_peer: int = parameter(
        20000, "A peer with more entities is refused whole, with a warning; what it had last stays.",
        minimum=1, maximum=1000000, on_bad="clamp",
    )  # fmt: skip
    max_peer_streams: int = parameter(
        32, "Event streams that peers may hold open here.", minimum=0, maximum=1024, on_bad="clamp"
    )
    forget_after_s: int = parameter(
        604800, "How long ids of entities that are away, and discovered peers that are, are remembered, in seconds.",
        minimum=1, maximum=315360000, on_bad="clamp",
    )  # fmt: skip

    @property
    def peers(self) -> tuple[StaticPeer, ...]:
        """The static peers; after `check` only the accepted ones are left in the two arrays."""
        return tuple(StaticPeer(name, url) for name, url in zip(self.peer_names, self.peer_urls, strict=False))


def peer_url(text: str) -> PeerUrl | str:
    """The parts of a peer's base URL, or why it is none, in words that hold no part of a credential.

    Scheme http or https, host, port (80 or 443 when missing), no userinfo, query or fragment; a base path may follow.
    """
    if not text or len(text) > 2048 or re.search(r"[\s\\\x00-\x1f\x7f]", text):
        return "is empty, too long, or holds white space or backslashes"
    if "@" in text:
        return "must not hold a user name or password"
    if "?" in text or "#" in text:
        return "must not have a query or a fragment"
    try:
        parts = urlsplit(text)
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        return "has an invalid host or port"
    if parts.scheme not in ("http", "https") or not text[len(parts.scheme) :].startswith("://"):
        return "must begin with http:// or https://"
    if port == 0 or parts.netloc.endswith(":"):
        return "has an invalid port"
    if not host or not (":" in host or _HOST_NAME.fullmatch(host)) or len(host) > 253:
        return "has no valid host"
    path = parts.path.rstrip("/")
    if path.endswith("/api/v1"):
        return "must end before /api/v1, which the gateway adds itself"
    if "//" in path or re.search(r"(^|/)\.\.?(/|$)", path):
        return "has an invalid path"
    return PeerUrl(parts.scheme, host, port or (443 if parts.scheme == "https" else 80), path)


def check_peers(
    aggregation: Aggregation, given_urls: tuple[str, ...], given_names: tuple[str, ...]
) -> tuple[Aggregation, list[Finding]]:
    """The section with only the peers that can be used, and what is wrong with the others.

    `given_urls` and `given_names` are the arrays as given, with their empty strings, because places count.
    """
    findings: list[Finding] = []
    none = replace(aggregation, peer_urls=(), peer_names=())
    urls, names = given_urls, given_names
    if len(urls) != len(names):
        urls, names = tuple(filter(None, urls)), tuple(filter(None, names))
    if len(urls) != len(names):
        message = (
            f"aggregation.peer_urls has {len(urls)} entries and aggregation.peer_names has {len(names)}; "
            "both must have the same length. No static peer is used."
        )
        return none, [Finding("ERROR", "aggregation.peer_urls", ", ".join(map(hide_credentials, urls)), message)]
    pairs = [(url, name) for url, name in zip(urls, names, strict=True) if url or name]
    if pairs and not aggregation.enabled:
        message = f"aggregation.enabled is false: the {len(pairs)} peers of aggregation.peer_urls are not used."
        return none, [Finding("WARN", "aggregation.enabled", "false", message)]

    accepted: dict[str, str] = {}
    for url, name in pairs:
        problem, parameter_name, parts = _pair_problem(url, name, accepted, aggregation.require_tls)
        if parts is None:
            shown = hide_credentials(url)
            message = f"Peer {_quoted(hide_credentials(name))} ({_quoted(shown)}) is not used: {problem}."
            findings.append(Finding("ERROR", parameter_name, shown, message))
            continue
        accepted[name] = parts.text
        if parts.scheme == "http":
            message = f"Peer '{name}' ({parts.text}) is reached by cleartext HTTP: anybody on the way can read along."
            findings.append(Finding("WARN", "aggregation.peer_urls", parts.text, message))
    used = replace(aggregation, peer_urls=tuple(accepted.values()), peer_names=tuple(accepted))
    return used, findings


def _pair_problem(url: str, name: str, accepted: dict[str, str], require_tls: bool) -> tuple[str, str, PeerUrl | None]:
    """What is wrong with a pair, which parameter says so, and the parts of the URL when nothing is."""
    names, urls = "aggregation.peer_names", "aggregation.peer_urls"
    if not name:
        return "it has no name at its place in aggregation.peer_names", names, None
    if not PEER_NAME.fullmatch(name):
        return f"its name must be {PEER_NAME_RULE}", names, None
    if name in accepted:
        return "another peer has its name, and names must be unique", names, None
    if not url:
        return "it has no URL at its place in aggregation.peer_urls", urls, None
    parts = peer_url(url)
    if isinstance(parts, str):
        return f"its URL {parts}", urls, None
    if require_tls and parts.scheme == "http":
        return "aggregation.require_tls is true, and its URL is http://", urls, None
    return "", "", parts


def _quoted(text: str) -> str:
    return f"'{text}'"
