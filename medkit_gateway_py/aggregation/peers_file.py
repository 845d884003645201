"""The file of peers with settings of their own, read and judged (AGGREGATION.md §9). Pure: other files are read by
the function that is given, and nothing is contacted.

    peers:
      - {name: arm, url: https://10.0.0.7:8443, token_file: arm.token, allow: {methods: [GET], collections: [data]}}
    allow_discovered: {names: [base], cidrs: [10.0.0.0/24]}
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import yaml

from ..parameters.aggregation import PEER_NAME, PEER_NAME_RULE, Aggregation, peer_url
from .access import Access, fingerprint_of, is_token
from .peer_discovery import PeerSpec

MAX_BYTES = 1024 * 1024
# As many as one gateway can ask; each of them costs a poll and its connections.
MAX_PEERS = 1000
# Findings are for people; whoever has more than these starts anew.
MAX_FINDINGS = 20
_WORD = re.compile(r"[a-z][a-z0-9-]{0,63}")
_METHODS = frozenset({"GET", "POST", "PUT", "DELETE", "PATCH"})
_PEER_KEYS = (
    "name", "url", "token", "token_file", "ca_file", "client_cert", "client_key", "fingerprint", "forward_auth",
    "allow", "paused",
)  # fmt: skip
_FILES = ("ca_file", "client_cert", "client_key")


class PeersFileError(ValueError):
    """The file cannot be used; `findings` say why, each with file, line and path; `files` are those that it names."""

    def __init__(self, findings: list[str], files: tuple[str, ...] = ()) -> None:
        super().__init__("; ".join(findings))
        self.findings = findings
        self.files = files


@dataclass(frozen=True)
class AllowDiscovered:
    """Which peers discovery may add. Of the lists that are given, each must have the peer; None: not given."""

    names: frozenset[str] | None = None
    cidrs: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] | None = None
    fingerprints: tuple[str, ...] | None = None

    def admit(self, spec: PeerSpec) -> PeerSpec | str:
        """The peer as it may be added, its certificate pinned where pins are given; or why it may not."""
        if self.names is not None and spec.name not in self.names:
            return "its name is not in allow_discovered.names"
        parts = urlsplit(spec.url)
        if self.cidrs is not None:
            try:
                address = ipaddress.ip_address((parts.hostname or "").partition("%")[0])
            except ValueError:
                return "it has no address that allow_discovered.cidrs could be looked up for"
            if not any(address in network for network in self.cidrs if network.version == address.version):
                return "its address is not in allow_discovered.cidrs"
        if self.fingerprints is None:
            return spec
        if parts.scheme != "https":
            return "allow_discovered.fingerprints asks for a certificate, and its URL is http://"
        return replace(spec, access=replace(spec.access or Access(), fingerprints=self.fingerprints))


@dataclass(frozen=True)
class PeersFile:
    """What a file says. `warnings` are no reason to refuse it; `files` are all that it names, to be watched as well."""

    peers: tuple[PeerSpec, ...] = ()
    allow_discovered: AllowDiscovered | None = None
    warnings: tuple[str, ...] = ()
    files: tuple[str, ...] = field(default=(), repr=False)


def parse_peers_file(
    text: str, where: str, aggregation: Aggregation, read: Callable[[str], str], resolve: Callable[[str], str]
) -> PeersFile:
    """The file's meaning. `read` gives the text of a token file or raises OSError or ValueError, `resolve` the path
    that a relative one means. Raises PeersFileError; never says a token or a part of one.
    """
    if len(text) > MAX_BYTES:
        raise PeersFileError([f"{where}: longer than {MAX_BYTES} bytes"])
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise PeersFileError([f"{where}: aliases (*name) are not understood here"])
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise PeersFileError([f"{where}{line}: no YAML: {getattr(error, 'problem', None) or 'not readable'}"]) from None
    except RecursionError:
        raise PeersFileError([f"{where}: nested too deeply"]) from None
    reader = _Reader(where, aggregation, read, resolve)
    found = reader.read(root)
    if reader.findings:
        raise PeersFileError(reader.findings[:MAX_FINDINGS], reader.files)
    return found


class _Reader:
    """Walks the nodes, so that each finding has its line."""

    def __init__(
        self, where: str, aggregation: Aggregation, read: Callable[[str], str], resolve: Callable[[str], str]
    ) -> None:
        self.findings: list[str] = []
        self._warnings: list[str] = []
        self._files: list[str] = []
        self._where = where
        self._aggregation = aggregation
        self._static = {peer.name: peer.url for peer in aggregation.peers}
        self._read = read
        self._resolve = resolve

    @property
    def files(self) -> tuple[str, ...]:
        """All that were named so far."""
        return tuple(dict.fromkeys(self._files))

    def read(self, root: yaml.Node | None) -> PeersFile:
        if root is None:
            return PeersFile()
        top = self._mapping(root, "", ("peers", "allow_discovered"))
        peers: dict[str, PeerSpec] = {}
        nodes = list(self._items(top.get("peers"), "peers"))
        if len(nodes) > MAX_PEERS:
            self._wrong(root, "peers", f"holds {len(nodes)} peers; at most {MAX_PEERS} are taken")
            nodes = []
        for number, node in enumerate(nodes):
            path = f"peers[{number}]"
            spec = self._peer(node, path)
            if spec is not None and spec.name in peers:
                self._wrong(node, f"{path}.name", "another peer of this file has this name")
            elif spec is not None:
                peers[spec.name] = spec
        allow = self._allow_discovered(top["allow_discovered"]) if "allow_discovered" in top else None
        return PeersFile(tuple(peers.values()), allow, tuple(self._warnings), self.files)

    def _peer(self, node: yaml.Node, path: str) -> PeerSpec | None:
        found = self._mapping(node, path, _PEER_KEYS)
        if not isinstance(node, yaml.MappingNode):
            return None
        name = self._text(found, path, "name")
        if not name:
            self._wrong(node, f"{path}.name", "is missing")
            return None
        if not PEER_NAME.fullmatch(name):
            self._wrong(found["name"], f"{path}.name", f"must be {PEER_NAME_RULE}")
            return None
        url = self._url(found, path, name, node)
        access = self._access(found, path, url)
        if self.findings:
            return None
        return PeerSpec(name, url, "static", access, self._flag(found, path, "paused") or False)

    def _url(self, found: Mapping[str, yaml.Node], path: str, name: str, node: yaml.Node) -> str:
        if "url" not in found:
            if name not in self._static:
                self._wrong(node, f"{path}.url", f"is missing, and aggregation.peer_names has no '{name}'")
            return self._static.get(name, "")
        text = self._text(found, path, "url")
        if not isinstance(found["url"], yaml.ScalarNode):
            return ""
        parts = peer_url(text)
        if isinstance(parts, str):
            self._wrong(found["url"], f"{path}.url", parts)
            return ""
        if parts.scheme == "http":
            if self._aggregation.require_tls:
                self._wrong(found["url"], f"{path}.url", "is http://, and aggregation.require_tls is true")
            self._warn(found["url"], f"{path}.url", f"peer '{name}' is reached by cleartext HTTP")
        return parts.text

    def _access(self, found: Mapping[str, yaml.Node], path: str, url: str) -> Access:
        token = self._token(found, path)
        is_http = url.startswith("http:")
        if token and is_http:
            key = "token" if "token" in found else "token_file"
            self._warn(found[key], f"{path}.{key}", "goes over cleartext HTTP: anybody on the way can read it")
        if is_http and self._flag(found, path, "forward_auth"):
            text = "is true: the Authorization headers of clients go over cleartext HTTP"
            self._warn(found["forward_auth"], f"{path}.forward_auth", text)
        for name in (*_FILES, "fingerprint"):
            if name in found and is_http:
                self._wrong(found[name], f"{path}.{name}", "has no meaning with an http:// URL")
        if "client_key" in found and "client_cert" not in found:
            self._wrong(found["client_key"], f"{path}.client_key", "needs a client_cert")
        files = {name: self._file(found, path, name) for name in _FILES}
        methods, collections = self._allow(found, path)
        return Access(
            token=token,
            fingerprints=self._fingerprints(found, path, "fingerprint"),
            forward_auth=self._flag(found, path, "forward_auth"),
            methods=methods,
            collections=collections,
            **files,
        )

    def _token(self, found: Mapping[str, yaml.Node], path: str) -> str:
        if "token" in found and "token_file" in found:
            self._wrong(found["token_file"], f"{path}.token_file", "and token exclude each other")
            return ""
        if "token_file" in found:
            file = self._file(found, path, "token_file")
            try:
                token = self._read(file).strip() if file else ""
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "not readable"
                self._wrong(found["token_file"], f"{path}.token_file", f"{file} cannot be read: {reason}")
                return ""
            key, words = "token_file", f"{file} must hold one token: printable characters without white space"
        elif "token" in found:
            token, key = self._text(found, path, "token"), "token"
            words = "must be printable characters without white space"
        else:
            return ""
        if not is_token(token):
            self._wrong(found[key], f"{path}.{key}", words)
            return ""
        return token

    def _file(self, found: Mapping[str, yaml.Node], path: str, name: str) -> str:
        given = self._text(found, path, name) if name in found else ""
        if name in found and (not given or "\0" in given):
            self._wrong(found[name], f"{path}.{name}", "must be the path of a file")
            return ""
        if not given:
            return ""
        file = self._resolve(given)
        self._files.append(file)
        return file

    def _allow(self, found: Mapping[str, yaml.Node], path: str) -> tuple[frozenset[str] | None, frozenset[str] | None]:
        if "allow" not in found:
            return None, None
        path = f"{path}.allow"
        allow = self._mapping(found["allow"], path, ("methods", "collections"))
        lists: list[frozenset[str] | None] = []
        for name in ("methods", "collections"):
            words = set()
            for node, text in self._texts(allow.get(name), f"{path}.{name}"):
                word = text.upper() if name == "methods" else text
                if not (word in _METHODS if name == "methods" else _WORD.fullmatch(word)):
                    rule = "one of GET, POST, PUT, DELETE, PATCH" if name == "methods" else "as in paths: data, faults"
                    self._wrong(node, f"{path}.{name}", f"must hold names of {name}, {rule}")
                words.add(word)
            lists.append(frozenset(words) if name in allow else None)
        return lists[0], lists[1]

    def _allow_discovered(self, node: yaml.Node) -> AllowDiscovered:
        path = "allow_discovered"
        found = self._mapping(node, path, ("names", "cidrs", "fingerprints"))
        networks = []
        for one, text in self._texts(found.get("cidrs"), f"{path}.cidrs"):
            try:
                networks.append(ipaddress.ip_network(text, strict=False))
            except ValueError:
                self._wrong(one, f"{path}.cidrs", "must hold networks as 10.0.0.0/24 or fd00::/8")
        names = frozenset(text for _, text in self._texts(found.get("names"), f"{path}.names"))
        return AllowDiscovered(
            names if "names" in found else frozenset() if not found else None,
            tuple(networks) if "cidrs" in found else None,
            self._fingerprints(found, path, "fingerprints") if "fingerprints" in found else None,
        )

    def _fingerprints(self, found: Mapping[str, yaml.Node], path: str, name: str) -> tuple[str, ...]:
        node = found.get(name)
        if node is None:
            return ()
        # One, or several while a certificate is being replaced.
        is_one = isinstance(node, yaml.ScalarNode)
        texts = [(node, node.value)] if is_one else list(self._texts(node, f"{path}.{name}"))
        digests = []
        for one, text in texts:
            digest = fingerprint_of(text)
            if digest is None:
                self._wrong(one, f"{path}.{name}", "must be the SHA-256 of a certificate, 64 hex digits")
            else:
                digests.append(digest)
        if not digests and not texts:
            self._wrong(node, f"{path}.{name}", "must not be empty")
        return tuple(dict.fromkeys(digests))

    def _mapping(self, node: yaml.Node, path: str, known: tuple[str, ...]) -> dict[str, yaml.Node]:
        if not isinstance(node, yaml.MappingNode):
            self._wrong(node, path, "must be a mapping")
            return {}
        found: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            inside = f"{path}.{name}" if path else name
            if name not in known:
                self._wrong(key, path or "the file", f"has no member '{str(name)[:64]}'; there are {', '.join(known)}")
            elif name in found:
                self._wrong(key, inside, "is given twice")
            else:
                found[name] = value
        return found

    def _items(self, node: yaml.Node | None, path: str) -> Iterator[yaml.Node]:
        if node is None or (isinstance(node, yaml.ScalarNode) and node.tag.endswith(":null")):
            return
        if not isinstance(node, yaml.SequenceNode):
            self._wrong(node, path, "must be a list")
            return
        yield from node.value

    def _texts(self, node: yaml.Node | None, path: str) -> Iterator[tuple[yaml.Node, str]]:
        for one in self._items(node, path):
            if isinstance(one, yaml.ScalarNode) and one.value:
                yield one, one.value
            else:
                self._wrong(one, path, "must hold strings")

    def _text(self, found: Mapping[str, yaml.Node], path: str, name: str) -> str:
        node = found.get(name)
        if node is None:
            return ""
        if not isinstance(node, yaml.ScalarNode) or node.tag.endswith(":null"):
            self._wrong(node, f"{path}.{name}", "must be a string")
            return ""
        return str(node.value)

    def _flag(self, found: Mapping[str, yaml.Node], path: str, name: str) -> bool | None:
        node = found.get(name)
        if node is None:
            return None
        value: Any = node.value if isinstance(node, yaml.ScalarNode) and node.tag.endswith(":bool") else None
        if value is None:
            self._wrong(node, f"{path}.{name}", "must be true or false")
            return None
        return str(value).lower() in ("true", "yes", "on")

    def _wrong(self, node: yaml.Node, path: str, text: str) -> None:
        self.findings.append(f"{self._where}:{node.start_mark.line + 1}: {path or 'the file'}: {text}")

    def _warn(self, node: yaml.Node, path: str, text: str) -> None:
        self._warnings.append(f"{self._where}:{node.start_mark.line + 1}: {path}: {text}")
