"""The members of one mapping of a manifest, read with their types; and the nameplate of a component.

A member of a wrong shape gives a finding (M007) and counts as not given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .manifest import ADVICE, ERROR, Finding
from .manifest_draft import Place
from .manifest_yaml import Value

# What other gateways take at most (aggregation/section_reader.py); a longer one would be dropped there.
MAX_TEXT = 4096
MAX_LIST = 20_000
MAX_NAMEPLATE = 100
MAX_NUMBER = 2**31 - 1
_TRUE = frozenset({"true", "yes", "on", "y"})
_FALSE = frozenset({"false", "no", "off", "n"})

# Every name that a field of the nameplate has in files, to its name on the wire (API.md §12.1, §12.4).
NAMEPLATE: Mapping[str, str] = {
    "manufacturer": "manufacturer",
    "model": "model",
    "order_code": "orderCode",
    "order_number": "orderCode",
    "serial": "serialNumber",
    "serial_number": "serialNumber",
    "hardware_rev": "hardwareRevision",
    "hardware_revision": "hardwareRevision",
    "hw_rev": "hardwareRevision",
    "firmware": "firmwareVersion",
    "firmware_version": "firmwareVersion",
    "fw": "firmwareVersion",
    "software_version": "softwareVersion",
    "endpoint": "networkEndpoint",
    "network_endpoint": "networkEndpoint",
    "role": "role",
}


class Fields:
    """One mapping. `findings` is the list that all share, `place` where the mapping stands."""

    def __init__(self, findings: list[Finding], place: Place, value: Value) -> None:
        self._findings = findings
        self._members = value.members or {}
        self.place = place

    @property
    def names(self) -> tuple[str, ...]:
        """The members that are there."""
        return tuple(self._members)

    def report(self, rule: str, level: str, message: str, member: str = "") -> None:
        """Add a finding at this mapping or at a member of it."""
        self._findings.append(self.place.finding(rule, level, message, member))

    def value(self, member: str) -> Value | None:
        """The member as it stands there."""
        return self._members.get(member)

    def within(self, member: str, value: Value) -> Fields:
        """A mapping inside this one."""
        path = f"{self.place.path}.{member}" if self.place.path else member
        return Fields(self._findings, Place(self.place.file, value.line, path, value.lines), value)

    def text(self, member: str, default: str = "") -> str:
        """A scalar as text; nothing, `~` and `null` are the default."""
        value = self._members.get(member)
        if value is None or value.is_null:
            return default
        if value.text is None:
            self._wrong(member, "a text", value)
            return default
        return self._checked(value.text, member)

    def texts(self, member: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self._members.get(member)
        if value is None or value.is_null:
            return ()
        if value.items is None or any(item.text is None or item.is_null for item in value.items):
            self._wrong(member, "a list of texts", value)
            return ()
        if len(value.items) > MAX_LIST:
            self.report("M007", ERROR, f"has more than {MAX_LIST} entries", member)
            return ()
        return tuple(self._checked(str(item.text), member) for item in value.items)

    def flag(self, member: str, default: bool = False) -> bool:
        """A boolean."""
        value = self._members.get(member)
        if value is None or value.is_null:
            return default
        found = _flag(value)
        if found is None:
            self._wrong(member, "true or false", value)
            return default
        return found

    def lenient_flag(self, member: str, default: bool) -> bool:
        """A boolean whose mistakes only give advice (R015)."""
        value = self._members.get(member)
        if value is None or value.is_null:
            return default
        found = _flag(value)
        if found is None:
            shown = repr(value.text) if value.text is not None else value.what
            self.report("R015", ADVICE, f"{shown} is neither true nor false; {str(default).lower()} is used", member)
            return default
        return found

    def number(self, member: str, minimum: int) -> int | None:
        """A whole number from `minimum`; None when there is none."""
        value = self._members.get(member)
        if value is None or value.is_null:
            return None
        text = value.text or ""
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 12 and minimum <= int(text) <= MAX_NUMBER):
            self._wrong(member, f"a whole number from {minimum}", value)
            return None
        return int(text)

    def mapping(self, member: str) -> Fields | None:
        """A mapping inside this one; None when there is none."""
        value = self._members.get(member)
        if value is None or value.is_null:
            return None
        if value.members is None:
            self._wrong(member, "a mapping", value)
            return None
        return self.within(member, value)

    def mappings(self, member: str) -> Sequence[Fields]:
        """A list of mappings."""
        value = self._members.get(member)
        if value is None or value.is_null:
            return ()
        if value.items is None:
            self._wrong(member, "a list", value)
            return ()
        found = []
        for index, item in enumerate(value.items):
            path = f"{self.place.path}.{member}[{index}]" if self.place.path else f"{member}[{index}]"
            place = Place(self.place.file, item.line, path, item.lines)
            if item.members is None:
                self._findings.append(place.finding("M007", ERROR, f"must be a mapping, is {item.what}"))
            else:
                found.append(Fields(self._findings, place, item))
        return found

    def scalars(self) -> dict[str, str]:
        """All members that are single values, as text; others are left out."""
        return {
            name: self._checked(value.text, name)
            for name, value in self._members.items()
            if value.text is not None and not value.is_null
        }

    def _wrong(self, member: str, wanted: str, value: Value) -> None:
        said = value.what if value.text is None else repr(value.text[:60])
        self.report("M007", ERROR, f"must be {wanted}, is {said}", member)

    def _checked(self, text: str, member: str) -> str:
        if len(text) > MAX_TEXT:
            self.report("M007", ERROR, f"is longer than {MAX_TEXT} characters", member)
            return ""
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                self.report("M007", ERROR, "holds half a character (a lone surrogate)", member)
                return ""
        return text


def _flag(value: Value) -> bool | None:
    """A boolean as YAML 1.1 spells them, in quotes or not."""
    text = (value.text or "").lower()
    return True if text in _TRUE else False if text in _FALSE else None


def identity_of(facts: Mapping[str, str], source: str, extra: Fields | None = None) -> dict[str, Any]:
    """A nameplate as it is on the wire: known fields in camel case, others in `extra`, and `_provenance` of each."""
    known: dict[str, Any] = {}
    more: dict[str, str] = dict(extra.scalars()) if extra is not None else {}
    for name, text in facts.items():
        if not text:
            continue
        wire = NAMEPLATE.get(name)
        if wire is None:
            more.setdefault(name, text)
        else:
            known.setdefault(wire, text)
    if not known and not more:
        return {}
    provenance = dict.fromkeys([*known, *more], source)
    if more:
        known["extra"] = dict(list(more.items())[:MAX_NAMEPLATE])
    return {**known, "_provenance": dict(list(provenance.items())[:MAX_NAMEPLATE])}


def plain(identity: Mapping[str, Any]) -> str:
    """`<manufacturer> <model>`, as far as they are known."""
    return " ".join(str(identity[name]) for name in ("manufacturer", "model") if name in identity)
