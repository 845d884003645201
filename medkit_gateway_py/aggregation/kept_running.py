"""Work that must not end others with it, nor in silence: a fault of ours in it is logged."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio

# A fault that comes back at once must neither fill the log nor keep the loop busy.
AGAIN_S = 5.0

_log = logging.getLogger(__name__)


async def kept_running(what: str, run: Callable[[], Awaitable[None]]) -> None:
    """Await `run()`, again and again, until cancelled. `what` is the beginning of a sentence."""
    while True:
        try:
            await run()
        except Exception:
            _log.exception("%s failed; it begins anew in %.0f s", what, AGAIN_S)
        await anyio.sleep(AGAIN_S)


async def contained(what: str, work: Awaitable[None]) -> None:
    """Await `work` once; whoever awaits this goes on in any case. `what` is the beginning of a sentence."""
    try:
        await work
    except Exception:
        _log.exception("%s failed", what)
