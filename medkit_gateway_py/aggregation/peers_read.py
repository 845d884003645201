"""The peers file and what it names, read from the disk: for the watch, and for `gateway_node --check`.

What the text means is `peers_file.py`, what becomes of it `peers_watch.py`. Everything here blocks.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..parameters import Finding
from ..parameters.aggregation import Aggregation
from .access import access_of
from .peer_discovery import PeerSpec
from .peers_file import MAX_BYTES, MAX_FINDINGS, PeersFile, PeersFileError, parse_peers_file
from .tls import TlsProblem, context_of

# A token is a line; a certificate chain some kilobytes.
MAX_TOKEN_FILE = 16 * 1024

Marks = tuple[tuple[int, int, int] | None, ...]


def path_of(aggregation: Aggregation) -> Path | None:
    """Where the file is; None where there shall be none."""
    return Path(aggregation.peers_file).expanduser() if aggregation.peers_file else None


def read_peers_file(path: Path, aggregation: Aggregation) -> PeersFile:
    """The file with its tokens, and a warning for each secret that everybody may read.

    Raises PeersFileError, OSError, UnicodeDecodeError. The PEM files are for `tls_problems`.
    """
    with path.open("rb") as opened:
        text = opened.read(MAX_BYTES + 1).decode()
    found = parse_peers_file(text, path.name, aggregation, _token_text, lambda name: str(path.parent / name))
    peers = []
    for peer in found.peers:
        access = peer.access
        assert access is not None
        named = tuple(name for name in (access.ca_file, access.client_cert, access.client_key) if name)
        peers.append(replace(peer, access=replace(access, stamp=repr(marks_of(named)) if named else "")))
    holds_tokens = any(peer.access and peer.access.token for peer in peers)
    warnings = [*found.warnings, *_readable_by_all(path, *map(Path, found.files))] if holds_tokens else []
    return replace(found, peers=tuple(peers), warnings=tuple(warnings or found.warnings))


def refused(path: Path, error: Exception) -> str:
    """Why the file is not used, in the words of the log."""
    reason = str(error) if isinstance(error, PeersFileError) else getattr(error, "strerror", None) or "no UTF-8"
    return f"aggregation.peers_file {path} is not used, the peers stay as they were: {reason}"


def tls_problems(peers: Iterable[PeerSpec], aggregation: Aggregation) -> list[str]:
    """A sentence for each peer that cannot be asked because of the PEM files in its settings."""
    found = []
    for peer in peers:
        if not peer.url.startswith("https:"):
            continue
        try:
            context_of(access_of(peer.access, aggregation))
        except TlsProblem as problem:
            found.append(f"Peer '{peer.name}' is not asked: its TLS settings cannot be used: {problem}")
    return found


def peers_findings(config: Any) -> list[Finding]:
    """What there is to say of the configured peers before the gateway is started; reads all files that they name."""
    aggregation: Aggregation = config.aggregation
    if not aggregation.enabled:
        return []
    path = path_of(aggregation)
    peers = {peer.name: PeerSpec(peer.name, peer.url) for peer in aggregation.peers}
    found = []
    if path is not None:
        try:
            file = read_peers_file(path, aggregation)
        except (PeersFileError, OSError, UnicodeDecodeError) as error:
            found.append(Finding("ERROR", "aggregation.peers_file", "", refused(path, error)))
        else:
            peers.update((peer.name, peer) for peer in file.peers)
            found += [Finding("WARN", "aggregation.peers_file", "", text) for text in file.warnings]
    problems = tls_problems(peers.values(), aggregation)
    if len(problems) > MAX_FINDINGS:
        problems[MAX_FINDINGS:] = [f"And {len(problems) - MAX_FINDINGS} more peers are not asked."]
    return [*found, *(Finding("ERROR", "aggregation.peers_file", "", text) for text in problems)]


def marks_of(files: tuple[str, ...]) -> Marks:
    """What tells that a file was written, put in the place of another, or removed."""
    return tuple(_mark(file) for file in files)


def _mark(file: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _token_text(file: str) -> str:
    with open(file, "rb") as opened:
        return opened.read(MAX_TOKEN_FILE).decode("ascii")


def _readable_by_all(*files: Path) -> list[str]:
    return [
        f"{file} may be read by everybody on this machine (chmod 600 {file.name})"
        for file in files
        if file.suffix not in (".pem", ".crt", ".cer") and _mode(file) & stat.S_IROTH
    ]


def _mode(file: Path) -> int:
    try:
        return file.stat().st_mode
    except OSError:
        return 0
