"""Keeps the peers of `aggregation.peers_file` as the file says, also after it changed (AGGREGATION.md §9).

Looks at the file and at those that it names once a second, in a thread. A file with an error changes nothing and says
why. What the file means is `peers_file.py`, how it is read `peers_read.py`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import anyio

from ..parameters.aggregation import Aggregation
from .access import Access, access_of
from .peer_discovery import ADDED, CONFIGURED, REMOVED, UPDATED, PeerEvent, PeerSpec
from .peers_file import MAX_FINDINGS, PeersFile, PeersFileError
from .peers_read import Marks, marks_of, path_of, read_peers_file, refused, tls_problems
from .routing import Warn

LOOK_S = 1.0
# A file is read when it did not change for so long; one that changes all the time is read after so many looks.
SETTLE_S = 0.1
SETTLE_LOOKS = 20
# Four files of each peer, and those of the file before it.
MAX_WATCHED = 10_000
# What discovery found is kept, allowed or not, so that a new file can be applied to it; discovery has a bound, too.
MAX_FOUND = 2000

_log = logging.getLogger(__name__)


class PeersWatch:
    """The file's peers. `change` is called on the loop with what is different; used on the loop only."""

    def __init__(self, aggregation: Aggregation, change: Callable[[PeerEvent], None]) -> None:
        self._aggregation = aggregation
        self._path = path_of(aggregation)
        self._change = change
        self._file = PeersFile()
        self._is_applied = False
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
        marks = await anyio.to_thread.run_sync(marks_of, self._watched)
        if marks == self._marks:
            return
        if self._marks:
            # Whoever writes it may not be done: half of a file is another file.
            marks = await self._settled(marks)
        # From before it was read: what changes from now on is seen. Names that are new to us make the next look differ.
        self._marks = marks
        try:
            file = await anyio.to_thread.run_sync(self._read)
        except (PeersFileError, OSError, UnicodeDecodeError) as error:
            self._refuse(error)
            # What is wrong may be put right in a file that it names.
            named = error.files if isinstance(error, PeersFileError) else ()
            self._watched = tuple(dict.fromkeys((*self._watched, *named)))[:MAX_WATCHED]
            return
        if self._problem:
            _log.info("The peers file %s is good again", self._path)
        self._problem = ""
        self._watched = (str(self._path), *file.files)
        self._apply(file)

    async def _settled(self, marks: Marks) -> Marks:
        for _ in range(SETTLE_LOOKS):
            await asyncio.sleep(SETTLE_S)
            before, marks = marks, await anyio.to_thread.run_sync(marks_of, self._watched)
            if marks == before:
                break
        return marks

    def _refuse(self, error: Exception) -> None:
        assert self._path is not None
        text = refused(self._path, error)
        if text != self._problem:
            _log.error("%s", text)
        self._problem = text

    def _read(self) -> PeersFile:
        assert self._path is not None
        file = read_peers_file(self._path, self._aggregation)
        # At start, the others must not go without because of one; later there is something to keep.
        own = [peer for peer in file.peers if peer.access and (peer.access.ca_file or peer.access.client_cert)]
        if self._is_applied and (problems := tls_problems(own, self._aggregation)):
            raise PeersFileError(problems[:MAX_FINDINGS], file.files)
        return file

    def _apply(self, file: PeersFile) -> None:
        """Tell the differences. Settings of a peer that only the parameters name go back to theirs."""
        before, self._file = self._file, file
        self._is_applied = True
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
