"""Entity provider `manifest`: what a manifest declares, read again when one of its files changes.

A file that became wrong changes nothing: the last good manifest stays, the log and `/health` say what is wrong where.
How the manifest and the ROS graph become one tree is `entities/layers.py`'s.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import anyio
import anyio.to_thread

from ..entities.layers import MANIFEST_ONLY
from ..entities.manifest import ADVICE, Finding, Loaded, Manifest
from .manifest_files import ManifestFiles, Signature, files_of
from .provider import Contribution, ProviderContext, StartRefused

# How often the files are looked at: a few `stat` calls in a worker thread. A change is taken once two looks agree, so
# that a file that is being written is not read half.
POLL_S = 0.5
# The rest of the gateway waits for the first load. The largest file that is taken needs 6 s on an idle machine.
FIRST_LOAD_S = 14.0
START_S = 15.0
MAX_LOGGED = 20  # findings of one load that are logged, a line each; `/health` names the first
_log = logging.getLogger(__name__)


class ManifestProvider:
    """Contributes the manifest in the modes hybrid and manifest_only, nothing otherwise.

    Reads `discovery.manifest_path`, `discovery.manifest_strict_validation`, `discovery.manifest.*` and
    `discovery.inventory.csv_path`.
    """

    name = "manifest"
    start_timeout_s = START_S

    def __init__(self, context: ProviderContext) -> None:
        discovery = context.config.discovery
        self._mode = discovery.mode
        self._files = files_of(context.config)
        self._watches = bool(discovery.manifest.watch)
        self._manifest: Manifest | None = None
        self._problem = ""
        self._signature: Signature = ()
        self._task: asyncio.Task[None] | None = None
        self.loads = 0

    async def start(self, changed: Callable[[], None]) -> None:
        """Load the manifest, then watch its files. Raises StartRefused when manifest_only has none."""
        if self._files is None:
            return
        with anyio.move_on_after(FIRST_LOAD_S) as scope:
            self._signature = await anyio.to_thread.run_sync(self._files.signature, abandon_on_cancel=True)
            self._take(await anyio.to_thread.run_sync(self._files.load, abandon_on_cancel=True))
        if scope.cancelled_caught:
            self._signature = ()
            self._problem = f"The manifest was not read within {FIRST_LOAD_S:g} s."
        if self._manifest is None:
            if self._mode == MANIFEST_ONLY:
                raise StartRefused(f"discovery.mode is manifest_only, and there is no manifest. {self._problem}")
            _log.warning("discovery.mode is hybrid, and there is no manifest: using runtime_only. %s", self._problem)
        if self._watches and self._files.manifest:
            self._task = asyncio.create_task(self._watch(self._files, changed), name="manifest-watch")

    async def stop(self) -> None:
        """End the watching."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def contribution(self) -> Contribution:
        """The last good manifest, and what is wrong with the files now."""
        return Contribution(manifest=self._manifest, problem=self._problem)

    async def _watch(self, files: ManifestFiles, changed: Callable[[], None]) -> None:
        before = self._signature
        while True:
            await asyncio.sleep(POLL_S)
            try:
                now = await anyio.to_thread.run_sync(files.signature)
                if now != self._signature and now == before:
                    self._signature = now
                    self._take(await anyio.to_thread.run_sync(files.load))
                    changed()
                before = now
            except Exception:
                # Whatever a file system may do; the next look comes in half a second.
                _log.exception("the files of the manifest could not be looked at")

    def _take(self, loaded: Loaded) -> None:
        self.loads += 1
        shown = loaded.rejecting or loaded.findings
        for finding in shown[:MAX_LOGGED]:
            _log.log(_level(finding, loaded.manifest is None), "manifest: %s", finding)
        if len(shown) > MAX_LOGGED:
            _log.warning("manifest: %d more findings", len(shown) - MAX_LOGGED)
        if loaded.manifest is None:
            more = f" ({len(shown) - 1} more)" if len(shown) > 1 else ""
            kept = " The last good one stays." if self._manifest is not None else ""
            self._problem = f"The manifest is rejected: {shown[0]}{more}.{kept}"
            if kept:
                _log.error("%s", self._problem)
            return
        if self.loads > 1:
            _log.info(
                "manifest loaded again: %s", ", ".join(f"{n} {kind}" for kind, n in loaded.manifest.counts().items())
            )
        self._manifest, self._problem = loaded.manifest, ""


def _level(finding: Finding, is_rejected: bool) -> int:
    if is_rejected:
        return logging.ERROR
    return logging.INFO if finding.level == ADVICE and finding.rule not in ("R014", "R015") else logging.WARNING
