"""Keeps ids on disk before they are served (AGGREGATION.md §4). Which ids anything gets is decided in `merge.py`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import anyio

from ..entities.ids import GivenId, GivenIds
from ..state import MAX_GIVEN

if TYPE_CHECKING:
    from ..state import StateStore

Owner = tuple[str, str, str]

_log = logging.getLogger(__name__)


class IdKeeper:
    """Adds to `given` and to the disk. `problem`: "", or why what was given last is in memory only."""

    def __init__(self, state: StateStore, given: GivenIds) -> None:
        self._state = state
        self._given = given
        self.problem = ""

    async def remember(self, new_ids: Sequence[GivenId], in_use: Callable[[], Iterable[Owner]]) -> None:
        """Commit before anything is served under them; a state that cannot be written must not stop the gateway.

        `in_use` tells the owners of what is served now.
        """
        if not new_ids:
            return
        evicted: Sequence[Owner] = ()
        try:
            if len(self._given) + len(new_ids) > MAX_GIVEN:
                # What was seen longest ago leaves: what is there now must count as seen.
                await anyio.to_thread.run_sync(self._state.touch, in_use(), time.time())
            evicted = await anyio.to_thread.run_sync(self._state.remember, list(new_ids), time.time())
            self.problem = ""
        except Exception as error:
            text = f"New ids could not be kept ({error}): after a restart entities may have other ids."
            if not self.problem:
                _log.error("%s", text)
            self.problem = text
        self._given.add(new_ids)
        if evicted:
            # Ids in use stay in memory also beyond the bound: they must not change while they are served.
            kept = {*in_use(), *(one.owner for one in new_ids)}
            self._given.discard([owner for owner in evicted if owner not in kept])
