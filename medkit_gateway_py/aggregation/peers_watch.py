"""Keeps the peers of `aggregation.peers_file` as the file says, also after it changed (AGGREGATION.md §9).

Looks at the file and at those that it names once a second, in a thread. A file with an error changes nothing and says
why. What the file means is `peers_file.py`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anyio

from ..parameters.aggregation import Aggregation
from .access import Access, access_of
from .peer_discovery import ADDED, CONFIGURED, REMOVED, UPDATED, PeerEvent, PeerSpec
from .peers_file import MAX_BYTES, PeersFile, PeersFileError, parse_peers_file
from .routing import Warn

LOOK_S = 1.0
# A file is read when it did not change for so long; one that changes all the time is read after so many looks.
SETTLE_S = 0.1
SETTLE_LOOKS = 20
# A token is a line; a certificate chain some kilobytes.
MAX_TOKEN_FILE = 16 * 1024
# What discovery found is kept, allowed or not, so that a new file can be applied to it; discovery has a bound, too.
MAX_FOUND = 2000

Marks = tuple[tuple[int, int, int] | None, ...]

_log = logging.getLogger(__name__)


class PeersWatch:
    """The file's peers. `change` is called on the loop with what is different; used on the loop only."""

    def __init__(self, aggregation: Aggregation, change: Callable[[PeerEvent], None]) -> None:
        self._aggregation = aggregation
        self._path = Path(aggregation.peers_file).expanduser() if aggregation.peers_file else None
        self._change = change
        self._file = PeersFile()
        self._problem = ""
        self._watched: tuple[str, ...] = ()
        self._marks: Marks = ()
        self._found: dict[str, PeerSpec] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the file once, then watch it. Returns at once when there is none."""
        if self._path is None:
            return
        self._watched = (str(self._path),)
        await self._look()
        self._task = asyncio.create_task(self._watch(), name="peers file")

    async def stop(self) -> None:
        """End the watch."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def warnings(self) -> tuple[Warn, ...]:
        """What `/health.warnings` says of the file."""
        return (Warn("peers_file_invalid", self._problem),) if self._problem else ()

    def judged(self, spec: PeerSpec) -> PeerSpec | None:
        """The peer as the file lets it be added, None when it does not; configured peers are never refused."""
        if spec.source in CONFIGURED:
            return next((own for own in self._file.peers if own.name == spec.name), spec)
        if spec.name in self._found or len(self._found) < MAX_FOUND:
            self._found[spec.name] = spec
        admitted = _admitted(self._file, spec)
        if isinstance(admitted, PeerSpec):
            return admitted
        _log.warning("Peer '%s' (%s) was found and is not added: %s", spec.name, spec.url, admitted)
        return None

    def access(self, spec: PeerSpec) -> Access:
        """How a peer that is about to be added is spoken to; whether it may be added is judged then."""
        admitted = _admitted(self._file, spec)
        return access_of((admitted if isinstance(admitted, PeerSpec) else spec).access, self._aggregation)

    def gone(self, name: str) -> None:
        """Discovery does not see this peer any more."""
        self._found.pop(name, None)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self._look()
            except Exception:
                _log.exception("Looking at the peers file failed; the peers stay as they are")

    async def _look(self) -> None:
        marks = await anyio.to_thread.run_sync(_marks, self._watched)
        if marks == self._marks:
            return
        if self._marks:
            # Whoever writes it may not be done: half of a file is another file.
            marks = await self._settled(marks)
        self._marks = marks
        try:
            file = await anyio.to_thread.run_sync(self._read)
        except (PeersFileError, OSError, UnicodeDecodeError) as error:
            self._refuse(error)
            return
        if self._problem:
            _log.info("The peers file %s is good again", self._path)
        self._problem = ""
        self._watched = (str(self._path), *file.files)
        self._marks = await anyio.to_thread.run_sync(_marks, self._watched)
        self._apply(file)

    async def _settled(self, marks: Marks) -> Marks:
        for _ in range(SETTLE_LOOKS):
            await asyncio.sleep(SETTLE_S)
            before, marks = marks, await anyio.to_thread.run_sync(_marks, self._watched)
            if marks == before:
                break
        return marks

    def _refuse(self, error: Exception) -> None:
        reason = str(error) if isinstance(error, PeersFileError) else getattr(error, "strerror", None) or "no UTF-8"
        text = f"aggregation.peers_file {self._path} is not used, the peers stay as they were: {reason}"
        if text != self._problem:
            _log.error("%s", text)
        self._problem = text

    def _read(self) -> PeersFile:
        assert self._path is not None
        folder = self._path.parent
        with self._path.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1).decode()
        found = parse_peers_file(text, self._path.name, self._aggregation, _token_text, lambda name: str(folder / name))
        peers = []
        for peer in found.peers:
            access = peer.access
            assert access is not None
            named = tuple(name for name in (access.ca_file, access.client_cert, access.client_key) if name)
            peers.append(replace(peer, access=replace(access, stamp=repr(_marks(named)) if named else "")))
        holds_tokens = any(peer.access and peer.access.token for peer in peers)
        warnings = [*found.warnings, *_readable_by_all(self._path, *map(Path, found.files))] if holds_tokens else []
        return replace(found, peers=tuple(peers), warnings=tuple(warnings or found.warnings))

    def _apply(self, file: PeersFile) -> None:
        """Tell the differences. Settings of a peer that only the parameters name go back to theirs."""
        before, self._file = self._file, file
        for text in file.warnings:
            if text not in before.warnings:
                _log.warning("%s", text)
        old, new = ({peer.name: peer for peer in one.peers} for one in (before, file))
        configured = {peer.name: PeerSpec(peer.name, peer.url) for peer in self._aggregation.peers}
        for name, peer in old.items():
            if name not in new:
                own = configured.get(name)
                self._change(PeerEvent(UPDATED, own) if own else PeerEvent(REMOVED, peer))
        for name, peer in new.items():
            if old.get(name) != peer:
                self._change(PeerEvent(UPDATED if name in old or name in configured else ADDED, peer))
        for peer in list(self._found.values()):
            if _admitted(before, peer) != _admitted(file, peer):
                self._change(PeerEvent(UPDATED, peer))


def _admitted(file: PeersFile, spec: PeerSpec) -> PeerSpec | str:
    """A discovered peer as this file lets it be added, or why it does not."""
    return spec if file.allow_discovered is None else file.allow_discovered.admit(spec)


def _marks(files: tuple[str, ...]) -> Marks:
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
    """A warning for each file with a secret that everybody on this machine may read."""
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
