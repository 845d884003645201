"""The inventory: a table of assets, which become components or fill the nameplates of declared ones (API.md §12.4)."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

from .ids import RESERVED_IDS, is_valid_id
from .manifest import ADVICE, ERROR, Source
from .manifest_draft import INVENTORY, Draft, Entry, Place
from .manifest_fields import MAX_NAMEPLATE, MAX_TEXT, identity_of, plain
from .model import Component, Kind

MAX_BYTES = 1024 * 1024
_NO_FACTS = ("id", "area")


def add_inventory(draft: Draft, source: Source) -> None:
    """Add the rows of a CSV text to the draft. Mistakes in rows are advice; a table that is none is an error."""
    table = Place(source.file, 1, "")
    if len(source.text.encode("utf-8", "replace")) > MAX_BYTES:
        draft.findings.append(table.finding("M020", ERROR, f"longer than {MAX_BYTES} bytes"))
        return
    # RFC 4180; the byte order mark is what spreadsheets write in front.
    reader = csv.reader(io.StringIO(source.text.removeprefix("\ufeff"), newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if "id" not in header:
            draft.findings.append(table.finding("M020", ERROR, "the first row has no column id"))
            return
        doubled = sorted({name for name in header if name and header.count(name) > 1})
        if doubled:
            draft.findings.append(table.finding("M021", ADVICE, f"columns stand twice, the first counts: {doubled}"))
        rows = _Rows(draft, source.file)
        line = reader.line_num + 1
        for cells in reader:
            # A quoted cell may go over lines; the row is named by its first.
            if any(cell.strip() for cell in cells):
                rows.add(Place(source.file, line, ""), header, cells)
            line = reader.line_num + 1
    except csv.Error as error:
        place = Place(source.file, reader.line_num, "")
        draft.findings.append(place.finding("M020", ERROR, f"not a valid CSV table: {error}"))


class _Rows:
    def __init__(self, draft: Draft, file: str) -> None:
        self._draft = draft
        self._file = file
        self._position = {entry.id: index for index, entry in enumerate(draft.entries)}
        self._areas = {entry.id for entry in draft.of(Kind.AREA)}
        self._seen: set[str] = set()

    def add(self, place: Place, header: list[str], cells: list[str]) -> None:
        if len(cells) > len(header):
            self._advise(place, f"has {len(cells)} cells for {len(header)} columns; the last ones are ignored")
        facts: dict[str, str] = {}
        for name, cell in zip(header, cells, strict=False):
            if name and cell.strip():
                facts.setdefault(name, cell.strip()[:MAX_TEXT])
        asset_id = facts.get("id", "")
        if not is_valid_id(asset_id) or asset_id in RESERVED_IDS:
            self._advise(place, f"skipped: {asset_id[:80]!r} is no id")
            return
        if asset_id in self._seen:
            self._advise(place, f"skipped: {asset_id} stands in a row before")
            return
        self._seen.add(asset_id)
        identity = identity_of({name: text for name, text in facts.items() if name not in _NO_FACTS}, INVENTORY)
        known = self._position.get(asset_id)
        if known is not None:
            self._fill(place, known, identity)
            return
        area = facts.get("area", "")
        if area and area not in self._areas:
            self._advise(place, f"the area {area!r} of {asset_id} is not known and left out")
            area = ""
        component = Component(
            asset_id, plain(identity) or asset_id, area=area, identity=identity, source=INVENTORY
        )  # fmt: skip
        self._draft.entries.append(Entry(place, component))

    def _fill(self, place: Place, index: int, identity: Mapping[str, Any]) -> None:
        entry = self._draft.entries[index]
        if entry.kind is not Kind.COMPONENT:
            self._advise(place, f"skipped: {entry.id} is the id of {_article(entry.noun)}")
            return
        component = cast("Component", entry.what)
        filled = replace(component, identity=fill_identity(component.identity, identity))
        self._draft.entries[index] = replace(entry, what=filled)

    def _advise(self, place: Place, message: str) -> None:
        self._draft.findings.append(place.finding("M021", ADVICE, message))


def fill_identity(own: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """`own` with what it does not say taken from `other`, its origin told in `_provenance`."""
    provenance: dict[str, str] = dict(own.get("_provenance", {}))
    extra: dict[str, str] = dict(own.get("extra", {}))
    found = {name: value for name, value in own.items() if name not in ("extra", "_provenance")}
    theirs: Mapping[str, str] = other.get("_provenance", {})
    for name, value in other.items():
        if name not in ("extra", "_provenance") and name not in found:
            found[name] = value
            provenance[name] = theirs.get(name, INVENTORY)
    for name, value in other.get("extra", {}).items():
        if name not in extra and len(extra) < MAX_NAMEPLATE:
            extra[name] = value
            provenance.setdefault(name, theirs.get(name, INVENTORY))
    if extra:
        found["extra"] = extra
    if provenance:
        found["_provenance"] = dict(list(provenance.items())[:MAX_NAMEPLATE])
    return found


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
