"""Keeps over restarts what is known of other gateways (AGGREGATION.md §2, §5, §6); what is known is `origins.py`'s.

A start of a gateway that was not known, and who may speak as it, are on disk before anything of that start is served,
as ids are: after a crash no earlier start is believed, nor anybody else. What changes often, the number of its state,
follows a second later; a crash loses that second at most, and the gateway itself tells it again as soon as it is
reached. `unreachable: retain` keeps what was declared in the same way.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

import anyio
import orjson

from ..state import OriginRecord
from .merge_state import Chosen, Way
from .origins import OriginMemory, Remembered
from .retained import lasting
from .section_reader import section_from_wire
from .sections import OriginSection, section_to_wire
from .trust import Pin

if TYPE_CHECKING:
    from ..entities.ids import GivenIds
    from ..state import StateStore

# How often what changed is written, at most; and how soon again where the disk did not take it.
WRITE_S = 1.0
RETRY_S = 10.0

_log = logging.getLogger(__name__)


class OriginKeeper:
    """The memory of origins on disk. Used on the loop only; the disk is used in threads, never while the loop waits."""

    def __init__(self, state: StateStore, given: GivenIds, *, retain: bool, max_entities: int, now: float) -> None:
        self._state = state
        self._retain = retain
        remembered = [_remembered(one) for one in state.origins()]
        ways = {one.origin: one.way for one in remembered}
        retained = _retained(state.retained(), ways, max_entities) if retain else {}
        self.memory = OriginMemory(given, remembered, retained, retain=retain, now=now)
        self.problem = ""
        self._written = {one.origin: one for one in remembered}
        # By origin, a digest of the section that is on disk.
        self._sections: dict[str, bytes] = {}
        self._pending: set[str] = set()
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()

    async def note(self) -> None:
        """After a merge and before it is served: what must not be lost is on disk when this returns."""
        self._pending |= self.memory.take_changed()
        if any(self._is_urgent(origin) for origin in self._pending):
            await self.write()
        elif self._pending:
            self._wake.set()

    async def run(self) -> None:
        """Write the rest now and then, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(RETRY_S if self.problem else WRITE_S)
            self._wake.clear()
            await self.write()

    async def write(self) -> None:
        """Write what is known now. Never raises: a disk that is full must not stop the gateway; `problem` says so."""
        async with self._lock:
            self._pending |= self.memory.take_changed()
            origins, self._pending = self._pending, set()
            known = [self.memory.remembered(origin) for origin in origins]
            changed = [one for one in known if not one.is_nothing and one != self._written.get(one.origin)]
            sections = [(one.origin, self.memory.retained(one.origin)) for one in known] if self._retain else []
            try:
                await anyio.to_thread.run_sync(self._store, changed, sections)
            except Exception as error:
                self._pending |= origins
                self._wake.set()
                self._say(f"What is known of other gateways could not be kept ({error}): a restart forgets it.")
            else:
                self._written.update((one.origin, one) for one in changed)
                self._say("")

    async def touch(self, origins: Collection[str]) -> None:
        """Note that these are there now. Raises StateError."""
        await anyio.to_thread.run_sync(self._state.touch_origins, origins, time.time())

    async def forget_older_than(self, seconds: float) -> list[str]:
        """Forget those not seen for so long. Raises StateError."""
        async with self._lock:
            forgotten = await anyio.to_thread.run_sync(self._state.forget_origins_older_than, time.time(), seconds)
            self._forgot(forgotten)
            return forgotten

    def _forgot(self, origins: Iterable[str]) -> None:
        """These are on the disk no more."""
        for origin in origins:
            self._written.pop(origin, None)
            self._sections.pop(origin, None)

    async def forget(self, origin: str) -> list[tuple[str, str, str]]:
        """Forget a gateway and its ids; the owners are returned. Raises StateError."""
        async with self._lock:
            self._forgot([origin])
            return await anyio.to_thread.run_sync(self._state.forget_origin, origin)

    def _is_urgent(self, origin: str) -> bool:
        now, before = self.memory.remembered(origin), self._written.get(origin)
        if now.is_nothing:
            return False
        return before is None or _boot(before) != _boot(now) or before.pin != now.pin

    def _store(self, changed: list[Remembered], sections: list[tuple[str, Chosen | None]]) -> None:
        """In a thread, under the lock."""
        texts: dict[str, str] = {}
        digests: dict[str, bytes] = {}
        for origin, one in sections:
            text = _section_text(one.section) if one is not None else ""
            digest = hashlib.blake2b(text.encode(), digest_size=16).digest()
            if self._sections.get(origin) != digest:
                texts[origin], digests[origin] = text, digest
        if changed or texts:
            self._state.keep_origins([_record(one) for one in changed], texts, time.time())
            self._sections.update(digests)

    def _say(self, problem: str) -> None:
        if problem and not self.problem:
            _log.error("%s", problem)
        self.problem = problem


def _boot(one: Remembered) -> str:
    return one.age[0] if one.age is not None else ""


def _record(one: Remembered) -> OriginRecord:
    boot_id, seq = one.age or ("", 0)
    way = one.way or Way("", "")
    plate = orjson.dumps(section_to_wire(way.section)).decode() if way.section is not None else ""
    pin = one.pin or Pin("")
    return OriginRecord(one.origin, boot_id, seq, pin.peer, pin.certificate, way.peer, way.label, plate)


def _remembered(record: OriginRecord) -> Remembered:
    section = _section(record.plate, 0) if record.plate else None
    return Remembered(
        record.origin,
        (record.boot_id, record.seq) if record.boot_id else None,
        Pin(record.pin, record.certificate) if record.pin else None,
        Way(record.peer, record.label, section) if record.peer else None,
    )


def _section_text(section: OriginSection) -> str:
    kept = lasting(section)
    return orjson.dumps(section_to_wire(kept)).decode() if any(kept.tree.counts().values()) else ""


def _section(text: str, max_entities: int) -> OriginSection | None:
    try:
        return section_from_wire(orjson.loads(text), max_entities)
    except ValueError as error:
        _log.warning("What was kept of a gateway cannot be read and is left out: %s", error)
        return None


def _retained(texts: dict[str, str], ways: dict[str, Way | None], max_entities: int) -> dict[str, Chosen]:
    found: dict[str, Chosen] = {}
    for origin, text in texts.items():
        way, section = ways.get(origin), _section(text, max_entities)
        if way is not None and section is not None:
            found[origin] = Chosen(way.peer, section)
    return found
